package worker_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/worker"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	var b worker.Budget
	now := time.Now()
	for n := range worker.RetryBurst {
		if d := b.Stretch(now); d != 0 {
			t.Fatalf("retry %d: got %s longer, want what is saved up", n, d)
		}
	}
	if b.Try(now) {
		t.Error("at once, with nothing left: want no")
	}
	// Beyond it they come at the floor's rate.
	var last time.Duration
	for range 10 * worker.RetryFloor {
		d := b.Stretch(now)
		if d <= last {
			t.Fatalf("got %s after %s, want each later than the one before", d, last)
		}
		last = d
	}
	if last < 9*second || last > 11*second {
		t.Errorf("ten seconds' worth of retries: got the last %s later", last)
	}
	// First tries pay for retries, at their share.
	b.Earn(int(10*worker.RetryFloor/worker.RetryShare) + 5)
	if !b.Try(now) || b.Try(now) {
		t.Error("after first tries for all and one more: want one")
	}
	// So does time, up to the burst.
	now = now.Add(time.Hour)
	for n := range worker.RetryBurst {
		if !b.Try(now) {
			t.Fatalf("retry %d after an hour: want what is saved up", n)
		}
	}
	if b.Try(now) {
		t.Error("after an hour: want no more than is saved up")
	}
	// However many there are, none waits for ever.
	for range 1_000_000 {
		if d := b.Stretch(now); d > worker.RetryStretch {
			t.Fatalf("got %s longer, want at most %s", d, worker.RetryStretch)
		}
	}
}

// unavailable answers 503 to the first try of each device.
type unavailable struct {
	mu    sync.Mutex
	tries map[device.Token]int
}

func (u *unavailable) answer(n *apns.Notification) apns.Response {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tries == nil {
		u.tries = make(map[device.Token]int)
	}
	if u.tries[n.DeviceToken]++; u.tries[n.DeviceToken] == 1 {
		return apns.Response{Status: 503, Reason: apns.ServiceUnavailable, Connection: 7}
	}
	return accept(n)
}

func (f *fixture) progressOf(lane job.Lane, id string) store.Progress {
	f.t.Helper()
	p, err := f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: lane, ID: id}})
	if err != nil {
		f.t.Fatal(err)
	}
	return p[0]
}

// A transactional notification that got a 5xx is tried again at once, on another
// connection, at the same delivery.
func TestQuickRetry(t *testing.T) {
	var u unavailable
	f := setup(t, u.answer)
	f.start(options{})
	f.publish(job.Transactional, newJob("now", tokens(0, 3)...))
	if counts := results(f.completed("now")); counts["accepted"] != 3 {
		t.Errorf("outcomes: got %v, want 3 accepted", counts)
	}
	f.drained()
	sent := f.sender.got()
	if len(sent) != 6 {
		t.Fatalf("sent: got %d, want each of 3 twice", len(sent))
	}
	for i, n := range sent {
		if want := uint32(7); i >= 3 && n.Avoid != want || i < 3 && n.Avoid != 0 {
			t.Errorf("try %d: avoids connection %d", i, n.Avoid)
		}
		for _, first := range sent[:3] {
			if first.DeviceToken == n.DeviceToken && first.APNsID != n.APNsID {
				t.Errorf("try %d: got another apns-id", i)
			}
		}
	}
	// Bulk waits as Apple says.
	f.publish(job.Bulk, newJob("later", tokens(10, 12)...))
	f.eventually("the retry is remembered", func() (string, bool) {
		p := f.progressOf(job.Bulk, "later")
		return fmt.Sprintf("%+v", p), time.Until(p.RetryAt) > 7*minute && p.Attempts == 1
	})
	if got := len(f.sender.got()); got != 8 {
		t.Errorf("sent: got %d, want the bulk job's once", got-6)
	}
}

// The quick retry is an attempt like any other: what fails twice waits by Apple's
// schedule.
func TestQuickRetryThatFails(t *testing.T) {
	f := setup(t, func(*apns.Notification) apns.Response {
		return apns.Response{Status: 500, Reason: apns.InternalServerError, Connection: 1}
	})
	f.start(options{})
	f.publish(job.Transactional, newJob("down", token(1)))
	f.eventually("the retry is remembered", func() (string, bool) {
		p := f.progressOf(job.Transactional, "down")
		return fmt.Sprintf("%+v", p), time.Until(p.RetryAt) > 7*minute && p.Attempts == 2
	})
	if got := len(f.sender.got()); got != 2 {
		t.Errorf("sent: got %d, want 2", got)
	}
}

// What bulk spends on retries is not transactional's.
func TestBudgetIsPerLane(t *testing.T) {
	var u unavailable
	f := setup(t, u.answer)
	f.start(options{})
	for n := range 3 {
		f.publish(job.Bulk, newJob(fmt.Sprint("bulk-", n), tokens(1000*n, 1000*(n+1))...))
	}
	for n := range 3 {
		f.eventually("the retry is remembered", func() (string, bool) {
			p := f.progressOf(job.Bulk, fmt.Sprint("bulk-", n))
			return fmt.Sprintf("%+v", p.RetryAt), !p.RetryAt.IsZero()
		})
	}
	f.publish(job.Transactional, newJob("now", token(5000)))
	if counts := results(f.completed("now")); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v, want it accepted at the quick retry", counts)
	}
}

// A notification for which APNs wants more time than there is left is settled at
// once, with what APNs said.
func TestRetryBeyondExpiry(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(1) {
			return apns.Response{Status: 429, Reason: apns.TooManyRequests}
		}
		return apns.Response{Status: 503, Reason: apns.ServiceUnavailable}
	})
	f.start(options{})
	j := newJob("short", tokens(0, 2)...)
	j.TTL, j.HasTTL = 20*second, true
	f.publish(job.Bulk, j)
	counts := results(f.completed("short"))
	if counts["failed ServiceUnavailable"] != 1 || counts["rejected TooManyRequests"] != 1 {
		t.Errorf("outcomes: got %v, want one failed and one rejected", counts)
	}
	f.drained()
}

// Too many to one device is that device's matter: the others of its job, and other
// jobs, go on.
func TestTooManyRequestsIsOneDevices(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(1) {
			return apns.Response{Status: 429, Reason: apns.TooManyRequests}
		}
		return accept(n)
	})
	f.start(options{})
	f.publish(job.Transactional, newJob("some", tokens(0, 5)...))
	f.eventually("the others are told", func() (string, bool) {
		p := f.progressOf(job.Transactional, "some")
		return fmt.Sprintf("%+v", p), p.Counts[job.Accepted] == 4 && time.Until(p.RetryAt) > 20*second
	})
	if p := f.progressOf(job.Transactional, "some"); p.Complete || p.Attempts != 1 {
		t.Errorf("progress: got %+v, want one device that waits after one attempt", p)
	}
	f.publish(job.Transactional, newJob("next", tokens(2, 6)...))
	if counts := results(f.completed("next")); counts["accepted"] != 4 {
		t.Errorf("the next job: got %v, want 4 accepted", counts)
	}
	if got := len(f.sender.got()); got != 9 {
		t.Errorf("sent: got %d, want each once", got)
	}
}
