package apns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

// errClosed is what Send says after Close.
var errClosed = errors.New("apns: client closed")

// pool keeps the connections of a route. Callers put batches into its queues,
// connections take from them as far as APNs lets them. One goroutine, run, looks
// after time; another one opens a connection when there are too few.
//
// Lock order: a connection's own lock, then mu. So nothing here calls into a
// connection with mu held, but for what takes no lock there.
type pool struct {
	cfg     ClientConfig
	dialer  dialer
	tokens  *ProviderTokens // nil with a certificate
	answers *answerReader
	log     *zap.Logger

	latencies h2.Latencies
	counters  counters
	opened    atomic.Uint32 // connections so far

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
	kick chan struct{} // holds one: run has something to do before its time

	mu         sync.Mutex // guards what follows
	queues     [2]queue   // by lane
	links      []*link    // all that are not closed
	turn       int        // which link is woken first
	urgent     *link      // the one kept for transactional, or nil
	lastUrgent time.Time
	lastSubmit time.Time
	busy       bool // run ticks fast

	target      int // connections wanted; 0 until the first Send
	dialing     bool
	gate        dialGate
	lastErr     error // of the last dial; nil once one succeeded
	fullSince   time.Time
	lastFull    time.Time
	avoid       map[netip.Addr]time.Time // until
	lookedAt    time.Time                // when silence was last looked at
	credentials credentialState
	closed      bool
}

func newPool(cfg ClientConfig, d dialer, tokens *ProviderTokens, log *zap.Logger) *pool {
	p := &pool{
		cfg: cfg, dialer: d, tokens: tokens, answers: newAnswerReader(), log: log,
		kick:  make(chan struct{}, 1),
		gate:  dialGate{perMinute: cfg.DialsPerMinute, gap: cfg.dialGap},
		avoid: make(map[netip.Addr]time.Time),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(p.run)
	return p
}

// submit queues all of c, or says why nothing of it will be sent.
func (p *pool) submit(c *call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if err := p.refusal(now); err != nil {
		return err
	}
	c.started, p.lastSubmit = time.Now(), now
	if c.lane == job.Transactional {
		p.lastUrgent = now
		if p.urgent == nil {
			p.chooseUrgent(now)
		}
	}
	if p.target == 0 {
		p.target = p.cfg.Connections
	}
	if c.batch[0].Avoid == 0 {
		p.queues[c.lane].push(c)
		p.wake(c.lane, len(c.batch), nil)
	} else {
		p.pushElsewhere(c)
	}
	if !p.busy {
		p.busy = true
		p.nudge()
	}
	return nil
}

// connectLook is how often connect looks. It is for the few times at which a client is
// made while others send.
const connectLook = 10 * time.Millisecond

// connect opens the connections that are kept.
func (p *pool) connect(ctx context.Context) error {
	p.mu.Lock()
	p.target = max(p.target, p.cfg.Connections)
	p.lastSubmit = p.cfg.Now() // else nobody is taken to want them
	p.mu.Unlock()
	p.nudge()
	tick := time.NewTicker(connectLook)
	defer tick.Stop()
	for {
		open, want, err := p.progress()
		if open >= want || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return p.notConnected(open, want, context.Cause(ctx))
		}
	}
}

// progress returns how many connections are open and wanted, or why there will be none.
func (p *pool) progress() (open, want int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		if l.usable() {
			open++
		}
	}
	return open, p.cfg.Connections, p.refusal(p.cfg.Now())
}

func (p *pool) notConnected(open, want int, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastErr != nil {
		cause = p.lastErr
	}
	return fmt.Errorf("apns: %d of %d connections are open: %w", open, want, cause)
}

// pushElsewhere queues each notification of c for another link than the one that
// it avoids. mu is held.
func (p *pool) pushElsewhere(c *call) {
	c.next = len(c.batch)
	for i := range c.batch {
		var from *link
		for _, l := range p.links {
			if l.id == c.batch[i].Avoid {
				from = l
			}
		}
		p.queues[c.lane].pushAgain(resend{c, h2.Item{Batch: c, Index: int32(i)}, from})
		p.wakeOther(c.lane, from)
	}
}

// refusal says why nothing is sent at all, or nil.
func (p *pool) refusal(now time.Time) error {
	if p.closed {
		return errClosed
	}
	return p.credentials.refusal(now)
}

// sendAgain queues a notification of c once more, or says why not.
func (p *pool) sendAgain(c *call, l *link, it h2.Item, why resendCause) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.cancelled != nil {
		return c.cancelled
	}
	if err := p.refusal(p.cfg.Now()); err != nil {
		return err
	}
	p.counters.resends[why].Add(1)
	p.queues[c.lane].pushAgain(resend{c, it, l})
	p.wakeOther(c.lane, l)
	return nil
}

// cancel gives up what is left of c; sent says whether that is so also of what
// connections have taken.
func (p *pool) cancel(c *call, cause error, sent bool) {
	p.mu.Lock()
	c.cancelled = cause
	out := p.queues[c.lane].drop(func(other *call, _ bool) bool { return other != c })
	links := slices.Clone(p.links)
	p.mu.Unlock()
	failAll(out, cause)
	if !sent {
		return
	}
	// Whatever a connection took before is in its hands by now: it took it under
	// its own lock, which Cancel waits for.
	for _, l := range links {
		l.conn.Cancel(c, cause)
	}
}

// take is h2.Owner's Take for l.
func (p *pool) take(l *link, lane job.Lane, dst []h2.Item, budget int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues[lane]
	if q.waiting == 0 || !l.usable() || p.cfg.Hold != nil && p.cfg.Hold() {
		return 0
	}
	if !p.admits(l, lane) {
		// What the urgent link gave back may go out on any other.
		if lane == job.Bulk || len(q.again) == 0 {
			return 0
		}
		return q.takeAgain(func(r *resend) bool { return r.from == p.urgent }, dst, &budget)
	}
	n := q.take(l, p.alone(l, lane), dst, budget)
	if q.waiting > 0 && n == len(dst) {
		p.wake(lane, q.waiting, l)
	}
	return n
}

// admits says whether a lane may use l.
func (p *pool) admits(l *link, lane job.Lane) bool {
	switch {
	case p.urgent == nil:
		return true
	case lane == job.Bulk:
		return l != p.urgent
	default:
		return l == p.urgent || p.urgent.conn.Free(lane) == 0
	}
}

// alone reports whether no other link than l could take what l gave back. Bulk has
// no way by the urgent link; transactional has every way, see take.
func (p *pool) alone(l *link, lane job.Lane) bool {
	return !slices.ContainsFunc(p.links, func(o *link) bool {
		return o != l && o.usable() && (lane == job.Transactional || p.admits(o, lane))
	})
}

// wakeOther wakes a link for a notification that is not to go out on from, or from
// itself if it is alone.
func (p *pool) wakeOther(lane job.Lane, from *link) {
	for i := range p.links {
		l := p.links[(p.turn+i)%len(p.links)]
		if l != from && l.usable() && l.conn.Free(lane) > 0 && (lane == job.Transactional || p.admits(l, lane)) {
			l.conn.Wake()
			p.turn = (p.turn + i + 1) % len(p.links)
			return
		}
	}
	if from != nil && from.usable() {
		from.conn.Wake()
	}
}

// wake wakes as many links as n notifications of a lane are work for, but not
// except. They take turns, so that little work is spread too.
func (p *pool) wake(lane job.Lane, n int, except *link) {
	// choice: what one link takes in one slice.
	const share = 64
	for i := range p.links {
		l := p.links[(p.turn+i)%len(p.links)]
		if l == except || !l.usable() || l.conn.Free(lane) == 0 || !p.admits(l, lane) {
			continue
		}
		l.conn.Wake()
		if n -= share; n <= 0 {
			p.turn = (p.turn + i + 1) % len(p.links)
			return
		}
	}
}

// nudge makes run look at once.
func (p *pool) nudge() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// expire fails what has waited too long for a connection. What was given back
// once gets the same time again.
func (p *pool) expire() {
	now, limit := time.Now(), p.cfg.RequestTimeout
	var out []dropped
	p.mu.Lock()
	for lane := range p.queues {
		q := &p.queues[lane]
		if !q.overdue(now, limit) {
			continue
		}
		out = append(out, q.drop(func(c *call, again bool) bool {
			if again {
				return now.Sub(c.started) <= 2*limit
			}
			return now.Sub(c.started) <= limit
		})...)
	}
	cause := errors.New("waited too long for a stream to APNs")
	if p.lastErr != nil {
		cause = fmt.Errorf("no connection to APNs: %w", p.lastErr)
	}
	p.mu.Unlock()
	failAll(out, cause)
}

// failAll tells that notifications were not sent.
func failAll(out []dropped, cause error) {
	for _, d := range out {
		d.call.fail(d.index, cause)
	}
}

// close ends everything; it returns when no goroutine is left.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var out []dropped
	for lane := range p.queues {
		out = append(out, p.queues[lane].drop(func(*call, bool) bool { return false })...)
	}
	p.mu.Unlock()
	failAll(out, errClosed)
	p.stop()
	p.wg.Wait()
	p.mu.Lock()
	links := slices.Clone(p.links)
	p.mu.Unlock()
	for _, l := range links {
		l.conn.Close()
	}
}
