package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Sender sends batches to one APNs environment with one credential.
type Sender interface {
	// Send calls done exactly once for each notification before it returns; see
	// [apns.Client.Send].
	Send(ctx context.Context, lane job.Lane, batch []apns.Notification, done func(i int, r apns.Response))
}

// App is one app that the worker sends for.
type App struct {
	Name     string
	BundleID string
	// Environment is that of device tokens that the token set does not know.
	Environment device.Environment
	Routes      []*Route
	// Canaries are devices of the customer's own: while the fuse of their environment
	// is tripped they get a silent push, to learn when it may close.
	Canaries []device.Token
}

// Route is one way to APNs: an app's environment and credential. It is not
// copied after first use.
type Route struct {
	Environment device.Environment
	Topics      []string // that the credential is for; empty: all
	Sender      Sender

	mu      sync.Mutex
	stopped map[string]routeStop // guarded by mu: by topic, or "" for all
}

// routeStop is why a topic of a route is halted, and until when.
type routeStop struct {
	until  time.Time
	reason string
}

// route returns the route for an environment and topic, or nil. A credential for
// the topic goes before one for all topics.
func (a *App) route(env device.Environment, topic string) *Route {
	var general *Route
	for _, r := range a.Routes {
		switch {
		case r.Environment != env:
		case slices.Contains(r.Topics, topic):
			return r
		case len(r.Topics) == 0 && general == nil:
			general = r
		}
	}
	return general
}

// stop halts a topic of the route, or all of it with topic "", until a time. It
// reports whether that is news.
func (r *Route) stop(topic, reason string, now, until time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped == nil {
		r.stopped = make(map[string]routeStop)
	}
	news := !r.stopped[topic].until.After(now)
	r.stopped[topic] = routeStop{until, reason}
	return news
}

// stoppedUntil returns until when a topic is halted; zero if it is not.
func (r *Route) stoppedUntil(topic string, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var until time.Time
	for _, key := range [...]string{"", topic} {
		if t := r.stopped[key].until; t.After(now) && t.After(until) {
			until = t
		}
	}
	return until
}

// halts says which topics of the route are halted, and why.
func (r *Route) halts(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for topic, stop := range r.stopped {
		if wait := stop.until.Sub(now); wait > 0 {
			what := "nothing is sent"
			if topic != "" {
				what = "nothing is sent for topic " + topic
			}
			list = append(list, fmt.Sprintf("%s: %s: APNs says %s, tried again in %s", r.Environment, what, stop.reason, wait.Round(time.Second)))
		}
	}
	slices.Sort(list)
	return list
}

// Notes says, for people, where nothing is sent since APNs refuses it. It is safe for
// concurrent use.
func (w *Worker) Notes() []string {
	var notes []string
	now := time.Now()
	for _, app := range w.cfg.Apps {
		for _, r := range app.Routes {
			for _, text := range r.halts(now) {
				notes = append(notes, app.Name+", "+text)
			}
		}
	}
	return notes
}
