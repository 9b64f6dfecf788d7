package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// morgue buries messages and looks at the dead letters.
type morgue struct {
	*stream.DeadLetters
	t         testing.TB
	js        *testenv.JetStream
	api       jetstream.JetStream
	consumers map[string]*stream.Consumer
}

func newMorgue(t testing.TB, js *testenv.JetStream) *morgue {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	d, err := js.DeadLetters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &morgue{DeadLetters: d, t: t, js: js, api: api, consumers: make(map[string]*stream.Consumer)}
}

// bury publishes a job's bytes and gives them up, and returns the letter.
func (m *morgue) bury(app string, body []byte, header map[string]string, letter stream.Letter) *stream.DeadLetter {
	m.t.Helper()
	msg := nats.NewMsg(stream.JobsSubject(app, job.Bulk))
	msg.Data = body
	for name, value := range header {
		msg.Header.Set(name, value)
	}
	if err := m.js.NC.PublishMsg(msg); err != nil {
		m.t.Fatal(err)
	}
	in := m.take(app)
	if letter.Last.IsZero() {
		letter.Last = time.Now()
	}
	if err := m.js.Bury(m.t.Context(), in, letter); err != nil {
		m.t.Fatal(err)
	}
	if err := in.AckWaiting(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	last, err := m.Last(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return m.letter(last)
}

// take takes the next job of an app.
func (m *morgue) take(app string) *stream.Message {
	m.t.Helper()
	c := m.consumers[app]
	if c == nil {
		var err error
		if c, err = m.js.LaneConsumer(m.t.Context(), app, job.Bulk); err != nil {
			m.t.Fatal(err)
		}
		m.consumers[app] = c
	}
	in, err := c.Wait(5 * time.Second)
	if err != nil || in == nil {
		m.t.Fatalf("take a job of %s: got %v, %v", app, in, err)
	}
	return in
}

func (m *morgue) letter(sequence uint64) *stream.DeadLetter {
	m.t.Helper()
	l, err := m.Letter(m.t.Context(), sequence)
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// messages counts what a stream holds.
func (m *morgue) messages(name string) uint64 {
	m.t.Helper()
	st, err := m.api.Stream(m.t.Context(), name)
	if err != nil {
		m.t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}

// all reads every letter that f means, in pages.
func (m *morgue) all(f *stream.DeadFilter, size int) (list []stream.DeadLetter, pages int) {
	m.t.Helper()
	from := uint64(1)
	for from != 0 {
		page, next, err := m.Page(m.t.Context(), f, from, size)
		if err != nil {
			m.t.Fatal(err)
		}
		if len(page) > size || next != 0 && (next <= from || len(page) < size) {
			m.t.Fatalf("page from %d: got %d letters and %d as the next, want at most %d, and full ones but the last", from, len(page), next, size)
		}
		list, from, pages = append(list, page...), next, pages+1
	}
	return list, pages
}

func TestDeadLetterPages(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	reasons := []string{"PayloadTooLarge", "unknown app", "to.tokens[0]: odd number of digits"}
	var middle time.Time
	for n := range 30 {
		if n == 15 {
			middle = time.Now()
		}
		header := map[string]string{"Trace": fmt.Sprint(n)}
		if n%5 == 0 {
			header[stream.HeaderCampaign] = "spring"
		}
		if n%7 == 0 {
			header[stream.HeaderID] = "redrive-7"
		}
		m.bury([]string{"shop", "news"}[n%2], []byte(fmt.Sprintf("body %d", n)), header, stream.Letter{Reason: reasons[n%3], Root: fmt.Sprintf("order-%d", n%4)})
	}
	for _, tc := range []struct {
		name   string
		filter stream.DeadFilter
		want   func(n int) bool
	}{
		{"all", stream.DeadFilter{}, func(int) bool { return true }},
		{"app", stream.DeadFilter{App: "news"}, func(n int) bool { return n%2 == 1 }},
		{"reason, in any case", stream.DeadFilter{Reason: "payloadtoo"}, func(n int) bool { return n%3 == 0 }},
		{"part of a reason", stream.DeadFilter{Reason: "odd number"}, func(n int) bool { return n%3 == 2 }},
		{"campaign", stream.DeadFilter{Campaign: "spring"}, func(n int) bool { return n%5 == 0 }},
		{"campaign is not a part", stream.DeadFilter{Campaign: "spr"}, func(int) bool { return false }},
		{"job", stream.DeadFilter{Job: "order-2"}, func(n int) bool { return n%4 == 2 }},
		{"job, by the id that it was redriven under", stream.DeadFilter{Job: "redrive-7"}, func(n int) bool { return n%7 == 0 }},
		{"newer", stream.DeadFilter{After: middle}, func(n int) bool { return n >= 15 }},
		{"older", stream.DeadFilter{Before: middle}, func(n int) bool { return n < 15 }},
		{"through", stream.DeadFilter{Through: 7}, func(n int) bool { return n < 7 }},
		{"several", stream.DeadFilter{App: "shop", Reason: "unknown", After: middle}, func(n int) bool { return n%2 == 0 && n%3 == 1 && n >= 15 }},
		{"an app without letters", stream.DeadFilter{App: "ghost"}, func(int) bool { return false }},
	} {
		var want []string
		for n := range 30 {
			if tc.want(n) {
				want = append(want, fmt.Sprint(n))
			}
		}
		for _, size := range []int{1, 4, 1000} {
			list, pages := m.all(&tc.filter, size)
			var got []string
			for i := range list {
				got = append(got, list[i].Header["Trace"][0])
				if list[i].Body != nil || list[i].Bytes == 0 {
					t.Errorf("%s: got a body of %d bytes, and %d as its length; want the length alone", tc.name, len(list[i].Body), list[i].Bytes)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, by %d: got %v, want %v", tc.name, size, got, want)
			}
			if most := len(want)/size + 1; pages > most {
				t.Errorf("%s, by %d: got %d pages, want at most %d", tc.name, size, pages, most)
			}
		}
	}
	// Whoever has not the time goes on: ten letters are looked at, for one in five.
	got := 0
	looks := 0
	for from := uint64(1); from != 0; looks++ {
		page, next, err := m.Search(t.Context(), &stream.DeadFilter{Campaign: "spring"}, from, 1000, 10)
		if err != nil || len(page) != 2 || next != 0 && next != from+10 {
			t.Fatalf("search from %d: got %d letters, %d, %v, want 2 of 10", from, len(page), next, err)
		}
		got, from = got+len(page), next
	}
	if got != 6 || looks != 3 {
		t.Errorf("search: got %d letters by %d looks, want 6 by 3", got, looks)
	}
	if _, _, err := m.Page(t.Context(), &stream.DeadFilter{App: "*"}, 1, 10); err == nil {
		t.Error("a wildcard for an app: got no error")
	}
	// Every reader is gone again.
	st, err := m.api.Stream(t.Context(), stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("consumers on DEAD: got %d, want none left", n)
	}
}

// What a letter says is the same in a page and read by itself.
func TestDeadLetterTellsAll(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	expires, last := time.Now().Add(time.Hour).UTC(), time.Now().Add(time.Second).UTC()
	body, err := newJob(t, "order-1").MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	l := m.bury("shop", body, map[string]string{stream.HeaderCampaign: "spring", stream.HeaderCut: "not ours"}, stream.Letter{
		Reason: "PayloadTooLarge", Root: "order-1", Recipients: 3, Attempts: 2, Expires: expires, Last: last,
	})
	if l.App != "shop" || l.Reason != "PayloadTooLarge" || l.Root != "order-1" || l.ID != "" || l.Campaign != "spring" || l.Subject != "push.jobs.shop.bulk" ||
		l.Recipients != 3 || l.Attempts != 2 || l.Deliveries != 1 || !l.Expires.Equal(expires) || !l.Last.Equal(last) || l.Cut != "" || string(l.Body) != string(body) {
		t.Errorf("letter: got %+v", l)
	}
	if age := l.Last.Sub(l.First); age < 0 || age > time.Minute {
		t.Errorf("first: got %s, want when JetStream stored the message, just before %s", l.First, l.Last)
	}
	page, next, err := m.Page(t.Context(), &stream.DeadFilter{}, 1, 10)
	if err != nil || next != 0 || len(page) != 1 {
		t.Fatalf("page: got %d letters, next %d, %v", len(page), next, err)
	}
	p := page[0]
	if p.Bytes != len(body) || p.RedriveID != l.RedriveID || !p.First.Equal(l.First) || !p.StoredAt.Equal(l.StoredAt) || p.Sequence != l.Sequence || p.Root != l.Root {
		t.Errorf("in a page: got %+v, want what it says by itself: %+v", p, l)
	}
	if _, err := m.Redrive(t.Context(), &p); err == nil || m.messages(stream.Jobs) != 0 {
		t.Errorf("redrive without the body: got %v and %d jobs, want it refused", err, m.messages(stream.Jobs))
	}
	if _, err := m.Letter(t.Context(), 99); !errors.Is(err, stream.ErrNoLetter) {
		t.Errorf("a letter that is not there: got %v, want ErrNoLetter", err)
	}
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	body := []byte(`{"any":"bytes"}`)
	l := m.bury("shop", body, map[string]string{"Trace": "abc", stream.HeaderCampaign: "spring"}, stream.Letter{Reason: "PayloadTooLarge", Root: "order-1"})
	done, err := m.Redrive(t.Context(), l)
	if err != nil || done.ID != l.RedriveID || done.Again {
		t.Fatalf("redrive: got %+v, %v", done, err)
	}
	if _, err := m.Letter(t.Context(), l.Sequence); !errors.Is(err, stream.ErrNoLetter) {
		t.Errorf("the letter after redriving: got %v, want ErrNoLetter", err)
	}
	in := m.take("shop")
	if in.Subject != l.Subject || string(in.Data) != string(body) || in.Sequence != done.Sequence {
		t.Errorf("job: got %s %s %d, want %s %s %d", in.Subject, in.Data, in.Sequence, l.Subject, body, done.Sequence)
	}
	for name, want := range map[string]string{
		stream.HeaderID: l.RedriveID, stream.HeaderRoot: "order-1", stream.HeaderCampaign: "spring", "Trace": "abc",
		jetstream.MsgIDHeader: "shop/bulk/" + l.RedriveID,
		stream.HeaderReason:   "", stream.HeaderTries: "", stream.HeaderLast: "", stream.HeaderSubject: "",
	} {
		if got := in.Header(name); got != want {
			t.Errorf("header %s: got %q, want %q", name, got, want)
		}
	}
	if !in.FirstStored().Equal(l.First) || !in.FirstStored().Before(in.StoredAt) {
		t.Errorf("first stored: got %s, want %s, as the letter says, before %s", in.FirstStored(), l.First, in.StoredAt)
	}

	// Given up once more: the first root and the first time stay, the id is new.
	if err := m.js.Bury(t.Context(), in, stream.Letter{Reason: "PayloadTooLarge", Root: "order-1", Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	last, err := m.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := m.letter(last)
	if again.Root != "order-1" || again.ID != l.RedriveID || again.RedriveID == l.RedriveID || !again.First.Equal(l.First) {
		t.Errorf("second letter: got %+v, want root and first time of the first one, and an id of its own", again)
	}
}

// Whoever read a letter before it went may redrive it too: one job comes of it.
func TestRedriveByManyAtOnce(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	l := m.bury("shop", []byte("{}"), nil, stream.Letter{Reason: "x"})
	var operators sync.WaitGroup
	results := make([]stream.Redriven, 8)
	errs := make([]error, len(results))
	for i := range results {
		operators.Go(func() { results[i], errs[i] = m.Redrive(t.Context(), l) })
	}
	operators.Wait()
	first := 0
	for i, r := range results {
		if errs[i] != nil || r.ID != l.RedriveID || r.Sequence != results[0].Sequence {
			t.Errorf("operator %d: got %+v, %v", i, r, errs[i])
		}
		if !r.Again {
			first++
		}
	}
	if n := m.messages(stream.Jobs); first != 1 || n != 1 {
		t.Errorf("jobs: got %d, by %d operators, want one", n, first)
	}
	if n := m.messages(stream.Dead); n != 0 {
		t.Errorf("letters: got %d, want none", n)
	}
}

// A worker that died between burying and telling buries again: both letters make
// one job.
func TestLetterBuriedTwiceIsRedrivenOnce(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	m := newMorgue(t, js)
	st, err := m.api.Stream(t.Context(), stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond // JetStream's least
	if _, err := m.api.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := js.NC.Publish(stream.JobsSubject("shop", job.Bulk), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	in := m.take("shop")
	for m.messages(stream.Dead) < 2 {
		if err := js.Bury(t.Context(), in, stream.Letter{Reason: "x", Root: "a", Last: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.AckWaiting(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := js.Bury(t.Context(), in, stream.Letter{Reason: "y", Root: "a", Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	list, _ := m.all(&stream.DeadFilter{}, 10)
	if len(list) != 3 || list[0].RedriveID != list[1].RedriveID || list[0].RedriveID == list[2].RedriveID {
		t.Fatalf("got %d letters with ids %v, want two of one id and one for another reason", len(list), list)
	}
	for i := range list[:2] {
		done, err := m.Redrive(t.Context(), m.letter(list[i].Sequence))
		if err != nil || done.Again != (i == 1) {
			t.Errorf("redrive %d: got %+v, %v", i, done, err)
		}
	}
	if n := m.messages(stream.Jobs); n != 1 {
		t.Errorf("jobs: got %d, want 1", n)
	}
}

// The letter cannot be deleted: that is told, and redriving again makes no second
// job.
func TestRedriveThatCannotDelete(t *testing.T) {
	t.Parallel()
	m := undeletable(t)
	l := m.bury("shop", []byte("{}"), nil, stream.Letter{Reason: "x"})
	for n := range 2 {
		done, err := m.Redrive(t.Context(), l)
		if !errors.Is(err, stream.ErrNotDeleted) || done.ID != l.RedriveID || done.Again != (n == 1) {
			t.Errorf("redrive %d: got %+v, %v, want ErrNotDeleted", n, done, err)
		}
	}
	m.letter(l.Sequence)
	if n := m.messages(stream.Jobs); n != 1 {
		t.Errorf("jobs: got %d, want 1", n)
	}
	if deleted, err := m.Delete(t.Context(), l.Sequence); err == nil || deleted {
		t.Errorf("delete: got %t, %v, want an error", deleted, err)
	}
}

// undeletable is a fleet whose DEAD lets nothing be deleted.
func undeletable(t *testing.T) *morgue {
	t.Helper()
	server := testenv.StartNATS(t, embedded.NATSConfig{})
	nc := testenv.Connect(t, server.URL())
	api, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: stream.Dead, Subjects: []string{"push.dead.*"}, Discard: jetstream.DiscardNew, DenyDelete: true, AllowDirect: true,
	}); err != nil {
		t.Fatal(err)
	}
	streams, err := stream.Open(t.Context(), nc, stream.Config{OutcomesBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return newMorgue(t, &testenv.JetStream{Streams: streams, NC: nc, Server: server})
}

func TestRedriveRefuses(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	now := time.Now()
	for _, tc := range []struct {
		name   string
		change func(*stream.DeadLetter)
		want   string
	}{
		{"cut", func(l *stream.DeadLetter) { l.Cut = "5 sha256:00" }, "cut"},
		{"no subject", func(l *stream.DeadLetter) { l.Subject = "" }, "where"},
		{"a subject of somebody else's", func(l *stream.DeadLetter) { l.Subject = "orders.new" }, "where"},
		{"a wildcard", func(l *stream.DeadLetter) { l.Subject = "push.jobs.*.bulk" }, "where"},
		{"device change", func(l *stream.DeadLetter) { l.Subject = stream.DevicesSubject("shop") }, "device change"},
		{"over", func(l *stream.DeadLetter) { l.Expires = now.Add(-time.Second) }, "time is over"},
		{"not over", func(l *stream.DeadLetter) { l.Expires = now.Add(time.Hour) }, ""},
		{"unknown lane", func(l *stream.DeadLetter) { l.Subject = "push.jobs.shop.urgent" }, ""},
	} {
		l := m.bury("shop", []byte("{}"), map[string]string{"Case": tc.name}, stream.Letter{Reason: tc.name})
		tc.change(l)
		if got := l.Refusal(now); !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%s: got %q, want %q in it", tc.name, got, tc.want)
		}
		if tc.want == "" {
			continue
		}
		if _, err := m.Redrive(t.Context(), l); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: redrive: got %v, want %q", tc.name, err, tc.want)
		}
		m.letter(l.Sequence) // it is still there
	}
	if n := m.messages(stream.Jobs); n != 0 {
		t.Errorf("jobs: got %d, want none", n)
	}
}

// What is deleted while somebody reads neither stops nor ends the reading.
func TestDeadLettersGoWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	m.fill(3000)
	seen := make(map[uint64]bool)
	from := uint64(1)
	for from != 0 {
		page, next, err := m.Page(t.Context(), &stream.DeadFilter{}, from, 500)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page {
			seen[page[i].Sequence] = true
		}
		if from == 1 { // half of what is not read yet goes
			for seq := uint64(501); seq <= 3000; seq += 2 {
				if deleted, err := m.Delete(t.Context(), seq); err != nil || !deleted {
					t.Fatalf("delete %d: got %t, %v", seq, deleted, err)
				}
			}
			if deleted, err := m.Delete(t.Context(), 501); err != nil || deleted {
				t.Errorf("delete once more: got %t, %v, want false, nil", deleted, err)
			}
		}
		from = next
	}
	if len(seen) != 500+1250 {
		t.Errorf("read: got %d letters, want 1750", len(seen))
	}
	if err := m.DeleteThrough(t.Context(), "*", 3000); err == nil {
		t.Error("delete for a wildcard: got no error")
	}
	if err := m.DeleteThrough(t.Context(), "news", 3000); err != nil || m.messages(stream.Dead) != 1750 {
		t.Errorf("delete of another app: got %v, %d letters left, want 1750", err, m.messages(stream.Dead))
	}
	if err := m.DeleteThrough(t.Context(), "shop", 2000); err != nil || m.messages(stream.Dead) != 500 {
		t.Errorf("delete up to 2000: got %v, %d letters left, want 500", err, m.messages(stream.Dead))
	}
}

// fill stores n letters of shop that look as Bury makes them.
func (m *morgue) fill(n int) {
	m.t.Helper()
	for i := range n {
		msg := nats.NewMsg(stream.DeadSubject("shop"))
		msg.Data = []byte(`{"to":{"tokens":["00"]}}`)
		msg.Header.Set(stream.HeaderReason, "PayloadTooLarge")
		msg.Header.Set(stream.HeaderSubject, "push.jobs.shop.bulk")
		msg.Header.Set(stream.HeaderRecipients, "1")
		msg.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("dead/%d/00", i))
		if _, err := m.api.PublishMsgAsync(msg); err != nil {
			m.t.Fatal(err)
		}
	}
	select {
	case <-m.api.PublishAsyncComplete():
	case <-m.t.Context().Done():
		m.t.Fatal(context.Cause(m.t.Context()))
	}
}
