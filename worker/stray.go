package worker

import (
	"context"
	"errors"
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

// watchStrays announces this worker, and gives up what no worker can send: jobs of an
// app that all workers have not known for a while, those of a lane that does not
// exist, and ranges of a campaign that there is not. Ranges of a campaign that there is
// wait for a worker that knows its app, however long: to give up millions of devices
// because the only worker restarts would be worse. It runs until ctx ends.
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
		case <-w.announce:
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
	var apps []string
	counts := make(map[string]stream.Counts)
	for _, s := range w.apps() {
		n := &s.tally
		apps = append(apps, s.name)
		counts[s.name] = stream.Counts{Accepted: n.accepted.Load(), Failed: n.rejected.Load() + n.failed.Load()}
	}
	if err := w.cfg.Streams.Announce(ctx, w.cfg.Name, stream.Presence{Version: w.cfg.Version, Apps: apps, Redriven: true, Counts: counts}); err != nil {
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
	ranges, err := w.lostRanges(ctx)
	if err != nil {
		return err
	}
	var strays []string
	unknown := make(map[string]bool)
	now := time.Now()
	lost := func(subject string) (forLong bool) {
		unknown[subject] = true
		first, seen := since[subject]
		if !seen {
			since[subject] = now
		}
		return seen && now.Sub(first) >= w.cfg.StrayAfter
	}
	for i := range waiting {
		s := &waiting[i]
		if _, err := job.ParseLane(s.Lane); err == nil && known[s.App] {
			continue
		}
		if lost(s.Subject) {
			if err := w.cfg.Streams.ReleaseJobs(ctx, s); err != nil {
				return err
			}
			strays = append(strays, s.Subject)
		}
	}
	for i := range ranges {
		if r := &ranges[i]; lost(r.Subject) {
			if err := w.cfg.Streams.ReleaseRanges(ctx, r); err != nil {
				return err
			}
			strays = append(strays, r.Subject)
		}
	}
	for subject := range since {
		if !unknown[subject] {
			delete(since, subject)
		}
	}
	return w.buryStrays(ctx, strays)
}

// lostRanges returns the ranges in JOBS whose campaign there is not. Those of one that
// is closed, which came too late, are dropped.
func (w *Worker) lostRanges(ctx context.Context) ([]stream.WaitingRanges, error) {
	waiting, err := w.cfg.Streams.RangeSubjects(ctx)
	if err != nil {
		return nil, err
	}
	var lost []stream.WaitingRanges
	for i := range waiting {
		r := &waiting[i]
		st, err := w.cfg.Streams.CampaignOf(ctx, r)
		switch {
		case errors.Is(err, stream.ErrNoCampaign):
			lost = append(lost, *r)
		case err != nil:
			return nil, err
		case st.Closed:
			if err := w.cfg.Streams.DropRanges(ctx, st.App, st.ID); err != nil {
				return nil, err
			}
			w.log.Warn("dropped ranges of a campaign that is over", zap.String("app", st.App), zap.String("campaign", st.ID), zap.Uint64("ranges", r.Messages))
		}
	}
	return lost, nil
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
	if in.Campaign != "" {
		letter.Reason = "unknown campaign"
	} else if _, err := job.ParseLane(in.LaneName); err != nil {
		letter.Reason = err.Error()
	}
	if j, err := job.Parse(in.Data); err == nil {
		if _, letter.Root, err = in.Identity(j); err == nil {
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
	w.log.Warn("gave up what no worker can send", zap.String("subject", in.Subject), zap.String("reason", letter.Reason))
	return nil
}
