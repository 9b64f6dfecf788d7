package config_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/config"
)

// What is written arrives as it was written.
func TestJSONOfYAML(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"a campaign": {
			"id: spring\nrate: 500\nlocal_time: 09:00\nstart_at: 2026-11-24T09:00:00Z\ntags: [a, b]\n",
			`{"id":"spring","rate":500,"local_time":"09:00","start_at":"2026-11-24T09:00:00Z","tags":["a","b"]}`,
		},
		"numbers": {
			"- 9007199254740993\n- 18446744073709551617\n- 123456789012345678901234567890.123456789012345678901\n- 1e400\n- -0\n- 1.50\n- !!int \"7\"\n",
			`[9007199254740993,18446744073709551617,123456789012345678901234567890.123456789012345678901,1e400,-0,1.50,7]`,
		},
		"dates and times": {
			"- 2026-11-24\n- 2026-11-24 09:00:00\n- 2026-11-24T09:00:00.10+01:00\n- 22:00\n- 12:30:45\n- !!timestamp 2026-11-24\n",
			`["2026-11-24","2026-11-24 09:00:00","2026-11-24T09:00:00.10+01:00","22:00","12:30:45","2026-11-24"]`,
		},
		"words": {
			" [yes, no, on, off, y, N, true, False, ~, null, nan, \"true\", '5', !!str 5, <<, 1.2.3]",
			`["yes","no","on","off","y","N",true,false,null,null,"nan","true","5","5","<<","1.2.3"]`,
		},
		"keys": {
			"yes: 1\non: 2\n'5': 3\n2026-11-24: 4\n? a b\n: 5\nb: {d: 1, c: 2}\n",
			`{"yes":1,"on":2,"5":3,"2026-11-24":4,"a b":5,"b":{"d":1,"c":2}}`,
		},
		"texts": {
			"- |\n  a\n   <b> & \"c\"\n- >\n  a\n  b\n- 'it''s'\n- \"\\u00e4 \\t\\x07\\U0001F600\"\n",
			`["a\n <b> & \"c\"\n","a b\n","it's","ä \t\u0007😀"]`,
		},
		"anchors":      {"a: &x {k: [1]}\nb: *x\nc: &y t\n*y : *x\n", `{"a":{"k":[1]},"b":{"k":[1]},"c":"t","t":{"k":[1]}}`},
		"what is JSON": {"# in other words\n{\"a\": [1, \"b\"], \"b\": {}}\n", `{"a":[1,"b"],"b":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, want := tt.text, tt.want
			if want[0] == '[' {
				text, want = "list:\n"+text, `{"list":`+want+`}`
			}
			got, err := config.JSONOfYAML("c.yaml", []byte(text))
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if string(got.JSON) != want || !json.Valid(got.JSON) {
				t.Errorf("%q:\ngot  %s\nwant %s", text, got.JSON, want)
			}
		})
	}
}

// All that is wrong is told at once, with its place.
func TestJSONOfYAMLTellsWhere(t *testing.T) {
	t.Parallel()
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		from := string(c - 1)
		laughs += string(c) + ": &" + string(c) + " [*" + strings.Join(strings.Split(strings.Repeat(from, 10), ""), ",*") + "]\n"
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"keys": {
			"id: a\n1: b\nid: c\n<<: {a: b}\n~: x\ntrue: y\n? [d]\n: e\nn:\n  k: 1\n  k: 2\n",
			[]string{
				"c.yaml:2:1: 1: a key must be a text: put it in quotes",
				"c.yaml:3:1: id: is set twice, first on line 1",
				"c.yaml:4:1: merge keys (<<) are not supported: write the keys out",
				`c.yaml:5:1: "~": a key must be a text: put it in quotes`,
				"c.yaml:6:1: true: a key must be a text: put it in quotes",
				"c.yaml:7:3: a key must be a text, got a list",
				"c.yaml:11:3: n.k: is set twice, first on line 10",
			},
		},
		"numbers": {
			"data: {a: 010, b: 0x1F, c: 1_000, d: .inf, e: +1}\nf: [1, .NaN, 1.]\n",
			[]string{
				`c.yaml:1:11: data.a: must be a decimal number such as 1000 or 0.5, or in quotes if it is a text, got "010"`,
				`data.b: must be a decimal`, `data.c: must be a decimal`, `data.d: must be a decimal`, `data.e: must be a decimal`,
				`c.yaml:2:8: f[1]: must be a decimal`, `c.yaml:2:14: f[2]: must be a decimal`,
			},
		},
		"tags": {"a: !!binary aGk=\nb: !mine x\nc: !!bool yes\n", []string{
			`c.yaml:1:4: a: has the tag "!!binary", which JSON has nothing for`, `c.yaml:2:4: b: has the tag "!mine"`, `c.yaml:3:4: c: must be true or false`,
		}},
		"a circle":       {"a: &x\n  b: [*x]\n", []string{"c.yaml:2:7: a.b[0]: an alias must not stand for what it is a part of"}},
		"laughs":         {laughs, []string{"is too long with all that its aliases stand for"}},
		"bad laughs":     {strings.ReplaceAll(laughs, "x", "010"), slices.Repeat([]string{"must be a decimal"}, 50)},
		"deep":           {"a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), []string{"is nested deeper than 100 levels"}},
		"no keys":        {"- a\n", []string{"c.yaml:1:1: must be keys with values, got a list"}},
		"a word":         {"spring", []string{"c.yaml:1:1: must be keys with values, got a single value"}},
		"empty":          {"# nothing\n", []string{"c.yaml: is empty"}},
		"null":           {"~", []string{"c.yaml: is empty"}},
		"two documents":  {"a: b\n---\nc: d\n", []string{"must be one YAML document"}},
		"no YAML":        {"a: 1\nb: c: d\n", []string{"c.yaml:2:1: not YAML: mapping values are not allowed"}},
		"unknown anchor": {"a: *x\n", []string{"not YAML: an unquoted '*' must be followed by the name of an anchor"}},
		"no UTF-8":       {"a: \xff\n", []string{"not YAML: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := config.JSONOfYAML("c.yaml", []byte(tt.text))
			var invalid *config.Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, %v, want a *config.Invalid", got, err)
			}
			if len(invalid.Problems) != len(tt.want) {
				t.Fatalf("got %d problems, want %d:\n%v", len(invalid.Problems), len(tt.want), err)
			}
			for i, p := range invalid.Problems {
				if !strings.Contains(p.Error(), tt.want[i]) {
					t.Errorf("problem %d: got %q, want %q", i, p.Error(), tt.want[i])
				}
			}
		})
	}
}

// What was found wrong with the JSON is told where it was written.
func TestDocumentAt(t *testing.T) {
	t.Parallel()
	d, err := config.JSONOfYAML("c.yaml", []byte("id: x\naudience:\n  attributes:\n    a.b: [1, {c: 2}]\n    a: {b: 1}\nr: &r\n  s: 1\nt: *r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"id":                           "c.yaml:1:5: id: m",
		"audience.attributes.a.b[1].c": "c.yaml:4:18: audience.attributes.a.b[1].c: m",
		"audience.attributes.a.b[7]":   "c.yaml:4:10: audience.attributes.a.b[7]: m", // the nearest
		"audience.tags":                "c.yaml:3:3: audience.tags: m",
		"t.s":                          "c.yaml:7:6: t.s: m",
		"rate":                         "c.yaml: rate: m", // is not there
		"":                             "c.yaml: m",
	} {
		p := d.At(path)
		p.Message = "m"
		if got := p.Error(); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func FuzzJSONOfYAML(f *testing.F) {
	f.Add("a: &x [1, 010, yes]\nb: *x\n? [c]\n: {<<: *x}\n")
	f.Add("a: |\n  b\n\"\\x80\": 2026-11-24\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := config.JSONOfYAML("", []byte(text))
		if err == nil && (!json.Valid(d.JSON) || d.JSON[0] != '{') {
			t.Errorf("%q: got %s, want an object", text, d.JSON)
		}
	})
}
