package worker

import (
	"context"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// resolve finds the devices that messages are for, and sends to them. Messages
// that cannot be resolved now go back.
func (w *Worker) resolve(ctx context.Context, l *lane, batch []*message) {
	var inline, blind, named []*message
	for _, m := range batch {
		m.kind, m.topic = m.job.Kind(), m.job.Topic(m.app.BundleID)
		switch {
		case len(m.job.To.Tokens) == 0:
			named = append(named, m)
		case m.blind:
			blind = append(blind, m)
		default:
			inline = append(inline, m)
		}
	}
	if len(named) > 0 && len(inline)+len(blind) > 0 {
		// Those may wait for room; the others need not.
		go w.expand(ctx, l, named)
	} else if len(named) > 0 {
		w.expand(ctx, l, named)
	}
	if inline = w.lookup(ctx, l, inline, blind); len(inline) > 0 {
		w.send(ctx, l, inline)
	}
}

// lookup looks up the device tokens that messages name, but those of blind, and
// returns those that can be sent.
func (w *Worker) lookup(ctx context.Context, l *lane, inline, blind []*message) []*message {
	size := 0
	for _, m := range inline {
		size += len(m.job.To.Tokens)
	}
	if size > 0 {
		tokens, room := w.spareTokens.take(size), w.spareEntries.take(size)
		for _, m := range inline {
			tokens = append(tokens, m.job.To.Tokens...)
		}
		entries, err := withStore(ctx, func(ctx context.Context) ([]store.Entry, error) {
			return w.cfg.Devices.Lookup(ctx, l.app.name, tokens, room)
		})
		if err != nil {
			blind = append(blind, w.withoutStore(inline, "look up device tokens", err)...)
			inline = nil
		}
		for _, m := range inline {
			n := len(m.job.To.Tokens)
			m.recipients = make([]recipient, 0, n)
			for i := range entries[:n] {
				w.addDevice(m, &entries[i])
			}
			entries = entries[n:]
		}
		w.spareTokens.put(tokens)
		w.spareEntries.put(room[:size])
	}
	for _, m := range blind {
		m.recipients = make([]recipient, 0, len(m.job.To.Tokens))
		for _, t := range m.job.To.Tokens {
			w.addDevice(m, &store.Entry{Token: t})
		}
	}
	return slices.Concat(inline, blind)
}

// longList is how many users or installs are looked up one job at a time: with
// many devices each they are far more than the room that was taken for them.
const longList = 16

// expand finds the devices of users and installs, and sends to them. Nobody knows
// how many they are before: so it looks up no more while what is found already
// exceeds the room.
func (w *Worker) expand(ctx context.Context, l *lane, named []*message) {
	var found []*message
	// What is found must be under way before anything waits for the room it holds.
	flush := func() {
		if len(found) > 0 {
			go w.send(ctx, l, found)
			found = nil
		}
	}
	for i, m := range named {
		ok, err := w.expandOne(ctx, l, m, flush)
		if err != nil { // only when the worker goes
			w.handBackAll(named[i:], 0, "wait for room", err)
			break
		}
		if ok {
			found = append(found, m)
		}
	}
	if len(found) > 0 {
		w.send(ctx, l, found)
	}
}

// expandOne finds the devices of a job's users or installs once there is room,
// and reports whether there is something to go on with. It calls flush before it
// waits.
func (w *Worker) expandOne(ctx context.Context, l *lane, m *message, flush func()) (bool, error) {
	if m.job.To.Len() > longList {
		flush()
		select {
		case l.holder.expanding <- struct{}{}:
			defer func() { <-l.holder.expanding }()
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	for {
		over, freed := w.room.overgrown(l.holder)
		if !over {
			return w.resolveNamed(ctx, l, m), nil
		}
		flush()
		select {
		case <-freed:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// resolveNamed finds the devices of a job's users or installs.
func (w *Worker) resolveNamed(ctx context.Context, l *lane, m *message) bool {
	found, err := withStore(ctx, func(ctx context.Context) ([][]store.Entry, error) {
		if users := m.job.To.Users; len(users) > 0 {
			return w.cfg.Devices.ByUsers(ctx, l.app.name, users)
		}
		return w.cfg.Devices.ByInstalls(ctx, l.app.name, m.job.To.Installs)
	})
	if err != nil {
		w.withoutStore([]*message{m}, "look up devices", err)
		return false
	}
	seen := make(map[device.Token]bool)
	for i, entries := range found {
		devices := 0
		for j := range entries {
			e := &entries[j]
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
	if more := len(m.recipients) - m.cost; more > 0 {
		w.room.grow(l.holder, more)
		m.cost, m.grown = m.cost+more, more
	}
	return true
}

// addDevice adds a recipient and decides what can be decided without sending.
func (w *Worker) addDevice(m *message, e *store.Entry) {
	r := recipient{token: e.Token, hash: job.RecipientHash(e.Token), environment: m.app.Environment, attempts: m.progress.Attempts}
	if e.Known {
		r.generation = e.Record.Generation
		r.fresh = !e.Record.Accepted
		r.wrongKind = e.Record.Kind != m.kind
		if e.Record.Environment != device.EnvironmentUnset {
			r.environment = e.Record.Environment
		}
	}
	w.stillOpen(m, &r, e.Known, &e.Record)
	if r.fate == undecided {
		m.left++
	}
	m.recipients = append(m.recipients, r)
}

// stillOpen decides what can be decided about a recipient without asking what the
// message says, and reports whether anything is left to decide.
func (w *Worker) stillOpen(m *message, r *recipient, known bool, record *device.Record) bool {
	marked, isMarked := m.progress.Marked[r.hash]
	switch {
	case m.isSettled(r.hash):
		r.fate = settledBefore
	case isMarked:
		// A worker that is gone settled it and could not tell: tell it now.
		r.fate = accepted
		if marked.Result != job.Accepted {
			marked.DeviceToken = r.token
			marked.AcceptedBefore = marked.Result == job.Rejected && r.acceptedBefore()
			m.restore(r, marked)
		}
	case known && !record.Usable():
		m.addOther(w, r, job.Recipient{
			DeviceToken: r.token, Result: job.Suppressed, Generation: r.generation,
			Reason: record.State.String() + " " + time.UnixMilli(record.ChangedAt).UTC().Format(time.DateOnly) + ": " + record.Reason.String(),
		}, record.Reason.String())
	case m.app.route(r.environment, m.topic) == nil:
		m.addOther(w, r, job.Recipient{
			DeviceToken: r.token, Result: job.Skipped, Reason: "no credential for environment", Generation: r.generation,
		}, "no credential")
	default:
		if wait, ok := m.progress.Waiting[r.hash]; ok {
			r.attempts = wait.Attempts
			if d := w.until(wait.RetryAt); d > markInterval {
				r.fate, r.delay = waiting, d
			}
		}
	}
	return r.fate == undecided
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
