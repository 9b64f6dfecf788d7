package job

import (
	"bytes"
	"errors"
	"hash/maphash"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// compactObject returns a copy of a JSON object without white space, its numbers
// and strings as they were written; or what is wrong with it.
func compactObject(raw []byte) (compacted []byte, problem string) {
	if strictjson.Nesting(raw) > strictjson.MaxNesting {
		return nil, "is nested deeper than " + itoa(strictjson.MaxNesting) + " levels"
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
		end := strictjson.StringEnd(raw, i)
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
			i = strictjson.StringEnd(b, i)
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
