package stream_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func TestAttach(t *testing.T) {
	t.Parallel()
	server := testenv.StartNATS(t, embedded.NATSConfig{})
	nc := testenv.Connect(t, server.URL())
	attached, err := stream.Attach(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	absent := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, stream.ErrNoStream) || !strings.Contains(err.Error(), "start a worker first") {
			t.Errorf("%s without streams: got %v, want %v and what to do", what, err, stream.ErrNoStream)
		}
	}
	_, err = attached.PublishJob(ctx, "shop", job.Bulk, newJob(t, "a"))
	absent("publish", err)
	pending, err := attached.PublishJobAsync(ctx, "shop", job.Bulk, newJob(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = pending.Wait(ctx)
	absent("publish async", err)
	_, err = attached.Campaigns(ctx, "shop")
	absent("campaigns", err)
	_, err = attached.Fuses(ctx)
	absent("fuses", err)
	absent("follow", attached.FollowOutcomes(ctx, []string{"push.outcomes.>"}, stream.Start{}, nil))

	if _, err := stream.Open(ctx, nc, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if p, err := attached.PublishJob(ctx, "shop", job.Bulk, newJob(t, "a")); err != nil || p.App != "shop" || p.Lane != job.Bulk || p.ID != "a" || p.Sequence != 1 {
		t.Errorf("publish: got %+v, %v", p, err)
	}
	if list, err := attached.Campaigns(ctx, "shop"); err != nil || len(list) != 0 {
		t.Errorf("campaigns: got %v, %v, want none", list, err)
	}
	if fuses, err := attached.Fuses(ctx); err != nil || len(fuses) != 0 {
		t.Errorf("fuses: got %v, %v, want none", fuses, err)
	}
}

func TestDialKeepsPasswords(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"nats://ada:hunter2@127.0.0.1:1", "nats://ada:hunter2%zz@127.0.0.1:1", "nats://ada:hunter2/x@127.0.0.1:1", "nats://ada:hunter2@127.0.0.1:hunter2",
	} {
		nc, err := stream.Dial(url)
		if err == nil {
			nc.Close()
			t.Fatalf("%s: got a connection", url)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want it without the password", err)
		}
	}
}
