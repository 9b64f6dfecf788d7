package producer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/stream"
)

// said is what a final outcome says of its recipients.
func said(f *producer.Final) []string {
	var all []string
	for _, r := range f.Recipients {
		who := r.User
		if !r.DeviceToken.IsZero() {
			who = r.DeviceToken.Hex()[:2]
		}
		all = append(all, fmt.Sprintf("%s %s", who, r.Result))
	}
	return all
}

func TestWait(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	var receipts []producer.Receipt
	for _, id := range []string{"parts", "again", "none", "late"} {
		r, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob(id))
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	parts, again, none, late := receipts[0], receipts[1], receipts[2], receipts[3]

	// In two parts, with a stranger between them and a recipient that is told twice.
	first := complete(parts, "0a", "0b")
	first.Complete, first.Total = false, 0
	first.Others = []job.Recipient{{User: "bob", Result: job.Skipped, Reason: "no device"}}
	tell(t, js.Streams, job.Bulk, first, complete(producer.Receipt{App: "shop", ID: "stranger"}, "0f"))
	tell(t, js.Streams, job.Transactional, complete(parts, "0f")) // another lane
	second := complete(parts, "0b", "0c")
	tell(t, js.Streams, job.Bulk, second)
	final, err := p.Wait(t.Context(), parts)
	if want := []string{"0a accepted", "0b accepted", "bob skipped", "0c accepted"}; err != nil || !final.Complete || final.Accepted() || !slices.Equal(said(&final), want) {
		t.Errorf("in parts: got %+v, %v, want %q", final, err, want)
	}

	// The id was used by a job that was stored before: its outcome is not this one's.
	earlier := again
	earlier.Sequence += 100
	tell(t, js.Streams, job.Bulk, complete(earlier, "0a"))
	refused := told{"shop", job.JobOutcome{ID: "again", Sequence: again.Sequence, Others: []job.Recipient{{Result: job.Duplicate, Reason: "the id was used before"}}}}
	tell(t, js.Streams, job.Bulk, refused)
	if final, err := p.Wait(t.Context(), again); err != nil || final.Accepted() || !slices.Equal(said(&final), []string{" duplicate"}) {
		t.Errorf("duplicate: got %+v, %v", final, err)
	}

	// Stored, and known by JetStream within its duplicate window.
	r, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("parts"))
	if err != nil || !r.Duplicate {
		t.Fatalf("got %+v, %v, want a duplicate", r, err)
	}
	if final, err := p.Wait(t.Context(), r); err != nil || len(final.Recipients) != 4 {
		t.Errorf("known: got %+v, %v, want what became of the first", final, err)
	}

	tell(t, js.Streams, job.Bulk, complete(none))
	if final, err := p.Wait(t.Context(), none); err != nil || !final.Complete || final.Accepted() {
		t.Errorf("of nobody: got %+v, %v, want it complete, and not accepted", final, err)
	}

	// What came by then is returned with the error.
	began := complete(late, "0a")
	began.Complete = false
	tell(t, js.Streams, job.Bulk, began)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	final, err = p.Wait(ctx, late)
	if !errors.Is(err, context.DeadlineExceeded) || final.Complete || final.Accepted() || !slices.Equal(said(&final), []string{"0a accepted"}) {
		t.Errorf("late: got %+v, %v, want one recipient and %v", final, err, context.DeadlineExceeded)
	}
	if _, err := p.Wait(t.Context(), producer.Receipt{}); err == nil {
		t.Error("for an empty receipt: got no error")
	}
}

// What a worker gives up as a whole has no outcome but its dead letter.
func TestWaitForWhatIsGivenUp(t *testing.T) {
	t.Parallel()
	f, err := startFleet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	p := connect(t, f.url)
	nc, err := nats.Connect(f.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), stream.JobsSubject("shop", job.Bulk), []byte(`{"id":"odd","to":{"users":["ada"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	odd := producer.Receipt{App: "shop", Lane: job.Bulk, ID: "odd", Sequence: ack.Sequence, At: time.Now()}
	good, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("good"))
	if err != nil {
		t.Fatal(err)
	}
	nosuch, err := p.Enqueue(t.Context(), "nosuch", job.Bulk, newJob("good"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := nosuch // a receipt that knows no place
	elsewhere.Sequence = 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(map[string]string)
	for final, err := range p.WaitAll(ctx, []producer.Receipt{good, odd, nosuch, elsewhere}) {
		why := ""
		for _, r := range final.Recipients {
			why += r.Reason
		}
		got[fmt.Sprintf("%s %s %d", final.Receipt.App, final.Receipt.ID, final.Receipt.Sequence)] = fmt.Sprintf("%t %t %v %q %s", final.Accepted(), final.Complete, err, said(&final), why)
	}
	want := map[string]string{
		fmt.Sprintf("shop good %d", good.Sequence):     `true true <nil> ["0a accepted"] `,
		fmt.Sprintf("shop odd %d", odd.Sequence):       `false true <nil> [" failed"] job: invalid: must have exactly one of notification, payload`,
		fmt.Sprintf("nosuch good %d", nosuch.Sequence): `false true <nil> [" failed"] unknown app`,
		"nosuch good 0": `false true <nil> [" failed"] unknown app`,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The dead letter of some recipients, or of those that APNs was asked about, is not all:
// their outcomes come.
func TestWaitIsNotOverWithALetterOfSome(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	r, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("a"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.LaneConsumer(t.Context(), "shop", job.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(10 * time.Second)
	if err != nil || m == nil {
		t.Fatalf("got %v, %v, want the job", m, err)
	}
	if err := js.Bury(t.Context(), m, stream.Letter{Reason: "PayloadTooLarge", Root: "a", Recipients: 1, Attempts: 1, Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	other := *m
	other.Sequence++ // of another message with that id
	if err := js.Bury(t.Context(), &other, stream.Letter{Reason: "unknown app", Root: "a", Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if final, err := p.Wait(ctx, r); !errors.Is(err, context.DeadlineExceeded) || final.Complete {
		t.Errorf("got %+v, %v, want it open", final, err)
	}
}

func TestWaitAll(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	a := producer.Receipt{App: "shop", Lane: job.Bulk, ID: "a", Sequence: 1}
	b := producer.Receipt{App: "news", Lane: job.Bulk, ID: "a", Sequence: 2, At: time.Now()}
	same := a
	same.Duplicate = true
	never := producer.Receipt{App: "shop", Lane: job.Transactional, ID: "never", At: time.Now()}
	tell(t, js.Streams, job.Bulk, complete(a, "0a"))
	tell(t, js.Streams, job.Bulk, complete(b, "0b"))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var got []string
	for final, err := range p.WaitAll(ctx, []producer.Receipt{a, {}, b, same, never}) {
		got = append(got, fmt.Sprint(final.Receipt.App, " ", final.Receipt.ID, " ", final.Accepted(), " ", errors.Is(err, context.DeadlineExceeded)))
	}
	if want := []string{"shop a true false", "shop a true false", "news a true false", "shop never false true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for final, err := range p.WaitAll(t.Context(), nil) {
		t.Errorf("of none: got %+v, %v", final, err)
	}
	for _, err := range p.WaitAll(t.Context(), []producer.Receipt{a, b}) { // may be left early
		if err != nil {
			t.Error(err)
		}
		break
	}
}

// A receipt that comes from another machine may be of a clock that is ahead.
func TestWaitForAReceiptOfTheFuture(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	r, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("a"))
	if err != nil {
		t.Fatal(err)
	}
	r.At = r.At.Add(time.Hour)
	tell(t, js.Streams, job.Bulk, complete(r, "0a"))
	if final, err := p.Wait(t.Context(), r); err != nil || !final.Accepted() {
		t.Errorf("got %+v, %v, want it accepted", final, err)
	}
}

// No more is read than must be: a busy lane tells of thousands of jobs a second.
func TestWhereAWaitBegins(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) producer.Receipt { return producer.Receipt{ID: "a", At: time.Now().Add(-d)} }
	before := ago(0)
	before.Duplicate = true
	for _, tt := range []struct {
		name     string
		receipts []producer.Receipt
		want     time.Duration // ago; 0: with the oldest that there is
	}{
		{"at once", []producer.Receipt{ago(0)}, 10 * time.Second},
		{"later", []producer.Receipt{ago(time.Hour)}, time.Hour + 10*time.Second},
		{"of the future", []producer.Receipt{ago(-time.Hour)}, 10 * time.Second},
		{"stored before", []producer.Receipt{before}, 2*time.Minute + 10*time.Second},
		{"of several", []producer.Receipt{ago(0), ago(time.Minute), {}, before}, 2*time.Minute + 10*time.Second},
		{"of no time", []producer.Receipt{ago(0), {ID: "b"}}, 0},
	} {
		got := producer.WaitsFrom(tt.receipts...)
		if tt.want == 0 {
			if got.Place != 1 || got.Ago != 0 {
				t.Errorf("%s: got %+v, want the first place", tt.name, got)
			}
		} else if got.Place != 0 || got.Ago < tt.want || got.Ago > tt.want+time.Minute {
			t.Errorf("%s: got %+v, want %s ago", tt.name, got, tt.want)
		}
	}
}
