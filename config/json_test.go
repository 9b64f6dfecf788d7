package config_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/config"
)

func TestJSONOfYAML(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"id: spring\nrate: 500\nlocal_time: 09:00\nstart_at: 2026-11-24T09:00:00Z\ntags: [a, b]\n": `{"id":"spring","local_time":"09:00","rate":500,"start_at":"2026-11-24T09:00:00Z","tags":["a","b"]}`,
		"": `null`,
	} {
		if got, err := config.JSONOfYAML([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"- a\n", "a: {1: b, [c]: d}\n", "a: b: c\n"} {
		if got, err := config.JSONOfYAML([]byte(text)); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}
