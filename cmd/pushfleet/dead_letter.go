package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/stream"
)

func newDeadLetter(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead-letter",
		Short: "Show, redrive and purge what was given up",
		Long: `A dead letter is a message that was given up: it was no job, APNs found the job at
fault, it was tried in vain for too long, or no worker knew its app. It is kept whole,
with the reason, until it is redriven or purged.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newDeadLetterList(g), newDeadLetterShow(g), audited(g, "dead-letter.redrive", newDeadLetterRedrive(g)), audited(g, "dead-letter.purge", newDeadLetterPurge(g)))
	return cmd
}

// selection says, by flags and arguments, which dead letters are meant.
type selection struct {
	filter       stream.DeadFilter
	older, newer string
	all          bool
	sequences    []uint64
}

func (s *selection) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.filter.App, "app", "", "only of this app")
	f.StringVar(&s.filter.Reason, "reason", "", "only those with this in their reason, in any case")
	f.StringVar(&s.filter.Campaign, "campaign", "", "only of this campaign")
	f.StringVar(&s.older, "older-than", "", "only those given up longer ago, such as 12h or 30d")
	f.StringVar(&s.newer, "newer-than", "", "only those given up since, such as 12h or 30d")
}

// described names the selection for the audit log.
func (s *selection) described() string {
	if len(s.sequences) > 0 {
		return strings.Trim(fmt.Sprint(s.sequences), "[]")
	}
	all := ""
	if s.all {
		all = "true"
	}
	return chosen(choice{"reason", s.filter.Reason}, choice{"campaign", s.filter.Campaign},
		choice{"older-than", s.older}, choice{"newer-than", s.newer}, choice{"all", all})
}

// read reads the flags' values, and places in DEAD from arguments.
func (s *selection) read(args []string, now time.Time) error {
	for _, age := range []struct {
		flag, text string
		to         *time.Time
	}{{"--older-than", s.older, &s.filter.Before}, {"--newer-than", s.newer, &s.filter.After}} {
		if age.text == "" {
			continue
		}
		long, err := parseLong(age.text)
		if err != nil {
			return usagef("%s: %v", age.flag, err)
		}
		*age.to = now.Add(-long)
	}
	if f := &s.filter; !f.After.IsZero() && !f.Before.IsZero() && !f.After.Before(f.Before) {
		return usagef("--newer-than %s and --older-than %s leave nothing between", s.newer, s.older)
	}
	if s.filter.App != "" && !stream.ValidName(s.filter.App) {
		return usagef("--app: must be letters, digits, '-' and '_', got %q", s.filter.App)
	}
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return usagef("%q is no dead letter's number: see pushfleet dead-letter list", arg)
		}
		if !slices.Contains(s.sequences, n) {
			s.sequences = append(s.sequences, n)
		}
	}
	return nil
}

// choose is read for what changes something: that must not take everything by
// accident.
func (s *selection) choose(args []string, now time.Time) error {
	if err := s.read(args, now); err != nil {
		return err
	}
	filtered := s.filter != stream.DeadFilter{}
	switch {
	case len(s.sequences) > 0 && (filtered || s.all):
		return usagef("give either numbers or filters, not both")
	case s.all && filtered:
		return usagef("give either --all or filters, not both")
	case len(s.sequences) == 0 && !filtered && !s.all:
		return usagef("say which: numbers, filters such as --app and --reason, or --all")
	default:
		return nil
	}
}

// deadPage is how many letters are in memory at once.
const deadPage = 500

// each calls do with the letters that are meant, without their bodies.
func (s *selection) each(ctx context.Context, d *stream.DeadLetters, do func(l *stream.DeadLetter) error) error {
	for _, sequence := range s.sequences {
		l, err := d.Letter(ctx, sequence)
		if err == nil {
			err = do(l)
		}
		if err != nil {
			return err
		}
	}
	if len(s.sequences) > 0 {
		return nil
	}
	for from := uint64(1); from != 0; {
		page, next, err := d.Page(ctx, &s.filter, from, deadPage)
		if err != nil {
			return err
		}
		for i := range page {
			if err := do(&page[i]); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// bound leaves out what comes after now: letters that are redriven and come
// back must not be redriven for ever.
func (s *selection) bound(ctx context.Context, d *stream.DeadLetters) error {
	last, err := d.Last(ctx)
	if err != nil {
		return err
	}
	s.filter.Through = max(last, 1) // 0, where nothing ever was, is no bound
	return nil
}

// errEnough ends a reading of dead letters early.
var errEnough = errors.New("enough")

// withDead opens the dead letters for a command.
func withDead(ctx context.Context, g *globals, do func(context.Context, *config.Config, *stream.Streams, *stream.DeadLetters) error) error {
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
	return do(ctx, cfg, streams, d)
}

// tally counts dead letters by app and reason. It keeps few of the reasons: those of
// what was no job may be as many as there are letters.
type tally struct {
	rows                map[[2]string]*tallyRow
	letters, recipients int
}

type tallyRow struct {
	app, reason         string
	letters, recipients int
}

const (
	tallyRows   = 40
	tallyReason = 80 // bytes of a reason that are shown
)

func (t *tally) add(l *stream.DeadLetter, reason string) {
	reason = shorten(reason, tallyReason)
	row := t.rows[[2]string{l.App, reason}]
	if row == nil {
		if len(t.rows) >= tallyRows {
			l, reason = &stream.DeadLetter{App: "", Recipients: l.Recipients}, "(other reasons)"
			row = t.rows[[2]string{l.App, reason}]
		}
		if row == nil {
			row = &tallyRow{app: l.App, reason: reason}
			if t.rows == nil {
				t.rows = make(map[[2]string]*tallyRow)
			}
			t.rows[[2]string{l.App, reason}] = row
		}
	}
	row.letters++
	row.recipients += l.Recipients
	t.letters++
	t.recipients += l.Recipients
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
