package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// The steward looks after campaigns: starts what is due, divides audiences into
// ranges, finds out what is finished. Each worker has one; entries are changed by
// compare-and-set, so it does not matter how many do the same.
const (
	stewardInterval = time.Second
	// stewardLease is how long one of them has a campaign to itself, to spare Redis
	// and JetStream doing it all for each worker.
	stewardLease = 5 * time.Second
	// A block of ranges is published before the entry says so. The first is small: it
	// is what the first notification waits for.
	firstBlock = 8
	fullBlock  = 512
	// longestScan is the share of all devices above which reading those of a tag costs
	// more than reading all.
	longestScan = 0.25
	// countsLive is how long the progress of an ended campaign's ranges is kept.
	countsLive = 24 * time.Hour
	// runGrace is how late a run of a recurring campaign may start. choice: more than a
	// restart of the fleet takes, less than what makes it come at a wrong time of day.
	runGrace = 15 * time.Minute
	// entriesLive is how long an ended campaign can be looked up.
	entriesLive = 30 * 24 * time.Hour
	// cancelSlack is how much longer than an ack wait an ended campaign is kept open:
	// by then whoever had ranges of it has told what became of them.
	cancelSlack = 5 * time.Second
)

// steward looks after campaigns until ctx ends.
func (w *Worker) steward(ctx context.Context) {
	tick := time.NewTicker(stewardInterval)
	defer tick.Stop()
	var busy sync.Map // campaigns that are being looked after
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for {
		select {
		case <-tick.C:
		case <-w.campaigns.due:
		case <-ctx.Done():
			return
		}
		for _, r := range w.campaigns.all() {
			if _, taken := busy.LoadOrStore(r, true); taken {
				continue
			}
			tasks.Go(func() {
				seen := r.status.Load().Revision
				defer func() {
					// What it did may have made something else due, which was passed over.
					if busy.Delete(r); r.status.Load().Revision != seen {
						w.campaigns.wake()
					}
				}()
				if err := w.lookAfter(ctx, r); err != nil && ctx.Err() == nil && !errors.Is(err, stream.ErrNoCampaign) {
					w.log.Warn("cannot look after a campaign", zap.String("app", r.app.name), zap.String("campaign", r.id), zap.Error(err))
				}
			})
		}
	}
}

// lookAfter does what is to be done for a campaign now.
func (w *Worker) lookAfter(ctx context.Context, r *running) error {
	st := r.status.Load()
	now := w.cfg.Now()
	switch {
	case st.State == campaign.Scheduled && !now.Before(st.StartAt):
		return w.start(ctx, r, now)
	case st.State == campaign.Running && !st.Expanded && st.Classes > 0:
		return w.expandCampaign(ctx, r)
	case st.State == campaign.Running && st.Expanded:
		return w.finishCampaign(ctx, r)
	case st.Ended() && !st.Closed:
		return w.closeCampaign(ctx, r, now)
	case st.Closed && now.Sub(st.EndedAt) > entriesLive:
		return w.cfg.Streams.DeleteCampaign(ctx, r.app.name, r.id)
	}
	return nil
}

// change changes the entry of a campaign, and takes note of it here at once.
func (w *Worker) change(ctx context.Context, r *running, do func(*campaign.Status) error) (campaign.Status, error) {
	st, err := w.cfg.Streams.ChangeCampaign(ctx, r.app.name, r.id, do)
	return st, err //nolint:wrapcheck // it names the campaign
}

// mine reports whether this worker is the one to look after a campaign for a while.
func (w *Worker) mine(ctx context.Context, r *running) (bool, error) {
	return withStore(ctx, func(ctx context.Context) (bool, error) {
		return w.cfg.Campaigns.ClaimWork(ctx, "campaign/"+r.app.name+"/"+r.id, w.cfg.Name, stewardLease)
	})
}

// start makes a campaign run that is due, or a run of it if it recurs.
func (w *Worker) start(ctx context.Context, r *running, now time.Time) error {
	st := r.status.Load()
	def, err := campaign.Parse(st.Definition)
	if err != nil {
		return fmt.Errorf("read the definition: %w", err)
	}
	if st.Recurs() {
		return w.startRun(ctx, r, def, now)
	}
	plan, err := def.Compile(campaign.Options{Zones: &w.zones, Start: st.StartAt})
	if err != nil {
		return fmt.Errorf("compile the definition: %w", err)
	}
	var classes, width int
	var tags []string
	if def.Recipients == nil {
		if tags, classes, width, err = divide(ctx, w.cfg.Campaigns, r.app.name, plan); err != nil {
			return err
		}
	}
	_, err = w.change(ctx, r, func(s *campaign.Status) error {
		if s.State != campaign.Scheduled {
			return errNothingToDo
		}
		s.Classes, s.Width, s.Tags = classes, width, tags
		return s.Start(now)
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	if err == nil {
		w.log.Info("campaign starts", zap.String("app", r.app.name), zap.String("campaign", r.id), zap.Int("ranges", ranges(classes, width)))
	}
	return err
}

var errNothingToDo = errors.New("worker: somebody else has done it")

// startRun creates the run of a recurring campaign that is due, and says when the
// next one is.
func (w *Worker) startRun(ctx context.Context, r *running, def *campaign.Campaign, now time.Time) error {
	st := r.status.Load()
	// What is for nine in the morning is not for the night in which a worker runs again.
	if late := now.Sub(st.StartAt); late > runGrace {
		w.log.Warn("a run of a campaign is left out: it is too late for it", zap.String("app", r.app.name), zap.String("campaign", r.id), zap.Duration("late", late))
	} else if err := w.createRun(ctx, r, def); err != nil {
		return err
	}
	_, err := w.change(ctx, r, func(s *campaign.Status) error {
		if s.State != campaign.Scheduled || !s.StartAt.Equal(st.StartAt) {
			return errNothingToDo
		}
		next, ok := def.NextRun(later(st.StartAt, now), &w.zones)
		if !ok {
			return s.Cancel(now)
		}
		s.StartAt = next
		return nil
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	return err
}

// createRun makes the run of a recurring campaign that is due a campaign of its own.
func (w *Worker) createRun(ctx context.Context, r *running, def *campaign.Campaign) error {
	st := r.status.Load()
	run := def.RunAt(st.StartAt)
	body, err := run.AppendJSON(nil)
	if err != nil {
		return fmt.Errorf("encode a run: %w", err)
	}
	_, _, err = w.cfg.Streams.CreateCampaign(ctx, campaign.Status{
		App: r.app.name, ID: run.ID, Definition: body, State: campaign.Scheduled, Rate: run.Rate,
		CreatedAt: w.cfg.Now(), StartAt: st.StartAt, Parent: r.id,
	})
	if errors.Is(err, stream.ErrCampaignExists) {
		return nil
	}
	return err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// divide says how an audience is divided into ranges: by the tags that lead to it,
// if that is less than reading all devices.
func divide(ctx context.Context, c Campaigns, app string, plan *campaign.Plan) (tags []string, classes, width int, err error) {
	classes, devices, err := c.AudienceSize(ctx, app, nil)
	if err != nil {
		return nil, 0, 0, err
	}
	oneOf, all := plan.LeadingTags()
	var ways [][]string
	if len(oneOf) > 0 {
		ways = append(ways, oneOf)
	}
	for _, tag := range all {
		ways = append(ways, []string{tag})
	}
	least := int64(float64(devices) * longestScan)
	for _, way := range ways {
		in, n, err := c.AudienceSize(ctx, app, way)
		if err != nil {
			return nil, 0, 0, err
		}
		if n <= least {
			tags, classes, devices, least = way, in, n, n
		}
	}
	perClass := max(1, int(devices)/classes)
	width = min(classes, max(1, campaignRange/perClass))
	return slices.Clone(tags), classes, width, nil
}

// ranges is how many ranges an audience is divided into.
func ranges(classes, width int) int {
	if width == 0 {
		return 0
	}
	return (classes + width - 1) / width
}

// expandCampaign publishes the ranges of a campaign that are not published yet.
// The entry says how far that has come, after each block: one that is published
// twice is known, by its ids and then by its progress.
func (w *Worker) expandCampaign(ctx context.Context, r *running) error {
	block := firstBlock
	for ctx.Err() == nil {
		if mine, err := w.mine(ctx, r); err != nil || !mine {
			return err
		}
		st, err := w.cfg.Streams.Campaign(ctx, r.app.name, r.id)
		if err != nil {
			return err
		}
		total := ranges(st.Classes, st.Width)
		if st.State != campaign.Running || st.Expanded {
			return nil
		}
		n := min(block, total-st.Ranges)
		list, devices, err := w.rangesOf(ctx, &st, n)
		if err != nil {
			return err
		}
		if err := w.cfg.Streams.PublishRanges(ctx, r.app.name, list); err != nil {
			return err
		}
		next, err := w.change(ctx, r, func(s *campaign.Status) error {
			if s.Ranges != st.Ranges || s.Ended() {
				return errNothingToDo
			}
			s.Ranges += n
			s.Devices += devices
			s.Expanded = s.Ranges == total
			return nil
		})
		if errors.Is(err, errNothingToDo) || err == nil && next.Expanded {
			return nil
		}
		if err != nil {
			return err
		}
		block = fullBlock
	}
	return nil
}

// rangesOf makes the next n ranges of a campaign, and counts what is in them.
func (w *Worker) rangesOf(ctx context.Context, st *campaign.Status, n int) ([]campaign.Range, int64, error) {
	counts, err := withStore(ctx, func(ctx context.Context) ([]int, error) {
		return w.cfg.Campaigns.CountClasses(ctx, st.App, st.Tags, st.Classes, st.Width, st.Ranges*st.Width, n)
	})
	if err != nil {
		return nil, 0, err
	}
	list := make([]campaign.Range, n)
	devices := int64(0)
	for i := range list {
		number := st.Ranges + i
		list[i] = campaign.Range{
			Campaign: st.ID, Number: number, Devices: counts[i],
			Of: st.Classes, From: number * st.Width, To: min(st.Classes, (number+1)*st.Width),
		}
		devices += int64(counts[i])
	}
	return list, devices, nil
}

// finishCampaign ends a campaign of which nothing is left.
func (w *Worker) finishCampaign(ctx context.Context, r *running) error {
	if mine, err := w.mine(ctx, r); err != nil || !mine {
		return err
	}
	st := r.status.Load()
	totals, err := withStore(ctx, func(ctx context.Context) (store.Totals, error) {
		return w.cfg.Campaigns.CampaignTotals(ctx, r.app.name, r.id, st.Ranges)
	})
	if err != nil {
		return err
	}
	r.left.Store(&leftAt{devices: max(0, st.Devices-totals.Devices), at: time.Now()})
	if totals.Ranges < int64(st.Ranges) {
		return nil
	}
	// A range stays in the queue while a rejection in it may still be taken back.
	left, err := w.cfg.Streams.RangesLeft(ctx, r.app.name, r.id)
	if err != nil || left > 0 {
		return err
	}
	_, err = w.change(ctx, r, func(s *campaign.Status) error {
		if s.Ended() {
			return errNothingToDo
		}
		// Somebody may have divided a part and died before saying so, and the next one have
		// counted other devices in the same ranges: what is in them is what was read.
		s.Devices = totals.Devices
		return s.Finish(w.cfg.Now())
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	if err == nil {
		w.log.Info("campaign is done", zap.String("app", r.app.name), zap.String("campaign", r.id), zap.Int64("matched", totals.Matched))
	}
	return err
}

// closeCampaign cleans up after a campaign that has ended.
func (w *Worker) closeCampaign(ctx context.Context, r *running, now time.Time) error {
	st := r.status.Load()
	// What is in the queue goes at once, and again when the last that was on its way
	// there has come.
	if err := w.cfg.Streams.DropRanges(ctx, r.app.name, r.id); err != nil {
		return err
	}
	if st.State == campaign.Cancelled && now.Sub(st.EndedAt) < stream.BulkAckWait+cancelSlack {
		return nil
	}
	if mine, err := w.mine(ctx, r); err != nil || !mine {
		return err
	}
	_, err := withStore(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, w.cfg.Campaigns.ExpireCampaign(ctx, r.app.name, r.id, st.Ranges, countsLive)
	})
	if err != nil {
		return err
	}
	_, err = w.change(ctx, r, func(s *campaign.Status) error {
		if s.Closed {
			return errNothingToDo
		}
		s.Closed = true
		return nil
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	return err
}
