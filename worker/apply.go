package worker

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
)

// change asks the worker to send for other apps.
type change struct {
	apps []*App
	done chan changed // takes one without waiting
}

// changed is what a change has ended.
type changed struct {
	over []*edition // in use until their unused is closed
	gone []*served
}

var (
	errRemoved  = errors.New("worker: the app is not configured any more")
	errReplaced = errors.New("worker: the app is configured otherwise")
)

// ErrStopped is what [Worker.Apply] returns when the worker has stopped.
var ErrStopped = errors.New("worker: has stopped")

// Apply makes apps those that the worker sends for while it runs, each known by its
// name:
//
//   - a new one is taken from at once;
//   - one that is the same pointer as before stays as it is;
//   - of one that is another, what was taken before is sent as the former says and what
//     is taken from now on as this one says: nothing waits, and nothing is lost or
//     repeated. A route that is part of both keeps what it knows;
//   - of one that is missing nothing is taken any more, what is not on its way goes back
//     to JetStream at once, and its metrics go.
//
// It returns when nothing is on its way any more by what was replaced or removed, at the
// latest after the drain timeout, when what is not sent yet goes back too. Then the caller closes the senders that are no part
// of apps; what they have not had answers for is as after any lost connection.
//
// An error means that nothing has changed: apps that cannot be served, [ErrStopped], or
// that of ctx, which is looked at only until the change is made. It is safe for
// concurrent use; one change is made after the other.
func (w *Worker) Apply(ctx context.Context, apps []*App) error {
	if err := checkApps(apps); err != nil {
		return err
	}
	w.applying.Lock()
	defer w.applying.Unlock()
	c := change{apps: apps, done: make(chan changed, 1)}
	select {
	case w.changes <- c:
	case <-w.ended:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	did := <-c.done
	w.drainApps(did)
	for _, s := range did.gone {
		w.metrics.forget(s.name)
		w.backlog.forget(s.name)
	}
	return nil
}

// drainApps waits until nothing uses what a change has ended.
func (w *Worker) drainApps(did changed) {
	timeout, cancel := context.WithTimeout(context.Background(), w.cfg.DrainTimeout)
	defer cancel()
	for _, s := range did.gone {
		for _, stopped := range s.stopped {
			select {
			case <-stopped:
			case <-timeout.Done():
			}
		}
	}
	for _, e := range did.over {
		select {
		case <-e.unused:
		case <-timeout.Done():
			w.log.Warn("drain timeout is over: what an app's former connections have not answered is given up",
				zap.String("app", e.Name), zap.Int("messages", e.holds()), zap.Duration("drain_timeout", w.cfg.DrainTimeout))
			w.giveUp(e, errReplaced) // what is not sent goes the new way at once
		}
	}
}

// giveUp stops the sending of what holds an edition and is not sent yet.
func (w *Worker) giveUp(e *edition, why error) {
	for _, m := range w.flight.all() {
		if m.app == e {
			m.giveUp(why)
		}
	}
}

// keepApps makes changes until ctx ends. It is the only one that changes the roster,
// and starts and stops the intakes of apps; those are in group, which the caller is in.
func (w *Worker) keepApps(ctx, sending context.Context, group *sync.WaitGroup) {
	defer close(w.ended)
	for {
		select {
		case c := <-w.changes:
			c.done <- w.makeChange(ctx, sending, group, c.apps)
		case <-ctx.Done():
			return
		}
	}
}

// makeChange makes apps those that are served.
func (w *Worker) makeChange(ctx, sending context.Context, group *sync.WaitGroup, apps []*App) changed {
	var did changed
	var fresh []*served
	before, list := w.roster.Load(), make([]*served, 0, len(apps))
	stays := make(map[*served]bool)
	for _, app := range apps {
		s := before.byName[app.Name]
		switch {
		case s == nil:
			s = w.newServed(app)
			fresh = append(fresh, s)
		case s.current() != app:
			did.over = append(did.over, s.replace(app))
		}
		stays[s] = true
		list = append(list, s)
	}
	w.roster.Store(newRoster(list))
	for _, s := range before.list {
		if !stays[s] {
			did.gone = append(did.gone, s)
			did.over = append(did.over, w.dismiss(s))
		}
	}
	for _, s := range fresh {
		w.takeFrom(ctx, sending, group, s)
	}
	w.sortCampaigns(ctx, sending, group)
	select {
	case w.announce <- struct{}{}: // others are to know at once
	default:
	}
	return did
}

// dismiss stops taking and sending for an app, and returns its last edition.
func (w *Worker) dismiss(s *served) *edition {
	s.gone.Store(true)
	s.stop()
	last := s.end()
	w.giveUp(last, errRemoved)
	return last
}

// takeFrom starts the intakes of an app.
func (w *Worker) takeFrom(ctx, sending context.Context, group *sync.WaitGroup, s *served) {
	taking, stop := context.WithCancel(ctx)
	s.stop = stop
	for _, l := range s.lanes {
		stopped := make(chan struct{})
		s.stopped = append(s.stopped, stopped)
		group.Go(func() {
			defer close(stopped)
			w.intake(taking, sending, l)
		})
	}
}

// sortCampaigns looks again whose campaigns are the worker's.
func (w *Worker) sortCampaigns(ctx, sending context.Context, group *sync.WaitGroup) {
	c := w.campaigns
	c.noting.Lock()
	defer c.noting.Unlock()
	var moved []*campaign.Status
	for key, st := range c.foreign {
		if w.app(key.app) != nil {
			moved = append(moved, &st)
		}
	}
	for _, r := range c.all() {
		if w.app(r.app.name) != r.app {
			moved = append(moved, r.status.Load())
		}
	}
	for _, st := range moved {
		w.noteCampaign(ctx, sending, group, *st)
	}
}
