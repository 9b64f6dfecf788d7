package config_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/config"
)

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a", "", 1},
		{"", "ab", 2},
		{"url", "url", 0},
		{"ulr", "url", 1},
		{"urls", "url", 1},
		{"uri", "url", 1},
		{"listen", "silent", 4},
	} {
		if got := config.Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance of %q and %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	names := []string{"url", "user", "password", "max_connections", "connections"}
	for word, want := range map[string]string{
		"ulr": "url", "usr": "user", "passwd": "password", "maxConnections": "max_connections",
		"connection": "connections", "x": "", "replicas": "",
	} {
		if got := config.Suggest(word, names); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}
