package config_test

import (
	"errors"
	"testing"

	"github.com/pushfleet/pushfleet/config"
)

// FuzzParse: whatever the file holds, the answer is a configuration or an
// Invalid whose every problem has its place.
func FuzzParse(f *testing.F) {
	f.Add(config.Example())
	for _, seed := range []string{
		"", "a: &a [*a]", "apps: &a {x: *a}", "nats: *x", "? {a: b}\n: c", "apps: {a: {credentials: [&c {key: *c}]}}",
		"nats: !!binary aGk=", "worker: {max_in_flight: 0x10, drain_timeout: -1s}", "%YAML 9.9\n---\n", "log: {level: \"\\ud800\"}", "- - - -", "{{{{",
		"redis: {password: *p}", "apps:\n  ? |\n    x\n  : {}", "\"a\x00b\": 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse(data, nil)
		if err == nil {
			if cfg.Worker.MaxInFlight < 1 || len(cfg.Redis.Addresses) == 0 || cfg.NATS.URL == "" {
				t.Errorf("accepted without defaults: %+v", cfg)
			}
			for name, app := range cfg.Apps {
				if app.BundleID == "" || len(app.Credentials) == 0 {
					t.Errorf("accepted an incomplete app %q: %+v", name, app)
				}
			}
			return
		}
		var bad *config.Invalid
		if !errors.As(err, &bad) || len(bad.Problems) == 0 {
			t.Fatalf("got error %v, want *config.Invalid", err)
		}
		for _, p := range bad.Problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("got problem %+v, want line and column", p)
			}
		}
	})
}
