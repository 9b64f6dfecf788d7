package worker_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/worker"
)

// unanswered is a token set that answers nothing.
type unanswered struct {
	worker.Devices
	asked chan struct{} // gets one for each look-up
}

func (u unanswered) Lookup(ctx context.Context, _ string, _ []device.Token, _ []store.Entry) ([]store.Entry, error) {
	u.asked <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// What a worker looks up when it is told to stop goes back at once and unsent: that the
// look-up ends then does not mean that Redis is away.
func TestDrainWhileLookingUp(t *testing.T) {
	f := setup(t, nil)
	core, logs := observer.New(zapcore.WarnLevel)
	asked := make(chan struct{}, 1)
	first := f.start(options{name: "w1", devices: unanswered{f.set, asked}, change: func(c *worker.Config) { c.Logger = zap.New(core) }})
	f.publish(job.Transactional, newJob("held", token(1)))
	select {
	case <-asked:
	case <-f.ctx.Done():
		t.Fatal("nothing was looked up")
	}
	begun := time.Now()
	first.stop()
	for _, entry := range logs.All() {
		t.Errorf("log: got %q %v, want nothing: it was told to stop", entry.Message, entry.ContextMap())
	}
	f.start(options{name: "w2"})
	if counts := results(f.completed("held")); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v, want 1 accepted", counts)
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("accepted %s after the worker was told to stop, want it well before the ack wait of 10 s", took)
	}
	if got := len(f.sender.got()); got != 1 {
		t.Errorf("sent: got %d, want 1", got)
	}
}
