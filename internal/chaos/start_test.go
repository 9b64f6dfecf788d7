//go:build chaos && linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// TestStartWithoutLeader starts a worker while two of three nats-servers are away, so
// that nobody leads: it waits, without ending, and works once they are back.
func TestStartWithoutLeader(t *testing.T) {
	b := binaries{t.TempDir()}
	current := b.build(t, "pushfleet", root(t), "./cmd/pushfleet")
	bins := programs{pushfleet: current, nats: b.build(t, "nats-server", root(t), "github.com/nats-io/nats-server/v2"), workers: []string{current}}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, errTooLong)
	defer cancel()
	f, _ := startScaleFleet(ctx, t, keptDir(t, "start"), bins, false)
	w := f.workers[0]
	// Which server it meets is chance: with either two of them away nobody leads.
	for _, p := range f.nats[1:] {
		p.kill()
	}
	f.check(w.start())
	f.until("a worker that waits", time.Minute, func() error {
		log, err := os.ReadFile(w.log)
		if err == nil && strings.Count(string(log), "JetStream cannot be reached, trying again") < 3 {
			err = errors.New("it does not say so three times")
		}
		return err
	})
	if err := f.isReady(w); err == nil || !strings.Contains(err.Error(), "has not reached JetStream yet: ") {
		t.Errorf("readyz: got %v, want what it waits for", err)
	}
	for _, p := range f.nats[1:] {
		f.check(p.start())
	}
	f.until("a worker that works", time.Minute, func() error { return f.isReady(w) })
	if gone, ran := w.ranFor(); gone || ran != 0 {
		t.Errorf("worker: it ended after %s, want it to wait", ran)
	}
	people := newPopulation(1, 10, 20)
	var jobs []*job.Job
	for i := range 20 {
		o := &order{id: fmt.Sprint("after-", i), user: -1, count: 1, first: i}
		jobs = append(jobs, o.job(people))
	}
	f.insist("publish", func(ctx context.Context) error {
		_, err := producer.FromStreams(f.streams).EnqueueBatch(ctx, app, job.Transactional, jobs)
		return err
	})
	f.until("its work", time.Minute, func() error {
		var st apnstest.Stats
		err := f.admin(http.MethodGet, "/stats", nil, &st)
		if err == nil && st.Received < int64(len(jobs)) {
			err = fmt.Errorf("%d requests", st.Received)
		}
		return err
	})
	if err := w.stop(time.Minute); err != nil {
		t.Errorf("stop the worker: %v", err)
	}
}
