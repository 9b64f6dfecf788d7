package overview

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// picture puts together what is known. away is why JetStream cannot be asked; nil: it can.
func (s *session) picture(away error) *Fleet {
	now, wall := time.Now(), s.cfg.Now()
	apps := s.cfg.Apps()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Fleet{At: wall.UTC(), Workers: []FleetWorker{}, Apps: make(map[string]FleetApp, len(apps)), Unknown: s.unknown(away)}
	sums := make(map[string]*sum, len(apps))
	for name := range apps {
		sums[name] = new(sum)
	}
	if away == nil {
		f.Workers = s.workers(now, wall, apps, sums)
	}
	for name, app := range apps {
		a := FleetApp{BundleID: app.BundleID, Environment: app.Environment, Fuses: []FleetFuse{}}
		sums[name].show(&a)
		if away == nil {
			a.Backlog = s.backlog(name, sums[name], wall)
			if s.trouble[sourceFuses] == nil {
				a.Fuses = s.fusesOf(name, app.Environment)
			}
		}
		if c, ok := s.census[name]; ok {
			a.Devices = &FleetDevices{Active: c.Live, Quarantined: c.Quarantined, Removed: c.Removed, Estimated: c.Estimated}
			a.RemovedByReason = c.RemovedByReason
		}
		f.Apps[name] = a
	}
	return f
}

// sum is what all workers that are heard do for an app.
type sum struct {
	perSecond float64
	apns      stream.Times
	accept    [2]stream.Times
	waiting   *[2]stream.LaneBacklog
	age       float64 // of waiting, in seconds
}

func (u *sum) add(r *stream.Report, a *stream.AppReport, late float64) {
	u.perSecond += perSecond(a.Recent, r.Seconds)
	u.apns = u.apns.Add(a.APNs)
	for lane := range a.Accept {
		u.accept[lane] = u.accept[lane].Add(a.Accept[lane])
	}
	// Each sees the same: the one who looked last knows best.
	if age := a.Age + late; a.Waiting != nil && (u.waiting == nil || age < u.age) {
		u.waiting, u.age = a.Waiting, age
	}
}

func (u *sum) show(a *FleetApp) {
	a.PerSecond = u.perSecond
	a.P50, a.P99 = quantiles(u.apns)
}

func quantiles(t stream.Times) (p50, p99 *float64) {
	of := func(q float64) *float64 {
		ms, ok := t.Quantile(q)
		if !ok {
			return nil
		}
		ms = math.Round(ms*10) / 10
		return &ms
	}
	return of(0.5), of(0.99)
}

func perSecond(n stream.Settled, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return math.Round(10*float64(n.Sum())/seconds) / 10
}

// workers lists the workers that serve one of apps, and adds up what they do. mu is held.
func (s *session) workers(now, wall time.Time, apps map[string]AppConfig, sums map[string]*sum) []FleetWorker {
	list := []FleetWorker{}
	for name, h := range s.heard {
		late := now.Sub(h.at)
		_, present := s.present[name]
		silent := late > silentAfter
		if silent && !present {
			continue // it is gone
		}
		since, seen := h.report.Since.UTC(), wall.Add(-late).UTC()
		w := FleetWorker{Name: name, Version: h.report.Version, Since: &since, SeenAt: &seen, Problem: h.report.Problem, Apps: make(map[string]FleetWorkerApp)}
		if silent {
			w.Problem = fmt.Sprintf("not heard for %s: it is dead, frozen or cut off", late.Round(time.Second))
		}
		for app, a := range h.report.Apps {
			if _, known := apps[app]; !known {
				continue
			}
			wa := FleetWorkerApp{
				Connections: a.Connections, Wanted: a.Wanted, InFlight: a.InFlight,
				Accepted: a.Total.Accepted, Rejected: a.Total.Rejected, Failed: a.Total.Failed, Held: strings.Join(a.Held, "; "),
			}
			if silent {
				wa.Connections, wa.InFlight = 0, 0
			} else {
				wa.PerSecond = perSecond(a.Recent, h.report.Seconds)
				wa.P50, wa.P99 = quantiles(a.APNs)
				sums[app].add(&h.report, &a, late.Seconds())
			}
			w.InFlight += wa.InFlight
			w.Apps[app] = wa
		}
		list = append(list, w)
	}
	for name, p := range s.present {
		if _, known := s.heard[name]; known {
			continue
		}
		w := FleetWorker{Name: name, Version: p.Version, Apps: make(map[string]FleetWorkerApp)}
		if now.Sub(s.begun) > silentAfter && s.trouble[sourceReports] == nil {
			w.Problem = "alive by its own account and not heard: it may not publish push.workers.* (docs/security.md), is of an older version, or has just died"
		}
		for _, app := range p.Apps {
			if _, known := apps[app]; known {
				n := p.Counts[app]
				w.Apps[app] = FleetWorkerApp{Accepted: n.Accepted, Failed: n.Failed}
			}
		}
		list = append(list, w)
	}
	list = slices.DeleteFunc(list, func(w FleetWorker) bool { return len(w.Apps) == 0 })
	slices.SortFunc(list, func(a, b FleetWorker) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// backlog is what waits of an app; nil if nobody knows. mu is held.
func (s *session) backlog(app string, u *sum, wall time.Time) map[string]FleetLane {
	if s.oldest == nil && u.waiting == nil {
		return nil
	}
	lanes := make(map[string]FleetLane)
	for _, lane := range job.Lanes() {
		var l FleetLane
		own := s.oldest[laneKey{app, lane}]
		if u.waiting != nil {
			w := u.waiting[lane]
			l.Messages, l.Notifications = int64(w.Messages), int64(math.Round(w.Notifications))
		} else {
			// No worker says what a message is for: for one, at least.
			l.Messages, l.Notifications = int64(own.messages), int64(own.messages)
		}
		if !own.oldest.IsZero() {
			l.OldestMS = max(0, wall.Sub(own.oldest).Milliseconds())
		}
		l.AcceptP50, l.AcceptP99 = quantiles(u.accept[lane])
		lanes[lane.String()] = l
	}
	return lanes
}

// fusesOf are the fuses of an app: that of its environment, and whatever else has
// tripped before. mu is held.
func (s *session) fusesOf(app, environment string) []FleetFuse {
	list := []FleetFuse{}
	found := false
	for key, f := range s.fuses {
		if key.app == app {
			list = append(list, fuseOf(&f))
			found = found || key.env.String() == environment
		}
	}
	if !found && environment != "" {
		list = append(list, FleetFuse{Environment: environment})
	}
	slices.SortFunc(list, func(a, b FleetFuse) int { return strings.Compare(a.Environment, b.Environment) })
	return list
}

func fuseOf(f *stream.Fuse) FleetFuse {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return FleetFuse{
		Environment: f.Environment.String(), Tripped: f.Tripped, TrippedAt: when(f.TrippedAt), TrippedBy: f.TrippedBy,
		Rejected: f.Rejected, Sent: f.Sent, Undone: f.Undone, ResetAt: when(f.ResetAt), ResetBy: f.ResetBy,
	}
}

// Of returns the part of f that is about apps.
func (f *Fleet) Of(mine func(app string) bool) *Fleet {
	part := &Fleet{At: f.At, Workers: []FleetWorker{}, Apps: make(map[string]FleetApp), Unknown: f.Unknown}
	for name, a := range f.Apps {
		if mine(name) {
			part.Apps[name] = a
		}
	}
	for _, w := range f.Workers {
		apps := make(map[string]FleetWorkerApp)
		w.InFlight = 0
		for name, a := range w.Apps {
			if mine(name) {
				apps[name] = a
				w.InFlight += a.InFlight
			}
		}
		if w.Apps = apps; len(apps) > 0 {
			part.Workers = append(part.Workers, w)
		}
	}
	return part
}
