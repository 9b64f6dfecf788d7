package config

import _ "embed"

//go:embed example.yaml
var example []byte

// Example returns a configuration file with every key, each with its default
// or, where there is none, commented out.
func Example() []byte { return append([]byte(nil), example...) }
