//go:build chaos && linux

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/internal/testenv"
)

// The kinds of faults, as they are named in the history and in the table.
const (
	killWorker   = "kill worker"
	rollWorker   = "restart worker"
	freezeWorker = "freeze worker"
	killNATS     = "kill nats"
	killRedis    = "kill redis"
	cutLink      = "cut"
	slowLink     = "slow"
	stallLink    = "stall"
	goAway       = "goaway"
	closeAPNs    = "close apns"
	halfOpen     = "half-open apns"
	resets       = "resets"
	sick         = "503"
)

// monkey does things to a fleet.
type monkey struct {
	f     *fleet
	rng   *rand.Rand
	long  bool          // faults that take more than a short run has
	apart time.Duration // between faults, which then come in turn; 0: as drawn
	undos sync.WaitGroup

	mu     sync.Mutex
	failed error // guarded by mu: what went wrong with the suite or a process
}

func newMonkey(f *fleet, seed uint64, long bool) *monkey {
	return &monkey{f: f, rng: rand.New(rand.NewPCG(seed, 1)), long: long}
}

func (m *monkey) fail(err error) {
	if err == nil {
		return
	}
	m.f.history.say("FAILED: %v", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = err
	}
}

func (m *monkey) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// between draws a time.
func (m *monkey) between(low, high time.Duration) time.Duration {
	return low + time.Duration(m.rng.Int64N(int64(high-low)+1))
}

// run does one thing after the other until ctx ends, and then waits until all of
// them are undone.
func (m *monkey) run(ctx context.Context) {
	kinds := []struct {
		weight int
		do     func()
	}{
		{10, m.killWorker},
		{3, m.rollWorker},
		{3, m.freezeWorker},
		{2, m.killNATS},
		{2, m.killRedis},
		{4, func() { m.link(cutLink) }},
		{3, func() { m.link(slowLink) }},
		{3, func() { m.link(stallLink) }},
		{3, m.goAway},
		{2, m.closeAPNs},
		{2, m.halfOpen},
		{2, m.resets},
		{2, m.sick},
	}
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	for n := 0; m.apart > 0 && n < len(kinds) && ctx.Err() == nil && m.failure() == nil; n++ {
		kinds[n].do()
		m.undos.Wait()
		select {
		case <-time.After(m.apart):
		case <-ctx.Done():
		}
	}
	for m.apart == 0 && ctx.Err() == nil && m.failure() == nil {
		// All numbers of a step are drawn whatever it meets, as far as that goes.
		gap, x := m.between(500*time.Millisecond, 4500*time.Millisecond), m.rng.IntN(sum)
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			continue
		}
		for _, k := range kinds {
			if x -= k.weight; x < 0 {
				k.do()
				break
			}
		}
	}
	m.undos.Wait()
}

// later undoes something after a time, while the next things are done.
func (m *monkey) later(after time.Duration, undo func() error) {
	m.undos.Go(func() {
		<-time.After(after)
		m.fail(undo())
	})
}

// victim takes a worker that nothing is being done to; nil if too many are busy.
func (m *monkey) victim() *worker { return m.take(m.rng.IntN(len(m.f.workers))) }

// take takes the first worker that nothing is being done to, from one on.
func (m *monkey) take(start int) *worker {
	busy := 0
	var free []*worker
	for i := range m.f.workers {
		w := m.f.workers[(start+i)%len(m.f.workers)]
		if w.busy.Load() {
			busy++
		} else {
			free = append(free, w)
		}
	}
	for _, w := range free {
		if busy < len(m.f.workers)/2 && w.busy.CompareAndSwap(false, true) {
			return w
		}
	}
	return nil
}

func (m *monkey) killWorker() {
	down := m.between(0, 3*time.Second)
	m.later(down, m.kill(m.victim()))
}

// kill kills a worker, if there is one, and returns what starts it again.
func (m *monkey) kill(w *worker) (restart func() error) {
	if w == nil {
		return func() error { return nil }
	}
	fault := m.f.history.begin(killWorker, w.index, "")
	w.kill()
	return func() error {
		defer w.busy.Store(false)
		m.f.history.end(fault)
		return w.start()
	}
}

// rollWorker restarts a worker as a rolling upgrade does.
func (m *monkey) rollWorker() {
	w := m.victim()
	if w == nil {
		return
	}
	fault := m.f.history.begin(rollWorker, w.index, "")
	m.later(0, func() error {
		defer w.busy.Store(false)
		if err := w.stop(45 * time.Second); err != nil {
			return fmt.Errorf("stop %s: %w", w.name, err)
		}
		m.f.history.end(fault)
		return w.start()
	})
}

func (m *monkey) freezeWorker() {
	d := m.between(200*time.Millisecond, 3*time.Second)
	if m.rng.IntN(2) == 0 {
		d = m.between(11*time.Second, 15*time.Second) // beyond the ack wait of transactional jobs
		if m.long {
			d = m.between(32*time.Second, 40*time.Second) // and of bulk ones
		}
	}
	w := m.victim()
	if w == nil {
		return
	}
	fault := m.f.history.begin(freezeWorker, w.index, d.String())
	m.fail(w.signal(syscall.SIGSTOP))
	m.later(d, func() error {
		defer w.busy.Store(false)
		err := w.signal(syscall.SIGCONT)
		m.f.history.end(fault)
		return err
	})
}

// killNATS kills the server that leads JOBS.
func (m *monkey) killNATS() {
	down := m.between(0, 3*time.Second)
	leader, err := m.f.leader()
	if err != nil {
		m.f.history.say("no leader to kill: %v", err)
		return
	}
	fault := m.f.history.begin(killNATS, all, leader.name)
	leader.kill()
	// The next thing waits for it: a second server of three would stop JetStream.
	<-time.After(down)
	m.fail(leader.start())
	m.fail(m.f.await("nats-server", time.Minute, func() error {
		// A question to a server that has just died is never answered.
		ctx, cancel := context.WithTimeout(m.f.ctx, 2*time.Second)
		defer cancel()
		return m.f.streams.Ready(ctx)
	}))
	m.f.history.end(fault)
}

func (m *monkey) killRedis() {
	down := m.between(200*time.Millisecond, 4*time.Second)
	fault := m.f.history.begin(killRedis, all, "")
	m.f.redis.kill()
	<-time.After(down)
	m.fail(m.f.redis.start())
	m.fail(m.f.await("redis-server", time.Minute, func() error { return m.f.client.Ping(m.f.ctx).Err() }))
	m.f.history.end(fault)
}

// link cuts, slows or stalls one of a worker's links.
func (m *monkey) link(kind string) {
	which, d, slow := m.rng.IntN(3), m.between(50*time.Millisecond, 6*time.Second), m.between(20*time.Millisecond, 200*time.Millisecond)
	w := m.victim()
	if w == nil {
		return
	}
	l := [...]*link{w.nats, w.redis, w.apns}[which]
	fault := m.f.history.begin(kind+" "+l.name, w.index, d.String())
	set := func(on bool) {
		l.each(func(p *testenv.Proxy) {
			switch kind {
			case cutLink:
				p.Refuse(on)
			case stallLink:
				p.Stall(on)
			case slowLink:
				if !on {
					slow = 0
				}
				p.Delay(slow)
			}
		})
	}
	set(true)
	m.later(d, func() error {
		defer w.busy.Store(false)
		set(false)
		m.f.history.end(fault)
		return nil
	})
}

// act does something to one of the simulator's connections.
func (m *monkey) act(kind string, a apnstest.Action, undo *apnstest.Action, after time.Duration) {
	w, n := m.f.workers[m.rng.IntN(len(m.f.workers))], m.rng.IntN(8)
	ids, err := m.f.openConnections(w)
	if err != nil {
		return // it is down
	}
	id := ids[n%len(ids)]
	fault := m.f.history.begin(kind, w.index, fmt.Sprintf("connection %d", id))
	do := func(a apnstest.Action) error {
		return m.f.admin("POST", "/actions", apnstest.ActionRequest{Action: a, Connections: []uint64{id}}, nil)
	}
	m.fail(do(a))
	if undo == nil {
		m.f.history.end(fault)
		return
	}
	m.later(after, func() error {
		defer m.f.history.end(fault)
		return do(*undo)
	})
}

func (m *monkey) goAway() {
	forms := []apnstest.GoAway{
		{},
		{Last: "zero", Then: "close"},
		{Back: 20, Then: "close"},
		{TwoPhase: apnstest.Duration(50 * time.Millisecond)},
		{Code: "ENHANCE_YOUR_CALM", Back: 5},
		{Reason: "Shutdown"},
	}
	m.act(goAway, apnstest.Action{GoAway: &forms[m.rng.IntN(len(forms))]}, nil, 0)
}

func (m *monkey) closeAPNs() {
	m.act(closeAPNs, apnstest.Action{Close: [...]string{"tls", "fin", "rst"}[m.rng.IntN(3)]}, nil, 0)
}

func (m *monkey) halfOpen() {
	m.act(halfOpen, apnstest.Action{Freeze: true}, &apnstest.Action{Close: "rst"}, m.between(time.Second, 20*time.Second))
}

// window sets faults of the simulator for a time.
func (m *monkey) window(kind string, worker int, d time.Duration, requests ...apnstest.RequestFault) {
	fault := m.f.history.begin(kind, worker, d.String())
	m.fail(m.f.admin("PUT", "/faults", m.faults(requests...), nil))
	<-time.After(d)
	m.fail(m.f.admin("PUT", "/faults", m.faults(), nil))
	m.f.history.end(fault)
}

func (m *monkey) faults(requests ...apnstest.RequestFault) apnstest.Faults {
	// One answer in a hundred takes its time, so that a list is half done for a while.
	latency := apnstest.Latency{Constant: apnstest.Duration(5 * time.Millisecond), TailShare: 0.01, Tail: apnstest.Duration(1500 * time.Millisecond)}
	return apnstest.Faults{Latency: latency, Requests: requests}
}

// resets takes back streams: some before APNs looked at them, which says so, and
// some after, which does not.
func (m *monkey) resets() {
	m.window(resets, all, m.between(500*time.Millisecond, 2*time.Second),
		apnstest.RequestFault{Match: apnstest.Match{Every: 101}, Reset: &apnstest.Reset{Code: "REFUSED_STREAM"}},
		apnstest.RequestFault{Match: apnstest.Match{Every: 211}, Reset: &apnstest.Reset{Code: "INTERNAL_ERROR", When: "after"}},
		apnstest.RequestFault{Match: apnstest.Match{Every: 307, Times: 20}, NeverAnswer: true},
	)
}

// sick has one connection answer 503: a transactional notification is tried once
// more on another one. A bulk one waits for 15 minutes, so only long runs have
// all connections do so.
func (m *monkey) sick() {
	d := m.between(200*time.Millisecond, time.Second)
	if m.long {
		m.window(sick, all, d, apnstest.RequestFault{Match: apnstest.Match{Every: 51, Times: 200}, Answer: &apnstest.Answer{Status: 503, Reason: "ServiceUnavailable"}})
	}
}
