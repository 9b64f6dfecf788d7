package config_test

import (
	"flag"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pushfleet/pushfleet/config"
)

var update = flag.Bool("update", false, "write the reference into docs/configuration.md")

// commented is a line of the example that is a choice, in contrast to prose.
var commented = regexp.MustCompile(`(?m)^( *)#([a-z-])`)

func TestExampleSaysTheDefaults(t *testing.T) {
	t.Parallel()
	cfg := parse(t, string(config.Example()))
	want := defaults()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"nats", cfg.NATS, want.NATS},
		{"redis", cfg.Redis, want.Redis},
		{"api", cfg.API, want.API},
		{"worker", cfg.Worker, want.Worker},
		{"log", cfg.Log, want.Log},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %+v, want the defaults %+v", c.name, c.got, c.want)
		}
	}
	if len(cfg.Apps) != 1 || cfg.Apps["shop"].BundleID != "com.example.shop" {
		t.Errorf("apps: got %+v, want shop", cfg.Apps)
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	t.Parallel()
	full := commented.ReplaceAll(config.Example(), []byte("$1$2"))
	var doc yaml.Node
	if err := yaml.Unmarshal(full, &doc); err != nil {
		t.Fatalf("the example with its choices uncommented: %v", err)
	}
	got := make(map[string]bool)
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		switch {
		case n.Kind == yaml.MappingNode && path == "apps":
			for i := 1; i < len(n.Content); i += 2 {
				walk(n.Content[i], "apps.<app>")
			}
		case n.Kind == yaml.MappingNode:
			for i := 0; i < len(n.Content); i += 2 {
				p := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
				got[p] = true
				walk(n.Content[i+1], p)
			}
		case n.Kind == yaml.SequenceNode:
			for _, item := range n.Content {
				if item.Kind == yaml.MappingNode {
					walk(item, path+"[n]")
				}
			}
		}
	}
	walk(doc.Content[0], "")

	// A credential of the list has the same keys as one that stands alone; once
	// is enough.
	inner := regexp.MustCompile(`credentials\[n\]\.(key|certificate)\.`)
	want := make(map[string]bool)
	for _, k := range config.Keys() {
		want[k.Path] = true
		if !got[k.Path] && !inner.MatchString(k.Path) {
			t.Errorf("the example lacks %s", k.Path)
		}
	}
	for path := range got {
		if !want[path] {
			t.Errorf("the example has %s, which is no key", path)
		}
	}
}

func TestExampleExplainsEveryKey(t *testing.T) {
	t.Parallel()
	lines := strings.Split(string(config.Example()), "\n")
	key := regexp.MustCompile(`^ *#?(?:- )?([a-z_0-9]+):`)
	prose := regexp.MustCompile(`^ *# `)
	explained := make(map[string]bool)
	for i, line := range lines {
		m := key.FindStringSubmatch(line)
		if m == nil || i == 0 {
			continue
		}
		// A key whose spelling was explained above needs no second one, and
		// the halves of a pair share one.
		if prose.MatchString(lines[i-1]) || strings.HasPrefix(lines[i-1], " ") && slices.Contains([]string{"user", "username", "password", "base64", "secrets", "cert_file"}, lastKey(key, lines[i-1])) {
			explained[m[1]] = true
		}
		sectionLine := !strings.HasPrefix(line, " ")
		if !explained[m[1]] && !sectionLine && m[1] != "classic" && m[1] != "news" {
			t.Errorf("line %d: %s has no comment above it", i+1, m[1])
		}
	}
}

func lastKey(key *regexp.Regexp, line string) string {
	if m := key.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

func TestReferenceIsWrittenFromTheTables(t *testing.T) {
	t.Parallel()
	const path = "../docs/configuration.md"
	had, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	place := regexp.MustCompile(`(?s)(<!-- keys:[^\n]*-->\n).*(<!-- /keys -->)`)
	if !place.Match(had) {
		t.Fatalf("%s: the marks of the reference are gone", path)
	}
	want := place.ReplaceAllFunc(had, func(all []byte) []byte {
		m := place.FindSubmatch(all)
		return slices.Concat(m[1], []byte("\n"+config.Reference()+"\n"), m[2])
	})
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(had) != string(want) {
		t.Errorf("%s differs from the tables: run go test ./config -run Reference -update", path)
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	t.Parallel()
	for _, k := range config.Keys() {
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: got doc %q, want a sentence", k.Path, k.Doc)
		}
		if strings.ContainsAny(k.Doc+k.Kind, "|\n") {
			t.Errorf("%s: %q does not fit into a table", k.Path, k.Doc)
		}
	}
}
