package campaign

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

const (
	openMark, closeMark = "{{", "}}"

	varUser         = "user"
	attributePrefix = "attributes."
)

// source is where the value of a variable comes from.
type source uint8

const (
	fromUser source = iota
	fromInstall
	fromLocale
	fromTimezone
	fromVersion
	fromAttribute
	fromFile
)

// variable is one that a campaign may use.
type variable struct {
	name   string // as it is written
	source source
	key    string // of an attribute or a file's variable
}

// value returns the variable's value for a recipient; empty: there is none.
func (v *variable) value(d *device.Device, vars map[string]string) string {
	switch v.source {
	case fromUser:
		return d.User
	case fromInstall:
		return d.InstallID
	case fromLocale:
		return d.Locale
	case fromTimezone:
		return d.Timezone
	case fromVersion:
		return d.AppVersion
	case fromAttribute:
		return d.Attributes[v.key]
	default:
		return vars[v.key]
	}
}

// variables are those that a campaign may use: of its file, or of devices.
type variables struct {
	named      map[string]variable
	attributes bool
}

func (c *Campaign) variables() variables {
	known := []variable{{name: varUser, source: fromUser}}
	if c.Recipients != nil {
		for _, name := range c.Recipients.Variables {
			known = append(known, variable{name: name, source: fromFile, key: name})
		}
	} else {
		known = append(known,
			variable{name: "install_id", source: fromInstall},
			variable{name: "locale", source: fromLocale},
			variable{name: "timezone", source: fromTimezone},
			variable{name: "app_version", source: fromVersion},
		)
	}
	vars := variables{named: make(map[string]variable, len(known)), attributes: c.Recipients == nil}
	for _, v := range known {
		vars.named[v.name] = v
	}
	return vars
}

// find returns the variable of that name, or what is wrong with it.
func (vars *variables) find(name string) (v variable, problem string) {
	if v, ok := vars.named[name]; ok {
		return v, ""
	}
	if key, ok := strings.CutPrefix(name, attributePrefix); ok && vars.attributes && key != "" {
		return variable{name: name, source: fromAttribute, key: key}, ""
	}
	bare := name
	for _, prefix := range []string{attributePrefix, "attribute."} {
		bare = strings.TrimPrefix(bare, prefix)
	}
	if _, ok := strictjson.Shown([]byte(bare)); !ok {
		return variable{}, "has an unknown variable (its name is not printed)"
	}
	problem = "unknown variable " + name
	meant := strictjson.Nearest(bare, slices.Sorted(maps.Keys(vars.named)))
	switch {
	case meant != "":
		return variable{}, problem + ", did you mean " + meant + "?"
	case vars.attributes:
		return variable{}, problem + ", did you mean " + attributePrefix + bare + "?"
	}
	return variable{}, problem + ": recipients.variables does not have it"
}

// piece is literal text, or a placeholder after it.
type piece struct {
	literal     string
	placeholder bool
	name        string
	fallback    string // what stands for an empty value
	hasFallback bool
}

// pieces cuts a string at its placeholders: {{name}} and {{name|default}}. White
// space beside the braces and the bar does not count.
func pieces(s string) (list []piece, problem string) {
	for {
		before, rest, found := strings.Cut(s, openMark)
		if !found {
			return append(list, piece{literal: before}), ""
		}
		inner, after, closed := strings.Cut(rest, closeMark)
		if !closed {
			return nil, "has " + openMark + " without " + closeMark
		}
		name, fallback, hasFallback := strings.Cut(inner, "|")
		p := piece{
			literal: before, placeholder: true,
			name: strings.TrimSpace(name), fallback: strings.TrimSpace(fallback), hasFallback: hasFallback,
		}
		if p.name == "" {
			return nil, "has a placeholder without a name"
		}
		list, s = append(list, p), after
	}
}

// part is a member of a campaign that may have placeholders.
type part struct {
	path string
	json []byte
}

func (c *Campaign) parts() (list []part) {
	notification := func(path string, n *job.Notification) {
		if b, err := n.MarshalJSON(); err == nil {
			list = append(list, part{path, b})
		}
	}
	if n := c.Content.Notification; n != nil {
		notification("notification", n)
	}
	if len(c.Content.Data) > 0 {
		list = append(list, part{"data", c.Content.Data})
	}
	if len(c.Content.Payload) > 0 {
		list = append(list, part{"payload", c.Content.Payload})
	}
	for _, tag := range slices.Sorted(maps.Keys(c.Localizations)) {
		if n := c.Localizations[tag]; n != nil {
			notification("localizations."+tag, n)
		}
	}
	return list
}

// checkPlaceholders checks the strings of a valid JSON value. Its path is put
// together by hand: data may nest deeper than any document of ours.
func checkPlaceholders(p *strictjson.Problems, path string, value jsontext.Value, vars *variables) {
	switch value.Kind() {
	case '"':
		list, problem := pieces(strictjson.Unquote(value))
		if problem != "" {
			p.AddAt(path, "%s", problem)
		}
		for _, piece := range list {
			if !piece.placeholder {
				continue
			}
			if _, problem := vars.find(piece.name); problem != "" {
				p.AddAt(path, "%s", problem)
			}
		}
	case '{':
		_ = eachItem(value, func(_ int, name, item jsontext.Value) {
			plain := strictjson.Unquote(name)
			at := path + "." + shown(plain)
			if strings.Contains(plain, openMark) {
				p.AddAt(at, "must not have a placeholder in its name: only values may")
			}
			checkPlaceholders(p, at, item, vars)
		})
	case '[':
		_ = eachItem(value, func(i int, _, item jsontext.Value) {
			checkPlaceholders(p, fmt.Sprintf("%s[%d]", path, i), item, vars)
		})
	}
}

// eachItem calls yield with each item of a JSON array, or each member of an object.
func eachItem(value jsontext.Value, yield func(i int, name, item jsontext.Value)) error {
	d := jsontext.NewDecoder(strings.NewReader(string(value)), jsontext.AllowDuplicateNames(true))
	open, err := d.ReadToken()
	if err != nil {
		return err
	}
	for i := 0; d.PeekKind() != '}' && d.PeekKind() != ']'; i++ {
		var name jsontext.Value
		if open.Kind() == '{' {
			if name, err = d.ReadValue(); err != nil {
				return err
			}
			name = name.Clone()
		}
		item, err := d.ReadValue()
		if err != nil {
			return err
		}
		yield(i, name, item)
	}
	return nil
}
