package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// patience is how long one pull waits for a message. Stopping takes as long:
	// a pull that is given up early may cost its message an ack wait.
	patience = time.Second
	// A take asks for minBurst messages after a pause and twice as many each time,
	// up to maxMessages: the first of them must not be old when the last is decoded.
	minBurst    = 16
	maxMessages = 512
	// maxBytes bounds what one take brings into memory, by the size that messages
	// of the lane had.
	maxBytes = 8 << 20
	// bytesPerPlace is how much of a message one notification's room is for: the
	// largest payload. A message that is larger than its recipients explain takes
	// the room of more, or a flood of them would take all memory.
	bytesPerPlace = job.MaxPayloadBytes
	// fetchPause is the wait after a fetch that failed.
	fetchPause = time.Second
)

// lane is one app's lane: its consumer and what it holds. Each campaign that runs
// has one of its own.
type lane struct {
	app      *served
	lane     job.Lane
	campaign *running // nil: its messages are jobs
	consumer *stream.Consumer
	holder   *holder
	retries  budget
	fast     [device.Sandbox + 1]fastMetrics // by environment
	brake    brake

	// Only touched by its intake:
	mean  float64 // recipients per message, moving
	bytes float64 // bytes per message, moving
	burst int     // messages that the next take may ask for

	seen estimate // the mean, for others

	mu   sync.Mutex
	fail error // guarded by mu: why the last fetch failed

	trouble   string    // guarded by mu: why messages were handed back last
	troubleAt time.Time // guarded by mu
}

func (l *lane) failing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fail
}

func (l *lane) setFailing(err error) {
	l.mu.Lock()
	l.fail = err
	l.mu.Unlock()
}

// handsBack notes why messages were handed back.
func (l *lane) handsBack(why string) {
	l.mu.Lock()
	l.trouble, l.troubleAt = why, time.Now()
	l.mu.Unlock()
}

// troubles says why the lane's messages are handed back, if they were lately.
func (l *lane) troubles(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble == "" || now.Sub(l.troubleAt) > troubleFor {
		return ""
	}
	return l.trouble
}

// troubleFor is how long trouble is told of: what is handed back for want of Redis
// comes again after storeRetry.
const troubleFor = 2 * storeRetry

// intake takes messages of a lane as there is room, until ctx ends. While the
// lane is idle it waits for one message at a time; then it takes what is there.
func (w *Worker) intake(ctx, work context.Context, l *lane) {
	if l.consumer == nil {
		// Each for itself: what one lane waits for must not keep the others.
		w.insist(ctx, "cannot take jobs", func(ctx context.Context) error {
			err := w.openLane(ctx, l)
			if err != nil {
				l.setFailing(err)
			}
			return err
		}, zap.String("app", l.app.name), zap.Stringer("lane", l.lane))
	}
	idle := true
	for ctx.Err() == nil {
		if l.brake.isOn() {
			pause(ctx, brakePause)
			l.burst = min(l.burst, minBurst)
		}
		// An idle lane holds next to nothing: there may be many.
		least, most := 1, 1
		if !idle {
			least = max(1, int(l.mean+0.5))
			most = least * l.burst
		}
		most = max(least, min(most, l.mayHold(most)))
		took, err := w.room.take(ctx, l.holder, least, most)
		if err != nil {
			return
		}
		var messages []*stream.Message
		if idle {
			var m *stream.Message
			if m, err = l.consumer.Wait(patience); m != nil {
				messages = append(messages, m)
			}
		} else {
			messages, err = l.consumer.Take(max(1, took/least))
		}
		l.setFailing(err)
		if err != nil && ctx.Err() == nil {
			w.log.Warn("cannot fetch", zap.String("app", l.app.name), zap.Stringer("lane", l.lane), zap.Error(err))
			pause(ctx, fetchPause)
			// Somebody may have deleted the consumer.
			if err := w.openLane(ctx, l); err != nil {
				w.log.Debug("cannot ensure consumer", zap.Error(err))
			}
		}
		if idle = len(messages) == 0; idle {
			l.burst = 0
		}
		if ctx.Err() != nil {
			// Told to stop while the pull was out: others take these at once.
			for _, m := range messages {
				w.nak(m, 0)
			}
			messages = nil
		}
		w.admit(work, l, messages, took)
	}
}

// admit starts work on messages for which took notifications of room were taken
// on an estimate, and puts the room right.
func (w *Worker) admit(work context.Context, l *lane, messages []*stream.Message, took int) {
	batch := make([]*message, 0, len(messages))
	used, bytes := 0, 0
	for i, in := range messages {
		m := decode(l, in)
		bytes += len(in.Data)
		// What exceeds the room goes back, but never the first: somebody must take it.
		if i > 0 && used+m.cost > took && !w.fits(l, used+m.cost-took) {
			w.nak(in, 0)
			continue
		}
		used += m.cost
		batch = append(batch, m)
	}
	app := l.app.hold(len(batch))
	if app == nil { // removed while they came
		for _, m := range batch {
			w.nak(m.in, 0)
		}
		batch, used = nil, 0
	}
	w.room.adjust(l.holder, used-took)
	if len(batch) == 0 {
		return
	}
	l.learn(used, bytes, len(batch))
	w.handling.Add(len(batch))
	for _, m := range batch {
		m.app = app
		m.trace = w.traceOf(m)
		w.flight.add(m)
	}
	go w.process(work, l, batch)
}

// mayHold is how much of most a lane should take: not more of a campaign with a
// rate than goes out soon, for all workers are to have their share of it.
func (l *lane) mayHold(most int) int {
	if l.campaign == nil {
		return most
	}
	if rate := int(l.campaign.pace.rate.Load()); rate > 0 {
		return min(most, 2*rate)
	}
	return most
}

// decode reads the job of a message, or the range.
func decode(l *lane, in *stream.Message) *message {
	if l.campaign != nil {
		return decodeRange(l, in)
	}
	m := &message{in: in, lane: l, cost: max(1, len(in.Data)/bytesPerPlace), touched: in.ReceivedAt}
	if m.job, m.bad = job.Parse(in.Data); m.bad != nil {
		return m
	}
	m.cost = max(m.cost, m.job.To.Len())
	m.id, m.root, m.bad = in.Identity(m.job)
	return m
}

// fits reports whether more room than was taken is free anyway.
func (w *Worker) fits(l *lane, more int) bool {
	w.room.mu.Lock()
	defer w.room.mu.Unlock()
	free := w.room.capacity - w.room.used
	return l.holder.held+2*more <= free
}

// learn follows what messages of the lane are like.
func (l *lane) learn(recipients, bytes, messages int) {
	l.mean += (float64(recipients)/float64(messages) - l.mean) / 4
	l.bytes += (float64(bytes)/float64(messages) - l.bytes) / 4
	l.seen.set(l.mean)
	l.burst = min(2*max(l.burst, minBurst/2), maxMessages, max(1, int(maxBytes/max(1, l.bytes))))
}

// nak hands a message back; if that does not reach the server, the message comes
// back after its ack wait.
func (w *Worker) nak(in *stream.Message, delay time.Duration) {
	if err := in.Nak(delay); err != nil {
		w.log.Warn("cannot hand back", zap.Uint64("sequence", in.Sequence), zap.Error(err))
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
