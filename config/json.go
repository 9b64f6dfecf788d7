package config

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// JSONOfYAML converts a mapping in YAML to JSON: what people write by hand, such as a
// campaign, goes the way of what programs write. What JSON cannot hold is an error.
func JSONOfYAML(data []byte) ([]byte, error) {
	var v map[string]any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil, err //nolint:wrapcheck // it says yaml, and the line
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("yaml: %w", err)
	}
	return text, nil
}
