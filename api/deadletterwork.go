package api

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/stream"
)

// letterWork is one request that redrives or purges dead letters. It does what it comes
// to in its time, and says where to go on.
type letterWork struct {
	c      *call
	d      *stream.DeadLetters
	choice DeadLetterChoice
	filter stream.DeadFilter
	until  time.Time
	out    DeadLetterResult

	looked, met int // letters that were looked at for the filter, and those that are meant
	last        uint64
	goes, stays stream.DeadTally
	targets     map[string]bool // subjects that letters go back to
}

// newLetterWork reads what is meant.
func (a *API) newLetterWork(c *call) (*letterWork, *Problem) {
	w := &letterWork{c: c, until: time.Now().Add(a.workTime), targets: make(map[string]bool)}
	var f faults
	var p *Problem
	if w.choice, p = readChoice(c.body, &f); p != nil {
		return nil, p
	}
	c.object = w.choice.described()
	w.filter = c.filter(&w.choice, "%s", &f)
	if f.any() {
		return nil, invalid(&f)
	}
	c.unaudited = w.choice.DryRun
	var err error
	if w.d, err = a.cfg.DeadLetters.DeadLetters(c.ctx); err != nil {
		return nil, queueUnavailable(err)
	}
	if w.filter.Through = w.choice.Through; w.filter.Through == 0 {
		if err := w.d.Bound(c.ctx, &w.filter); err != nil {
			return nil, queueUnavailable(err)
		}
	}
	w.out.DryRun = w.choice.DryRun
	return w, nil
}

// over reports whether it is enough for one request. There is progress by each: the first
// letter is never too much.
func (w *letterWork) over() bool {
	ch := &w.choice
	return w.met > 0 && (w.met >= cmp.Or(ch.Limit, defaultWork) || ch.MaxRecipients > 0 && w.goes.Recipients >= ch.MaxRecipients || !time.Now().Before(w.until))
}

// each calls do with the letters that are meant, until it is enough for one request.
func (w *letterWork) each(do func(*stream.DeadLetter) error) error {
	if len(w.choice.Sequences) > 0 {
		return w.eachNumber(do)
	}
	w.out.Through = w.filter.Through
	for from := w.choice.After + 1; ; {
		page, next, err := w.d.Search(w.c.ctx, &w.filter, from, letterRun, letterRun*10)
		if err != nil {
			return err
		}
		w.looked += letterRun * 10
		for i := range page {
			if w.over() {
				w.out.Next = page[i].Sequence - 1
				return nil
			}
			w.met++
			if err := do(&page[i]); err != nil {
				return err
			}
		}
		if next == 0 {
			return nil
		}
		if from = next; w.over() || w.looked >= maxLooked || !time.Now().Before(w.until) {
			w.out.Next = next - 1
			return nil
		}
	}
}

// eachNumber is each for numbers. Those that the request does not come to are given again
// by who goes on: each number is larger than After, in their order.
func (w *letterWork) eachNumber(do func(*stream.DeadLetter) error) error {
	slices.Sort(w.choice.Sequences)
	for _, sequence := range w.choice.Sequences {
		if sequence <= w.choice.After {
			continue
		}
		if w.over() {
			w.out.Next = sequence - 1
			return nil
		}
		l, err := w.c.letter(w.d, sequence)
		if errors.Is(err, stream.ErrNoLetter) {
			w.out.Unknown = append(w.out.Unknown, sequence)
			continue
		}
		if err != nil {
			return err
		}
		w.met++
		if err := do(l); err != nil {
			return err
		}
	}
	return nil
}

// result is the answer, also where an error ended the work: what was done is done.
func (w *letterWork) result(err error) (int, any, *Problem) {
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	w.out.Letters, w.out.Recipients, w.out.Stays = w.goes.Letters, w.goes.Recipients, w.stays.Letters
	w.out.Reasons, w.out.Refusals = countsOf(&w.goes), countsOf(&w.stays)
	if w.out.Notes == nil {
		w.out.Notes = []string{}
	}
	return http.StatusOK, w.out, nil
}

func (a *API) redriveDeadLetters(c *call) (int, any, *Problem) {
	w, p := a.newLetterWork(c)
	if p != nil {
		return 0, nil, p
	}
	r, err := w.d.Redriver(c.ctx, a.cfg.Now())
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	err = w.each(func(l *stream.DeadLetter) error {
		if why := r.Refusal(l); why != "" {
			w.stays.Add(l, "stays: "+why)
			return nil
		}
		if !w.choice.DryRun {
			done, err := r.Redrive(c.ctx, l)
			switch {
			case errors.Is(err, stream.ErrNoLetter):
				return nil // somebody else was faster
			case err != nil:
				return err
			case done.Again:
				w.out.Again++
			}
		}
		w.goes.Add(l, HideTokens(l.Reason))
		if len(w.targets) < stream.DeadCounts {
			w.targets[l.Subject] = true
		}
		return nil
	})
	if len(w.targets) > 0 {
		w.out.Notes = r.Notes(slices.Sorted(maps.Keys(w.targets)))
	}
	return w.result(err)
}

func (a *API) purgeDeadLetters(c *call) (int, any, *Problem) {
	w, p := a.newLetterWork(c)
	if p != nil {
		return 0, nil, p
	}
	if w.choice.MaxRecipients > 0 {
		var f faults
		f.add("max_recipients", "is for redriving")
		return 0, nil, invalid(&f)
	}
	// The oldest ones the server deletes at once, instead of a call for each.
	atOnce := len(w.choice.Sequences) == 0 && w.filter.IsPrefix() && w.choice.After == 0
	err := w.each(func(l *stream.DeadLetter) error {
		if !w.choice.DryRun && !atOnce {
			if was, err := w.d.Delete(c.ctx, l.Sequence); err != nil || !was {
				return err
			}
		}
		w.last = l.Sequence
		w.goes.Add(l, HideTokens(l.Reason))
		return nil
	})
	if err == nil && atOnce && w.last > 0 && !w.choice.DryRun {
		err = w.d.DeleteThrough(c.ctx, c.appName, w.last)
	}
	return w.result(err)
}
