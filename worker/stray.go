package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// strayBatch is how many stray messages are buried between two looks around.
const strayBatch = 64

// maxStraySubjects bounds the stray consumer's subjects: whoever publishes to
// made-up apps makes up as many as they like. The rest has its turn after them.
const maxStraySubjects = 256

// watchStrays announces this worker, and gives up jobs that no worker can send:
// those of an app that all workers have not known for a while, and those of a
// lane that does not exist. It runs until ctx ends.
func (w *Worker) watchStrays(ctx context.Context) {
	since := make(map[string]time.Time) // subject -> when it was first seen unknown
	tick := time.NewTicker(w.cfg.StrayInterval)
	defer tick.Stop()
	for {
		if err := w.sweepStrays(ctx, since); err != nil && ctx.Err() == nil {
			w.log.Warn("cannot look for jobs of unknown apps", zap.Error(err))
		}
		if err := w.sweepOrphans(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("cannot look for acknowledged messages that are still there", zap.Error(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := w.cfg.Streams.Leave(leave, w.cfg.Name); err != nil {
				w.log.Debug("cannot withdraw", zap.Error(err))
			}
			return
		}
	}
}

func (w *Worker) sweepStrays(ctx context.Context, since map[string]time.Time) error {
	apps := make([]string, 0, len(w.cfg.Apps))
	for _, a := range w.cfg.Apps {
		apps = append(apps, a.Name)
	}
	if err := w.cfg.Streams.Announce(ctx, w.cfg.Name, stream.Presence{Version: w.cfg.Version, Apps: apps, Redriven: true}); err != nil {
		return err
	}
	present, err := w.cfg.Streams.Present(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, p := range present {
		for _, a := range p.Apps {
			known[a] = true
		}
	}
	waiting, err := w.cfg.Streams.JobSubjects(ctx)
	if err != nil {
		return err
	}
	var strays []string
	unknown := make(map[string]bool)
	now := time.Now()
	for _, s := range waiting {
		if _, err := job.ParseLane(s.Lane); err == nil && known[s.App] {
			continue
		}
		unknown[s.Subject] = true
		first, seen := since[s.Subject]
		if !seen {
			since[s.Subject] = now
		} else if now.Sub(first) >= w.cfg.StrayAfter {
			strays = append(strays, s.Subject)
		}
	}
	for subject := range since {
		if !unknown[subject] {
			delete(since, subject)
		}
	}
	return w.buryStrays(ctx, strays)
}

// buryStrays gives up what waits on subjects. The stray consumer stands on no
// subject for longer than that takes.
func (w *Worker) buryStrays(ctx context.Context, subjects []string) error {
	if len(subjects) == 0 {
		return w.cfg.Streams.RemoveStray(ctx)
	}
	slices.Sort(subjects)
	subjects = subjects[:min(len(subjects), maxStraySubjects)]
	c, err := w.cfg.Streams.StrayConsumer(ctx, subjects)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		messages, err := c.Take(strayBatch)
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			return nil
		}
		for i, in := range messages {
			if err := w.buryStray(ctx, in); err != nil {
				for _, rest := range messages[i+1:] {
					w.nak(rest, storeRetry)
				}
				return err
			}
		}
	}
	return nil
}

func (w *Worker) buryStray(ctx context.Context, in *stream.Message) error {
	letter := stream.Letter{Reason: "unknown app", Last: w.cfg.Now()}
	if _, err := job.ParseLane(in.LaneName); err != nil {
		letter.Reason = err.Error()
	}
	if j, err := job.Parse(in.Data); err == nil {
		if _, letter.Root, err = identify(in, j); err == nil {
			letter.Recipients = j.To.Len()
			letter.Expires, _ = j.Expiration(in.FirstStored()).Time()
		}
	}
	if err := w.cfg.Streams.Bury(ctx, in, letter); err != nil {
		w.nak(in, storeRetry)
		return err
	}
	if err := in.Ack(); err != nil {
		return fmt.Errorf("acknowledge stray message: %w", err)
	}
	w.log.Warn("gave up a job that no worker can send", zap.String("subject", in.Subject), zap.String("reason", letter.Reason))
	return nil
}
