package worker

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// backlog shows what waits in JetStream, as this worker last saw it.
type backlog struct {
	waiting  *prometheus.GaugeVec
	messages *prometheus.GaugeVec
	bytes    *prometheus.GaugeVec
	most     *prometheus.GaugeVec

	seen atomic.Pointer[waitingWork] // nil: nobody has looked yet
}

// waitingWork is what was in JOBS at a moment, by app and lane.
type waitingWork struct {
	at   time.Time
	apps map[string]*[2]stream.LaneBacklog
}

func newBacklog(reg prometheus.Registerer) *backlog {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	b := &backlog{
		waiting: gauge("pushfleet_backlog_notifications",
			"About how many notifications are in JOBS and not settled, of running campaigns too. Every worker estimates the same: take the maximum.", "app", "lane"),
		messages: gauge("pushfleet_stream_messages", "Messages in the stream. Every worker knows the same: take the maximum.", "stream"),
		bytes:    gauge("pushfleet_stream_bytes", "Bytes in the stream. Every worker knows the same: take the maximum.", "stream"),
		most:     gauge("pushfleet_stream_max_bytes", "Bytes that the stream may hold; absent if it has no limit of its own.", "stream"),
	}
	if reg != nil {
		reg.MustRegister(b.waiting, b.messages, b.bytes, b.most)
	}
	return b
}

// forget drops what is told of an app.
func (b *backlog) forget(app string) { b.waiting.DeletePartialMatch(prometheus.Labels{"app": app}) }

// estimate is the running mean of recipients per message of a lane, which its intake
// writes and the backlog reads.
type estimate struct{ bits atomic.Uint64 }

func (e *estimate) set(mean float64) { e.bits.Store(math.Float64bits(mean)) }

// get returns the mean; at least 1.
func (e *estimate) get() float64 { return max(1, math.Float64frombits(e.bits.Load())) }

// watchBacklog asks JetStream what waits there now and then, until ctx ends.
func (w *Worker) watchBacklog(ctx context.Context) {
	tick := time.NewTicker(w.cfg.BacklogInterval)
	defer tick.Stop()
	for look := 0; ; look++ {
		err := w.lookAtBacklog(ctx)
		if err == nil && w.cfg.Metrics != nil && look%usageEvery == 0 {
			err = w.lookAtUsage(ctx)
		}
		if err != nil && ctx.Err() == nil {
			w.log.Debug("cannot ask what waits in jetstream", zap.Error(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// usageEvery is at which looks it is asked how full the streams are: every 15 s, as often
// as Prometheus asks a worker.
const usageEvery = 3

func (w *Worker) lookAtUsage(ctx context.Context) error {
	usage, err := w.cfg.Streams.Usage(ctx)
	if err != nil {
		return err
	}
	for _, u := range usage {
		w.backlog.messages.WithLabelValues(u.Stream).Set(float64(u.Messages))
		w.backlog.bytes.WithLabelValues(u.Stream).Set(float64(u.Bytes))
		if u.MaxBytes > 0 {
			w.backlog.most.WithLabelValues(u.Stream).Set(float64(u.MaxBytes))
		}
	}
	return nil
}

func (w *Worker) lookAtBacklog(ctx context.Context) error {
	at := time.Now()
	// What a work queue holds of a subject is what its consumer has pending and
	// unacknowledged; one question is for all consumers.
	waiting, err := w.cfg.Streams.JobSubjects(ctx)
	if err != nil {
		return err
	}
	messages := make(map[string]uint64, len(waiting))
	for _, s := range waiting {
		messages[s.Subject] = s.Messages
	}
	ranges, err := w.waitingRanges(ctx)
	if err != nil {
		return err
	}
	seen := &waitingWork{at: at, apps: make(map[string]*[2]stream.LaneBacklog)}
	for _, l := range w.lanes() {
		n := messages[stream.JobsSubject(l.app.name, l.lane)]
		found := stream.LaneBacklog{Messages: n, Notifications: float64(n) * l.seen.get()}
		if l.lane == job.Bulk {
			r := ranges[l.app.name]
			found.Messages += r.Messages
			found.Notifications += r.Notifications
		}
		w.backlog.waiting.WithLabelValues(l.app.name, l.lane.String()).Set(found.Notifications)
		if seen.apps[l.app.name] == nil {
			seen.apps[l.app.name] = new([2]stream.LaneBacklog)
		}
		seen.apps[l.app.name][l.lane] = found
		if l.app.gone.Load() {
			w.backlog.forget(l.app.name) // removed while it was asked
		}
	}
	w.backlog.seen.Store(seen)
	return nil
}

// waitingRanges is what is in ranges that are not settled, by app. Those of a campaign
// that does not run wait for a person, not for workers.
func (w *Worker) waitingRanges(ctx context.Context) (map[string]stream.LaneBacklog, error) {
	subjects, err := w.cfg.Streams.RangeSubjects(ctx)
	if err != nil {
		return nil, err
	}
	messages := make(map[string]uint64, len(subjects))
	for _, s := range subjects {
		messages[s.Subject] = s.Messages
	}
	waiting := make(map[string]stream.LaneBacklog)
	for _, r := range w.campaigns.all() {
		if r.runs() {
			n := messages[stream.RangesSubject(r.app.name, r.id)]
			of := waiting[r.app.name]
			of.Messages += n
			of.Notifications += float64(n) * r.lane.seen.get()
			waiting[r.app.name] = of
		}
	}
	return waiting, nil
}
