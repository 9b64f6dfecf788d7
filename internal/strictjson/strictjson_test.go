package strictjson_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

type box struct {
	name  string
	sizes []string
	inner *box
}

// table is a box in JSON: {"name": …, "sizes": […], "inner": {…}}.
func table() strictjson.Object[box] {
	var t strictjson.Object[box]
	t = strictjson.Object[box]{
		{Name: "name", Required: true, Read: func(d *strictjson.Decoder, b *box) { b.name, _ = strictjson.ReadText(d, 5) }},
		{Name: "sizes", Read: func(d *strictjson.Decoder, b *box) {
			n, ok := strictjson.ReadList(d, 3, func() {
				s, _ := d.Text()
				b.sizes = append(b.sizes, s)
			})
			if ok && n > 3 {
				d.Add("must be at most 3, got %d", n)
			}
		}},
		{Name: "inner", Read: func(d *strictjson.Decoder, b *box) {
			b.inner = new(box)
			t.Read(d, b.inner)
		}},
	}
	return t
}

func read(text string) (b box, seen []string, problems []string) {
	d := strictjson.New([]byte(text))
	t := table()
	seen = t.Seen(t.Read(d, &b))
	d.End()
	list, more := d.List()
	for _, p := range list {
		problems = append(problems, p.String())
	}
	if more > 0 {
		problems = append(problems, fmt.Sprintf("and %d more", more))
	}
	return b, seen, problems
}

func TestRead(t *testing.T) {
	t.Parallel()
	b, seen, problems := read(` {"sizes":["a\n","b"],"name":"x","inner":{"name":"y"}} `)
	if problems != nil || b.name != "x" || !slices.Equal(b.sizes, []string{"a\n", "b"}) || b.inner.name != "y" {
		t.Errorf("got %+v, %q, want all of it", b, problems)
	}
	if !slices.Equal(seen, []string{"name", "sizes", "inner"}) {
		t.Errorf("seen: got %q, want all, in the order of the table", seen)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"all at once", `{"sizes":[1,"a",null],"inner":{"name":"toolong"},"colour":[{}]}`, []string{
			"sizes[0]: must be a string, got a number", "sizes[2]: must be a string, got null: leave it out instead",
			"inner.name: must be at most 5 bytes, got 7", "colour: unknown field", "name: is required",
		}},
		{"meant another", `{"nam":"x","name":"x"}`, []string{"nam: unknown field, did you mean name?"}},
		{"a secret for a name", `{"00fc13adff785122b4ad28809a34":1,"name":"x"}`, []string{"has a member that is not known (its name is not printed)"}},
		{"twice", `{"name":"x","name":"y"}`, []string{"name: is given twice"}},
		{"too many", `{"name":"x","sizes":["a","b","c","d","e"]}`, []string{"sizes: must be at most 3, got 5"}},
		{"no object", `7`, []string{"must be an object, got a number"}},
		{"empty", "  ", []string{"is empty"}},
		{"cut", `{"name":"x","inner":{"name`, []string{"inner: not valid JSON: ends too early, after 26 bytes"}},
		{"comma", "{\"name\":\"x\",\n \"inner\":{,}}", []string{"inner: not valid JSON: unexpected character or escape at line 2, column 11"}},
		{"not UTF-8", "{\"name\":\"\xff\"}", []string{"name: not valid JSON: invalid UTF-8 at line 1, column 10"}},
		{"more", `{"name":"x"} {}`, []string{"not valid JSON: something follows the object at line 1, column 14"}},
		{"deep", `{"name":"x","extra":` + deep + `}`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, got := read(tt.text)
			if tt.want == nil { // only that it ends, and is refused
				if got == nil {
					t.Error("got no problem")
				}
				return
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// A document of faults makes a short list.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 300 {
		fmt.Fprintf(&text, `"x%d":0,`, i)
	}
	_, _, got := read("{" + text.String() + `"name":"x"}`)
	if len(got) != strictjson.MaxProblems+1 || got[len(got)-1] != "and 250 more" {
		t.Errorf("got %d lines, the last %q, want %d and the number of the rest", len(got), got[len(got)-1], strictjson.MaxProblems)
	}
}

// What is read apart has its own problems, with whole paths.
func TestApart(t *testing.T) {
	t.Parallel()
	d := strictjson.New([]byte(`[{"name":1},{"name":"x"},{}]`))
	var apart []string
	strictjson.ReadList(d, 0, func() {
		var b box
		list, _ := d.Apart(func() { table().Read(d, &b) })
		apart = append(apart, fmt.Sprint(list))
	})
	want := []string{"[[0].name: must be a string, got a number]", "[]", "[[2].name: is required]"}
	if !slices.Equal(apart, want) || d.Any() {
		t.Errorf("got %q and %t for the rest, want %q", apart, d.Any(), want)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"name":"x","sizes":["a",1],"inner":{"name":"y","inner":[]}}`)
	f.Add(`{"name":"x"}{`)
	f.Fuzz(func(t *testing.T, text string) {
		b, seen, problems := read(text)
		if problems == nil && (!slices.Contains(seen, "name") || len(b.name) > 5) {
			t.Errorf("taken: got %+v with %q, want a name of at most 5 bytes", b, seen)
		}
	})
}
