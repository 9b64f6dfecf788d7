package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/stream"
)

// deadTimeout is how long one letter may take once it was begun: an interrupt
// ends the work between letters, not within one.
const deadTimeout = 15 * time.Second

// redriving is one run of `dead-letter redrive`.
type redriving struct {
	selection
	rate        int // recipients a second; 0: no bound
	dryRun, yes bool

	redriver *stream.Redriver
}

func newDeadLetterRedrive(g *globals) *cobra.Command {
	var r redriving
	cmd := &cobra.Command{
		Use:   "redrive [NUMBER...]",
		Short: "Send dead letters once more",
		Long: `redrive publishes dead letters to where they came from, and deletes each as soon as
JetStream has stored it. The notifications keep their apns-ids. Mend the cause first:
what is still at fault comes back as a new dead letter.

A letter that is redriven twice, by two people or because this was interrupted, is
sent once, within a day. A ttl goes on counting from when the job was first stored.

It counts first, and asks. --rate bounds recipients, not letters: a letter may have a
thousand of them.`,
		Example: `  pushfleet dead-letter redrive 17 18
  pushfleet dead-letter redrive --app shop --reason PayloadTooLarge --dry-run
  pushfleet dead-letter redrive --app shop --reason "unknown app" --rate 500 --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.choose(args, time.Now()); err != nil {
				return err
			}
			g.about(r.described())
			if r.rate < 0 {
				return usagef("--rate: must be 0 (no bound) or more, got %d", r.rate)
			}
			return withDead(cmd.Context(), g, func(ctx context.Context, d *stream.DeadLetters) error {
				return r.run(ctx, d, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	f := cmd.Flags()
	r.register(cmd)
	f.BoolVar(&r.all, "all", false, "all dead letters")
	f.IntVar(&r.rate, "rate", 100, "recipients a second; 0: no bound")
	f.BoolVar(&r.dryRun, "dry-run", false, "only say what would be done")
	f.BoolVar(&r.yes, "yes", false, "do not ask")
	return cmd
}

func (r *redriving) run(ctx context.Context, d *stream.DeadLetters, in io.Reader, out, progress io.Writer) error {
	err := d.Bound(ctx, &r.Filter)
	if err != nil {
		return err
	}
	if r.redriver, err = d.Redriver(ctx, time.Now()); err != nil {
		return err
	}
	var goes, stays stream.DeadTally
	total := 0
	targets := make(map[string]bool)
	err = d.Each(ctx, &r.DeadSelection, func(l *stream.DeadLetter) error {
		if why := r.redriver.Refusal(l); why != "" {
			stays.Add(l, "stays: "+why)
			return nil
		}
		goes.Add(l, api.HideTokens(l.Reason))
		total += weight(l)
		if len(targets) < stream.DeadCounts {
			targets[l.Subject] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	printTally(out, &goes, &stays)
	for _, note := range r.redriver.Notes(slices.Sorted(maps.Keys(targets))) {
		fmt.Fprintln(out, "note: "+note)
	}
	if goes.Letters == 0 {
		fmt.Fprintln(out, "nothing to redrive")
		return r.left(&stays)
	}
	took := ""
	if r.rate > 0 {
		took = fmt.Sprintf(", in about %s", paced(total, r.rate).Round(time.Second))
	}
	fmt.Fprintf(out, "%s to redrive%s\n", plural(goes.Letters, "letter", "letters"), took)
	if r.dryRun {
		return nil
	}
	if err := confirm(in, progress, r.yes, "Redrive them?"); err != nil {
		return err
	}
	if err := r.redrive(ctx, d, goes.Letters, out, progress); err != nil {
		return err
	}
	return r.left(&stays)
}

// left is the error for letters that were meant and stay.
func (r *redriving) left(stays *stream.DeadTally) error {
	if stays.Letters == 0 || r.dryRun {
		return nil
	}
	return fmt.Errorf("%s cannot be redriven and stay: see above, and dead-letter purge", plural(stays.Letters, "letter", "letters"))
}

// redrive redrives what is meant, letter by letter.
func (r *redriving) redrive(ctx context.Context, d *stream.DeadLetters, total int, out, progress io.Writer) error {
	b := newBar(progress, total, "redrive", "letters", false)
	pace := pacer{rate: r.rate}
	letters, recipients, again := 0, 0, 0
	err := d.Each(ctx, &r.DeadSelection, func(l *stream.DeadLetter) error {
		if r.redriver.Refusal(l) != "" {
			return nil
		}
		if err := pace.wait(ctx, weight(l)); err != nil {
			return err
		}
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadTimeout)
		defer cancel()
		done, err := r.redriver.Redrive(one, l)
		if errors.Is(err, stream.ErrNoLetter) {
			again++ // somebody else was faster
			b.add(1)
			return nil
		}
		if done.ID != "" {
			letters, recipients = letters+1, recipients+l.Recipients
			b.add(1)
		}
		if done.Again {
			again++
		}
		return err
	})
	b.finish()
	fmt.Fprintf(out, "redrove %s to %s", plural(letters, "letter", "letters"), plural(recipients, "recipient", "recipients"))
	if again > 0 {
		fmt.Fprintf(out, "; %d of those meant were redriven by somebody else", again)
	}
	fmt.Fprintln(out)
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: what was not redriven stays, and the same command goes on with it")
	}
	return err
}

// weight is what a letter counts against the rate: its recipients, and one where
// they are not known.
func weight(l *stream.DeadLetter) int { return max(l.Recipients, 1) }

// pacer spreads work over time: rate a second, without bursts.
type pacer struct {
	rate int // 0: no bound
	next time.Time
}

// paceSlack is what may be made up for after something took longer.
const paceSlack = 100 * time.Millisecond

// wait waits until n more are due, or until ctx ends.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate > 0 {
		now := time.Now()
		if p.next.Before(now.Add(-paceSlack)) {
			p.next = now
		}
		if d := p.next.Sub(now); d > 0 {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		p.next = p.next.Add(paced(n, p.rate))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("redrive: %w", context.Cause(ctx))
	}
	return nil
}

// paced is how long n take at a rate of so many a second.
func paced(n, rate int) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}

// printTally prints what is meant, most first.
func printTally(out io.Writer, tallies ...*stream.DeadTally) {
	var rows []stream.DeadCount
	for _, t := range tallies {
		rows = append(rows, t.Counts()...)
	}
	slices.SortStableFunc(rows, func(a, b stream.DeadCount) int { return cmp.Compare(b.Letters, a.Letters) })
	if len(rows) > 0 {
		fmt.Fprintf(out, "%10s  %10s  %-12s  %s\n", "LETTERS", "RECIPIENTS", "APP", "REASON")
	}
	for _, row := range rows {
		fmt.Fprintf(out, "%10d  %10d  %-12s  %s\n", row.Letters, row.Recipients, cmp.Or(row.App, "-"), printable(row.Reason))
	}
}

// purging is one run of `dead-letter purge`.
type purging struct {
	selection
	dryRun, yes bool
}

func newDeadLetterPurge(g *globals) *cobra.Command {
	var p purging
	cmd := &cobra.Command{
		Use:   "purge [NUMBER...]",
		Short: "Delete dead letters, for good",
		Long:  `purge deletes dead letters. It counts first, and asks. Nothing brings them back.`,
		Example: `  pushfleet dead-letter purge --older-than 90d --dry-run
  pushfleet dead-letter purge --app shop --reason "unknown app" --yes
  pushfleet dead-letter purge 17`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.choose(args, time.Now()); err != nil {
				return err
			}
			g.about(p.described())
			return withDead(cmd.Context(), g, func(ctx context.Context, d *stream.DeadLetters) error {
				return p.run(ctx, d, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	f := cmd.Flags()
	p.register(cmd)
	f.BoolVar(&p.all, "all", false, "all dead letters")
	f.BoolVar(&p.dryRun, "dry-run", false, "only count them")
	f.BoolVar(&p.yes, "yes", false, "do not ask")
	return cmd
}

func (p *purging) run(ctx context.Context, d *stream.DeadLetters, in io.Reader, out, progress io.Writer) error {
	if err := d.Bound(ctx, &p.Filter); err != nil {
		return err
	}
	var meant stream.DeadTally
	last := uint64(0)
	err := d.Each(ctx, &p.DeadSelection, func(l *stream.DeadLetter) error {
		meant.Add(l, api.HideTokens(l.Reason))
		last = max(last, l.Sequence)
		return nil
	})
	if err != nil {
		return err
	}
	printTally(out, &meant)
	fmt.Fprintf(out, "%s to delete\n", plural(meant.Letters, "letter", "letters"))
	if p.dryRun || meant.Letters == 0 {
		return nil
	}
	if err := confirm(in, progress, p.yes, "Delete them, for good?"); err != nil {
		return err
	}
	if len(p.Sequences) == 0 && p.Filter.IsPrefix() {
		// The server does it at once, instead of a call for each.
		if err := d.DeleteThrough(ctx, p.Filter.App, last); err != nil {
			return err
		}
		fmt.Fprintf(out, "deleted %s\n", plural(meant.Letters, "letter", "letters"))
		return nil
	}
	b := newBar(progress, meant.Letters, "purge", "letters", false)
	deleted := 0
	err = d.Each(ctx, &p.DeadSelection, func(l *stream.DeadLetter) error {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadTimeout)
		defer cancel()
		was, err := d.Delete(one, l.Sequence)
		if was {
			deleted++
		}
		b.add(1)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	})
	b.finish()
	fmt.Fprintf(out, "deleted %s\n", plural(deleted, "letter", "letters"))
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: the rest stays")
	}
	return err
}
