package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/job"
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

	now     time.Time
	refused map[string]string // app -> why none of its letters can be redriven
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
			r.now = time.Now()
			if err := r.choose(args, r.now); err != nil {
				return err
			}
			g.about(r.described())
			if r.rate < 0 {
				return usagef("--rate: must be 0 (no bound) or more, got %d", r.rate)
			}
			return withDead(cmd.Context(), g, func(ctx context.Context, _ *config.Config, streams *stream.Streams, d *stream.DeadLetters) error {
				return r.run(ctx, streams, d, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
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

func (r *redriving) run(ctx context.Context, streams *stream.Streams, d *stream.DeadLetters, in io.Reader, out, progress io.Writer) error {
	if err := r.bound(ctx, d); err != nil {
		return err
	}
	notes, err := r.lookAtWorkers(ctx, streams)
	if err != nil {
		return err
	}
	var goes, stays tally
	total := 0
	targets := make(map[string]bool)
	err = r.each(ctx, d, func(l *stream.DeadLetter) error {
		if why := r.refusal(l); why != "" {
			stays.add(l, "stays: "+why)
			return nil
		}
		goes.add(l, l.Reason)
		total += weight(l)
		if len(targets) < tallyRows {
			targets[l.Subject] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	printTally(out, &goes, &stays)
	for _, note := range notes(slices.Sorted(maps.Keys(targets))) {
		fmt.Fprintln(out, "note: "+note)
	}
	if goes.letters == 0 {
		fmt.Fprintln(out, "nothing to redrive")
		return r.left(&stays)
	}
	took := ""
	if r.rate > 0 {
		took = fmt.Sprintf(", in about %s", paced(total, r.rate).Round(time.Second))
	}
	fmt.Fprintf(out, "%s to redrive%s\n", plural(goes.letters, "letter", "letters"), took)
	if r.dryRun {
		return nil
	}
	if err := confirm(in, progress, r.yes, "Redrive them?"); err != nil {
		return err
	}
	if err := r.redrive(ctx, d, goes.letters, out, progress); err != nil {
		return err
	}
	return r.left(&stays)
}

// left is the error for letters that were meant and stay.
func (r *redriving) left(stays *tally) error {
	if stays.letters == 0 || r.dryRun {
		return nil
	}
	return fmt.Errorf("%s cannot be redriven and stay: see above, and dead-letter purge", plural(stays.letters, "letter", "letters"))
}

// refusal returns why a letter stays, or "".
func (r *redriving) refusal(l *stream.DeadLetter) string {
	if why := l.Refusal(r.now); why != "" {
		return why
	}
	if l.IsPost() {
		return "" // workers have nothing to do with it
	}
	app, _ := l.Target()
	return r.refused[app]
}

// lookAtWorkers learns what the workers that run will make of redriven jobs. The
// notes are about the subjects that letters go back to.
func (r *redriving) lookAtWorkers(ctx context.Context, streams *stream.Streams) (notes func(subjects []string) []string, err error) {
	present, err := streams.Present(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	r.refused = make(map[string]string)
	for _, p := range present {
		for _, app := range p.Apps {
			known[app] = true
			if !p.Redriven {
				r.refused[app] = fmt.Sprintf("a worker of version %s would drop it as a duplicate: upgrade that first", cmp.Or(p.Version, "unknown"))
			}
		}
	}
	return func(subjects []string) (list []string) {
		if len(present) == 0 {
			return []string{"no worker is running: jobs wait until one is"}
		}
		for _, subject := range subjects {
			l := stream.DeadLetter{Subject: subject}
			app, lane := l.Target()
			if l.IsPost() {
				list = append(list, fmt.Sprintf("POSTs go to app %s's webhook: they wait for a week for an API process that knows it", app))
			} else if _, err := job.ParseLane(lane); err != nil {
				list = append(list, fmt.Sprintf("there is no lane %q: its letters come back", lane))
			} else if !known[app] {
				list = append(list, fmt.Sprintf("no worker knows app %s: its letters come back after a minute, as unknown app", app))
			}
		}
		return slices.Compact(list)
	}, nil
}

// redrive redrives what is meant, letter by letter.
func (r *redriving) redrive(ctx context.Context, d *stream.DeadLetters, total int, out, progress io.Writer) error {
	b := newBar(progress, total, "redrive", "letters", false)
	pace := pacer{rate: r.rate}
	letters, recipients, again := 0, 0, 0
	err := r.each(ctx, d, func(l *stream.DeadLetter) error {
		if r.refusal(l) != "" {
			return nil
		}
		if err := pace.wait(ctx, weight(l)); err != nil {
			return err
		}
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadTimeout)
		defer cancel()
		whole, err := d.Letter(one, l.Sequence)
		if errors.Is(err, stream.ErrNoLetter) {
			again++ // somebody else was faster
			b.add(1)
			return nil
		}
		if err != nil {
			return err
		}
		done, err := d.Redrive(one, whole)
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
func printTally(out io.Writer, tallies ...*tally) {
	var rows []*tallyRow
	for _, t := range tallies {
		rows = slices.AppendSeq(rows, maps.Values(t.rows))
	}
	slices.SortFunc(rows, func(a, b *tallyRow) int {
		return cmp.Or(cmp.Compare(b.letters, a.letters), strings.Compare(a.app+" "+a.reason, b.app+" "+b.reason))
	})
	if len(rows) > 0 {
		fmt.Fprintf(out, "%10s  %10s  %-12s  %s\n", "LETTERS", "RECIPIENTS", "APP", "REASON")
	}
	for _, row := range rows {
		fmt.Fprintf(out, "%10d  %10d  %-12s  %s\n", row.letters, row.recipients, cmp.Or(row.app, "-"), row.reason)
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
			return withDead(cmd.Context(), g, func(ctx context.Context, _ *config.Config, _ *stream.Streams, d *stream.DeadLetters) error {
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
	if err := p.bound(ctx, d); err != nil {
		return err
	}
	var meant tally
	last := uint64(0)
	err := p.each(ctx, d, func(l *stream.DeadLetter) error {
		meant.add(l, l.Reason)
		last = max(last, l.Sequence)
		return nil
	})
	if err != nil {
		return err
	}
	printTally(out, &meant)
	fmt.Fprintf(out, "%s to delete\n", plural(meant.letters, "letter", "letters"))
	if p.dryRun || meant.letters == 0 {
		return nil
	}
	if err := confirm(in, progress, p.yes, "Delete them, for good?"); err != nil {
		return err
	}
	if len(p.sequences) == 0 && p.filter.IsPrefix() {
		// The server does it at once, instead of a call for each.
		if err := d.DeleteThrough(ctx, p.filter.App, last); err != nil {
			return err
		}
		fmt.Fprintf(out, "deleted %s\n", plural(meant.letters, "letter", "letters"))
		return nil
	}
	b := newBar(progress, meant.letters, "purge", "letters", false)
	deleted := 0
	err = p.each(ctx, d, func(l *stream.DeadLetter) error {
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
