package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/stream"
)

// reportWindow is how many reports lie between the two moments whose difference is
// told as recent: one second alone jumps about, and a minute tells of the past.
const reportWindow = 5

// A worker that may not report asks again after reportPause. stuckAfter is from when on
// it is told that JetStream takes no outcomes.
const (
	reportPause = time.Minute
	stuckAfter  = 2 * time.Second
)

// stateful is a sender that says what it does; see [apns.Client].
type stateful interface{ State() apns.State }

var _ stateful = (*apns.Client)(nil)

// reading is what was counted of an app up to a moment.
type reading struct {
	of       *served
	app      *App // as it was configured
	settled  stream.Settled
	waits    [2][waitBuckets + 1]uint64
	answered uint64
	within   map[float64]uint64
}

// readings are those of all apps at one moment.
type readings struct {
	at   time.Time
	apps map[string]*reading
}

// report tells whoever listens what the worker does, every second until ctx ends.
func (w *Worker) report(ctx context.Context) {
	since := w.cfg.Now().UTC()
	tick := time.NewTicker(w.cfg.ReportInterval)
	defer tick.Stop()
	var window []*readings // the oldest first
	var refused error
	var quiet time.Time // no report before
	for left := false; ; {
		now := time.Now()
		r, read := w.reportOf(now, window)
		window = append(window, read)
		window = window[max(0, len(window)-reportWindow):]
		r.Since, r.Left = since, left
		// What the server refuses it says after the fact, with an error of its own for each.
		err := w.cfg.Streams.ReportRefused(w.cfg.Name)
		if err != nil && err != refused && !now.Before(quiet) { //nolint:errorlint // whether it is the same one
			w.log.Warn("may not tell the fleet what this worker does: see docs/security.md", zap.Error(err), zap.Duration("tried_again_in", reportPause))
			quiet = now.Add(reportPause)
		}
		refused = err
		if !now.Before(quiet) {
			if err := w.cfg.Streams.Report(r); err != nil {
				w.log.Debug("cannot tell the fleet what this worker does", zap.Error(err))
			}
		}
		if left {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			left = true
		}
	}
}

// reportOf makes a report, and what the next one is compared with.
func (w *Worker) reportOf(now time.Time, window []*readings) (*stream.Report, *readings) {
	r := &stream.Report{Worker: w.cfg.Name, Version: w.cfg.Version, Problem: w.problem(now), Apps: make(map[string]stream.AppReport)}
	read := &readings{at: now, apps: make(map[string]*reading)}
	if len(window) > 0 {
		r.Seconds = now.Sub(window[0].at).Seconds()
	}
	seen := w.backlog.seen.Load()
	for _, s := range w.apps() {
		app := s.current()
		a := w.stateOf(s, app, now)
		is := w.read(s, app)
		was, asNow := oldest(window, is)
		read.apps[app.Name] = is
		a.Total = is.settled
		a.Recent = stream.Settled{
			Accepted: is.settled.Accepted - was.settled.Accepted, Rejected: is.settled.Rejected - was.settled.Rejected, Failed: is.settled.Failed - was.settled.Failed,
		}
		a.APNs = answerTimes(asNow.within, is.within, asNow.answered, is.answered)
		for lane := range is.waits {
			a.Accept[lane] = waitTimes(&was.waits[lane], &is.waits[lane])
		}
		if seen != nil {
			a.Waiting, a.Age = seen.apps[app.Name], now.Sub(seen.at).Seconds()
		}
		r.Apps[app.Name] = a
	}
	return r, read
}

// oldest returns the oldest reading of a window that can be compared with one, and the
// oldest that was taken of the same connections; the one itself where there is none.
func oldest(window []*readings, is *reading) (was, asNow *reading) {
	was, asNow = is, is
	for _, before := range slices.Backward(window) {
		switch b := before.apps[is.app.Name]; {
		case b == nil || b.of != is.of:
			return was, asNow // it was not served
		case b.app == is.app:
			was, asNow = b, b
		default:
			was = b
		}
	}
	return was, asNow
}

// read reads what was counted of an app.
func (w *Worker) read(s *served, app *App) *reading {
	n := &s.tally
	is := &reading{
		of: s, app: app,
		settled: stream.Settled{Accepted: n.accepted.Load(), Rejected: n.rejected.Load(), Failed: n.failed.Load()},
		within:  make(map[float64]uint64),
	}
	for lane := range n.waits {
		is.waits[lane] = n.waits[lane].read()
	}
	for _, route := range app.Routes {
		if s, ok := route.Sender.(stateful); ok {
			st := s.State()
			is.answered += st.Answered
			for bound, n := range st.AnsweredWithin {
				is.within[bound] += n
			}
		}
	}
	return is
}

// stateOf says how an app's connections are, and why something of it is not sent.
func (w *Worker) stateOf(s *served, app *App, now time.Time) (a stream.AppReport) {
	tripped := make(map[device.Environment]bool)
	for _, route := range app.Routes {
		env := route.Environment
		if w.fuseTripped(app.Name, env) && !tripped[env] {
			tripped[env] = true
			a.Held = append(a.Held, fmt.Sprintf("%s: the fuse is tripped: mend what is wrong with environment or topic, then reset it", env))
		}
		s, ok := route.Sender.(stateful)
		if !ok {
			a.Held = append(a.Held, route.halts(now)...)
			continue
		}
		st := s.State()
		a.Connections += st.Connections
		a.Wanted += st.Wanted
		a.InFlight += st.InFlight
		switch {
		case st.Stopped != nil:
			why := fmt.Sprintf("APNs refuses the credential: %s", st.Stopped.Reason)
			if st.Stopped.Cause != nil {
				why = st.Stopped.Cause.Error()
			}
			a.Held = append(a.Held, fmt.Sprintf("%s: %s; tried again in %s", env, why, time.Until(st.Stopped.Until).Round(time.Second)))
			continue
		case st.Dial != nil && st.Connections == 0:
			a.Held = append(a.Held, fmt.Sprintf("%s: no connection to APNs: %v", env, st.Dial))
		}
		a.Held = append(a.Held, route.halts(now)...)
	}
	for _, l := range w.lanesOf(s) {
		name := l.lane.String()
		if l.campaign != nil {
			name = "campaign " + l.campaign.id
		}
		if err := l.failing(); err != nil {
			a.Held = append(a.Held, fmt.Sprintf("%s: cannot take jobs: %v", name, err))
		}
		if why := l.troubles(now); why != "" {
			a.Held = append(a.Held, name+": "+why)
		}
	}
	slices.Sort(a.Held)
	if more := len(a.Held) - mostHeld; more > 0 {
		a.Held = append(a.Held[:mostHeld], fmt.Sprintf("and %d more", more))
	}
	return a
}

// mostHeld bounds the reasons that are told of one app: there may be a thousand campaigns.
const mostHeld = 8

// lanesOf are the lanes of an app, those of its campaigns that run too.
func (w *Worker) lanesOf(s *served) []*lane {
	list := slices.Clone(s.lanes)
	for _, r := range w.campaigns.all() {
		if r.app == s && r.runs() {
			list = append(list, r.lane)
		}
	}
	return list
}

// problem says why the worker sends nothing at all, if so.
func (w *Worker) problem(now time.Time) string {
	switch stuck := w.untold.stuck(now); {
	case w.draining.Load():
		return "stops: it waits for answers, and takes nothing more"
	case stuck >= stuckAfter:
		return fmt.Sprintf("JetStream has stored no outcomes for %s: what was sent is kept until it does", stuck.Round(time.Second))
	case !w.cfg.Pulse.Beats():
		return "it was frozen, or is cut off from JetStream: nothing is sent before it is sure what is still its own"
	}
	return ""
}
