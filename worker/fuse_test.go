package worker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/worker"
)

// fuses are fuses that the test trips.
type fuses struct {
	mu      sync.Mutex
	tripped map[device.Environment]bool // guarded by mu
	claims  int                         // guarded by mu
	reset   string                      // guarded by mu: who did it
}

func (f *fuses) Load(context.Context) error { return nil }

func (f *fuses) Tripped(_ string, env device.Environment) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tripped[env]
}

func (f *fuses) set(env device.Environment, tripped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tripped == nil {
		f.tripped = make(map[device.Environment]bool)
	}
	f.tripped[env] = tripped
}

func (f *fuses) ClaimCanary(context.Context, string, device.Environment, time.Duration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claims++
	return true, nil
}

func (f *fuses) Reset(_ context.Context, _ string, env device.Environment, by string) (bool, error) {
	f.set(env, false)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reset = by
	return true, nil
}

func withFuses(f *fuses, keep time.Duration) options {
	return options{change: func(c *worker.Config) {
		c.Fuses, c.KeepRejected, c.FuseRetry, c.CanaryInterval = f, keep, 50*time.Millisecond, 10*time.Millisecond
	}}
}

// What a tripped fuse is for waits; the app's other environment goes on.
func TestFuseStopsItsEnvironment(t *testing.T) {
	f := setup(t, nil)
	sandbox := newSender(nil)
	f.apps[0].Routes = append(f.apps[0].Routes, &worker.Route{Environment: device.Sandbox, Sender: sandbox})
	f.register(device.Registration{Token: token(1)})
	f.register(device.Registration{Token: token(2), Environment: device.Sandbox})
	var fu fuses
	fu.set(device.Production, true)
	f.start(withFuses(&fu, time.Second))
	f.publish(job.Bulk, newJob("both", token(1), token(2)))
	f.publish(job.Transactional, newJob("other", token(2)))
	if got := results(f.completed("other")); got["accepted"] != 1 {
		t.Errorf("the other environment: got %v, want 1 accepted", got)
	}
	f.eventually("the other half of a job", func() (string, bool) {
		n := len(sandbox.got())
		return fmt.Sprint(n), n == 2
	})
	if n := len(f.sender.got()); n != 0 {
		t.Errorf("sent while the fuse is tripped: got %d, want 0", n)
	}
	fu.set(device.Production, false)
	if got := results(f.completed("both")); got["accepted"] != 2 {
		t.Errorf("after the reset: got %v, want 2 accepted", got)
	}
	if n := len(f.sender.got()); n != 1 {
		t.Errorf("sent after the reset: got %d, want 1", n)
	}
}

// What waits for a way expires when its time is over, not when it is tried again.
func TestExpiresWhileItWaits(t *testing.T) {
	f := setup(t, nil)
	f.register(device.Registration{Token: token(1)})
	var fu fuses
	fu.set(device.Production, true)
	f.start(options{change: func(c *worker.Config) { c.Fuses, c.FuseRetry = &fu, time.Hour }})
	j := newJob("short", token(1))
	j.ExpiresAt = time.Now().Add(1500 * time.Millisecond)
	f.publish(job.Transactional, j)
	if got := results(f.completed("short")); got["expired"] != 1 {
		t.Errorf("got %v, want 1 expired", got)
	}
}

// A message with a rejection that may be taken back is kept for a while, and not
// told or sent again by that.
func TestRejectedAreKept(t *testing.T) {
	var wrong atomic.Bool
	bad := func(n *apns.Notification) apns.Response {
		if wrong.Load() && (n.DeviceToken == token(1) || n.DeviceToken == token(9)) {
			return apns.Response{Status: 400, Reason: apns.BadDeviceToken}
		}
		return accept(n)
	}
	f := setup(t, bad)
	f.register(device.Registration{Token: token(1)})
	f.register(device.Registration{Token: token(2)})
	f.markAccepted(token(1), token(2))
	wrong.Store(true)
	var fu fuses
	f.start(withFuses(&fu, 700*time.Millisecond))
	// A device token that nobody knows is no reason to keep a message.
	f.publish(job.Bulk, newJob("garbage", token(9), token(3)))
	f.completed("garbage")
	f.drained()

	began := time.Now()
	f.publish(job.Bulk, newJob("kept", token(1), token(2), token(3)))
	outcomes := f.completed("kept")
	if took := time.Since(began); took > 600*time.Millisecond {
		t.Logf("slow machine: told after %s", took)
	}
	o := outcomes[0]
	if o.Known != 1 || len(o.Accepted) != 2 || len(o.Others) != 1 || !o.Others[0].AcceptedBefore {
		t.Errorf("outcome: got %d known of %d accepted, others %+v, want 1 of 2, one that was accepted before", o.Known, len(o.Accepted), o.Others)
	}
	f.drained()
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("acknowledged after %s, want at least 700ms", took)
	}
	if n := len(f.completed("kept")); n != 1 {
		t.Errorf("told: got %d times, want once", n)
	}
	if n := len(f.sender.got()); n != 5 {
		t.Errorf("sent: got %d, want 5", n)
	}
}

// Canaries are sent to while their environment's fuse is tripped, and close it.
func TestCanaryResetsTheFuse(t *testing.T) {
	f := setup(t, nil)
	f.apps[0].Canaries = []device.Token{token(7), token(8)}
	f.register(device.Registration{Token: token(8), Environment: device.Sandbox})
	var fu fuses
	fu.set(device.Production, true)
	f.start(withFuses(&fu, time.Second))
	f.eventually("a reset", func() (string, bool) {
		fu.mu.Lock()
		defer fu.mu.Unlock()
		return fu.reset, fu.reset == "canary, by w1"
	})
	got := f.sender.got()
	if len(got) != 1 || got[0].DeviceToken != token(7) || got[0].PushType != job.PushBackground || got[0].Priority != 5 || got[0].Topic != bundle {
		t.Errorf("sent: got %+v, want a background push to the canary of this environment", got)
	}
}

// markAccepted has device tokens accepted, as the recorder does it.
func (f *fixture) markAccepted(list ...device.Token) {
	f.t.Helper()
	w := f.start(options{name: "before"})
	f.publish(job.Transactional, newJob("before", list...))
	f.completed("before")
	c, err := f.js.RecorderConsumer(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually("recorded", func() (string, bool) {
		last, err1 := f.js.LastOutcome(f.ctx)
		floor, err2 := c.AckFloor(f.ctx)
		return fmt.Sprintf("%d of %d", floor, last), err1 == nil && err2 == nil && floor >= last
	})
	w.stop()
	f.sender.mu.Lock()
	f.sender.sent = nil
	f.sender.mu.Unlock()
}
