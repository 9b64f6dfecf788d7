package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// reports listens to what workers tell, and returns what waits for one that is as it
// should be.
func (f *fixture) reports() func(what string, is func(*stream.Report) bool) *stream.Report {
	f.t.Helper()
	heard, listening := make(chan *stream.Report, 4096), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.js.Reports(ctx, func() { close(listening) }, func(r *stream.Report) { heard <- r }); err != nil {
			f.t.Errorf("listen: %v", err)
		}
	}()
	f.t.Cleanup(func() { cancel(); <-done })
	<-listening
	return func(what string, is func(*stream.Report) bool) *stream.Report {
		f.t.Helper()
		var last *stream.Report
		for {
			select {
			case r := <-heard:
				if last = r; is(r) {
					return r
				}
			case <-f.ctx.Done():
				f.t.Fatalf("waited for a report of %s; got %+v", what, last)
			}
		}
	}
}

func often(c *worker.Config) {
	c.ReportInterval, c.BacklogInterval = 20*time.Millisecond, 20*time.Millisecond
}

// What a worker tells adds up, and its last word is that it leaves.
func TestReportCounts(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		switch n.DeviceToken {
		case token(1):
			return apns.Response{Status: 400, Reason: apns.BadDeviceToken}
		default:
			return accept(n)
		}
	})
	wait := f.reports()
	r := f.start(options{change: often})
	f.publish(job.Transactional, newJob("a", tokens(0, 10)...))
	f.publish(job.Bulk, newJob("b", tokens(10, 30)...))
	waits := 0
	wait("all", func(r *stream.Report) bool {
		a := r.Apps["shop"]
		for _, times := range a.Accept {
			for _, b := range times {
				waits = max(waits, int(b.N))
			}
		}
		return a.Total == stream.Settled{Accepted: 29, Rejected: 1}
	})
	if waits == 0 {
		t.Error("got no times from enqueued to accepted, want some")
	}
	wait("nothing recent", func(r *stream.Report) bool {
		a := r.Apps["shop"]
		return a.Recent == stream.Settled{} && a.Accept[0] == nil && a.Accept[1] == nil && a.Total.Accepted == 29 && a.Waiting != nil && *a.Waiting == [2]stream.LaneBacklog{}
	})
	r.stop()
	wait("its end", func(r *stream.Report) bool { return r.Left })
}

// lookups is a token set that is away.
type lookups struct{ worker.Devices }

func (lookups) ByUsers(context.Context, string, []string) ([][]store.Entry, error) {
	return nil, errors.New("redis is away")
}

// A worker that hands jobs back says why.
func TestReportTellsOfRedis(t *testing.T) {
	f := setup(t, nil)
	wait := f.reports()
	f.start(options{devices: lookups{f.set}, change: often})
	f.publish(job.Transactional, &job.Job{ID: "a", To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "x"}})
	r := wait("why", func(r *stream.Report) bool {
		return len(r.Apps["shop"].Held) > 0 && strings.Contains(strings.Join(r.Apps["shop"].Held, "; "), "hands jobs back")
	})
	if held := strings.Join(r.Apps["shop"].Held, "; "); !strings.HasPrefix(held, "transactional: ") || !strings.Contains(held, "redis is away") {
		t.Errorf("got %q, want the lane and the cause", held)
	}
}

// untaken keeps outcomes until it is let go.
type untaken struct {
	worker.Outcomes
	until <-chan struct{}
}

func (u untaken) Publish(app string, lane job.Lane, outcomes []job.JobOutcome, stored func(error)) {
	go func() {
		<-u.until
		u.Outcomes.Publish(app, lane, outcomes, stored)
	}()
}

// A worker whose outcomes nobody stores says so, until they are.
func TestReportTellsOfOutcomes(t *testing.T) {
	f := setup(t, nil)
	wait := f.reports()
	let := make(chan struct{})
	f.start(options{change: often, outcomes: func(o worker.Outcomes) worker.Outcomes { return untaken{o, let} }})
	f.publish(job.Transactional, newJob("a", token(1)))
	wait("outcomes that are not stored", func(r *stream.Report) bool {
		return strings.HasPrefix(r.Problem, "JetStream has stored no outcomes for ")
	})
	close(let)
	wait("outcomes that are", func(r *stream.Report) bool { return r.Problem == "" })
}

// tripped is a fuse that has tripped.
type tripped struct{ worker.Fuses }

func (tripped) Load(context.Context) error              { return nil }
func (tripped) Tripped(string, device.Environment) bool { return true }
func (tripped) ClaimCanary(context.Context, string, device.Environment, time.Duration) (bool, error) {
	return false, nil
}

func TestReportTellsOfFuseAndRoute(t *testing.T) {
	f := setup(t, nil)
	wait := f.reports()
	f.start(options{change: func(c *worker.Config) { often(c); c.Fuses = tripped{} }})
	wait("the fuse", func(r *stream.Report) bool {
		return strings.Contains(strings.Join(r.Apps["shop"].Held, "; "), "production: the fuse is tripped")
	})
	g := setupOn(t, f.js, func(n *apns.Notification) apns.Response {
		return apns.Response{Status: 403, Reason: apns.Forbidden, APNsID: n.APNsID}
	})
	g.apps[0].Name = "news"
	g.start(options{name: "w2", change: often})
	if _, err := f.js.PublishJob(f.ctx, "news", job.Bulk, newJob("a", token(1))); err != nil {
		t.Fatal(err)
	}
	wait("the route", func(r *stream.Report) bool {
		return strings.Contains(strings.Join(r.Apps["news"].Held, "; "), "production: nothing is sent: APNs says Forbidden, tried again in ")
	})
}
