package worker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// A worker to whom JetStream gives no consumer at the start, as while it elects a
// leader, is not ready, and works once it gets one.
func TestStartsWithoutConsumers(t *testing.T) {
	f := setup(t, nil)
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.DeleteStream(f.ctx, stream.Jobs); err != nil {
		t.Fatal(err)
	}
	w := f.start(options{change: func(c *worker.Config) { c.StrayInterval = time.Hour }})
	f.eventually("it says what it waits for", func() (string, bool) {
		err := w.Ready()
		if err == nil {
			t.Fatal("Ready: got nil without a stream of jobs")
		}
		return err.Error(), strings.Contains(err.Error(), "app shop, lane transactional: ") && strings.Contains(err.Error(), "stream not found")
	})
	if _, err := stream.Open(f.ctx, f.js.NC, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	f.publish(job.Transactional, newJob("late", token(1)))
	if counts := results(f.completed("late")); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v, want 1 accepted", counts)
	}
	f.eventually("it is ready", func() (string, bool) {
		if err := w.Ready(); err != nil {
			return err.Error(), false
		}
		return "", true
	})
}
