package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/producer"
)

// recipientsFile is a file of recipients that is read, with a bar, and the report of its
// bad lines.
type recipientsFile struct {
	producer.File
	src    *os.File
	bar    *bar
	report *badLines // nil: none
}

// openRecipients opens what the flags name; doing is what the bar says. The report must
// not overwrite what is read.
func openRecipients(f *campaignCreateFlags, doing string, talk io.Writer) (*recipientsFile, error) {
	src, err := os.Open(f.recipients)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	size := int64(0)
	if info, err := src.Stat(); err == nil {
		size = info.Size()
	}
	r := &recipientsFile{src: src, bar: newBytesBar(talk, size, doing)}
	r.Source = countingReader{src, r.bar}
	if f.report == "" {
		return r, nil
	}
	for _, read := range []string{f.recipients, f.file} {
		if sameFile(f.report, read) {
			src.Close()
			return nil, usagef("--report: must not be %s, which is read", read)
		}
	}
	if r.report, err = newBadLines(f.report); err != nil {
		src.Close()
		return nil, err
	}
	r.Bad = r.report.add
	return r, nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// close ends the report, which is whole only if that is no error.
func (r *recipientsFile) close() error {
	r.src.Close() // it was only read
	if r.report == nil {
		return nil
	}
	return r.report.close()
}

// sayBad ends a line about a file with how many of its lines are bad.
func (r *recipientsFile) sayBad(talk io.Writer, bad int64) {
	switch {
	case bad == 0:
	case r.report == nil:
		fmt.Fprintf(talk, "; %d lines cannot be used (--report FILE tells which)", bad)
	default:
		fmt.Fprintf(talk, "; %d lines cannot be used: see %s", bad, r.report.file.Name())
	}
	fmt.Fprintln(talk)
}

// badLines is the report of lines that cannot be used: CSV, with the line's number and
// the reason. It has nothing of a line but, where JSON has an unknown one, the name of a
// member.
type badLines struct {
	file *os.File
	out  *bufio.Writer
}

func newBadLines(path string) (*badLines, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write report: %w", err)
	}
	b := &badLines{file: file, out: bufio.NewWriter(file)}
	_, err = b.out.WriteString("line,reason\n")
	return b, err //nolint:wrapcheck // nothing is written yet
}

func (b *badLines) add(line int64, why error) error {
	if _, err := fmt.Fprintf(b.out, "%d,%s\n", line, csvText(why.Error())); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (b *badLines) close() error {
	if err := errors.Join(b.out.Flush(), b.file.Close()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// csvText is a text as a field of CSV, in quotes. What a spreadsheet would take for a
// formula begins with an apostrophe, which makes it a text there.
func csvText(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		s = "'" + s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// createFromFile hands in the recipients of a file.
func (f *campaignCreateFlags) createFromFile(ctx context.Context, c *campaigns, def *campaign.Campaign, talk io.Writer) (made api.CreatedCampaign, err error) {
	file, err := openRecipients(f, "handing in", talk)
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, file.close()) }()
	loaded, err := c.file.CreateFromFile(ctx, c.app, def, file.File)
	if err != nil {
		return made, err
	}
	file.bar.finish()
	fmt.Fprintf(talk, "%d recipients are handed in", loaded.Devices)
	if loaded.Before > 0 {
		fmt.Fprintf(talk, ", %d of them earlier", loaded.Before)
	}
	file.sayBad(talk, loaded.Bad)
	return api.CreatedCampaign{CampaignSummary: api.SummaryOf(&loaded.Status), Created: loaded.Created}, nil
}

// previewFile says what a file has for a campaign.
func previewFile(ctx context.Context, f *campaignCreateFlags, def *campaign.Campaign, out, talk io.Writer) (err error) {
	file, err := openRecipients(f, "reading", talk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.close()) }()
	p, err := producer.PreviewFile(ctx, def, file.File, previewSamples)
	if err != nil {
		return err
	}
	file.bar.finish()
	fmt.Fprintf(talk, "%d lines can be used", p.Tokens+p.Users)
	file.sayBad(talk, p.Bad)
	if f.output == "json" {
		return printJSON(out, filePreviewOf(p))
	}
	return printFilePreview(out, p)
}

// shownFilePreview is a dry run with a file in JSON.
type shownFilePreview struct {
	Tokens  int64            `json:"tokens"`
	Users   int64            `json:"users"`
	Bad     int64            `json:"bad"`
	Skipped map[string]int64 `json:"skipped"`
	Longest int              `json:"longest_bytes"`
	Limit   int              `json:"limit_bytes"`
	Samples []shownSample    `json:"samples"`
}

func filePreviewOf(p *producer.FilePreview) shownFilePreview {
	shown := shownFilePreview{
		Tokens: p.Tokens, Users: p.Users, Bad: p.Bad, Skipped: p.Skipped, Longest: p.Longest, Limit: p.Limit, Samples: []shownSample{},
	}
	for _, s := range p.Samples {
		shown.Samples = append(shown.Samples, shownSample{s.Locale, string(s.Payload)})
	}
	return shown
}

func printFilePreview(out io.Writer, p *producer.FilePreview) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("device tokens", p.Tokens)
	row("users", p.Users)
	row("bad lines", p.Bad)
	for _, reason := range p.Reasons() {
		row("skipped: "+reason, p.Skipped[reason])
	}
	row("longest payload", fmt.Sprintf("%d of %d bytes", p.Longest, p.Limit))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print preview: %w", err)
	}
	for _, s := range filePreviewOf(p).Samples {
		s.print(out)
	}
	return nil
}
