package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/stream"
)

// letterReader is where dead letters are looked at.
type letterReader interface {
	// each calls do with those that are meant, the oldest first, until it returns an error.
	// It is not called for many more than most; 0: for all.
	each(ctx context.Context, s *selection, most int, do func(*api.DeadLetter) error) error
	letter(ctx context.Context, sequence uint64, full bool) (*api.DeadLetter, error)
}

// letterRedriver is where they are redriven: first planned, then done.
type letterRedriver interface {
	planRedrive(ctx context.Context, s *selection) (*letterPlan, error)
	// redrive redrives so many recipients a second, 0: without a bound, and calls moved with
	// how many letters it came past.
	redrive(ctx context.Context, s *selection, rate int, moved func(int)) (redriven, error)
}

// letterPurger is where they are deleted.
type letterPurger interface {
	planPurge(ctx context.Context, s *selection) (*letterPlan, error)
	purge(ctx context.Context, s *selection, plan *letterPlan, moved func(int)) (deleted int, _ error)
}

type letterDesk interface {
	letterReader
	letterRedriver
	letterPurger
}

// letterPlan is what would be done.
type letterPlan struct {
	rows    []stream.DeadCount
	letters int
	weight  int // what they count against a rate: recipients, one where they are not known
	stays   int // letters that are meant and cannot be redriven
	notes   []string
	last    uint64 // number of the last one
}

// redriven is what was done.
type redriven struct{ letters, recipients, again int }

// withDead opens the dead letters for a command.
func withDead(ctx context.Context, g *globals, do func(context.Context, letterDesk) error) error {
	if g.throughAPI() {
		d, err := g.openDoor()
		if err != nil {
			return err
		}
		return do(ctx, &remoteLetters{door: d})
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	nc, streams, err := connectNATS(ctx, cfg, "dead-letter", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	d, err := streams.DeadLetters(ctx)
	if err != nil {
		return err
	}
	return do(ctx, &storedLetters{DeadLetters: d})
}

// deadTimeout is how long one letter may take once it was begun: an interrupt
// ends the work between letters, not within one.
const deadTimeout = 15 * time.Second

// storedLetters are those in JetStream.
type storedLetters struct {
	*stream.DeadLetters
	redriver *stream.Redriver
}

func (d *storedLetters) each(ctx context.Context, s *selection, _ int, do func(*api.DeadLetter) error) error {
	if err := d.Bound(ctx, &s.Filter); err != nil {
		return err
	}
	return d.Each(ctx, &s.DeadSelection, func(l *stream.DeadLetter) error {
		shown := api.DeadLetterOf(l, time.Now(), false)
		return do(&shown)
	})
}

func (d *storedLetters) letter(ctx context.Context, sequence uint64, full bool) (*api.DeadLetter, error) {
	l, err := d.Letter(ctx, sequence)
	if err != nil {
		return nil, err
	}
	shown := api.WholeDeadLetterOf(l, time.Now(), full)
	return &shown, nil
}

func (d *storedLetters) planRedrive(ctx context.Context, s *selection) (*letterPlan, error) {
	err := d.Bound(ctx, &s.Filter)
	if err != nil {
		return nil, err
	}
	if d.redriver, err = d.Redriver(ctx, time.Now()); err != nil {
		return nil, err
	}
	var goes, stays stream.DeadTally
	plan := new(letterPlan)
	targets := make(map[string]bool)
	err = d.Each(ctx, &s.DeadSelection, func(l *stream.DeadLetter) error {
		if why := d.redriver.Refusal(l); why != "" {
			stays.Add(l, "stays: "+why)
			return nil
		}
		goes.Add(l, api.HideTokens(l.Reason))
		plan.weight += weight(l)
		if len(targets) < stream.DeadCounts {
			targets[l.Subject] = true
		}
		return nil
	})
	plan.rows = slices.Concat(goes.Counts(), stays.Counts())
	plan.letters, plan.stays = goes.Letters, stays.Letters
	plan.notes = d.redriver.Notes(slices.Sorted(maps.Keys(targets)))
	return plan, err
}

func (d *storedLetters) redrive(ctx context.Context, s *selection, rate int, moved func(int)) (redriven, error) {
	var sum redriven
	pace := pacer{rate: rate}
	err := d.Each(ctx, &s.DeadSelection, func(l *stream.DeadLetter) error {
		if d.redriver.Refusal(l) != "" {
			return nil
		}
		if err := pace.wait(ctx, weight(l)); err != nil {
			return err
		}
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadTimeout)
		defer cancel()
		done, err := d.redriver.Redrive(one, l)
		if errors.Is(err, stream.ErrNoLetter) {
			sum.again++ // somebody else was faster
			moved(1)
			return nil
		}
		if done.ID != "" {
			sum.letters, sum.recipients = sum.letters+1, sum.recipients+l.Recipients
			moved(1)
		}
		if done.Again {
			sum.again++
		}
		return err
	})
	return sum, err
}

func (d *storedLetters) planPurge(ctx context.Context, s *selection) (*letterPlan, error) {
	if err := d.Bound(ctx, &s.Filter); err != nil {
		return nil, err
	}
	var meant stream.DeadTally
	plan := new(letterPlan)
	err := d.Each(ctx, &s.DeadSelection, func(l *stream.DeadLetter) error {
		meant.Add(l, api.HideTokens(l.Reason))
		plan.last = max(plan.last, l.Sequence)
		return nil
	})
	plan.rows, plan.letters = meant.Counts(), meant.Letters
	return plan, err
}

func (d *storedLetters) purge(ctx context.Context, s *selection, plan *letterPlan, moved func(int)) (deleted int, _ error) {
	if len(s.Sequences) == 0 && s.Filter.IsPrefix() {
		// The server does it at once, instead of a call for each.
		if err := d.DeleteThrough(ctx, s.Filter.App, plan.last); err != nil {
			return 0, err
		}
		moved(plan.letters)
		return plan.letters, nil
	}
	err := d.Each(ctx, &s.DeadSelection, func(l *stream.DeadLetter) error {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadTimeout)
		defer cancel()
		was, err := d.Delete(one, l.Sequence)
		if was {
			deleted++
		}
		moved(1)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	})
	return deleted, err
}
