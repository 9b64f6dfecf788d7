package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/stream"
)

// redriving is one run of `dead-letter redrive`.
type redriving struct {
	selection
	rate        int // recipients a second; 0: no bound
	dryRun, yes bool
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
			return withDead(cmd.Context(), g, func(ctx context.Context, d letterDesk) error {
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

func (r *redriving) run(ctx context.Context, d letterRedriver, in io.Reader, out, progress io.Writer) error {
	plan, err := d.planRedrive(ctx, &r.selection)
	if err != nil {
		return err
	}
	printTally(out, plan.rows)
	for _, note := range plan.notes {
		fmt.Fprintln(out, "note: "+note)
	}
	if plan.letters == 0 {
		fmt.Fprintln(out, "nothing to redrive")
		return r.left(plan.stays)
	}
	took := ""
	if r.rate > 0 {
		took = fmt.Sprintf(", in about %s", paced(plan.weight, r.rate).Round(time.Second))
	}
	fmt.Fprintf(out, "%s to redrive%s\n", plural(plan.letters, "letter", "letters"), took)
	if r.dryRun {
		return nil
	}
	if err := confirm(in, progress, r.yes, "Redrive them?"); err != nil {
		return err
	}
	b := newBar(progress, plan.letters, "redrive", "letters", false)
	done, err := d.redrive(ctx, &r.selection, r.rate, b.add)
	b.finish()
	fmt.Fprintf(out, "redrove %s to %s", plural(done.letters, "letter", "letters"), plural(done.recipients, "recipient", "recipients"))
	if done.again > 0 {
		fmt.Fprintf(out, "; %d of those meant were redriven by somebody else", done.again)
	}
	fmt.Fprintln(out)
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: what was not redriven stays, and the same command goes on with it")
	}
	if err != nil {
		return err
	}
	return r.left(plan.stays)
}

// left is the error for letters that were meant and stay.
func (r *redriving) left(stays int) error {
	if stays == 0 || r.dryRun {
		return nil
	}
	return fmt.Errorf("%s cannot be redriven and stay: see above, and dead-letter purge", plural(stays, "letter", "letters"))
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
func printTally(out io.Writer, rows []stream.DeadCount) {
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
			return withDead(cmd.Context(), g, func(ctx context.Context, d letterDesk) error {
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

func (p *purging) run(ctx context.Context, d letterPurger, in io.Reader, out, progress io.Writer) error {
	plan, err := d.planPurge(ctx, &p.selection)
	if err != nil {
		return err
	}
	printTally(out, plan.rows)
	fmt.Fprintf(out, "%s to delete\n", plural(plan.letters, "letter", "letters"))
	if p.dryRun || plan.letters == 0 {
		return nil
	}
	if err := confirm(in, progress, p.yes, "Delete them, for good?"); err != nil {
		return err
	}
	b := newBar(progress, plan.letters, "purge", "letters", false)
	deleted, err := d.purge(ctx, &p.selection, plan, b.add)
	b.finish()
	fmt.Fprintf(out, "deleted %s\n", plural(deleted, "letter", "letters"))
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: the rest stays")
	}
	return err
}
