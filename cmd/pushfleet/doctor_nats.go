package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

const remedyNATS = "Start nats-server, or mend nats.url, the user or the certificate; a firewall may be between."

// badServer tells of a server that cannot be worked with at all.
func badServer(err error) finding {
	remedy := remedyNATS
	switch {
	case errors.Is(err, stream.ErrNoJetStream):
		remedy = "Start nats-server with -js, or enable JetStream for this account."
	case errors.Is(err, stream.ErrTooOld):
		remedy = "Upgrade nats-server; in a cluster, one server after the other."
	}
	return failed("nats", remedy, "%v", err)
}

// streamRemedies say what to do about what is wrong with a stream.
var streamRemedies = []struct {
	err    error
	state  string
	remedy string // with the stream's name
}{
	{stream.ErrForeign, isFailed, "Rename or delete the stream %s that is not pushfleet's, or give pushfleet an account of its own."},
	{stream.ErrLimited, isFailed, "Take the limit away (nats stream edit %s); what was deleted cannot be had back."},
	{stream.ErrFull, isFailed, "Make room: raise max_bytes of %s (nats stream edit), or have what fills it taken or deleted."},
	{stream.ErrNearlyFull, isWarning, "Find out why %s fills (pushfleet_backlog_notifications), or raise its max_bytes before it is full."},
	{stream.ErrUnbounded, isWarning, "Set max_bytes of %s (nats stream edit), so that it cannot take the room of the others."},
	{stream.ErrDiscards, isWarning, "Set discard=new and no max_age (nats stream edit %s)."},
	{stream.ErrReplicas, isWarning, "Raise its replicas (nats stream edit %s --replicas), or lower nats.replicas; pushfleet leaves them to you."},
	{stream.ErrBehind, isWarning, "See that all servers of the cluster run and reach each other (nats stream report %s)."},
	{stream.ErrOutdated, isWarning, "Start a worker of this version: it extends %s."},
}

// remedyOf says how bad a problem is and what to do.
func remedyOf(name string, err error) finding {
	for _, r := range streamRemedies {
		if errors.Is(err, r.err) {
			return finding{State: r.state, Name: "stream " + name, Found: err.Error(), Remedy: fmt.Sprintf(r.remedy, name)}
		}
	}
	return failed("stream "+name, remedyNATS, "%v", err)
}

// queue looks at NATS and at all that is kept there.
func (d *doctor) queue(ctx context.Context, look *stream.Inspector) []finding {
	name, version := look.Server()
	found := []finding{ok("nats", "%s, version %s, with JetStream", name, version)}
	checks := []check{
		func(ctx context.Context) []finding { return d.streams(ctx, look) },
		func(ctx context.Context) []finding { return d.natsClock(ctx, look) },
		func(ctx context.Context) []finding { return d.workers(ctx, look) },
		func(ctx context.Context) []finding { return d.fuses(ctx, look) },
	}
	for _, app := range d.apps {
		checks = append(checks, func(ctx context.Context) []finding { return deadLetters(ctx, look, app) })
	}
	return append(found, together(ctx, checks...)...)
}

func (d *doctor) streams(ctx context.Context, look *stream.Inspector) []finding {
	states, err := look.Streams(ctx, streamConfig(d.cfg.NATS, zap.NewNop()))
	if err != nil {
		return []finding{failed("streams", remedyNATS, "%v", err)}
	}
	missing := func(s stream.StreamState) bool { return s.Replicas == 0 }
	if !slices.ContainsFunc(states, func(s stream.StreamState) bool { return !missing(s) }) {
		return []finding{warning("streams", "Start a worker: it makes them.", "there are none yet")}
	}
	var found []finding
	for _, s := range states {
		if missing(s) {
			found = append(found, failed("stream "+s.Name, "Restart a worker: it makes the stream; find out who has deleted it.", "it is missing, and others are there"))
			continue
		}
		for _, err := range s.Problems {
			found = append(found, remedyOf(s.Name, err))
		}
		if len(s.Problems) == 0 {
			found = append(found, ok("stream "+s.Name, "%d messages, %s of %s, %d replicas", s.Messages, bytesText(s.Bytes), bytesText(s.MaxBytes), s.Replicas))
		}
	}
	return found
}

func (d *doctor) natsClock(ctx context.Context, look *stream.Inspector) []finding {
	began := d.now()
	theirs, err := look.Clock(ctx)
	if err != nil || theirs.IsZero() {
		return nil // the streams say why
	}
	ended := d.now()
	return []finding{judgeClock("clock of nats", theirs, began.Add(ended.Sub(began)/2))}
}

// behind is how many outcomes or device changes wait before it is worth a word: a
// recorder writes some ten thousand a second.
const behind = 50_000

// workers looks at who is there to take what waits.
func (d *doctor) workers(ctx context.Context, look *stream.Inspector) []finding {
	present, err := look.Present(ctx)
	if err != nil {
		return []finding{failed("workers", remedyNATS, "%v", err)}
	}
	var found []finding
	if len(present) == 0 {
		found = append(found, warning("workers", "Start pushfleet worker.", "none is alive"))
	} else {
		found = append(found, ok("workers", "%d alive", len(present)))
	}
	for _, app := range d.apps {
		takes := slices.ContainsFunc(present, func(p stream.Presence) bool { return slices.Contains(p.Apps, app) })
		for _, lane := range job.Lanes() {
			state, err := look.Lane(ctx, app, lane)
			found = append(found, judgeLane(fmt.Sprintf("lane %s of %s", lane, app), state, takes, err))
		}
	}
	for _, shared := range []struct {
		name string
		ask  func(context.Context) (stream.DurableState, error)
	}{{"recorder", look.Recorder}, {"device changes", look.Registrar}} {
		state, err := shared.ask(ctx)
		found = append(found, judgeShared(shared.name, state, len(present) > 0, err))
	}
	return found
}

func judgeLane(name string, state stream.DurableState, takes bool, err error) finding {
	switch {
	case err != nil:
		return failed(name, remedyNATS, "%v", err)
	case len(state.Problems) > 0:
		return badDurable(name, state)
	case state.Waiting > 0 && !takes:
		return failed(name, "Start a worker that has the app in its configuration.", "%d jobs wait, and no living worker takes them", state.Waiting)
	default:
		return ok(name, "%d jobs wait, %d are in work", state.Waiting, state.Taken)
	}
}

func judgeShared(name string, state stream.DurableState, takes bool, err error) finding {
	switch {
	case err != nil:
		return failed(name, remedyNATS, "%v", err)
	case len(state.Problems) > 0:
		return badDurable(name, state)
	case state.Waiting > 0 && (!takes || !state.Exists):
		return failed(name, "Start a worker with worker.recorder: true.", "%d messages wait, and nobody writes them to the token set", state.Waiting)
	case state.Waiting >= behind:
		return warning(name, "See whether Redis is slow or away; else start more workers with worker.recorder: true.", "%d messages wait to be written to the token set", state.Waiting)
	default:
		return ok(name, "%d messages wait", state.Waiting)
	}
}

func badDurable(name string, state stream.DurableState) finding {
	err := errors.Join(state.Problems...)
	if errors.Is(err, stream.ErrPaused) {
		return failed(name, "Resume it: nats consumer resume, durable "+state.Name+".", "%v", err)
	}
	return warning(name, "Start a worker: it sets the durable "+state.Name+" right.", "%v", err)
}

func (d *doctor) fuses(ctx context.Context, look *stream.Inspector) []finding {
	tripped, err := look.Tripped(ctx)
	if err != nil {
		return []finding{failed("fuses", remedyNATS, "%v", err)}
	}
	var found []finding
	for _, f := range tripped {
		if !slices.Contains(d.apps, f.App) {
			continue
		}
		found = append(found, failed(
			fmt.Sprintf("fuse of %s, %s", f.App, f.Environment),
			fmt.Sprintf("Mend the app's environment or bundle_id, then pushfleet fuse reset --app %s --environment %s.", f.App, f.Environment),
			"it has tripped at %s: %d of %d working device tokens were rejected, and nothing is sent there", f.TrippedAt.UTC().Format(time.RFC3339), f.Rejected, f.Sent))
	}
	if len(found) == 0 {
		return []finding{ok("fuses", "none is tripped (%s)", strings.Join(d.apps, ", "))}
	}
	return found
}

func deadLetters(ctx context.Context, look *stream.Inspector, app string) []finding {
	name := "dead letters of " + app
	n, err := look.DeadLetters(ctx, app)
	switch {
	case err != nil:
		return []finding{failed(name, remedyNATS, "%v", err)}
	case n > 0:
		return []finding{warning(name, "See why: pushfleet dead-letter list --app "+app+"; then redrive or purge them.", "%d", n)}
	default:
		return []finding{ok(name, "none")}
	}
}

// bytesText says an amount of bytes for people.
func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for ; value >= unit && i < len(byteUnits)-1; i++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, byteUnits[i])
}

const byteUnits = "KMGTPE"
