package config

import (
	"fmt"
	"slices"
	"strings"
)

// Distance and Suggest are tested by themselves: their results are hard to see
// through complaints.
var (
	Distance = distance
	Suggest  = suggest
)

// KeyRow is one line of the tables, as the tests and the reference want it.
type KeyRow struct {
	Section                      string // with <app> and [n] in place of names and numbers
	Path, Kind, Default, Doc     string
	Required, Secret, HasSubkeys bool
}

// Keys returns every key of the tables, in their order.
func Keys() []KeyRow { return keysOf(new(Config), "") }

func keysOf(s section, path string) []KeyRow {
	var keys []KeyRow
	for _, f := range s.fields() {
		p := join(path, f.key)
		key := KeyRow{
			Section: path, Path: p, Kind: f.value.kind, Default: f.def, Doc: f.doc,
			Required: f.required, Secret: f.value.secret,
		}
		var below []KeyRow
		switch v := f.value; {
		case v.nested != nil:
			below = keysOf(v.nested(), p)
		case v.optional != nil:
			one, _ := v.optional()
			below = keysOf(one, p)
		case v.each != nil:
			one, _ := v.each()
			below = keysOf(one, p+"[n]")
		case v.named != nil:
			one, _ := v.named("")
			below = keysOf(one, p+".<app>")
		}
		key.HasSubkeys = len(below) > 0
		keys = append(keys, key)
		if f.value.secret {
			keys = append(keys, KeyRow{
				Section: path, Path: p + "_file", Kind: "path",
				Doc: fmt.Sprintf("A file that holds `%s`; a newline at its end is dropped.", f.key),
			})
		}
		keys = append(keys, below...)
	}
	return keys
}

// Reference returns the keys as Markdown, one table for each section.
func Reference() string {
	keys := Keys()
	var sections []string
	for _, k := range keys {
		if !slices.Contains(sections, k.Section) {
			sections = append(sections, k.Section)
		}
	}
	var b strings.Builder
	for _, name := range sections {
		if name == "" {
			b.WriteString("### Sections\n\n| section | what it is |\n|---|---|\n")
		} else {
			fmt.Fprintf(&b, "\n### `%s`\n\n| key | type | default | what it is |\n|---|---|---|---|\n", name)
		}
		for _, k := range keys {
			if k.Section != name {
				continue
			}
			short := k.Path[strings.LastIndexByte(k.Path, '.')+1:]
			if name == "" {
				fmt.Fprintf(&b, "| `%s` | %s |\n", short, k.Doc)
				continue
			}
			def := ""
			switch {
			case k.Required:
				def = "**required**"
			case k.Default != "":
				def = "`" + k.Default + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", short, k.Kind, def, k.Doc)
		}
	}
	return b.String()
}
