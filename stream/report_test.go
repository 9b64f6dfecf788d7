package stream_test

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// A report comes as it was sent, to all who listen, and one that cannot be read does
// no harm.
func TestReports(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	heard, listening, ended := make(chan *stream.Report, 10), make(chan struct{}, 2), make(chan error, 2)
	for range 2 {
		go func() {
			ended <- js.Reports(ctx, func() { listening <- struct{}{} }, func(r *stream.Report) { heard <- r })
		}()
		<-listening
	}
	want := &stream.Report{
		Worker: "host.with.dots", Version: "1", Since: time.UnixMilli(1_800_000_000_000).UTC(), Seconds: 5,
		Apps: map[string]stream.AppReport{"shop": {
			Connections: 2, Wanted: 2, InFlight: 3, Total: stream.Settled{Accepted: 4, Rejected: 5, Failed: 6}, Recent: stream.Settled{Accepted: 1},
			APNs: stream.Times{{From: 25, To: 50, N: 7}}, Accept: [2]stream.Times{{{From: 0, To: 1, N: 1}}, nil}, Held: []string{"why"},
			Waiting: &[2]stream.LaneBacklog{{}, {Messages: 8, Notifications: 80.5}}, Age: 1.5,
		}},
	}
	if err := js.NC.Publish("push.workers.w9", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if err := js.Report(want); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case got := <-heard:
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		case <-ctx.Done():
			t.Fatal("nobody heard it")
		}
	}
	js.NC.Close()
	for range 2 {
		if err := <-ended; err == nil {
			t.Error("after the connection was closed: got no error, want one")
		}
	}
}

func TestOldestJob(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	if at, err := js.OldestJob(t.Context(), "shop", job.Bulk); err != nil || !at.IsZero() {
		t.Errorf("no job: got %v, %v, want none", at, err)
	}
	before := time.Now()
	for _, id := range []string{"a", "b"} {
		if _, err := js.PublishJob(t.Context(), "shop", job.Bulk, &job.Job{ID: id, To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "x"}}); err != nil {
			t.Fatal(err)
		}
		if id == "a" {
			before = time.Now()
		}
	}
	at, err := js.OldestJob(t.Context(), "shop", job.Bulk)
	if err != nil || at.IsZero() || at.After(before) {
		t.Errorf("got %v, %v, want when the first was stored, before %v", at, err, before)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	// A fast worker and a slow one: the p99 of both is the slow one's, and no mean of two.
	fast := stream.Times{{From: 10, To: 20, N: 960}, {From: 20, To: 40, N: 10}}
	slow := stream.Times{{From: 20, To: 40, N: 10}, {From: 400, To: 800, N: 20}}
	both := slow.Add(fast)
	if want := (stream.Times{{From: 10, To: 20, N: 960}, {From: 20, To: 40, N: 20}, {From: 400, To: 800, N: 20}}); !reflect.DeepEqual(both, want) {
		t.Errorf("sum: got %v, want %v", both, want)
	}
	for _, tt := range []struct {
		of   stream.Times
		q    float64
		want float64
	}{
		{fast, 0.5, 10 + 10*485.0/960}, {both, 0.5, 10 + 10*500.0/960}, {both, 0.97, 30}, {both, 0.99, 600}, {both, 1, 800}, {stream.Times{{From: 5, To: 5, N: 1}}, 0.99, 5},
	} {
		if got, ok := tt.of.Quantile(tt.q); !ok || math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("quantile %v of %v: got %v, %v, want %v", tt.q, tt.of, got, ok, tt.want)
		}
	}
	if _, ok := (stream.Times{}).Quantile(0.5); ok {
		t.Error("quantile of nothing: got one, want none")
	}
	for _, text := range []string{`[[1,0,1]]`, `[[0,1,-1]]`, `["x"]`, `[[-1,0,1]]`} {
		var got stream.Times
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s: got %v, want an error", text, got)
		}
	}
}
