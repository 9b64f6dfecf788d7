package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// Registrations is the part of the token set that takes registrations.
type Registrations interface {
	// RegisterMany registers devices of one app, in the order of regs where that
	// matters. If nothing at all could be done, there are no results.
	RegisterMany(ctx context.Context, app string, regs []device.Registration) ([]store.Registered, error)
}

const (
	// lines is how many calls into the token set an app may have under way.
	//
	// choice: two, so that one is prepared while Redis works on the other; more
	// make smaller calls, and those cost Redis more.
	lines = 2

	// lineCall is how many registrations go into one call: little enough that none
	// waits long for its neighbours.
	lineCall = 512

	// lineWaiting is how many may wait in a line: a second's worth at the most.
	lineWaiting = 8192

	// registerTimeout is the patience with the token set. A registration that ran
	// into it may have been carried out.
	registerTimeout = 5 * time.Second
)

var (
	errBusy     = errors.New("api: too many registrations are waiting")
	errClosed   = errors.New("api: stopped")
	errPatience = errors.New("api: the token set took too long")
)

// registrar gathers registrations that come one by one into calls of many.
//
// Each app has lines; a device token is always in the same one, so that its
// registrations keep their order. A line makes one call at a time, with all that
// came during the one before. So nothing waits while there is little to do, and
// the calls grow with the load. No timer is involved.
type registrar struct {
	set     Registrations
	size    prometheus.Observer
	calls   sync.WaitGroup
	mu      sync.Mutex // guards what is below, and all lines
	lines   map[lineKey]*line
	waiting int
	closed  bool
}

type lineKey struct {
	app string
	n   int
}

type line struct {
	busy    bool // a goroutine works on it
	waiting []*pending
}

// pending is one registration on its way. done gets one value.
type pending struct {
	reg  device.Registration
	out  store.Registered
	err  error
	done chan struct{}
}

func newRegistrar(set Registrations, size prometheus.Observer) *registrar {
	return &registrar{set: set, size: size, lines: make(map[lineKey]*line)}
}

// register registers one device. If ctx ends first, the registration goes on.
func (g *registrar) register(ctx context.Context, app string, reg device.Registration) (store.Registered, error) {
	p := &pending{reg: reg, done: make(chan struct{})}
	if err := g.add(app, p); err != nil {
		return store.Registered{}, err
	}
	select {
	case <-p.done:
		return p.out, p.err
	case <-ctx.Done():
		return store.Registered{}, context.Cause(ctx)
	}
}

func (g *registrar) add(app string, p *pending) error {
	key := lineKey{app: app, n: int(xxhash.Sum64String(p.reg.Token.Raw()) >> 32 % lines)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	l := g.lines[key]
	if l == nil {
		l = new(line)
		g.lines[key] = l
	}
	if len(l.waiting) >= lineWaiting {
		return errBusy
	}
	l.waiting = append(l.waiting, p)
	g.waiting++
	if !l.busy {
		l.busy = true
		g.calls.Go(func() { g.work(app, l) })
	}
	return nil
}

// work makes calls until nothing waits in the line.
func (g *registrar) work(app string, l *line) {
	var regs []device.Registration
	var batch []*pending
	for {
		g.mu.Lock()
		n := min(len(l.waiting), lineCall)
		if n == 0 {
			l.busy = false
			g.mu.Unlock()
			return
		}
		batch = append(batch[:0], l.waiting[:n]...)
		rest := copy(l.waiting, l.waiting[n:])
		clear(l.waiting[rest:])
		l.waiting = l.waiting[:rest]
		g.waiting -= n
		g.mu.Unlock()

		regs = regs[:0]
		for _, p := range batch {
			regs = append(regs, p.reg)
		}
		g.size.Observe(float64(n))
		g.call(app, regs, batch)
		clear(batch)
		clear(regs)
	}
}

// call makes one call and tells everyone in it.
func (g *registrar) call(app string, regs []device.Registration, batch []*pending) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), registerTimeout, errPatience)
	defer cancel()
	out, err := g.set.RegisterMany(ctx, app, regs)
	for i, p := range batch {
		if i < len(out) {
			p.out, p.err = out[i], out[i].Err
		} else {
			p.err = err
		}
		close(p.done)
	}
}

// queued is how many registrations wait.
func (g *registrar) queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// close takes no more, and waits for what is under way.
func (g *registrar) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.calls.Wait()
}
