package stream_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// A server that is killed may have its consumers' state written and not that
// messages are gone: here the messages of before are put back while it is down.
func TestOrphans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := t.Context()
	during := func(do func(s *stream.Streams)) {
		t.Helper()
		server, err := embedded.StartNATS(embedded.NATSConfig{StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Stop()
		nc := testenv.Connect(t, server.URL())
		defer nc.Close()
		s, err := stream.Open(ctx, nc, stream.Config{})
		if err != nil {
			t.Fatal(err)
		}
		do(s)
	}
	orphans := func(s *stream.Streams) []*stream.Orphan {
		t.Helper()
		list, err := s.LaneOrphans(ctx, "shop", job.Bulk, 10)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	during(func(s *stream.Streams) {
		if _, err := s.LaneConsumer(ctx, "shop", job.Bulk); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			if _, err := s.PublishJob(ctx, "shop", job.Bulk, &job.Job{ID: id, To: job.Recipients{Users: []string{"u"}}, Notification: &job.Notification{Title: "t"}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	messages := filepath.Join(dir, "jetstream", "$G", "streams", stream.Jobs, "msgs")
	before := filepath.Join(t.TempDir(), "msgs")
	if err := os.CopyFS(before, os.DirFS(messages)); err != nil {
		t.Fatal(err)
	}
	during(func(s *stream.Streams) {
		c, err := s.LaneConsumer(ctx, "shop", job.Bulk)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			m, err := c.Wait(5 * time.Second)
			if err != nil || m == nil {
				t.Fatalf("got %v, %v, want a message", m, err)
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		waitAcked(ctx, t, c, 3)
		if list := orphans(s); len(list) != 0 {
			t.Errorf("got %d orphans where all is well, want none", len(list))
		}
	})
	if err := os.RemoveAll(messages); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(messages, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	during(func(s *stream.Streams) {
		list := orphans(s)
		if len(list) != 3 {
			t.Fatalf("got %d orphans, want the three that were acknowledged", len(list))
		}
		for i, o := range list {
			if o.Sequence != uint64(i+1) || o.App != "shop" || o.Lane != job.Bulk || o.Header("Nats-Msg-Id") != "shop/bulk/"+string(rune('a'+i)) {
				t.Errorf("orphan %d: got %+v", i, o.Message)
			}
			for range 2 { // it may be gone already
				if err := o.Remove(ctx); err != nil {
					t.Errorf("remove orphan %d: %v", i, err)
				}
			}
		}
		if list := orphans(s); len(list) != 0 {
			t.Errorf("got %d orphans after they were removed, want none", len(list))
		}
		c, err := s.LaneConsumer(ctx, "shop", job.Bulk)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []uint64{4, 5} {
			if m, err := c.Wait(5 * time.Second); err != nil || m == nil || m.Sequence != want {
				t.Errorf("got %v, %v, want the message at %d", m, err, want)
			}
		}
	})
}

// waitAcked waits until the consumer has read that everything up to floor is
// acknowledged.
func waitAcked(ctx context.Context, t *testing.T, c *stream.Consumer, floor uint64) {
	t.Helper()
	for {
		got, err := c.AckFloor(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got >= floor {
			return
		}
	}
}

// The bucket of presences is in memory: it goes with its server, and a worker that
// announces itself again makes it anew.
func TestPresenceComesBack(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	announce := func() {
		t.Helper()
		if err := js.Announce(ctx, "w1", stream.Presence{Apps: []string{"shop"}}); err != nil {
			t.Fatal(err)
		}
	}
	announce()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.DeleteStream(ctx, "KV_pushfleet-workers"); err != nil {
		t.Fatal(err)
	}
	announce()
	if present, err := js.Present(ctx); err != nil || len(present) != 1 || present[0].Apps[0] != "shop" {
		t.Errorf("got %v, %v, want the worker", present, err)
	}
}
