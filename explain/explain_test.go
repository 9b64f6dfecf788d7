package explain_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/explain"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testenv.HoldRedis(m), goleak.IgnoreAnyFunction(testenv.RedisDialing))
}

// A search that runs out of time says how far it came, and still tells what the token set
// knows the place of.
func TestSearchRunsOutOfTime(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	js := testenv.NewJetStream(t)
	set := store.New(testenv.Redis(t).Client, store.Config{Buckets: 4})
	dt := device.TokenFromRaw("0123456789abcdef0123456789abcdef")
	begin := time.Now()
	publish := func(n int, id, root string, r job.Result) {
		t.Helper()
		jo := job.JobOutcome{
			ID: id, Root: root, Sequence: uint64(n + 1), QueuedAt: begin, TakenAt: begin, SentAt: begin, Attempt: 1, Environment: device.Production,
			Whole: true, Complete: true, Total: 1, Others: []job.Recipient{{DeviceToken: dt, Result: r}},
		}
		o := job.Outcomes{App: "shop", Worker: "w1", At: begin.Add(time.Duration(n) * time.Second), Jobs: []job.JobOutcome{jo}}
		storing, err := js.PublishOutcomes(stream.OutcomesOf{App: "shop"}, fmt.Sprint(n), o.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := storing.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 20 {
		publish(n, fmt.Sprintf("other-%d", n), "", job.Rejected)
	}
	publish(20, "mine", "", job.Rejected)
	place, err := js.LastOutcome(ctx)
	if err != nil {
		t.Fatal(err)
	}
	settled := store.Settlement{
		Job: store.JobKey{App: "shop", ID: "mine"}, Sequence: place, Whole: true, Complete: true, Total: 1,
		Hashes: []uint64{job.RecipientHash(dt)}, Results: []job.Result{job.Rejected},
	}
	if _, err := set.Settle(ctx, []store.Settlement{settled}); err != nil {
		t.Fatal(err)
	}
	publish(21, "redrive-1", "mine", job.Accepted)

	searched := 0
	e := &explain.Explainer{Streams: js.Streams, Set: set, Searched: func(uint64) { searched++ }}
	ask := func(within time.Duration) *explain.Explanation {
		t.Helper()
		searched = 0
		x, err := e.Explain(ctx, &explain.Question{App: "shop", Job: "mine", Token: dt, Now: time.Now(), Within: within})
		if err != nil || len(x.Devices) != 1 {
			t.Fatalf("got %+v, %v, want one device", x, err)
		}
		return x
	}
	x := ask(time.Nanosecond)
	if x.SearchedUntil == nil || x.SearchedUntil.Sub(begin).Abs() > time.Millisecond || searched != 1 || !strings.Contains(x.Text, "for want of time") {
		t.Errorf("got %+v after %d messages, want it to end at the first one, and to say so", x, searched)
	}
	if d := x.Devices[0]; d.Verdict != "rejected" || len(d.Told) != 1 {
		t.Errorf("got %+v, want the outcome whose place is known", d)
	}
	x = ask(time.Minute)
	if d := x.Devices[0]; x.SearchedUntil != nil || searched != 22 || d.Verdict != "accepted" || len(d.Told) != 2 {
		t.Errorf("with time: got %+v after %d messages, want both outcomes", x, searched)
	}
}
