package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/stream"
)

func newDeadLetterList(g *globals) *cobra.Command {
	var s selection
	var limit int
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
		Long: `list prints dead letters, oldest first, without their bodies. Long rows of hex
digits in a reason, as device tokens are, are shortened to six digits; show --full
shows them.`,
		Example: `  pushfleet dead-letter list --app shop --newer-than 24h
  pushfleet dead-letter list --reason PayloadTooLarge --limit 0 --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit: must be 0 (all) or more, got %d", limit)
			}
			if err := s.read(nil, time.Now()); err != nil {
				return err
			}
			return withDead(cmd.Context(), g, func(ctx context.Context, d letterDesk) error {
				return listLetters(ctx, d, &s, limit, output, cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	f := cmd.Flags()
	s.register(cmd)
	f.IntVar(&limit, "limit", 100, "at most so many; 0: all")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// listLetters prints letters as they are read: there may be a million.
func listLetters(ctx context.Context, d letterReader, s *selection, limit int, output string, out, notes io.Writer) error {
	printed := 0
	err := d.each(ctx, s, limit, func(l *api.DeadLetter) error {
		if limit > 0 && printed == limit {
			return errEnough
		}
		printed++
		if output == "json" {
			return printLetterJSON(out, l, printed == 1)
		}
		printLetterRow(out, l, printed == 1)
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		fmt.Fprintf(notes, "there are more: --limit 0 lists all\n")
	case err != nil:
		return err
	}
	switch {
	case output == "json" && printed == 0:
		fmt.Fprintln(out, "[]")
	case output == "json":
		fmt.Fprintln(out, "\n]")
	case printed == 0:
		fmt.Fprintln(out, "no dead letters")
	}
	return nil
}

func printLetterJSON(out io.Writer, l *api.DeadLetter, first bool) error {
	text, err := json.MarshalIndent(l, "  ", "  ")
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	before := ",\n  "
	if first {
		before = "[\n  "
	}
	if _, err := fmt.Fprintf(out, "%s%s", before, text); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printLetterRow prints columns of fixed widths: nothing is held back to align.
func printLetterRow(out io.Writer, l *api.DeadLetter, first bool) {
	const row = "%10v  %-12v  %-19v  %10v  %8v  %-24v  %v\n"
	if first {
		fmt.Fprintf(out, row, "NUMBER", "APP", "GIVEN UP", "RECIPIENTS", "ATTEMPTS", "JOB", "REASON")
	}
	recipients := "-"
	if l.Recipients > 0 {
		recipients = strconv.Itoa(l.Recipients)
	}
	givenUp := "-"
	if l.Last != nil {
		givenUp = l.Last.UTC().Format(time.DateTime)
	}
	fmt.Fprintf(out, row, l.Sequence, l.App, givenUp, recipients, l.Attempts,
		printable(cmp.Or(l.Root, l.ID, "-")), shorten(l.Reason, stream.DeadCountReason))
}

// shorten cuts text to so many bytes, and leaves what a terminal can show.
func shorten(text string, most int) string {
	text = printable(text)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// printable replaces what would move a terminal's cursor: anybody may publish.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func newDeadLetterShow(g *globals) *cobra.Command {
	var full bool
	var output string
	cmd := &cobra.Command{
		Use:   "show NUMBER",
		Short: "Show a whole dead letter, with its headers and its body",
		Long: `show prints a dead letter. Long rows of hex digits, as device tokens are, are
shortened to six digits unless --full is given.`,
		Example: "  pushfleet dead-letter show 17\n  pushfleet dead-letter show 17 --full --output json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			var s selection
			if err := s.read(args, time.Now()); err != nil {
				return err
			}
			return withDead(cmd.Context(), g, func(ctx context.Context, d letterDesk) error {
				l, err := d.letter(ctx, s.Sequences[0], full)
				if errors.Is(err, stream.ErrNoLetter) {
					return fmt.Errorf("there is no dead letter %d: it was redriven or purged, or never there", s.Sequences[0])
				}
				if err != nil {
					return err
				}
				return printLetter(cmd.OutOrStdout(), l, output)
			})
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "show device tokens in full")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func printLetter(out io.Writer, shown *api.DeadLetter, output string) error {
	if output == "json" {
		return printJSON(out, shown)
	}
	line := func(name, value string) {
		if value != "" && value != "0" {
			fmt.Fprintf(out, "%-11s %s\n", name, printable(value))
		}
	}
	when := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	line("number", strconv.FormatUint(shown.Sequence, 10))
	line("app", shown.App)
	line("reason", shown.Reason)
	line("subject", shown.Subject)
	line("campaign", shown.Campaign)
	line("job", shown.Root)
	line("redriven", shown.ID)
	line("recipients", strconv.Itoa(shown.Recipients))
	line("attempts", strconv.Itoa(shown.Attempts))
	line("deliveries", strconv.Itoa(shown.Deliveries))
	line("first", when(shown.First))
	line("given up", when(shown.Last))
	line("expires", when(shown.Expires))
	line("cut", shown.Cut)
	if shown.Refusal == "" {
		line("redrive", "as job "+shown.RedriveID)
	} else {
		line("redrive", "not possible: "+shown.Refusal)
	}
	fmt.Fprintln(out, "\nheaders:")
	for _, name := range slices.Sorted(maps.Keys(shown.Headers)) {
		for _, value := range shown.Headers[name] {
			fmt.Fprintf(out, "  %s: %s\n", printable(name), printable(value))
		}
	}
	body := ""
	if shown.Body != nil {
		body = *shown.Body
	}
	fmt.Fprintf(out, "\nbody, %d bytes:\n%s\n", shown.Bytes, printable(body))
	return nil
}
