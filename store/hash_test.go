package store_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/store"
)

func fieldsOf(reply string) (map[string]string, bool) {
	got := make(map[string]string)
	ok := store.EachField(reply, func(field, value string) { got[field] = value })
	return got, ok
}

func TestEachField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, reply string
		want        map[string]string
		ok          bool
	}{
		{"map", "%2\r\n$1\r\na\r\n$0\r\n\r\n$2\r\n\r\n\r\n$3\r\n$9\r\r\n", map[string]string{"a": "", "\r\n": "$9\r"}, true},
		{"array", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", map[string]string{"a": "b"}, true},
		{"none", "%0\r\n", map[string]string{}, true},
		{"nothing", "", nil, false},
		{"error", "-ERR no\r\n", nil, false},
		{"half a pair", "*1\r\n$1\r\na\r\n", nil, false},
		{"cut in a value", "%1\r\n$1\r\na\r\n$5\r\nab", nil, false},
		{"cut in a length", "%1\r\n$1\r\na\r\n$5", nil, false},
		{"no length", "%\r\n", nil, false},
		{"more than said", "%1\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n", nil, false},
		{"a number for a string", "%1\r\n$1\r\na\r\n:1\r\n", nil, false},
		{"nil", "%1\r\n$1\r\na\r\n$-1\r\n", nil, false},
		{"a length that is too long to be true", "%1\r\n$99999999999999999999\r\na\r\n", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := fieldsOf(tt.reply)
			if ok != tt.ok || ok && !maps.Equal(got, tt.want) {
				t.Errorf("got %q, %t, want %q, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzEachField(f *testing.F) {
	f.Add("%1\r\n$1\r\na\r\n$1\r\nb\r\n")
	f.Add("*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n")
	f.Fuzz(func(t *testing.T, reply string) {
		var again strings.Builder
		n := 0
		ok := store.EachField(reply, func(field, value string) {
			n++
			fmt.Fprintf(&again, "$%d\r\n%s\r\n$%d\r\n%s\r\n", len(field), field, len(value), value)
		})
		if !ok {
			return
		}
		// What was taken is told whole: the same fields again give the same.
		text := fmt.Sprintf("%%%d\r\n%s", n, again.String())
		want, _ := fieldsOf(reply)
		if got, ok := fieldsOf(text); !ok || !maps.Equal(got, want) {
			t.Errorf("got %q, %t of %q, want %q as of %q", got, ok, text, want, reply)
		}
	})
}
