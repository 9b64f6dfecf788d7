package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// newAPI connects to a server without pushfleet's streams.
func newAPI(t *testing.T, cfg embedded.NATSConfig) (*testenv.JetStream, jetstream.JetStream) {
	t.Helper()
	server := testenv.StartNATS(t, cfg)
	js := &testenv.JetStream{NC: testenv.Connect(t, server.URL()), Server: server}
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	return js, api
}

func streamConfig(t *testing.T, api jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	st, err := api.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().Config
}

// JOBS that exists already is taken as it is, unless it deletes what it should
// keep.
func TestOpenWithJobsOfAnOperator(t *testing.T) {
	t.Parallel()
	own := func(change func(*jetstream.StreamConfig)) jetstream.StreamConfig {
		cfg := jetstream.StreamConfig{Name: stream.Jobs, Subjects: []string{"push.jobs.*.*"}, Retention: jetstream.WorkQueuePolicy}
		change(&cfg)
		return cfg
	}
	for _, tc := range []struct {
		name   string
		before jetstream.StreamConfig
		text   string // of the error; empty: it is taken
	}{
		{"no limit", own(func(*jetstream.StreamConfig) {}), ""},
		{"refuses new by bytes", own(func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardNew, 5<<20 }), ""},
		{"refuses new by count", own(func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, 1000 }), ""},
		{"refuses new per subject", own(func(c *jetstream.StreamConfig) {
			c.Discard, c.MaxMsgs, c.MaxMsgsPerSubject, c.DiscardNewPerSubject = jetstream.DiscardNew, 1000, 10, true
		}), ""},
		{"deletes old by bytes", own(func(c *jetstream.StreamConfig) { c.MaxBytes = 5 << 20 }), "max_bytes=5242880 with discard=old"},
		{"deletes old by count and age", own(func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxAge = 1000, time.Hour }), "max_msgs=1000 with discard=old, max_age=1h0m0s"},
		{"deletes by age", own(func(c *jetstream.StreamConfig) {
			c.Discard, c.MaxBytes, c.MaxAge = jetstream.DiscardNew, 5<<20, time.Hour
		}), "max_age=1h0m0s"},
		{"deletes old per subject", own(func(c *jetstream.StreamConfig) {
			c.Discard, c.MaxMsgs, c.MaxMsgsPerSubject = jetstream.DiscardNew, 1000, 10
		}), "max_msgs_per_subject=10"},
		{"schedules", own(func(c *jetstream.StreamConfig) { c.AllowMsgSchedules, c.AllowMsgTTL = true, true }), "nats stream rm JOBS"},
		{"time to live", own(func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }), "allow_msg_ttl"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			js, api := newAPI(t, embedded.NATSConfig{})
			if _, err := api.CreateStream(t.Context(), tc.before); err != nil {
				t.Fatal(err)
			}
			_, err := stream.Open(t.Context(), js.NC, stream.Config{OutcomesBytes: 1 << 30})
			if tc.text != "" {
				if !errors.Is(err, stream.ErrLimited) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("open: got %v, want %v with %q", err, stream.ErrLimited, tc.text)
				}
				return
			}
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			got, want := streamConfig(t, api, stream.Jobs), tc.before
			if got.Discard != jetstream.DiscardNew || got.AllowMsgSchedules || got.AllowMsgTTL {
				t.Errorf("got discard %s, schedules %t, ttl %t, want new and neither", got.Discard, got.AllowMsgSchedules, got.AllowMsgTTL)
			}
			if max(got.MaxBytes, 0) != want.MaxBytes || max(got.MaxMsgs, 0) != want.MaxMsgs || max(got.MaxMsgsPerSubject, 0) != want.MaxMsgsPerSubject {
				t.Errorf("limits: got %d bytes, %d messages, %d per subject, want the operator's %d, %d, %d",
					got.MaxBytes, got.MaxMsgs, got.MaxMsgsPerSubject, want.MaxBytes, want.MaxMsgs, want.MaxMsgsPerSubject)
			}
		})
	}
}

// A server with a small file store gets a smaller JOBS, and everything else whole.
func TestJobsTakeWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		store int64
		want  int64 // bytes of JOBS; 0: refused
	}{
		{64 << 30, 16 << 30},
		{16 << 30, 4 << 30},
		{12<<30 + 1<<29, 1 << 30},
		{11<<30 + 1<<29, 0},
	} {
		t.Run(fmt.Sprint(tc.store), func(t *testing.T) {
			t.Parallel()
			js, api := newAPI(t, embedded.NATSConfig{MaxStore: tc.store})
			_, err := stream.Open(t.Context(), js.NC, stream.Config{})
			if tc.want == 0 {
				if err == nil || !strings.Contains(err.Error(), "stream JOBS: the server has no 1073741824 bytes") {
					t.Errorf("open: got %v, want an error that names JOBS and what it needs", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			for name, want := range map[string]int64{stream.Jobs: tc.want, stream.Outcomes: 8 << 30, stream.Devices: 1 << 30, stream.Dead: 2 << 30} {
				if got := streamConfig(t, api, name); got.MaxBytes != want || got.Discard != jetstream.DiscardNew {
					t.Errorf("%s: got %d bytes, discard %s, want %d and new", name, got.MaxBytes, got.Discard, want)
				}
			}
		})
	}
}

// A publisher's Nats-TTL would delete a job that nobody has seen: it is refused.
func TestJobsHaveNoTimeToLive(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Publish(t.Context(), stream.JobsSubject("shop", job.Bulk), []byte("{}"), jetstream.WithMsgTTL(time.Second)); err == nil {
		t.Error("publish with a TTL: got no error")
	}
}

// smallStreams are streams that a test can fill.
func smallStreams(t *testing.T, cfg embedded.NATSConfig) (*stream.Streams, *testenv.JetStream, jetstream.JetStream) {
	t.Helper()
	js, api := newAPI(t, cfg)
	streams, err := stream.Open(t.Context(), js.NC, stream.Config{JobsBytes: 1 << 20, OutcomesBytes: 1 << 20, DevicesBytes: 1 << 20, DeadBytes: 1 << 20, CampaignsBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return streams, js, api
}

// fill publishes jobs until there is no room, and returns how many were stored.
func fill(t *testing.T, streams *stream.Streams, app string) int {
	t.Helper()
	for n := range 100_000 {
		_, err := streams.PublishJob(t.Context(), app, job.Bulk, newJob(t, fmt.Sprintf("%s-%d", app, n)))
		if errors.Is(err, stream.ErrFull) {
			return n
		}
		if err != nil {
			t.Fatalf("publish job %d: got %v, want %v", n, err, stream.ErrFull)
		}
	}
	t.Fatal("JOBS is never full")
	return 0
}

func TestFullJobsRefuseAndTakeAgain(t *testing.T) {
	t.Parallel()
	streams, _, _ := smallStreams(t, embedded.NATSConfig{})
	stored := fill(t, streams, "shop")
	// Each way of publishing says so.
	pending, err := streams.PublishJobAsync(t.Context(), "shop", job.Bulk, newJob(t, "async"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Wait(t.Context()); !errors.Is(err, stream.ErrFull) {
		t.Errorf("asynchronously: got %v, want %v", err, stream.ErrFull)
	}
	// What fills JOBS leaves room for what empties it.
	storing, err := streams.PublishOutcomes(stream.OutcomesOf{App: "shop", Lane: job.Bulk}, "o-1", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := storing.Wait(t.Context()); err != nil {
		t.Errorf("outcomes: %v, want room for them", err)
	}
	c, err := streams.LaneConsumer(t.Context(), "shop", job.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for got < stored {
		messages, err := c.Take(100)
		if err != nil || len(messages) == 0 {
			t.Fatalf("take: got %d of %d messages, then %d, %v", got, stored, len(messages), err)
		}
		for i, m := range messages {
			if m.Sequence != uint64(got+i+1) {
				t.Fatalf("message %d: got sequence %d: one was deleted", got+i+1, m.Sequence)
			}
			if err := m.AckWaiting(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got += len(messages)
	}
	if p, err := streams.PublishJob(t.Context(), "shop", job.Bulk, newJob(t, "after")); err != nil || p.Duplicate {
		t.Errorf("publish when there is room: got %+v, %v", p, err)
	}
	// A publisher tries again under the id that was refused: it is no duplicate.
	if p, err := streams.PublishJob(t.Context(), "shop", job.Bulk, newJob(t, "async")); err != nil || p.Duplicate {
		t.Errorf("publish again what was refused: got %+v, %v, want it stored", p, err)
	}
}

// Somebody else's stream without a limit fills the server's file store.
func TestFullServerRefusesAndTakesAgain(t *testing.T) {
	t.Parallel()
	streams, js, api := smallStreams(t, embedded.NATSConfig{MaxStore: 24 << 20})
	foreign, err := api.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FOREIGN", Subjects: []string{"foreign"}})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if n > 1000 {
			t.Fatal("the server is never full")
		}
		if _, err := js.NC.Request("foreign", make([]byte, 256<<10), 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := streams.PublishJob(t.Context(), "shop", job.Bulk, newJob(t, fmt.Sprint(n))); err != nil {
			if !errors.Is(err, stream.ErrFull) {
				t.Fatalf("publish to a full server: got %v, want %v", err, stream.ErrFull)
			}
			break
		}
	}
	if err := foreign.Purge(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.PublishJob(t.Context(), "shop", job.Bulk, newJob(t, "after")); err != nil {
		t.Errorf("publish when there is room: %v", err)
	}
}
