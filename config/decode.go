package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFileBytes keeps a wrong path (a core dump, a device) from being read
	// whole; a thousand apps fit.
	maxFileBytes = 1 << 20
	// maxSecretBytes is far above any key, certificate or password.
	maxSecretBytes = 64 << 10
)

// Load reads the configuration file at path, then environ (of the form of
// [os.Environ]) over it. Relative paths in either are relative to the file's
// directory. An empty path reads no file: environ and the defaults make the
// configuration.
//
// The error is an [*Invalid] where the configuration was read and is wrong.
func Load(path string, environ []string) (*Config, error) {
	if path == "" {
		return Parse(nil, environ)
	}
	data, err := readRegular(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	cfg, _, err := parse(data, environ, path, filepath.Dir(path))
	return cfg, err
}

// Parse does what [Load] does, with the content of a file. Relative paths stay
// as they are.
func Parse(data []byte, environ []string) (*Config, error) {
	cfg, _, err := parse(data, environ, "", "")
	return cfg, err
}

// parse also returns how it was read, whether it is good or not.
func parse(data []byte, environ []string, name, dir string) (*Config, *decoder, error) {
	d := &decoder{name: name, dir: dir, env: newEnviron(environ), places: make(map[string]origin), values: make(Settings)}
	cfg := new(Config)
	root, ok := d.document(data)
	if ok {
		d.section(cfg, "", origin{node: root})
		d.leftovers()
	}
	for _, ref := range d.files {
		d.named = append(d.named, ref.path)
	}
	if err := invalid(d.problems); err != nil {
		return nil, d, err
	}
	cfg.files = d.files
	return cfg, d, nil
}

// CheckFiles reports every file that the configuration names and that cannot be
// opened, as an [*Invalid]. It is apart from [Load] because not every command
// needs, or may read, what another one does.
func (c *Config) CheckFiles() error {
	var problems []Problem
	for _, ref := range c.files {
		f, err := openRegular(ref.path)
		if err != nil {
			p := ref.problem
			p.Message = err.Error()
			problems = append(problems, p)
			continue
		}
		_ = f.Close() // only read
	}
	return invalid(problems)
}

// fileRef is a file that the configuration names, and where it does so.
type fileRef struct {
	path    string
	problem Problem // without its message
}

// origin is where a value came from: a node of the file, an environment
// variable, or neither.
type origin struct {
	key      *yaml.Node // nil for list items and the document
	node     *yaml.Node
	variable string
}

// position is that of the value where there is one, else of the key.
func (o origin) position() (line, column int) {
	for _, n := range []*yaml.Node{o.node, o.key} {
		if n != nil && n.Line > 0 {
			return n.Line, max(n.Column, 1)
		}
	}
	return 0, 0
}

// decoder walks the tables and the file side by side.
type decoder struct {
	name, dir string
	env       *environ
	problems  []Problem
	files     []fileRef
	named     []string // files that are read for what they hold
	values    Settings
	places    map[string]origin // of the keys that are given, by path
}

func (d *decoder) at(o origin, path string) Problem {
	if o.variable != "" {
		return Problem{Variable: o.variable, Path: path}
	}
	p := Problem{File: d.name, Path: path}
	p.Line, p.Column = o.position()
	return p
}

func (d *decoder) report(o origin, path, format string, args ...any) {
	p := d.at(o, path)
	p.Message = fmt.Sprintf(format, args...)
	d.problems = append(d.problems, p)
}

// Errors of package yaml tell the line in their text only. What an unknown
// anchor is called is left out: it is a password that begins with an asterisk.
var (
	yamlLine   = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)
	yamlAnchor = regexp.MustCompile(`unknown anchor .* referenced`)
)

// document returns the top node of the file: nil if the file says nothing. It
// reports false if the file cannot be read as one YAML document.
func (d *decoder) document(data []byte) (*yaml.Node, bool) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decodeNode(dec, &doc); {
	case errors.Is(err, io.EOF):
		return nil, true
	case err != nil:
		d.syntax(err)
		return nil, false
	}
	switch err := decodeNode(dec, &second); {
	case err == nil:
		d.report(origin{node: &second}, "", "must be one YAML document, this begins a second one")
		return nil, false
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return nil, false
	}
	if len(doc.Content) == 0 {
		return nil, true
	}
	return doc.Content[0], true
}

// decodeNode turns a panic of the YAML parser into an error: input that it was
// not made for must not take the process down.
func decodeNode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("yaml: this cannot be read")
		}
	}()
	return dec.Decode(n)
}

func (d *decoder) syntax(err error) {
	p := Problem{File: d.name, Line: 1, Column: 1, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			p.Line = max(n, 1)
		}
		p.Message = m[2]
	}
	p.Message = "not YAML: " + yamlAnchor.ReplaceAllString(p.Message, "an unquoted '*' must be followed by the name of an anchor")
	d.problems = append(d.problems, p)
}

// section reads one section from o's node, which may be missing, and from the
// environment.
func (d *decoder) section(s section, path string, o origin) {
	node := resolve(o.node)
	if isNull(node) {
		node = nil
	}
	if node != nil && node.Kind != yaml.MappingNode {
		d.report(o, path, "must be a section with keys of its own, got %s", kindOf(node))
		return
	}
	fields := s.fields()
	sc := &scope{
		d: d, path: path, self: o,
		origins: make(map[string]origin), broken: make(map[string]bool),
		items: make(map[string][]origin), named: make(map[string]map[string]origin),
	}
	values := d.mapping(node, path)
	d.unknown(values, fields, path)
	for _, f := range fields {
		before := len(d.problems)
		d.field(sc, f, values)
		if len(d.problems) > before {
			sc.broken[f.key] = true
		}
		if f.required && !sc.given(f.key) {
			where := o
			if pair, written := values[f.key]; written {
				where = pair
			}
			d.report(where, join(path, f.key), "is required")
		}
	}
	for key, at := range sc.origins {
		d.places[join(path, key)] = at
	}
	s.check(sc)
}

// mapping returns the values of a mapping by key, those that are null left with
// a nil node.
func (d *decoder) mapping(node *yaml.Node, path string) map[string]origin {
	values := make(map[string]origin)
	if node == nil {
		return values
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, val := node.Content[i], node.Content[i+1]
		o := origin{key: key, node: val}
		name := resolve(key)
		switch first, twice := values[name.Value]; {
		case name.Kind != yaml.ScalarNode:
			d.report(origin{node: key}, path, "a key must be a text, got %s", kindOf(name))
			continue
		case name.Tag == "!!merge":
			d.report(origin{node: key}, path, "merge keys (<<) are not supported: write the keys out")
			continue
		case twice:
			d.report(origin{node: key}, join(path, shown(name.Value)), "is set twice, first on line %d", first.key.Line)
			continue
		}
		values[name.Value] = o
	}
	return values
}

func (d *decoder) unknown(values map[string]origin, fields []field, path string) {
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
		if f.value.secret {
			keys = append(keys, f.key+"_file")
		}
	}
	for key, o := range values {
		if slices.Contains(keys, key) {
			continue
		}
		message := "unknown key"
		if better := suggest(key, keys); better != "" {
			message += ", did you mean " + better + "?"
		}
		d.report(origin{node: o.key}, join(path, shown(key)), "%s", message)
	}
}

// field reads the value of one key.
func (d *decoder) field(sc *scope, f field, values map[string]origin) {
	path := join(sc.path, f.key)
	o, written := values[f.key]
	written = written && !isNull(resolve(o.node))
	if !written {
		o.node = nil
	}
	switch v := f.value; {
	case v.scalar != nil:
		f.value.scalar = d.noting(path, v.scalar)
		d.scalar(sc, f, path, values)
	case v.items != nil:
		f.value.items = func() func(string) error {
			d.values[path] = Secret{}
			return d.noting(path, v.items())
		}
		d.list(sc, f, path, o)
	case v.nested != nil:
		if written {
			sc.origins[f.key] = o
		}
		d.section(v.nested(), path, o)
	case v.optional != nil:
		one, keep := v.optional()
		if !written {
			if o = (origin{variable: d.env.first(one, path)}); o.variable == "" {
				return
			}
		}
		sc.origins[f.key] = o
		d.section(one, path, o)
		keep()
	case v.each != nil:
		if !written {
			return
		}
		sc.origins[f.key] = o
		node := resolve(o.node)
		if node.Kind != yaml.SequenceNode {
			d.report(o, path, "must be a list, got %s", kindOf(node))
			return
		}
		for i, item := range node.Content {
			one, keep := v.each()
			at := origin{node: item}
			sc.items[f.key] = append(sc.items[f.key], at)
			d.section(one, fmt.Sprintf("%s[%d]", path, i), at)
			keep()
		}
	case v.named != nil:
		if !written {
			return
		}
		sc.origins[f.key] = o
		node := resolve(o.node)
		if node.Kind != yaml.MappingNode {
			d.report(o, path, "must be a section with keys of its own, got %s", kindOf(node))
			return
		}
		entries := d.mapping(node, path)
		sc.named[f.key] = entries
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			one, keep := v.named(name)
			d.section(one, join(path, shown(name)), entries[name])
			keep()
		}
	}
}

// noting notes what a key is set to: the last text, or all of a list.
func (d *decoder) noting(path string, set func(string) error) func(string) error {
	listed, list := d.values[path]
	return func(text string) error {
		if list {
			listed = NewSecret(listed.Reveal() + "\x00" + text)
			d.values[path] = listed
		} else {
			d.values[path] = NewSecret(text)
		}
		return set(text)
	}
}

// scalar reads one value. The environment goes first; a secret may be in a file
// that either of them names.
func (d *decoder) scalar(sc *scope, f field, path string, values map[string]origin) {
	v := f.value
	if f.def != "" {
		if err := v.scalar(f.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", path, err))
		}
	}
	s, o, found := d.env.lookup(path)
	if v.secret {
		name, fo, inFile := d.env.lookup(path + "_file")
		switch {
		case found && inFile:
			sc.origins[f.key] = o
			d.report(o, path, "is also given by %s: leave one of them out", fo.variable)
			return
		case inFile:
			sc.origins[f.key] = fo
			d.secretFile(f, path+"_file", name, fo)
			return
		}
	}
	if found {
		sc.origins[f.key] = o
		d.set(f, path, s, o)
		return
	}
	plain, written := d.plain(values, f.key, path)
	if written {
		sc.origins[f.key] = plain
	}
	if v.secret {
		inFile, also := d.plain(values, f.key+"_file", path+"_file")
		switch {
		case written && also:
			d.report(plain, path, "is also given by %s_file: leave one of them out", f.key)
			return
		case also:
			sc.origins[f.key] = inFile
			if inFile.node != nil {
				d.secretFile(f, path+"_file", resolve(inFile.node).Value, inFile)
			}
			return
		}
	}
	if written && plain.node != nil {
		d.set(f, path, resolve(plain.node).Value, plain)
	}
}

// plain returns the scalar at key; null counts as not written. Where something
// else than a scalar stands there, it says so and returns no node.
func (d *decoder) plain(values map[string]origin, key, path string) (origin, bool) {
	o, written := values[key]
	node := resolve(o.node)
	if !written || isNull(node) {
		return origin{}, false
	}
	if node.Kind != yaml.ScalarNode {
		d.report(o, path, "must be a single value, got %s", kindOf(node))
		o.node = nil
	}
	return o, true
}

// set checks and stores the text of a scalar.
func (d *decoder) set(f field, path, text string, o origin) {
	if f.value.file {
		if text == "" {
			d.report(o, path, "must not be empty")
			return
		}
		text = d.resolvePath(text)
		d.files = append(d.files, fileRef{path: text, problem: d.at(o, path)})
	}
	if err := f.value.scalar(text); err != nil {
		d.report(o, path, "%v", err)
	}
}

// secretFile stores what the named file holds, without the newline that editors
// and `echo` leave at its end.
func (d *decoder) secretFile(f field, path, name string, o origin) {
	if name == "" {
		d.report(o, path, "must not be empty")
		return
	}
	name = d.resolvePath(name)
	d.named = append(d.named, name)
	data, err := readRegular(name, maxSecretBytes)
	if err != nil {
		d.report(o, path, "%v", err)
		return
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		d.report(o, path, "the file is empty")
		return
	}
	if err := f.value.scalar(text); err != nil {
		d.report(o, path, "what the file holds %v", err)
	}
}

func (d *decoder) resolvePath(p string) string {
	if d.dir == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(d.dir, p)
}

// list reads a list of scalars.
func (d *decoder) list(sc *scope, f field, path string, o origin) {
	if f.def != "" {
		add := f.value.items()
		for one := range strings.SplitSeq(f.def, ",") {
			if err := add(one); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", path, err))
			}
		}
	}
	if s, from, found := d.env.lookup(path); found {
		sc.origins[f.key] = from
		add := f.value.items()
		for one := range strings.SplitSeq(s, ",") {
			if err := add(strings.TrimSpace(one)); err != nil {
				d.report(from, path, "%v", err)
			}
		}
		return
	}
	if o.node == nil {
		return
	}
	sc.origins[f.key] = o
	node := resolve(o.node)
	if node.Kind != yaml.SequenceNode {
		d.report(o, path, "must be a list, got %s", kindOf(node))
		return
	}
	add := f.value.items()
	for i, item := range node.Content {
		at, itemPath := origin{node: item}, fmt.Sprintf("%s[%d]", path, i)
		if one := resolve(item); one.Kind != yaml.ScalarNode || isNull(one) {
			d.report(at, itemPath, "must be a single value, got %s", kindOf(one))
		} else if err := add(one.Value); err != nil {
			d.report(at, itemPath, "%v", err)
		}
	}
}

// leftovers reports the variables that no key took.
func (d *decoder) leftovers() {
	for _, name := range d.env.unused() {
		message := "is the variable of no key"
		if better := suggest(name, d.env.known()); better != "" {
			message += ", did you mean " + better + "?"
		} else if strings.HasPrefix(name, prefix+"APPS_") {
			message += " (apps, and the entries of credentials, must be named in the file)"
		}
		d.report(origin{variable: name}, "", "%s", message)
	}
	for _, clash := range d.env.clashes {
		d.report(origin{variable: clash.variable}, clash.paths[1], "this variable is also that of %s: rename one of the apps", clash.paths[0])
	}
}

// resolve follows an alias to what it names.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func kindOf(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// join makes the path of a key in a section.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// shown is a key of the file as part of a path: whatever stands there, it stays
// on one line and short.
func shown(key string) string {
	if appName.MatchString(key) {
		return key
	}
	return quote(key)
}

func openRegular(path string) (*os.File, error) {
	// Asked before opening: a named pipe would block, a device might never end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

func readRegular(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
