package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	stream.DeadSelection
	older, newer string
	all          bool
}

func (s *selection) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Filter.App, "app", "", "only of this app")
	f.StringVar(&s.Filter.Reason, "reason", "", "only those with this in their reason, in any case")
	f.StringVar(&s.Filter.Campaign, "campaign", "", "only of this campaign")
	f.StringVar(&s.Filter.Job, "job", "", "only of this job")
	f.StringVar(&s.older, "older-than", "", "only those given up longer ago, such as 12h or 30d")
	f.StringVar(&s.newer, "newer-than", "", "only those given up since, such as 12h or 30d")
}

// described names the selection for the audit log.
func (s *selection) described() string {
	if len(s.Sequences) > 0 {
		return strings.Trim(fmt.Sprint(s.Sequences), "[]")
	}
	all := ""
	if s.all {
		all = "true"
	}
	return chosen(choice{"reason", s.Filter.Reason}, choice{"campaign", s.Filter.Campaign}, choice{"job", s.Filter.Job},
		choice{"older-than", s.older}, choice{"newer-than", s.newer}, choice{"all", all})
}

// read reads the flags' values, and places in DEAD from arguments.
func (s *selection) read(args []string, now time.Time) error {
	for _, age := range []struct {
		flag, text string
		to         *time.Time
	}{{"--older-than", s.older, &s.Filter.Before}, {"--newer-than", s.newer, &s.Filter.After}} {
		if age.text == "" {
			continue
		}
		long, err := parseLong(age.text)
		if err != nil {
			return usagef("%s: %v", age.flag, err)
		}
		*age.to = now.Add(-long)
	}
	if f := &s.Filter; !f.After.IsZero() && !f.Before.IsZero() && !f.After.Before(f.Before) {
		return usagef("--newer-than %s and --older-than %s leave nothing between", s.newer, s.older)
	}
	if s.Filter.App != "" && !stream.ValidName(s.Filter.App) {
		return usagef("--app: must be letters, digits, '-' and '_', got %q", s.Filter.App)
	}
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return usagef("%q is no dead letter's number: see pushfleet dead-letter list", arg)
		}
		if !slices.Contains(s.Sequences, n) {
			s.Sequences = append(s.Sequences, n)
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
	filtered := s.Filter != stream.DeadFilter{}
	switch {
	case len(s.Sequences) > 0 && (filtered || s.all):
		return usagef("give either numbers or filters, not both")
	case s.all && filtered:
		return usagef("give either --all or filters, not both")
	case len(s.Sequences) == 0 && !filtered && !s.all:
		return usagef("say which: numbers, filters such as --app and --reason, or --all")
	default:
		return nil
	}
}

// errEnough ends a reading of dead letters early.
var errEnough = errors.New("enough")

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
