package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/stream"
)

// DeadLetters is where dead letters are; see [stream.Streams].
type DeadLetters interface {
	DeadLetters(ctx context.Context) (*stream.DeadLetters, error)
}

// Bounds of one request about dead letters.
const (
	defaultLetters   = 100 // of a list
	maxLetters       = 1000
	defaultWork      = 1000 // redriven or purged
	maxWork          = 10_000
	maxSequences     = 1000
	maxMaxRecipients = 10_000_000

	// maxLooked is how many letters one request looks at, to find those that are meant:
	// a second's worth.
	maxLooked = 50_000
	letterRun = 500 // letters read at once

	// workTime is how long a request goes on with further letters: the one that it is at
	// then has the rest of callTimeout.
	workTime = 5 * time.Second

	maxReasonText = 2048
	maxIDText     = 256
	maxAgeText    = 32
)

func (a *API) getDeadLetters(c *call) (int, any, *Problem) {
	var f faults
	query := c.r.URL.Query()
	ch := DeadLetterChoice{
		Reason: query.Get("reason"), Campaign: query.Get("campaign"), Job: query.Get("job"),
		NewerThan: query.Get("newer_than"), OlderThan: query.Get("older_than"),
	}
	limit := int(readNumber(query, "limit", 1, maxLetters, defaultLetters, &f))
	after := readNumber(query, "after", 0, math.MaxInt64, 0, &f)
	filter := c.filter(&ch, "{%s}", &f)
	if f.any() {
		return 0, nil, invalid(&f)
	}
	d, err := a.cfg.DeadLetters.DeadLetters(c.ctx)
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	if err := d.Bound(c.ctx, &filter); err != nil {
		return 0, nil, queueUnavailable(err)
	}
	page, next, err := d.Search(c.ctx, &filter, after+1, limit, maxLooked)
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	out := DeadLetterList{DeadLetters: make([]DeadLetter, len(page)), Next: max(next, 1) - 1}
	for i := range page {
		out.DeadLetters[i] = DeadLetterOf(&page[i], a.cfg.Now(), false)
	}
	return http.StatusOK, out, nil
}

// readNumber reads a whole number of the URL's query.
func readNumber(query url.Values, name string, least, most, unset uint64, f *faults) uint64 {
	text := query.Get(name)
	if text == "" {
		return unset
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		f.add("{"+name+"}", "must be %s", span(least, most))
	}
	return n
}

func span(least, most uint64) string {
	if most == math.MaxInt64 {
		return fmt.Sprintf("a whole number from %d on", least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func (a *API) getDeadLetter(c *call) (int, any, *Problem) {
	var f faults
	full := readFlag(c.r.URL.Query(), "full", &f)
	sequence, err := strconv.ParseUint(c.r.PathValue("sequence"), 10, 64)
	if err != nil || sequence == 0 {
		f.add("{sequence}", "must be a dead letter's number")
	}
	if f.any() {
		return 0, nil, invalid(&f)
	}
	d, err := a.cfg.DeadLetters.DeadLetters(c.ctx)
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	l, err := c.letter(d, sequence)
	switch {
	case errors.Is(err, stream.ErrNoLetter):
		return 0, nil, problemf(http.StatusNotFound, codeUnknownDeadLetter, "the app has no dead letter with this number: it was redriven or purged, or never there")
	case err != nil:
		return 0, nil, queueUnavailable(err)
	}
	return http.StatusOK, WholeDeadLetterOf(l, a.cfg.Now(), full), nil
}

func readFlag(query url.Values, name string, f *faults) bool {
	switch query.Get(name) {
	case "", "false":
	case "true":
		return true
	default:
		f.add("{"+name+"}", "must be true or false")
	}
	return false
}

// letter reads a letter of the call's app.
func (c *call) letter(d *stream.DeadLetters, sequence uint64) (*stream.DeadLetter, error) {
	l, err := d.Letter(c.ctx, sequence)
	if err == nil && l.App != c.appName {
		return nil, stream.ErrNoLetter
	}
	return l, err
}

// filter makes of what was chosen a filter for the call's app. format is how faults name
// a member.
func (c *call) filter(ch *DeadLetterChoice, format string, f *faults) stream.DeadFilter {
	filter := stream.DeadFilter{App: c.appName, Reason: ch.Reason, Campaign: ch.Campaign, Job: ch.Job}
	now := c.api.cfg.Now()
	for _, age := range []struct {
		name, text string
		to         *time.Time
	}{{"newer_than", ch.NewerThan, &filter.After}, {"older_than", ch.OlderThan, &filter.Before}} {
		if age.text == "" {
			continue
		}
		long, ok := strictjson.ParseLong(age.text)
		if !ok {
			f.add(fmt.Sprintf(format, age.name), "must be a duration such as 36h or 270d")
		}
		*age.to = now.Add(-long)
	}
	if !f.any() && !filter.After.IsZero() && !filter.Before.IsZero() && !filter.After.Before(filter.Before) {
		f.add(fmt.Sprintf(format, "newer_than"), "must be longer than older_than, or nothing is left between")
	}
	return filter
}

// readChoice reads the body of a request that changes something: that must not take
// everything by accident.
func readChoice(body []byte, f *faults) (ch DeadLetterChoice, p *Problem) {
	d := strictjson.New(body)
	choiceMembers().Read(d, &ch)
	d.End()
	if p := malformed(d); p != nil {
		return ch, p
	}
	f.take(d.List())
	if f.any() {
		return ch, nil
	}
	filtered := ch.Reason+ch.Campaign+ch.Job+ch.NewerThan+ch.OlderThan != ""
	switch {
	case len(ch.Sequences) > 0 && (filtered || ch.All):
		f.add("sequences", "must not be given together with filters, or with all")
	case ch.All && filtered:
		f.add("all", "must not be given together with filters")
	case len(ch.Sequences) == 0 && !filtered && !ch.All:
		f.add("", "must say which: sequences, filters such as reason, or all")
	}
	return ch, nil
}

func choiceMembers() strictjson.Object[DeadLetterChoice] {
	type choice = DeadLetterChoice
	text := func(name string, limit int, at func(*choice) *string) strictjson.Member[choice] {
		return strictjson.Member[choice]{Name: name, Read: func(d *strictjson.Decoder, ch *choice) {
			s, ok := strictjson.ReadText(d, limit)
			if ok && s == "" {
				d.Add("must not be empty: leave it out instead")
			}
			*at(ch) = s
		}}
	}
	flag := func(name string, at func(*choice) *bool) strictjson.Member[choice] {
		return strictjson.Member[choice]{Name: name, Read: func(d *strictjson.Decoder, ch *choice) { *at(ch) = readBool(d) }}
	}
	number := func(name string, least, most uint64, set func(*choice, uint64)) strictjson.Member[choice] {
		return strictjson.Member[choice]{Name: name, Read: func(d *strictjson.Decoder, ch *choice) { set(ch, readWhole(d, least, most)) }}
	}
	return strictjson.Object[choice]{
		{Name: "sequences", Read: readSequences},
		text("reason", maxReasonText, func(ch *choice) *string { return &ch.Reason }),
		text("campaign", maxIDText, func(ch *choice) *string { return &ch.Campaign }),
		text("job", maxIDText, func(ch *choice) *string { return &ch.Job }),
		text("newer_than", maxAgeText, func(ch *choice) *string { return &ch.NewerThan }),
		text("older_than", maxAgeText, func(ch *choice) *string { return &ch.OlderThan }),
		flag("all", func(ch *choice) *bool { return &ch.All }),
		flag("dry_run", func(ch *choice) *bool { return &ch.DryRun }),
		number("limit", 1, maxWork, func(ch *choice, n uint64) { ch.Limit = int(n) }),
		number("max_recipients", 1, maxMaxRecipients, func(ch *choice, n uint64) { ch.MaxRecipients = int(n) }),
		number("after", 0, math.MaxInt64, func(ch *choice, n uint64) { ch.After = n }),
		number("through", 0, math.MaxInt64, func(ch *choice, n uint64) { ch.Through = n }),
	}
}

func readSequences(d *strictjson.Decoder, ch *DeadLetterChoice) {
	n, ok := strictjson.ReadList(d, maxSequences, func() {
		if sequence := readWhole(d, 1, math.MaxInt64); !slices.Contains(ch.Sequences, sequence) {
			ch.Sequences = append(ch.Sequences, sequence)
		}
	})
	switch {
	case ok && n == 0:
		d.Add("must not be empty")
	case n > maxSequences:
		d.Add("must be at most %d, got %d", maxSequences, n)
	}
}

// readWhole reads a whole number, and returns 0 where there is none.
func readWhole(d *strictjson.Decoder, least, most uint64) uint64 {
	v, ok := d.ValueOf('0', "a whole number")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n < least || n > most {
		d.Add("must be %s", span(least, most))
		return 0
	}
	return n
}

func readBool(d *strictjson.Decoder) bool {
	v, ok := d.Value()
	if ok && v.Kind() != 't' && v.Kind() != 'f' {
		d.WrongKind("a boolean", v.Kind())
	}
	return ok && v.Kind() == 't'
}

// described names what was chosen, for the audit log.
func (ch *DeadLetterChoice) described() string {
	if len(ch.Sequences) > 0 {
		return strings.Trim(fmt.Sprint(ch.Sequences), "[]")
	}
	var words []string
	for _, w := range [][2]string{
		{"reason", ch.Reason}, {"campaign", ch.Campaign}, {"job", ch.Job}, {"older-than", ch.OlderThan}, {"newer-than", ch.NewerThan},
	} {
		if w[1] != "" {
			words = append(words, w[0]+"="+w[1])
		}
	}
	if ch.All {
		words = append(words, "all=true")
	}
	return HideTokens(strings.Join(words, " "))
}
