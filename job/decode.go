package job

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxNesting bounds how deep objects and arrays of data and payload may nest.
// choice: far above any real payload, far below what could hurt a stack.
const maxNesting = 64

// decoder reads one JSON document in a single pass and goes on after anything
// but a syntax error, so that all problems are told at once.
type decoder struct {
	problems
	json   jsontext.Decoder
	input  bytes.Buffer
	data   []byte
	broken bool // a syntax error: nothing more can be read
}

func newDecoder(data []byte) *decoder {
	d := &decoder{data: data}
	d.input = *bytes.NewBuffer(data)
	// Duplicate names are our own to find: jsontext would stop at the first.
	d.json.Reset(&d.input, jsontext.AllowDuplicateNames(true))
	return d
}

// end checks that nothing follows the document.
func (d *decoder) end() {
	if d.broken {
		return
	}
	rest := d.data[d.json.InputOffset():]
	if rest = bytes.TrimLeft(rest, " \t\r\n"); len(rest) > 0 {
		d.broken = true
		d.add("not valid JSON: something follows the object%s", d.place(int64(len(d.data)-len(rest))))
	}
}

// syntax notes why the JSON cannot be read.
func (d *decoder) syntax(err error) {
	d.broken = true
	if len(bytes.TrimSpace(d.data)) == 0 {
		d.add("is empty")
		return
	}
	var offset int64
	if at := (*jsontext.SyntacticError)(nil); errors.As(err, &at) {
		offset = at.ByteOffset
	}
	switch {
	case !utf8.Valid(d.data):
		d.add("not valid JSON: invalid UTF-8%s", d.place(int64(invalidUTF8(d.data))))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		d.add("not valid JSON: ends too early, after %d bytes", len(d.data))
	case nesting(d.data) > maxNesting:
		d.add("is nested deeper than %d levels", maxNesting)
	default:
		// Not jsontext's own words: they quote the input.
		d.add("not valid JSON: unexpected character or escape%s", d.place(offset))
	}
}

// place says where a byte of the input is.
func (d *decoder) place(offset int64) string {
	before := d.data[:min(int(offset), len(d.data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return " at line " + itoa(line) + ", column " + itoa(column)
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

// value reads the next value whole. It is valid until the next read. Of broken
// JSON nothing is read: what holds it looks like it has ended, see closed.
func (d *decoder) value() (jsontext.Value, bool) {
	v, err := d.json.ReadValue()
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	return v, true
}

// valueOf reads the next value whole, and notes a problem if it is of another
// kind than want.
func (d *decoder) valueOf(want jsontext.Kind, what string) (jsontext.Value, bool) {
	v, ok := d.value()
	if !ok {
		return nil, false
	}
	if v.Kind() != want {
		d.wrongKind(what, v.Kind())
		return nil, false
	}
	return v, true
}

// open reads the start of an object or array, and skips what is neither.
func (d *decoder) open(want jsontext.Kind, what string) bool {
	if d.json.PeekKind() != want {
		if v, ok := d.value(); ok {
			d.wrongKind(what, v.Kind())
		}
		return false
	}
	if _, err := d.json.ReadToken(); err != nil {
		d.syntax(err)
		return false
	}
	return true
}

// closed reports whether the object or array ends here, and reads its end.
func (d *decoder) closed(end jsontext.Kind) bool {
	if d.broken {
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

func (d *decoder) wrongKind(want string, got jsontext.Kind) {
	if got == 'n' {
		d.add("must be %s, got null: leave it out instead", want)
		return
	}
	d.add("must be %s, got %s", want, kindName(got))
}

func kindName(k jsontext.Kind) string {
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

// text reads a string.
func (d *decoder) text() (string, bool) {
	v, ok := d.valueOf('"', "a string")
	if !ok {
		return "", false
	}
	return unquote(v), true
}

// unquote returns the string that a valid JSON string stands for; of anything
// else, nonsense.
func unquote(v []byte) string { return string(unquoted(v)) }

// unquoted is unquote without a copy where it can be had.
func unquoted(v []byte) []byte {
	if len(v) < len(`""`) {
		return nil
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1]
	}
	b, _ := jsontext.AppendUnquote(nil, v)
	return b
}

// compactObject returns a copy of a JSON object without white space, its numbers
// and strings as they were written; or what is wrong with it.
func compactObject(raw []byte) (compacted []byte, problem string) {
	if nesting(raw) > maxNesting {
		return nil, "is nested deeper than " + itoa(maxNesting) + " levels"
	}
	out, err := jsontext.AppendFormat(make([]byte, 0, len(raw)), raw, jsontext.PreserveRawStrings(true))
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return nil, "holds an object with the same member twice"
	case err != nil:
		return nil, "is not valid JSON"
	case len(out) == 0 || out[0] != '{':
		return nil, "must be an object"
	}
	return out, ""
}

// nesting returns how deep the objects and arrays of b nest.
func nesting(b []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}

// stringEnd returns the index after the JSON string that starts at b[i].
func stringEnd(b []byte, i int) int {
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

// members calls yield with the name (in quotes) and the value of each member of
// a valid JSON object. Anything else yields nonsense or nothing, and no panic.
func members(raw []byte, yield func(name, value []byte)) {
	i := bytes.IndexByte(raw, '{') + 1
	for {
		for i < len(raw) && raw[i] != '"' && raw[i] != '}' {
			i++
		}
		if i >= len(raw) || raw[i] == '}' {
			return
		}
		end := stringEnd(raw, i)
		name := raw[i:end]
		for i = end; i < len(raw) && (raw[i] == ':' || isSpace(raw[i])); i++ {
		}
		end = valueEnd(raw, i)
		if end <= i {
			return
		}
		yield(name, raw[i:end])
		i = end
	}
}

// valueEnd returns the index after the JSON value that starts at b[i].
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch c := b[i]; c {
		case '"':
			i = stringEnd(b, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of what a number or literal was in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		default:
			if depth == 0 && (c == ',' || isSpace(c)) {
				return i
			}
		}
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// unique drops all but the first of equal items, in place. text gives the bytes
// that make an item what it is.
func unique[E comparable](items []E, text func(E) string) []E {
	if len(items) <= 8 {
		kept := items[:0]
		for _, item := range items {
			if !slices.Contains(kept, item) {
				kept = append(kept, item)
			}
		}
		return kept
	}
	// An open table of indices, seeded so that nobody can aim for collisions: a
	// map of a thousand strings would cost as much as reading them.
	size := 16
	for size < 2*len(items) {
		size *= 2
	}
	seed, slots := maphash.MakeSeed(), make([]int32, size)
	kept := items[:0]
next:
	for _, item := range items {
		i := maphash.String(seed, text(item))
		for ; ; i++ {
			slot := &slots[i&uint64(size-1)]
			if *slot == 0 {
				*slot = int32(len(kept) + 1)
				break
			}
			if kept[*slot-1] == item {
				continue next
			}
		}
		kept = append(kept, item)
	}
	return kept
}

// shown returns a name from the input if it can be printed: a short word that
// cannot be a device token or a text.
func shown(name []byte) (string, bool) {
	if len(name) == 0 || len(name) > 40 {
		return "", false
	}
	digits := 0
	for _, c := range name {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			digits++
		case c >= 'g' && c <= 'z', c >= 'G' && c <= 'Z', c == '_', c == '-':
		default:
			return "", false
		}
	}
	if digits >= 12 {
		return "", false
	}
	return string(name), true
}

// nearest returns the name that was probably meant, or "".
func nearest(name string, known []string) string {
	plain := strings.NewReplacer("_", "", "-", "")
	given := strings.ToLower(plain.Replace(name))
	for _, k := range known {
		if plain.Replace(k) == given {
			return k
		}
	}
	for _, k := range known {
		if len(k) > 3 && distance(strings.ToLower(name), k) <= 2 {
			return k
		}
	}
	return ""
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
