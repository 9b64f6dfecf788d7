package strictjson

import (
	"math/bits"
	"strings"
)

// Member is one member of an object that becomes a T. Of an object that is only
// read, the last four fields are not needed.
type Member[T any] struct {
	Name     string
	Required bool
	Read     func(d *Decoder, dst *T) // reads the value

	Doc    string                          // what it is, in a sentence, for [Object.Schema]
	Schema string                          // more keywords of its schema, as `"name":value`
	Set    func(src *T) bool               // there is something to append
	Append func(dst []byte, src *T) []byte // appends the value
}

// Object is a table of at most 64 members. It is strict: a member that is not in
// it, or is there twice, is a problem.
type Object[T any] []Member[T]

// Lift makes members of a T into those of an S that has one.
func Lift[S, T any](members Object[T], of func(*S) *T) Object[S] {
	out := make(Object[S], len(members))
	for i, m := range members {
		out[i] = Member[S]{
			Name: m.Name, Required: m.Required, Doc: m.Doc, Schema: m.Schema,
			Read:   func(d *Decoder, dst *S) { m.Read(d, of(dst)) },
			Set:    func(src *S) bool { return m.Set(of(src)) },
			Append: func(dst []byte, src *S) []byte { return m.Append(dst, of(src)) },
		}
	}
	return out
}

// Read reads an object, and returns the bits of the members that are there, by
// their place in the table.
func (o Object[T]) Read(d *Decoder, dst *T) (seen uint64) {
	if !d.Open('{', "an object") {
		return 0
	}
	for !d.Closed('}') {
		v, ok := d.Value()
		if !ok {
			return seen
		}
		i := o.index(v)
		if i < 0 {
			Unknown(d, Unquoted(v), o.Names())
			d.Value()
			continue
		}
		d.Enter(o[i].Name)
		if seen&(1<<i) != 0 {
			d.Add("is given twice")
			d.Value()
		} else {
			seen |= 1 << i
			o[i].Read(d, dst)
		}
		d.Leave()
	}
	if d.Broken() {
		return seen
	}
	for i := range o {
		if o[i].Required && seen&(1<<i) == 0 {
			d.AddAt(o[i].Name, "is required")
		}
	}
	return seen
}

// Append appends the object with the members that are set, in the order of the
// table. [Object.Read] reads it back.
func (o Object[T]) Append(dst []byte, src *T) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for i := range o {
		if !o[i].Set(src) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(AppendText(dst, o[i].Name), ':')
		dst = o[i].Append(dst, src)
	}
	return append(dst, '}')
}

// Schema returns the keywords of the object's JSON Schema, less what lies between
// its members.
func (o Object[T]) Schema() string {
	var properties, required []string
	for i := range o {
		m := &o[i]
		text := string(AppendText(nil, m.Name)) + `:{"description":` + string(AppendText(nil, m.Doc))
		if m.Schema != "" {
			text += "," + m.Schema
		}
		properties = append(properties, text+"}")
		if m.Required {
			required = append(required, string(AppendText(nil, m.Name)))
		}
	}
	s := `"type":"object","properties":{` + strings.Join(properties, ",") + `},"additionalProperties":false`
	if len(required) > 0 {
		s += `,"required":[` + strings.Join(required, ",") + `]`
	}
	return s
}

// Seen returns the names of the members in seen, in the order of the table.
func (o Object[T]) Seen(seen uint64) []string {
	names := make([]string, 0, bits.OnesCount64(seen))
	for ; seen != 0; seen &= seen - 1 {
		names = append(names, o[bits.TrailingZeros64(seen)].Name)
	}
	return names
}

// index finds a member by its quoted name.
func (o Object[T]) index(quoted []byte) int {
	name := Unquoted(quoted)
	for i := range o {
		if string(name) == o[i].Name {
			return i
		}
	}
	return -1
}

// Names returns the names of the members.
func (o Object[T]) Names() []string {
	names := make([]string, len(o))
	for i := range o {
		names[i] = o[i].Name
	}
	return names
}

// Unknown notes a member that is none of those known, with the one that was
// probably meant.
func Unknown(d *Decoder, name []byte, known []string) {
	s, ok := Shown(name)
	if !ok {
		d.Add("has a member that is not known (its name is not printed)")
		return
	}
	if meant := Nearest(s, known); meant != "" {
		d.AddAt(s, "unknown field, did you mean %s?", meant)
		return
	}
	d.AddAt(s, "unknown field")
}

// ReadList reads an array, and calls item for each of its first items at its
// place. It returns how many there are, and false if it is none or is broken.
// most 0: as many as there are.
func ReadList(d *Decoder, most int, item func()) (n int, ok bool) {
	if !d.Open('[', "an array") {
		return 0, false
	}
	for ; !d.Closed(']'); n++ {
		if most > 0 && n >= most {
			d.Value() // counted, not looked at
			continue
		}
		d.EnterIndex(n)
		item()
		d.Leave()
	}
	return n, !d.Broken()
}

// ReadText reads a string of at most limit bytes.
func ReadText(d *Decoder, limit int) (string, bool) {
	v, ok := d.ValueOf('"', "a string")
	if !ok {
		return "", false
	}
	s := Unquoted(v)
	if len(s) > limit {
		d.Add("must be at most %d bytes, got %d", limit, len(s))
		return "", false
	}
	return string(s), true
}
