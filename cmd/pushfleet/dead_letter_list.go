package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func newDeadLetterList(g *globals) *cobra.Command {
	var s selection
	var limit int
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
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
			return withDead(cmd.Context(), g, func(ctx context.Context, _ *config.Config, _ *stream.Streams, d *stream.DeadLetters) error {
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
func listLetters(ctx context.Context, d *stream.DeadLetters, s *selection, limit int, output string, out, notes io.Writer) error {
	if err := s.bound(ctx, d); err != nil {
		return err
	}
	printed := 0
	err := s.each(ctx, d, func(l *stream.DeadLetter) error {
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

// shownLetter is a dead letter as the commands print it.
type shownLetter struct {
	Sequence   uint64              `json:"sequence"`
	App        string              `json:"app"`
	Reason     string              `json:"reason"`
	Subject    string              `json:"subject,omitempty"`
	Campaign   string              `json:"campaign,omitempty"`
	Root       string              `json:"root,omitempty"`       // id of the job, or of the first one of it
	ID         string              `json:"id,omitempty"`         // of a job that was redriven
	Recipients int                 `json:"recipients,omitempty"` // absent: not known
	Attempts   int                 `json:"attempts,omitempty"`
	Deliveries int                 `json:"deliveries,omitempty"`
	First      *time.Time          `json:"first,omitempty"`
	Last       *time.Time          `json:"last,omitempty"`
	Expires    *time.Time          `json:"expires,omitempty"`
	Cut        string              `json:"cut,omitempty"`
	Bytes      int                 `json:"bytes"`
	RedriveID  string              `json:"redrive_id"`
	Refusal    string              `json:"refusal,omitempty"` // why it cannot be redriven
	Headers    map[string][]string `json:"headers,omitempty"` // of show
	Body       *string             `json:"body,omitempty"`    // of show
}

func showLetter(l *stream.DeadLetter) shownLetter {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return shownLetter{
		Sequence: l.Sequence, App: l.App, Reason: l.Reason, Subject: l.Subject, Campaign: l.Campaign, Root: l.Root, ID: l.ID,
		Recipients: l.Recipients, Attempts: l.Attempts, Deliveries: l.Deliveries,
		First: when(l.First), Last: when(cmpTime(l.Last, l.StoredAt)), Expires: when(l.Expires),
		Cut: l.Cut, Bytes: l.Bytes, RedriveID: l.RedriveID, Refusal: l.Refusal(time.Now()),
	}
}

// cmpTime returns the first time that is set.
func cmpTime(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

func printLetterJSON(out io.Writer, l *stream.DeadLetter, first bool) error {
	text, err := json.MarshalIndent(showLetter(l), "  ", "  ")
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
func printLetterRow(out io.Writer, l *stream.DeadLetter, first bool) {
	const row = "%10v  %-12v  %-19v  %10v  %8v  %-24v  %v\n"
	if first {
		fmt.Fprintf(out, row, "NUMBER", "APP", "GIVEN UP", "RECIPIENTS", "ATTEMPTS", "JOB", "REASON")
	}
	recipients := "-"
	if l.Recipients > 0 {
		recipients = strconv.Itoa(l.Recipients)
	}
	fmt.Fprintf(out, row, l.Sequence, l.App, cmpTime(l.Last, l.StoredAt).UTC().Format(time.DateTime), recipients, l.Attempts,
		printable(cmp.Or(l.Root, l.ID, "-")), shorten(l.Reason, tallyReason))
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
			return withDead(cmd.Context(), g, func(ctx context.Context, _ *config.Config, _ *stream.Streams, d *stream.DeadLetters) error {
				l, err := d.Letter(ctx, s.sequences[0])
				if errors.Is(err, stream.ErrNoLetter) {
					return fmt.Errorf("there is no dead letter %d: it was redriven or purged, or never there", s.sequences[0])
				}
				if err != nil {
					return err
				}
				return printLetter(cmd.OutOrStdout(), l, full, output)
			})
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "show device tokens in full")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func printLetter(out io.Writer, l *stream.DeadLetter, full bool, output string) error {
	shown := showLetter(l)
	body := bodyText(l.Body, full)
	shown.Headers = make(map[string][]string, len(l.Header))
	for name, values := range l.Header {
		shown.Headers[name] = slices.Clone(values)
	}
	if !full {
		hide := hideTokens()
		body = hide(body)
		shown.Reason = hide(shown.Reason)
		for _, values := range shown.Headers {
			for i := range values {
				values[i] = hide(values[i])
			}
		}
	}
	shown.Body = &body
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
	line("number", strconv.FormatUint(l.Sequence, 10))
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
	fmt.Fprintf(out, "\nbody, %d bytes:\n%s\n", shown.Bytes, printable(body))
	return nil
}

// bodyText makes a body readable: the compact form of a job becomes JSON, and
// what is no text a dump, which needs full: it may hold device tokens.
func bodyText(body []byte, full bool) string {
	if len(body) > 0 && !utf8.Valid(body) {
		j, err := job.Parse(body)
		if err != nil {
			if full {
				return hex.Dump(body)
			}
			return "(not text: --full shows it)"
		}
		if body, err = j.MarshalJSON(); err != nil {
			return "(not text: --full shows it)"
		}
	}
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") == nil {
		return indented.String()
	}
	return string(body)
}

// hideTokens returns a function that shortens what may be a device token: twenty
// bytes in hex and more, also in groups, which leaves UUIDs alone.
func hideTokens() func(string) string {
	token := regexp.MustCompile(`[0-9A-Fa-f]{2}(?:[ :-]?[0-9A-Fa-f]{2}){19,}`)
	return func(text string) string {
		return token.ReplaceAllStringFunc(text, func(found string) string { return found[:6] + "…" })
	}
}
