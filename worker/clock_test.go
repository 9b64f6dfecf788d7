package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/clock"
	"github.com/pushfleet/pushfleet/internal/clock/clocktest"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/worker"
)

// The machine's clock is set by an hour while a job waits for its retry, and other
// jobs come: none expires, and none is stuck.
func TestClockIsSet(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			var mu sync.Mutex
			tried := make(map[device.Token]bool)
			f := setup(t, func(n *apns.Notification) apns.Response {
				mu.Lock()
				defer mu.Unlock()
				if !tried[n.DeviceToken] {
					tried[n.DeviceToken] = true
					return apns.Response{Err: errors.New("connection lost")}
				}
				return accept(n)
			})
			sys := clocktest.Running()
			clk := clock.New(clock.Config{System: sys.Read})
			f.start(options{change: func(c *worker.Config) { c.Now = clk.Now }})
			var expirations sync.Map // device token -> Unix seconds
			send := func(id string, to int) {
				j := newJob(id, token(to))
				j.TTL, j.HasTTL = 10*time.Minute, true
				expirations.Store(token(to), time.Now().Add(j.TTL).Unix())
				f.publish(job.Transactional, j)
			}
			send("before", 1)
			<-f.sender.seen
			sys.Step(step)
			send("after", 2)
			for _, id := range []string{"before", "after"} {
				if counts := results(f.completed(id)); counts["accepted"] != 1 {
					t.Errorf("%s: got %v, want it accepted", id, counts)
				}
			}
			f.drained()
			for _, n := range f.sender.got() {
				want, ok := expirations.Load(n.DeviceToken)
				at, isTime := want.(int64)
				if d := n.Expiration - at; !ok || !isTime || d < -2 || d > 2 {
					t.Errorf("apns-expiration: got %d s off", d)
				}
			}
		})
	}
}

// A next try that a worker with a wrong clock has put off for a year is made.
func TestRetryOfAnotherYear(t *testing.T) {
	f := setup(t, nil)
	key := store.JobKey{App: "shop", Lane: job.Bulk, ID: "late"}
	if err := f.set.HandBack(f.ctx, key, store.HandBack{RetryAt: time.Now().AddDate(1, 0, 0), Attempts: 1}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	failed := false
	f.sender.answer = func(n *apns.Notification) apns.Response {
		mu.Lock()
		defer mu.Unlock()
		if !failed {
			failed = true
			// The hand-back of this one must not repair what is tested.
			return apns.Response{Err: fmt.Errorf("%w: refused", apns.ErrNotSent)}
		}
		return accept(n)
	}
	f.start(options{progress: keeps{f.set}})
	f.publish(job.Bulk, newJob("late", token(1)))
	if counts := results(f.completed("late")); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v, want it accepted", counts)
	}
}

// keeps is a store that keeps the first retry it was told of.
type keeps struct{ *store.Store }

func (keeps) HandBack(context.Context, store.JobKey, store.HandBack) error { return nil }
