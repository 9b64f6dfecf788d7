package stream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/job"
)

// DeadSelection says which dead letters are meant.
type DeadSelection struct {
	Filter    DeadFilter
	Sequences []uint64 // places; not empty: these, whatever Filter says
}

// deadPage is how many letters are in memory at once.
const deadPage = 500

// Each calls do with the letters that are meant, without their bodies where Filter
// chooses them, the oldest first. One of Sequences that is not there is an error that
// wraps [ErrNoLetter].
func (d *DeadLetters) Each(ctx context.Context, s *DeadSelection, do func(*DeadLetter) error) error {
	for _, sequence := range s.Sequences {
		l, err := d.Letter(ctx, sequence)
		if err == nil {
			err = do(l)
		}
		if err != nil {
			return err
		}
	}
	if len(s.Sequences) > 0 {
		return nil
	}
	for from := uint64(1); from != 0; {
		page, next, err := d.Page(ctx, &s.Filter, from, deadPage)
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

// Bound leaves out what comes after now: letters that are redriven and come back must
// not be redriven for ever.
func (d *DeadLetters) Bound(ctx context.Context, f *DeadFilter) error {
	last, err := d.Last(ctx)
	if err != nil {
		return err
	}
	f.Through = max(last, 1) // 0, where nothing ever was, is no bound
	return nil
}

// Redriver redrives dead letters as far as the workers that run can take them. It is
// safe for concurrent use.
type Redriver struct {
	d       *DeadLetters
	now     time.Time
	known   map[string]bool   // app -> a worker knows it
	refused map[string]string // app -> why none of its letters can be redriven
	workers int
}

// Redriver learns what the workers that run will make of redriven jobs. now is what the
// letters' expiry is judged by.
func (d *DeadLetters) Redriver(ctx context.Context, now time.Time) (*Redriver, error) {
	present, err := d.s.Present(ctx)
	if err != nil {
		return nil, err
	}
	r := &Redriver{d: d, now: now, known: make(map[string]bool), refused: make(map[string]string), workers: len(present)}
	for _, p := range present {
		for _, app := range p.Apps {
			r.known[app] = true
			if !p.Redriven {
				r.refused[app] = fmt.Sprintf("a worker of version %s would drop it as a duplicate: upgrade that first", cmp.Or(p.Version, "unknown"))
			}
		}
	}
	return r, nil
}

// Refusal returns why a letter stays, or "".
func (r *Redriver) Refusal(l *DeadLetter) string {
	if why := l.Refusal(r.now); why != "" {
		return why
	}
	if l.IsPost() {
		return "" // workers have nothing to do with it
	}
	app, _ := l.Target()
	return r.refused[app]
}

// Notes returns, for people, what becomes of letters that go back to these subjects.
func (r *Redriver) Notes(subjects []string) (list []string) {
	if r.workers == 0 {
		return []string{"no worker is running: jobs wait until one is"}
	}
	for _, subject := range subjects {
		l := DeadLetter{Subject: subject}
		app, lane := l.Target()
		if l.IsPost() {
			list = append(list, fmt.Sprintf("POSTs go to app %s's webhook: they wait for a week for an API process that knows it", app))
		} else if _, err := job.ParseLane(lane); err != nil {
			list = append(list, fmt.Sprintf("there is no lane %q: its letters come back", lane))
		} else if !r.known[app] {
			list = append(list, fmt.Sprintf("no worker knows app %s: its letters come back after a minute, as unknown app", app))
		}
	}
	return slices.Compact(list)
}

// Redrive is [DeadLetters.Redrive] for a letter that may have been read without its body.
// The error wraps [ErrNoLetter] where somebody else was faster.
func (r *Redriver) Redrive(ctx context.Context, l *DeadLetter) (Redriven, error) {
	if len(l.Body) != l.Bytes {
		whole, err := r.d.Letter(ctx, l.Sequence)
		if err != nil {
			return Redriven{}, err
		}
		l = whole
	}
	return r.d.Redrive(ctx, l)
}

// DeadTally counts dead letters by app and reason. It keeps few of the reasons: those of
// what was no job may be as many as there are letters.
type DeadTally struct {
	Letters, Recipients int

	rows map[[2]string]*DeadCount
}

// DeadCount counts the letters of an app that have the same reason.
type DeadCount struct {
	App                 string // empty: those of other reasons, whatever their app
	Reason              string // cut to [DeadCountReason] bytes
	Letters, Recipients int
}

const (
	// DeadCounts is how many reasons a [DeadTally] keeps; one more is for all others.
	DeadCounts = 40
	// DeadCountReason is how many bytes of a reason it keeps.
	DeadCountReason = 80
)

// Add counts a letter under a reason.
func (t *DeadTally) Add(l *DeadLetter, reason string) {
	if len(reason) > DeadCountReason {
		reason = strings.ToValidUTF8(reason[:DeadCountReason-len("…")], "") + "…"
	}
	key := [2]string{l.App, reason}
	if t.rows[key] == nil && len(t.rows) >= DeadCounts {
		key = [2]string{"", "(other reasons)"}
	}
	row := t.rows[key]
	if row == nil {
		if t.rows == nil {
			t.rows = make(map[[2]string]*DeadCount)
		}
		row = &DeadCount{App: key[0], Reason: key[1]}
		t.rows[key] = row
	}
	row.Letters++
	row.Recipients += l.Recipients
	t.Letters++
	t.Recipients += l.Recipients
}

// Counts returns what was counted, the most first.
func (t *DeadTally) Counts() []DeadCount {
	list := make([]DeadCount, 0, len(t.rows))
	for _, row := range t.rows {
		list = append(list, *row)
	}
	slices.SortFunc(list, func(a, b DeadCount) int {
		return cmp.Or(cmp.Compare(b.Letters, a.Letters), cmp.Compare(a.App, b.App), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}
