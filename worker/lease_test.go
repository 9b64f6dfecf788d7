package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// patient is a sender that keeps its first batch until it is told to give up, and
// accepts all others.
type patient struct {
	calls atomic.Int32
	held  chan struct{} // closed when the first batch is there
	told  chan error    // why it is to be given up

	mu    sync.Mutex
	later []apns.Notification // guarded by mu: what came after the first batch
}

// again returns what came after the first batch.
func (p *patient) again() []apns.Notification {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.later)
}

func (p *patient) Send(ctx context.Context, _ job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	if p.calls.Add(1) == 1 {
		close(p.held)
		<-ctx.Done()
		p.told <- context.Cause(ctx)
		for i := range batch {
			done(i, apns.Response{Err: fmt.Errorf("%w: %w", apns.ErrNotSent, context.Cause(ctx))})
		}
		return
	}
	p.mu.Lock()
	p.later = append(p.later, batch...)
	p.mu.Unlock()
	for i := range batch {
		done(i, accept(&batch[i]))
	}
}

// To a link that stands still one can write, and hears nothing: the message may be
// another worker's when its ack wait is over, so what is unsent is given up before.
// Nor is it handed back then: that would arrive when another one has it.
func TestStalledLinkGivesUpWhatIsUnsent(t *testing.T) {
	f := setup(t, nil)
	proxy := testenv.StartProxy(t, strings.TrimPrefix(f.js.Server.URL(), "nats://"))
	t.Cleanup(func() { proxy.Stall(false) })
	streams, err := stream.Open(f.ctx, testenv.Connect(t, "nats://"+proxy.Addr), stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stalled := &patient{held: make(chan struct{}), told: make(chan error, 1)}
	others := f.apps
	f.apps = []*worker.App{{
		Name: "shop", BundleID: bundle, Environment: device.Production,
		Routes: []*worker.Route{{Environment: device.Production, Sender: stalled}},
	}}
	f.start(options{name: "w1", change: func(c *worker.Config) { c.Streams = streams }})
	f.publish(job.Transactional, newJob("a", token(1)))
	<-stalled.held
	proxy.Stall(true)
	began := time.Now()
	release := make(chan struct{})
	f.apps = others
	f.sender.answer = func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(1) {
			<-release
		}
		return accept(n)
	}
	f.start(options{name: "w2"})
	select {
	case cause := <-stalled.told:
		if _, ok := errors.AsType[*apns.UnsentError](cause); !ok {
			t.Errorf("given up because of %v, want an UnsentError", cause)
		}
	case <-f.ctx.Done():
		t.Fatal("it was not given up")
	}
	if took := time.Since(began); took >= stream.TransactionalAckWait {
		t.Errorf("given up after %s, want before the ack wait of %s is over", took, stream.TransactionalAckWait)
	}
	<-f.sender.seen // the other worker has it
	proxy.Stall(false)
	f.eventually("the link to pass", func() (string, bool) { err := streams.Flush(time.Second); return fmt.Sprint(err), err == nil })
	// Whatever was handed back is delivered again before what is published now.
	f.publish(job.Transactional, newJob("b", token(2)))
	f.completed("b")
	close(release)
	if counts := results(f.completed("a")); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v, want it accepted in the end", counts)
	}
	f.drained()
	sent := 0
	for _, n := range append(f.sender.got(), stalled.again()...) {
		if n.DeviceToken == token(1) {
			sent++
		}
	}
	if sent != 1 {
		t.Errorf("sent: got %d times, want once, by the worker that had it when the link came back", sent)
	}
}

// A pulse that does not beat holds what connections would take.
func TestPulse(t *testing.T) {
	t.Parallel()
	p := worker.NewPulse()
	if !p.Beats() {
		t.Error("a new pulse does not beat")
	}
	f := setupOn(t, testenv.NewJetStream(t), nil)
	w := f.start(options{change: func(c *worker.Config) { c.Pulse = p }})
	// Longer than a pulse without a worker lasts.
	over := time.NewTimer(4 * time.Second)
	defer over.Stop()
	<-over.C
	if !p.Beats() {
		t.Error("the pulse of a worker that runs does not beat")
	}
	w.stop()
	f.eventually("the pulse to stop with the worker", func() (string, bool) { return fmt.Sprint(p.Beats()), !p.Beats() })
}
