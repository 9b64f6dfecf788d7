package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// Document is a mapping that was written in YAML, as JSON.
type Document struct {
	JSON []byte
	file string
	root *yaml.Node
}

const (
	// maxDocumentBytes bounds what aliases may make of a file: nine short lines of them
	// can say a thousand million words.
	maxDocumentBytes = 1 << 20
	maxNesting       = 100
	// maxProblems are told. What aliases stand for is wrong as often as they do.
	maxProblems = 50
)

// JSONOfYAML converts a mapping in YAML to JSON: what people write by hand, such as a
// campaign, goes the way of what programs write. file is named in problems.
//
// Everything arrives as it was written: a number with all its digits, a date or time as
// a text, and so are yes, no, on and off. What JSON cannot hold, what YAML takes for
// something that was hardly meant (010 is eight), keys that are no texts or come twice,
// and merge keys are problems; all of them, up to 50, are in the [*Invalid] that is
// returned, with line and column.
func JSONOfYAML(file string, data []byte) (*Document, error) {
	d := &decoder{name: file}
	root, ok := d.document(data)
	c := &converter{decoder: d, open: make(map[*yaml.Node]bool)}
	switch root = resolve(root); {
	case !ok:
	case root == nil, isNull(root):
		d.report(origin{}, "", "is empty")
	case root.Kind != yaml.MappingNode:
		d.report(origin{node: root}, "", "must be keys with values, got %s", kindOf(root))
	default:
		c.value(root, "", 0)
	}
	if err := invalid(d.problems); err != nil {
		return nil, err
	}
	return &Document{JSON: c.json, file: file, root: root}, nil
}

// At returns a [Problem] without message at a path in the JSON, such as a.b[3]: its
// line and column are those of the nearest thing on the way there that was written, and
// 0 if nothing was.
func (d *Document) At(path string) Problem {
	p := Problem{File: d.file, Path: path}
	if n := nearest(d.root, path); n != d.root {
		p.Line, p.Column = origin{node: n}.position()
	}
	return p
}

// nearest follows a path as far as it leads.
func nearest(n *yaml.Node, path string) *yaml.Node {
	path = strings.TrimPrefix(path, ".")
	switch of := resolve(n); of.Kind {
	case yaml.MappingNode:
		// A key may have dots in it: the longest one that fits is meant.
		var value *yaml.Node
		rest, longest := "", -1
		for i := 0; i+1 < len(of.Content); i += 2 {
			key := resolve(of.Content[i]).Value
			after, fits := strings.CutPrefix(path, key)
			if fits && len(key) > longest && (after == "" || after[0] == '.' || after[0] == '[') {
				value, rest, longest = of.Content[i+1], after, len(key)
			}
		}
		if value != nil {
			return nearest(value, rest)
		}
	case yaml.SequenceNode:
		inner, rest, _ := strings.Cut(strings.TrimPrefix(path, "["), "]")
		for i, item := range of.Content {
			if inner == strconv.Itoa(i) {
				return nearest(item, rest)
			}
		}
	}
	return n
}

// converter writes the JSON of nodes.
type converter struct {
	*decoder
	json []byte
	open map[*yaml.Node]bool // that it is inside of
	full bool                // it was too long, and said so
}

// jsonNumber is what a number looks like in JSON.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func (c *converter) value(n *yaml.Node, path string, depth int) {
	at, of := origin{node: n}, resolve(n)
	switch {
	case c.full, len(c.problems) >= maxProblems:
		return
	case len(c.json) > maxDocumentBytes:
		c.full = true
		c.report(at, path, "is too long with all that its aliases stand for")
		return
	case c.open[of]:
		c.report(at, path, "an alias must not stand for what it is a part of")
		return
	case depth > maxNesting:
		c.report(at, path, "is nested deeper than %d levels", maxNesting)
		return
	}
	c.open[of] = true
	defer delete(c.open, of)
	switch of.Kind {
	case yaml.MappingNode:
		c.mapping(of, path, depth)
	case yaml.SequenceNode:
		c.json = append(c.json, '[')
		for i, item := range of.Content {
			c.comma()
			c.value(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		c.json = append(c.json, ']')
	default:
		c.scalar(of, at, path)
	}
}

func (c *converter) mapping(n *yaml.Node, path string, depth int) {
	first := make(map[string]int)
	c.json = append(c.json, '{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, key := origin{node: n.Content[i]}, resolve(n.Content[i])
		tag := key.ShortTag()
		switch line, twice := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			c.report(at, path, "a key must be a text, got %s", kindOf(key))
			continue
		case tag == "!!merge":
			c.report(at, path, "merge keys (<<) are not supported: write the keys out")
			continue
		case tag != "!!str" && tag != "!!timestamp":
			c.report(at, join(path, shown(key.Value)), "a key must be a text: put it in quotes")
			continue
		case twice:
			c.report(at, join(path, shown(key.Value)), "is set twice, first on line %d", line)
			continue
		}
		first[key.Value] = key.Line
		c.comma()
		c.text(key.Value, at, path)
		c.json = append(c.json, ':')
		c.value(n.Content[i+1], join(path, shown(key.Value)), depth+1)
	}
	c.json = append(c.json, '}')
}

func (c *converter) scalar(n *yaml.Node, at origin, path string) {
	const plain yaml.Style = 0
	switch tag := n.ShortTag(); {
	// Whatever the parser makes of one that is too large for it.
	case n.Style == plain && jsonNumber.MatchString(n.Value):
		c.json = append(c.json, n.Value...)
	case tag == "!!int", tag == "!!float":
		if jsonNumber.MatchString(n.Value) { // !!int "5"
			c.json = append(c.json, n.Value...)
			return
		}
		c.report(at, path, "must be a decimal number such as 1000 or 0.5, or in quotes if it is a text, got %s", quote(n.Value))
	case tag == "!!bool":
		word := strings.ToLower(n.Value)
		if word != "true" && word != "false" {
			c.report(at, path, "must be true or false, got %s", quote(n.Value))
			return
		}
		c.json = append(c.json, word...)
	case tag == "!!null":
		c.json = append(c.json, "null"...)
	case tag == "!!str", tag == "!!timestamp", tag == "!!merge":
		c.text(n.Value, at, path)
	default:
		c.report(at, path, "has the tag %s, which JSON has nothing for", quote(tag))
	}
}

// comma separates what comes from what was before it.
func (c *converter) comma() {
	switch c.json[len(c.json)-1] {
	case '{', '[':
	default:
		c.json = append(c.json, ',')
	}
}

func (c *converter) text(s string, at origin, path string) {
	var err error
	if c.json, err = jsontext.AppendQuote(c.json, s); err != nil {
		c.report(at, path, "is not UTF-8")
	}
}
