package strictjson

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxNesting is how deep objects and arrays may nest. choice: far above any real
// document, far below what could hurt a stack.
const MaxNesting = 64

// Decoder reads one JSON document in a single pass and goes on after anything
// but a syntax error, so that all problems are told at once.
type Decoder struct {
	Problems
	json   jsontext.Decoder
	input  bytes.Buffer
	data   []byte
	broken string // a syntax error: nothing more can be read
}

// New returns a decoder of data, which it does not change.
func New(data []byte) *Decoder {
	d := &Decoder{data: data}
	d.input = *bytes.NewBuffer(data)
	// Duplicate names are our own to find: jsontext would stop at the first.
	d.json.Reset(&d.input, jsontext.AllowDuplicateNames(true))
	return d
}

// End checks that nothing follows the document.
func (d *Decoder) End() {
	if d.Broken() {
		return
	}
	rest := d.data[d.json.InputOffset():]
	if rest = bytes.TrimLeft(rest, " \t\r\n"); len(rest) > 0 {
		d.fail("not valid JSON: something follows the object" + d.place(int64(len(d.data)-len(rest))))
	}
}

// Broken reports whether there was a syntax error: nothing more can be read then,
// and the last problem says why.
func (d *Decoder) Broken() bool { return d.broken != "" }

// Syntax returns the syntax error, or "".
func (d *Decoder) Syntax() string { return d.broken }

// Peek returns the kind of the next value.
func (d *Decoder) Peek() jsontext.Kind { return d.json.PeekKind() }

// Until returns how many bytes are left before the next c, wherever that stands,
// or before the end of the document.
func (d *Decoder) Until(c byte) int {
	rest := d.data[d.json.InputOffset():]
	if i := bytes.IndexByte(rest, c); i >= 0 {
		return i
	}
	return len(rest)
}

// Len returns how many bytes the document has.
func (d *Decoder) Len() int { return len(d.data) }

func (d *Decoder) fail(text string) {
	d.broken = text
	d.Add("%s", text)
}

// syntax notes why the JSON cannot be read.
func (d *Decoder) syntax(err error) {
	if d.Broken() {
		return
	}
	if len(bytes.TrimSpace(d.data)) == 0 {
		d.fail("is empty")
		return
	}
	var offset int64
	if at := (*jsontext.SyntacticError)(nil); errors.As(err, &at) {
		offset = at.ByteOffset
	}
	switch {
	case !utf8.Valid(d.data):
		d.fail("not valid JSON: invalid UTF-8" + d.place(int64(invalidUTF8(d.data))))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		d.fail("not valid JSON: ends too early, after " + strconv.Itoa(len(d.data)) + " bytes")
	case Nesting(d.data) > MaxNesting:
		d.fail("is nested deeper than " + strconv.Itoa(MaxNesting) + " levels")
	default:
		// Not jsontext's own words: they quote the input.
		d.fail("not valid JSON: unexpected character or escape" + d.place(offset))
	}
}

// place says where a byte of the input is.
func (d *Decoder) place(offset int64) string {
	before := d.data[:min(int(offset), len(d.data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return " at line " + strconv.Itoa(line) + ", column " + strconv.Itoa(column)
}

// invalidUTF8 returns the index of the first byte that is not UTF-8.
func invalidUTF8(b []byte) int {
	for i, r := range string(b) {
		if r != utf8.RuneError {
			continue
		}
		if _, n := utf8.DecodeRune(b[i:]); n == 1 {
			return i
		}
	}
	return len(b)
}

// Value reads the next value whole. It is valid until the next read. Of broken
// JSON nothing is read: what holds it looks like it has ended, see Closed.
func (d *Decoder) Value() (jsontext.Value, bool) {
	v, err := d.json.ReadValue()
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	return v, true
}

// ValueOf reads the next value whole, and notes a problem if it is of another
// kind than want.
func (d *Decoder) ValueOf(want jsontext.Kind, what string) (jsontext.Value, bool) {
	v, ok := d.Value()
	if !ok {
		return nil, false
	}
	if v.Kind() != want {
		d.WrongKind(what, v.Kind())
		return nil, false
	}
	return v, true
}

// Open reads the start of an object or array, and skips what is neither.
func (d *Decoder) Open(want jsontext.Kind, what string) bool {
	if d.json.PeekKind() != want {
		if v, ok := d.Value(); ok {
			d.WrongKind(what, v.Kind())
		}
		return false
	}
	if _, err := d.json.ReadToken(); err != nil {
		d.syntax(err)
		return false
	}
	return true
}

// Closed reports whether the object or array ends here, and reads its end.
func (d *Decoder) Closed(end jsontext.Kind) bool {
	if d.Broken() {
		return true
	}
	if d.json.PeekKind() != end {
		return false
	}
	if _, err := d.json.ReadToken(); err != nil {
		d.syntax(err)
	}
	return true
}

// WrongKind notes that a value is of another kind than want, such as "a string".
func (d *Decoder) WrongKind(want string, got jsontext.Kind) {
	if got == 'n' {
		d.Add("must be %s, got null: leave it out instead", want)
		return
	}
	d.Add("must be %s, got %s", want, KindName(got))
}

// KindName returns a kind of JSON value in words, such as "a number".
func KindName(k jsontext.Kind) string {
	switch k {
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	default:
		return "an object"
	}
}

// Text reads a string.
func (d *Decoder) Text() (string, bool) {
	v, ok := d.ValueOf('"', "a string")
	if !ok {
		return "", false
	}
	return Unquote(v), true
}

// Unquote returns the string that a valid JSON string stands for; of anything
// else, nonsense.
func Unquote(v []byte) string { return string(Unquoted(v)) }

// Unquoted is Unquote without a copy where it can be had.
func Unquoted(v []byte) []byte {
	if len(v) < len(`""`) {
		return nil
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1]
	}
	b, _ := jsontext.AppendUnquote(nil, v)
	return b
}

// Nesting returns how deep the objects and arrays of b nest.
func Nesting(b []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = StringEnd(b, i) - 1
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}

// StringEnd returns the index after the JSON string that starts at b[i].
func StringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
