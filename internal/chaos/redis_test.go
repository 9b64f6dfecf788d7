//go:build chaos && linux

package chaos_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// redisDown is how long Redis is away.
const redisDown = time.Minute

// TestRedisDown takes Redis away for a minute: jobs that name device tokens go on,
// those to users wait, and afterwards all is told, counted and sent once.
func TestRedisDown(t *testing.T) {
	b := binaries{t.TempDir()}
	current := b.build(t, "pushfleet", root(t), "./cmd/pushfleet")
	bins := programs{pushfleet: current, nats: b.build(t, "nats-server", root(t), "github.com/nats-io/nats-server/v2"), workers: []string{current, current}}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errTooLong)
	defer cancel()
	f := startFleet(ctx, t, dir, bins, 1)
	people := newPopulation(1, 5000, 7500)
	people.setUp(f)
	l := newLoad(f, people, 1, 800)
	loading, stopLoading := context.WithCancel(ctx)
	defer stopLoading()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(loading, 80_000)
	}()
	<-time.After(10 * time.Second)
	fault := f.history.begin(killRedis, all, redisDown.String())
	f.redis.kill()
	<-time.After(redisDown)
	f.check(f.redis.start())
	f.until("redis-server", time.Minute, func() error { return f.client.Ping(f.ctx).Err() })
	f.history.end(fault)
	back := time.Now()
	<-done
	f.until("an empty queue", 3*time.Minute, f.backlog)
	caughtUp := time.Since(back)
	faults, dialed := f.history.list(), f.dialed()
	for _, w := range f.workers {
		if err := w.stop(time.Minute); err != nil {
			t.Errorf("stop %s: %v", w.name, err)
		}
	}
	f.check(f.sim.stop(time.Minute))
	j, err := readJournal(f.journal)
	f.check(err)
	v, err := judge(f, l, nil, j, newBounding(j, faults, dialed), faults)
	f.check(err)
	report(t, plan{seed: 1}, v)
	if v.failed() {
		t.Fail()
	}
	if v.duplicates > 0 {
		t.Errorf("duplicates: got %d, want none: no worker died", v.duplicates)
	}

	// How long urgent jobs to one device took that were published meanwhile.
	first := make(map[uint64]int64)
	for i := range j.requests {
		if r := &j.requests[i]; r.accepted() && (first[r.pair] == 0 || r.received < first[r.pair]) {
			first[r.pair] = r.received
		}
	}
	var took []time.Duration
	late := 0
	for _, o := range l.orders {
		if o.lane != job.Transactional || o.user >= 0 || o.asked.Before(fault.from) || o.taken.After(fault.to.Add(-5*time.Second)) {
			continue
		}
		token := o.tokens(people)[0]
		at := first[apnstest.PairHash([]byte(token.Raw()), job.APNsID(app, o.id, token))]
		if at == 0 {
			continue // dead
		}
		d := time.UnixMicro(at).Sub(o.taken)
		took = append(took, d)
		if time.UnixMicro(at).After(fault.to) {
			late++
		}
	}
	slices.Sort(took)
	t.Logf("urgent jobs to one device while Redis was away: %d, after their publish p50 %s, p99 %s, longest %s; %d only afterwards; all caught up %s after",
		len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), late, caughtUp.Round(time.Millisecond))
	if late > 0 {
		t.Errorf("waited for Redis: %d of %d jobs that name their device", late, len(took))
	}
}
