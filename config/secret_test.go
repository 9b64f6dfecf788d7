package config_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pushfleet/pushfleet/config"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	type holder struct {
		Password config.Secret
		Nested   struct{ Key *config.Key }
	}
	h := holder{Password: config.NewSecret("hunter2")}
	h.Nested.Key = &config.Key{Base64: config.NewSecret("hunter2")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%[1]v"} {
		for _, value := range []any{h, &h, h.Password, &h.Password, *h.Nested.Key, h.Nested.Key} {
			got := fmt.Sprintf(verb, value)
			if strings.Contains(got, "hunter2") || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", "hunter2")) {
				t.Errorf("%s of %T shows the secret: %s", verb, value, got)
			}
		}
	}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(map[string]any{"password": h.Password})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{string(asJSON), string(asYAML)} {
		if strings.Contains(got, "hunter2") || !strings.Contains(got, "[secret]") {
			t.Errorf("got %s, want a mask", got)
		}
	}
	if got := fmt.Sprint(config.Secret{}); got != "" {
		t.Errorf("no secret: got %q, want nothing", got)
	}
	if got := config.NewSecret("hunter2").Reveal(); got != "hunter2" {
		t.Errorf("revealed: got %q, want hunter2", got)
	}
}
