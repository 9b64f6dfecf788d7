package strictjson_test

import (
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

type page struct {
	title string
	at    time.Time
}

type book struct{ first page }

// pages writes what it reads.
func pages() strictjson.Object[book] {
	return strictjson.Lift(strictjson.Object[page]{
		{
			Name: "title", Required: true, Doc: `The "title".`, Schema: `"type":"string"`,
			Read:   func(d *strictjson.Decoder, p *page) { p.title, _ = d.Text() },
			Set:    func(p *page) bool { return p.title != "" },
			Append: func(dst []byte, p *page) []byte { return strictjson.AppendText(dst, p.title) },
		},
		{
			Name: "at", Doc: "A time.",
			Read:   func(d *strictjson.Decoder, p *page) { p.at, _ = strictjson.ReadTime(d) },
			Set:    func(p *page) bool { return !p.at.IsZero() },
			Append: func(dst []byte, p *page) []byte { return strictjson.AppendTime(dst, p.at) },
		},
	}, func(b *book) *page { return &b.first })
}

func TestAppend(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]book{
		`>{}`:                              {},
		`>{"title":"a\"\u0007é"}`:          {page{title: "a\"\x07é"}},
		`>{"at":"2026-11-24T08:00:00.5Z"}`: {page{at: time.Date(2026, 11, 24, 9, 0, 0, 5e8, time.FixedZone("", 3600))}},
		`>{"title":"a","at":"2026-11-24T08:00:00Z"}`: {page{"a", time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}},
	} {
		got := string(pages().Append([]byte(">"), &b))
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		var again book
		d := strictjson.New([]byte(got[1:]))
		pages().Read(d, &again)
		if again.first.title != b.first.title || !again.first.at.Equal(b.first.at) {
			t.Errorf("%s read back: got %+v, want %+v", got, again, b)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	const want = `"type":"object","properties":{"title":{"description":"The \"title\".","type":"string"},"at":{"description":"A time."}},` +
		`"additionalProperties":false,"required":["title"]`
	if got := pages().Schema(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"4h"`: "4h", `"1h30m"`: "1h30m", `"90s"`: "1m30s", `"60m"`: "1h", `"0"`: "0s", `"1.5s"`: "1.5s", `"720h0m"`: "720h",
		`"-1s"`: "must not be negative", `"+1s"`: "must be a duration such as 90s, 4h or 1h30m", `"7d"`: "must be a duration such as 90s, 4h or 1h30m",
		`1`: "must be a string, got a number",
	} {
		d := strictjson.New([]byte(text))
		got := ""
		if v, ok := strictjson.ReadDuration(d); ok {
			got = strictjson.DurationText(v)
		} else if list, _ := d.List(); len(list) == 1 {
			got = list[0].Message
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestIsLine(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"": true, "a b": true, "é": true, " a": false, "a ": false, "a\nb": false, "a\u200bb": false} {
		if got := strictjson.IsLine(s); got != want {
			t.Errorf("%q: got %t, want %t", s, got, want)
		}
	}
}
