package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows the progress of long work: a moving bar on a terminal, a line every
// few seconds elsewhere, nothing if it is to be quiet.
type bar struct {
	w           io.Writer
	what, unit  string // what is done, and to what, in the plural
	total, done int
	moving      *progressbar.ProgressBar // nil: not on a terminal
	quiet       bool
	bytes       bool // it is bytes that are counted
	said        time.Time
}

// sayEvery is how often a line is written where there is no terminal.
const sayEvery = 5 * time.Second

func newBar(w io.Writer, total int, what, unit string, quiet bool) *bar {
	b := &bar{w: w, what: what, unit: unit, total: total, quiet: quiet, said: time.Now()}
	if f, ok := w.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		b.moving = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(fmt.Sprintf("%-12s", what)),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30),
		)
	}
	return b
}

// newBytesBar is newBar for bytes; a total of 0 is not known.
func newBytesBar(w io.Writer, total int64, what string) *bar {
	b := &bar{w: w, what: what, total: int(total), bytes: true, said: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if total == 0 {
			total = -1 // a bar without an end
		}
		b.moving = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(fmt.Sprintf("%-12s", what)),
			progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30),
		)
	}
	return b
}

// progress is how far it is, in words.
func (b *bar) progress() string {
	switch {
	case !b.bytes:
		return fmt.Sprintf("%d of %d %s", b.done, b.total, b.unit)
	case b.total == 0:
		return fmt.Sprintf("%.1f MB", float64(b.done)/1e6)
	default:
		return fmt.Sprintf("%.1f of %.1f MB", float64(b.done)/1e6, float64(b.total)/1e6)
	}
}

func (b *bar) add(n int) {
	b.done += n
	switch {
	case b.quiet:
	case b.moving != nil:
		_ = b.moving.Add(n) // a bar that cannot be drawn is not worth failing for
	case time.Since(b.said) >= sayEvery:
		b.said = time.Now()
		fmt.Fprintf(b.w, "%s: %s\n", b.what, b.progress())
	}
}

func (b *bar) finish() {
	switch {
	case b.quiet:
	case b.moving != nil:
		_ = b.moving.Finish()
		fmt.Fprintln(b.w)
	default:
		fmt.Fprintf(b.w, "%s: %s, done\n", b.what, b.progress())
	}
}
