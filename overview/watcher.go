package overview

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// ErrClosed is what a closed watcher says.
var ErrClosed = errors.New("overview: closed")

// Census counts device tokens; see [store.Store].
type Census interface {
	Census(ctx context.Context, app string) (store.Census, error)
}

// Config describes a [Watcher].
type Config struct {
	// Streams returns JetStream, or why there is none now. It must not block.
	Streams func() (*stream.Streams, error)
	Devices Census
	Apps    func() map[string]AppConfig // that are told of; it may change

	Every time.Duration // between two pictures; 0: 1 s
	// Linger is how long a session goes on after the last who asked, so that who asks
	// again has the answer at once; 0: 10 s.
	Linger time.Duration
	Logger *zap.Logger      // nil: none
	Now    func() time.Time // the time of day; nil: time.Now
}

// AppConfig is what an app is configured to be.
type AppConfig struct{ BundleID, Environment string }

// How often is asked what nobody tells.
const (
	presenceEvery = 2 * time.Second
	backlogEvery  = 2 * time.Second
	censusEvery   = time.Minute
	retryEvery    = time.Second
	// firstPatience is how long the first picture waits for what is missing: a worker
	// reports every second.
	firstPatience = 2500 * time.Millisecond
	// silentAfter is from when on a worker is not believed to do what it said last.
	silentAfter = 5 * time.Second
)

// Watcher says what the fleet does. It is safe for concurrent use; close it.
type Watcher struct {
	cfg Config

	mu      sync.Mutex // guards what is below
	closed  bool
	users   int
	session *session    // nil: nobody asks
	idle    *time.Timer // ends the session; nil: somebody asks
	ending  sync.WaitGroup
}

// New returns a watcher, which does nothing until it is asked.
func New(cfg Config) *Watcher {
	cfg.Every = cmp.Or(cfg.Every, time.Second)
	cfg.Linger = cmp.Or(cfg.Linger, 10*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Watcher{cfg: cfg}
}

// Close ends everything, and waits for it. Who follows is told.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	w.endSession()
	w.mu.Unlock()
	w.ending.Wait()
}

// endSession ends the session, if there is one. mu is held.
func (w *Watcher) endSession() {
	if w.idle != nil {
		w.idle.Stop()
		w.idle = nil
	}
	if w.session != nil {
		w.session.stop()
		w.session = nil
	}
}

// enter begins to use the session, and begins one if there is none.
func (w *Watcher) enter() (*session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrClosed
	}
	w.users++
	if w.idle != nil {
		w.idle.Stop()
		w.idle = nil
	}
	if w.session == nil {
		w.session = newSession(w.cfg)
		w.ending.Go(w.session.run)
	}
	return w.session, nil
}

// leave ends the use of a session; the last one's ends it after the linger.
func (w *Watcher) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users--; w.users > 0 || w.session == nil {
		return
	}
	var idle *time.Timer
	idle = time.AfterFunc(w.cfg.Linger, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.idle == idle {
			w.endSession()
		}
	})
	w.idle = idle
}

// Fleet returns what the fleet does now. The first who asks waits for some two seconds,
// until each worker has been heard.
func (w *Watcher) Fleet(ctx context.Context) (*Fleet, error) {
	s, err := w.enter()
	if err != nil {
		return nil, err
	}
	defer w.leave()
	select {
	case <-s.ready:
	case <-s.ctx.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.fleet.Load(), nil
}

// Follow begins to follow the fleet. The caller closes the follower.
func (w *Watcher) Follow() (*Follower, error) {
	s, err := w.enter()
	if err != nil {
		return nil, err
	}
	f := &Follower{watcher: w, session: s, wake: make(chan struct{}, 1)}
	s.add(f)
	return f, nil
}

// Follower is one who follows. It is for one goroutine.
type Follower struct {
	watcher *Watcher
	session *session
	wake    chan struct{}
	seen    uint64 // change of campaigns up to which all was told
	begun   bool
}

// Next waits for the next picture, and returns it with what has changed of campaigns
// since the last call; at first with all of them. A follower that comes late misses
// pictures, and no change: nothing waits for it but the last of each. The error is
// [ErrClosed], or that ctx ended.
func (f *Follower) Next(ctx context.Context) (*Fleet, *Changes, error) {
	for {
		select {
		case <-f.wake:
		case <-f.session.ctx.Done():
			return nil, nil, ErrClosed
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
		if fleet := f.session.fleet.Load(); fleet != nil {
			return fleet, f.changes(), nil
		}
	}
}

// Close ends the following.
func (f *Follower) Close() {
	f.session.remove(f)
	f.watcher.leave()
}
