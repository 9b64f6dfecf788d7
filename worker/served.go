package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// served is an app that the worker sends for now: its lanes, and how it is configured.
type served struct {
	name  string
	lanes []*lane // one for each of [job.Lanes]
	tally tally
	gone  atomic.Bool // it is not served any more

	// Only touched by whoever starts its intakes:
	stop    context.CancelFunc // of its intakes
	stopped []chan struct{}    // closed when they have ended, one each

	mu  sync.Mutex
	now *edition // guarded by mu: in force
}

// edition is an app as it is configured at a time. A message holds the one that was in
// force when it came, until the message is done: it is sent by what it was decided by.
type edition struct {
	*App
	of *served

	held   int           // guarded by of.mu: by how many
	over   bool          // guarded by of.mu: it is not in force any more
	unused chan struct{} // closed once it is over and nothing holds it
}

func newEdition(of *served, app *App) *edition {
	return &edition{App: app, of: of, unused: make(chan struct{})}
}

func (w *Worker) newServed(app *App) *served {
	s := &served{name: app.Name}
	s.now = newEdition(s, app)
	for _, l := range job.Lanes() {
		s.lanes = append(s.lanes, &lane{app: s, lane: l, holder: newHolder(l), fast: w.metrics.of(app.Name, l), mean: 1})
	}
	return s
}

// current returns how the app is configured, for a look.
func (s *served) current() *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.App
}

// hold returns the edition in force, held n times; nil if the app is not served any
// more.
func (s *served) hold(n int) *edition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.over {
		return nil
	}
	s.now.held += n
	return s.now
}

// release ends one hold.
func (e *edition) release() {
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	if e.held--; e.held == 0 && e.over {
		close(e.unused)
	}
}

// holds is how often it is held.
func (e *edition) holds() int {
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	return e.held
}

// end makes the edition in force the last one, and returns it.
func (s *served) end() *edition { return s.replace(nil) }

// replace puts another edition in force, if app is not nil, and returns the one before.
func (s *served) replace(app *App) *edition {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now
	before.over = true
	if before.held == 0 {
		close(before.unused)
	}
	if app != nil {
		s.now = newEdition(s, app)
	}
	return before
}

// roster is all apps that are served at a time. It is not changed once made.
type roster struct {
	list   []*served // as they were given
	byName map[string]*served
}

func newRoster(list []*served) *roster {
	r := &roster{list: list, byName: make(map[string]*served, len(list))}
	for _, s := range list {
		r.byName[s.name] = s
	}
	return r
}

// apps returns the apps that are served now.
func (w *Worker) apps() []*served { return w.roster.Load().list }

// app returns the app of a name, or nil.
func (w *Worker) app(name string) *served { return w.roster.Load().byName[name] }

// lanes returns the lanes of all apps.
func (w *Worker) lanes() []*lane {
	var all []*lane
	for _, s := range w.apps() {
		all = append(all, s.lanes...)
	}
	return all
}

// checkApps says what is wrong with apps, or nil.
func checkApps(apps []*App) error {
	seen := make(map[string]bool, len(apps))
	for _, app := range apps {
		if !stream.ValidName(app.Name) {
			return fmt.Errorf("app %q: must be letters, digits, '-' and '_'", app.Name)
		}
		if seen[app.Name] {
			return fmt.Errorf("app %s: is there twice", app.Name)
		}
		seen[app.Name] = true
	}
	return nil
}
