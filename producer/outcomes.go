package producer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Filter says which outcomes to follow, and from where. Its zero value: those of the whole
// fleet, from now on.
type Filter struct {
	App      string     // empty: of all apps
	Lanes    []job.Lane // empty: of all; of a campaign not used
	Jobs     []string   // by ID, what continues one of them included; empty: of all, and of campaigns
	Campaign string     // only of this campaign; not together with Jobs

	// Where to begin; both zero: with what comes from now on. From is a place in OUTCOMES,
	// [Outcome.Place]: the message there is the first. OUTCOMES keeps a week.
	From  uint64
	Since time.Time

	// Bad is told of every message that is no outcome, or one of a version that is not
	// known. nil: they are passed over.
	Bad func(place uint64, why error)
}

// Outcome is what became of some or all recipients of one job, or of one range of a
// campaign, as one worker tells it. Device tokens are whole.
type Outcome struct {
	App    string
	Lane   job.Lane
	Worker string
	At     time.Time // when it was told, to the millisecond
	// Place of its message in OUTCOMES. A message tells of several jobs: who stops in the
	// middle and goes on with [Filter.From] gets those of the same place again.
	Place uint64

	job.JobOutcome
}

// Recipients returns all recipients that it tells of, with their results: those that
// APNs accepted, and then the others.
func (o *Outcome) Recipients() iter.Seq[job.Recipient] {
	return func(yield func(job.Recipient) bool) {
		for _, t := range o.Accepted {
			if !yield(job.Recipient{DeviceToken: t, Result: job.Accepted, Status: 200}) {
				return
			}
		}
		for _, r := range o.Others {
			if !yield(r) {
				return
			}
		}
	}
}

// Outcomes follows what becomes of jobs, in the order in which it was told, until ctx
// ends or the loop over it does. Lost connections and restarts of the server do not end
// it, and nothing is missed by them. What ends it is told as its last error: that the
// filter is wrong, that there is nothing to follow yet ([ErrNoStream]), or that the
// connection was closed. That ctx ended is no error.
//
// An outcome may come twice, where a worker died before it knew that it was stored; a
// recipient's first one counts.
func (p *Producer) Outcomes(ctx context.Context, f Filter) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		if err := f.check(); err != nil {
			yield(Outcome{}, fmt.Errorf("follow outcomes: %w", err))
			return
		}
		wanted := f.wanted()
		err := p.follow(ctx, f.subjects(), stream.Start{Place: f.From, Since: f.Since}, f.Bad, func(o *Outcome) error {
			if wanted(o) && !yield(*o, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Outcome{}, err)
		}
	}
}

// errEnough ends a following whose caller has what it wants.
var errEnough = errors.New("enough")

// follow calls each with every outcome on subjects, until ctx ends.
func (p *Producer) follow(ctx context.Context, subjects []string, from stream.Start, bad func(uint64, error), each func(*Outcome) error) error {
	return p.streams.FollowOutcomes(ctx, subjects, from, func(place uint64, data []byte) error {
		told, err := job.ParseOutcomes(data)
		if err != nil {
			if bad != nil {
				bad(place, err)
			}
			return nil // whoever wants to know was told, and goes on
		}
		for _, j := range told.Jobs {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // that is how a following ends
			}
			if err := each(&Outcome{App: told.App, Lane: told.Lane, Worker: told.Worker, At: told.At, Place: place, JobOutcome: j}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *Filter) check() error {
	switch {
	case f.App != "" && !stream.ValidName(f.App):
		return fmt.Errorf("app %q: must be letters, digits, '-' and '_'", f.App)
	case f.Campaign != "" && len(f.Jobs) > 0:
		return errors.New("jobs and a campaign: must be one of them")
	case f.From != 0 && !f.Since.IsZero():
		return errors.New("a place and a time to begin at: must be one of them")
	}
	return nil
}

// subjects returns the subjects on which what is wanted is told, and little else.
func (f *Filter) subjects() []string {
	app := f.App
	if app == "" {
		app = "*"
	}
	switch {
	case f.Campaign != "":
		return []string{stream.CampaignOutcomesSubject(app, f.Campaign)}
	case len(f.Lanes)+len(f.Jobs) == 0:
		return []string{stream.AppOutcomes(app)}
	}
	var subjects []string
	for _, l := range job.Lanes() {
		if len(f.Lanes) > 0 && !slices.Contains(f.Lanes, l) {
			continue
		}
		subjects = append(subjects, stream.OutcomesSubject(app, l))
		if len(f.Jobs) == 0 { // and of campaigns
			subjects = append(subjects, stream.OutcomesSubject(app, l)+".>")
		}
	}
	return subjects
}

// wanted returns what tells whether an outcome is.
func (f *Filter) wanted() func(*Outcome) bool {
	switch {
	case f.Campaign != "":
		return func(o *Outcome) bool { return o.Campaign == f.Campaign }
	case len(f.Jobs) > 0:
		ids := make(map[string]bool, len(f.Jobs))
		for _, id := range f.Jobs {
			ids[id] = true
		}
		return func(o *Outcome) bool { return o.Campaign == "" && (ids[o.ID] || ids[o.Root]) }
	default:
		return func(*Outcome) bool { return true }
	}
}
