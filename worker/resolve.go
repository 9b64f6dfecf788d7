package worker

import (
	"context"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// resolve finds the devices that messages are for. Messages that cannot be
// resolved now go back; the others are returned.
func (w *Worker) resolve(ctx context.Context, l *lane, batch []*message) []*message {
	if len(batch) == 0 {
		return nil
	}
	var inline, named []*message
	var tokens []device.Token
	for _, m := range batch {
		m.kind, m.topic = m.job.Kind(), m.job.Topic(l.app.BundleID)
		if len(m.job.To.Tokens) > 0 {
			inline = append(inline, m)
			tokens = append(tokens, m.job.To.Tokens...)
		} else {
			named = append(named, m)
		}
	}
	if len(tokens) > 0 {
		entries, err := w.cfg.Devices.Lookup(ctx, l.app.Name, tokens, make([]store.Entry, 0, len(tokens)))
		if err != nil {
			inline = w.withoutStore(inline, "look up device tokens", err)
			entries = entries[:0]
			for _, m := range inline {
				for _, t := range m.job.To.Tokens {
					entries = append(entries, store.Entry{Token: t})
				}
			}
		}
		for _, m := range inline {
			n := len(m.job.To.Tokens)
			m.recipients = make([]recipient, 0, n)
			for _, e := range entries[:n] {
				w.addDevice(m, e)
			}
			entries = entries[n:]
		}
	}
	left := inline
	for _, m := range named {
		if w.resolveNamed(ctx, l, m) {
			left = append(left, m)
		}
	}
	return left
}

// resolveNamed finds the devices of a job's users or installs.
func (w *Worker) resolveNamed(ctx context.Context, l *lane, m *message) bool {
	var found [][]store.Entry
	var err error
	if users := m.job.To.Users; len(users) > 0 {
		found, err = w.cfg.Devices.ByUsers(ctx, l.app.Name, users)
	} else {
		found, err = w.cfg.Devices.ByInstalls(ctx, l.app.Name, m.job.To.Installs)
	}
	if err != nil {
		w.withoutStore([]*message{m}, "look up devices", err)
		return false
	}
	seen := make(map[device.Token]bool)
	for i, entries := range found {
		devices := 0
		for _, e := range entries {
			if e.Record.Kind != m.kind || !e.Record.Usable() {
				continue
			}
			devices++
			if !seen[e.Token] {
				seen[e.Token] = true
				w.addDevice(m, e)
			}
		}
		if devices == 0 {
			w.addNobody(m, i)
		}
	}
	// A user may have many devices, or none.
	w.room.adjust(l.holder, len(m.recipients)-m.cost)
	m.cost = len(m.recipients)
	return true
}

// addDevice adds a recipient and decides what can be decided without sending.
func (w *Worker) addDevice(m *message, e store.Entry) {
	r := recipient{token: e.Token, hash: job.RecipientHash(e.Token), environment: m.lane.app.Environment, attempts: m.progress.Attempts}
	if e.Known {
		r.generation = e.Record.Generation
		r.fresh = !e.Record.Accepted
		r.wrongKind = e.Record.Kind != m.kind
		if e.Record.Environment != device.EnvironmentUnset {
			r.environment = e.Record.Environment
		}
	}
	marked, isMarked := m.progress.Marked[r.hash]
	switch {
	case m.isSettled(r.hash):
		r.fate = settledBefore
	case isMarked:
		// A worker that is gone settled it and could not tell: tell it now.
		r.fate = accepted
		if marked.Result != job.Accepted {
			marked.DeviceToken = e.Token
			marked.AcceptedBefore = marked.Result == job.Rejected && r.acceptedBefore()
			m.restore(&r, marked)
		}
	case e.Known && !e.Record.Usable():
		m.addOther(w, &r, job.Recipient{
			DeviceToken: e.Token, Result: job.Suppressed, Generation: r.generation,
			Reason: e.Record.State.String() + " " + time.UnixMilli(e.Record.ChangedAt).UTC().Format(time.DateOnly) + ": " + e.Record.Reason.String(),
		}, e.Record.Reason.String())
	case m.lane.app.route(r.environment, m.topic) == nil:
		m.addOther(w, &r, job.Recipient{
			DeviceToken: e.Token, Result: job.Skipped, Reason: "no credential for environment", Generation: r.generation,
		}, "no credential")
	default:
		if wait, ok := m.progress.Waiting[r.hash]; ok {
			r.attempts = wait.Attempts
			if d := wait.RetryAt.Sub(w.cfg.Now()); d > markInterval {
				r.fate, r.delay = waiting, d
			}
		}
	}
	if r.fate == undecided {
		m.left++
	}
	m.recipients = append(m.recipients, r)
}

// addNobody adds a user or install that has no device for this job.
func (w *Worker) addNobody(m *message, i int) {
	var hash uint64
	who := job.Recipient{Result: job.Skipped, Reason: "no device"}
	if len(m.job.To.Users) > 0 {
		who.User = m.job.To.Users[i]
		hash = job.UserHash(who.User)
	} else {
		who.Install = m.job.To.Installs[i]
		hash = job.InstallHash(who.Install)
	}
	r := recipient{hash: hash}
	if m.isSettled(hash) {
		r.fate = settledBefore
	} else {
		m.addOther(w, &r, who, "no device")
	}
	m.recipients = append(m.recipients, r)
}

// addOther settles a recipient that is not sent to. label is the reason in
// metrics, where it must be one of few.
func (m *message) addOther(w *Worker, r *recipient, who job.Recipient, label string) {
	r.fate, r.other = settledOther, len(m.others)
	m.others = append(m.others, other{Recipient: who})
	w.metrics.settled(m.lane, r.environment, who.Result, label, 1)
}

// restore settles a recipient as an earlier delivery marked it.
func (m *message) restore(r *recipient, marked job.Recipient) {
	r.fate, r.other = settledOther, len(m.others)
	m.others = append(m.others, other{Recipient: marked, environment: r.environment})
}
