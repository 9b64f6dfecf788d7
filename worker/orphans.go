package worker

import (
	"context"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// orphanBatch bounds how many orphans of a lane are looked at between two pauses.
const orphanBatch = 256

// sweepOrphans removes messages that JetStream has taken for acknowledged and kept all
// the same, after a server was killed. What became of them must be known: one of which
// it is not stays, and is complained about.
func (w *Worker) sweepOrphans(ctx context.Context) error {
	lanes := w.lanes()
	for _, r := range w.campaigns.all() {
		if r.runs() {
			lanes = append(lanes, r.lane)
		}
	}
	for _, l := range lanes {
		if err := w.sweepOrphansOf(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) sweepOrphansOf(ctx context.Context, l *lane) error {
	orphans, err := w.orphans(ctx, l)
	if err != nil || len(orphans) == 0 {
		return err
	}
	known := orphans[:0]
	var keys []store.JobKey
	for _, o := range orphans {
		// What is no job was buried: JetStream would not have it acknowledged else.
		m := decode(l, &o.Message)
		if m.bad == nil {
			keys, known = append(keys, m.key()), append(known, o)
		} else if err := o.Remove(ctx); err != nil {
			return err
		}
	}
	progress, err := withStore(ctx, func(ctx context.Context) ([]store.Progress, error) { return w.cfg.Progress.Progress(ctx, keys) })
	if err != nil {
		return err
	}
	removed := 0
	for i, o := range known {
		if !progress[i].Complete {
			w.log.Error("jetstream holds a message that it calls acknowledged, and nobody knows what became of it: publish it again, or remove it",
				zap.String("subject", o.Subject), zap.Uint64("sequence", o.Sequence), zap.Stringer("job", keys[i]))
			continue
		}
		if err := o.Remove(ctx); err != nil {
			return err
		}
		removed++
	}
	if removed > 0 {
		w.log.Warn("removed messages that jetstream had acknowledged and kept", zap.String("subject", known[0].Subject), zap.Int("messages", removed))
	}
	return nil
}

func (w *Worker) orphans(ctx context.Context, l *lane) ([]*stream.Orphan, error) {
	if l.campaign != nil {
		return w.cfg.Streams.RangeOrphans(ctx, l.app.name, l.campaign.id, orphanBatch)
	}
	return w.cfg.Streams.LaneOrphans(ctx, l.app.name, l.lane, orphanBatch)
}
