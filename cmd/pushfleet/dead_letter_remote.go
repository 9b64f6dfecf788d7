package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// letterPage is how many letters a request lists at the most: what the API gives.
	letterPage = 1000
	// letterPart is how many a request redrives or purges at the most. choice: so that the
	// bar moves; the API stops after some seconds anyway.
	letterPart = 1000
	// maxNumbers is how many numbers a request may have.
	maxNumbers = 1000
)

// remoteLetters are those behind the API: for each app there are requests of their own.
type remoteLetters struct {
	*door
	planned map[string]uint64 // by app: the last letter of the plan
}

// each goes through the apps at once, so that letters come in their order.
func (r *remoteLetters) each(ctx context.Context, s *selection, most int, do func(*api.DeadLetter) error) error {
	apps, err := r.chosenApps(ctx, s.Filter.App)
	if err != nil {
		return err
	}
	page := letterPage
	if most > 0 {
		page = min(most+1, letterPage) // one more says that there are more
	}
	var heads []*letterList
	for _, app := range apps {
		heads = append(heads, &letterList{door: r.door, app: app, query: s.query(page)})
	}
	for {
		var first *letterList
		for _, h := range heads {
			if err := h.fill(ctx); err != nil {
				return err
			}
			if len(h.page) > 0 && (first == nil || h.page[0].Sequence < first.page[0].Sequence) {
				first = h
			}
		}
		if first == nil {
			return nil
		}
		l := first.page[0]
		first.page = first.page[1:]
		if err := do(&l); err != nil {
			return err
		}
	}
}

// query is the selection in a URL.
func (s *selection) query(limit int) url.Values {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	for name, value := range map[string]string{
		"reason": s.Filter.Reason, "campaign": s.Filter.Campaign, "job": s.Filter.Job, "newer_than": s.newer, "older_than": s.older,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// letterList is an app's dead letters, page by page.
type letterList struct {
	*door
	app   string
	query url.Values
	page  []api.DeadLetter // read, and not given yet
	whole bool             // the last page is read
}

// fill reads until there is a letter, or no more.
func (l *letterList) fill(ctx context.Context) error {
	for len(l.page) == 0 && !l.whole {
		var out api.DeadLetterList
		if err := l.get(ctx, &out, l.query, inApp(l.app, "dead-letters")...); err != nil {
			return err
		}
		l.page, l.whole = out.DeadLetters, out.Next == 0
		l.query.Set("after", strconv.FormatUint(out.Next, 10))
	}
	return nil
}

// letter asks for each app: a number does not say whose it is.
func (r *remoteLetters) letter(ctx context.Context, sequence uint64, full bool) (*api.DeadLetter, error) {
	apps, err := r.chosenApps(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		var out api.DeadLetter
		err := r.get(ctx, &out, url.Values{"full": {strconv.FormatBool(full)}}, inApp(app, "dead-letters", strconv.FormatUint(sequence, 10))...)
		if remote.Is(err, "unknown_dead_letter") {
			continue
		}
		return &out, err
	}
	return nil, noLetter(sequence)
}

func noLetter(sequence uint64) error {
	return fmt.Errorf("read dead letter %d: %w", sequence, stream.ErrNoLetter)
}

// letterVerb is what is done with letters.
type letterVerb string

const (
	letterRedrive letterVerb = "redrive"
	letterPurge   letterVerb = "purge"
)

// parts does the selection's letters part by part, for each app, and calls did with each
// answer.
func (r *remoteLetters) parts(ctx context.Context, verb letterVerb, s *selection, base api.DeadLetterChoice, did func(app string, part *api.DeadLetterResult) error) error {
	apps, err := r.chosenApps(ctx, s.Filter.App)
	if err != nil {
		return err
	}
	unknown := make(map[uint64]int) // in how many apps
	for _, app := range apps {
		for _, choice := range s.choices(base) {
			choice.Through = r.planned[app]
			if err := r.part(ctx, verb, app, choice, func(part *api.DeadLetterResult) error {
				for _, sequence := range part.Unknown {
					unknown[sequence]++
				}
				return did(app, part)
			}); err != nil {
				return err
			}
		}
	}
	for _, sequence := range s.Sequences {
		if base.DryRun && unknown[sequence] == len(apps) {
			return noLetter(sequence)
		}
	}
	return nil
}

// part goes on with one choice until it is done.
func (r *remoteLetters) part(ctx context.Context, verb letterVerb, app string, choice api.DeadLetterChoice, did func(*api.DeadLetterResult) error) error {
	for {
		var out api.DeadLetterResult
		call := &remote.Call{Method: http.MethodPost, Path: inApp(app, "dead-letters", string(verb)), In: choice, Out: &out, Repeatable: true}
		if err := r.callWhole(ctx, call); err != nil {
			return err
		}
		if err := did(&out); err != nil || out.Next == 0 {
			return err
		}
		choice.After = out.Next
		if out.Through > 0 {
			choice.Through = out.Through
		}
	}
}

// choices are the selection in bodies of requests.
func (s *selection) choices(base api.DeadLetterChoice) []api.DeadLetterChoice {
	if len(s.Sequences) > 0 {
		var list []api.DeadLetterChoice
		for numbers := range slices.Chunk(s.Sequences, maxNumbers) {
			one := base
			one.Sequences = numbers
			list = append(list, one)
		}
		return list
	}
	base.Reason, base.Campaign, base.Job = s.Filter.Reason, s.Filter.Campaign, s.Filter.Job
	base.NewerThan, base.OlderThan = s.newer, s.older
	base.All = base.Reason+base.Campaign+base.Job+base.NewerThan+base.OlderThan == ""
	return []api.DeadLetterChoice{base}
}

func (r *remoteLetters) planRedrive(ctx context.Context, s *selection) (*letterPlan, error) {
	return r.plan(ctx, letterRedrive, s)
}

func (r *remoteLetters) planPurge(ctx context.Context, s *selection) (*letterPlan, error) {
	return r.plan(ctx, letterPurge, s)
}

// plan has the API count.
func (r *remoteLetters) plan(ctx context.Context, verb letterVerb, s *selection) (*letterPlan, error) {
	plan := new(letterPlan)
	goes, stays := make(letterRows), make(letterRows)
	last := make(map[string]uint64)
	recipients := 0
	err := r.parts(ctx, verb, s, api.DeadLetterChoice{DryRun: true, Limit: 10 * letterPart}, func(app string, part *api.DeadLetterResult) error {
		goes.add(app, part.Reasons)
		stays.add(app, part.Refusals)
		plan.letters, plan.stays, recipients = plan.letters+part.Letters, plan.stays+part.Stays, recipients+part.Recipients
		for _, note := range part.Notes {
			if !slices.Contains(plan.notes, note) {
				plan.notes = append(plan.notes, note)
			}
		}
		last[app] = part.Through
		return nil
	})
	plan.rows = slices.Concat(goes.counts(), stays.counts())
	plan.weight = max(recipients, plan.letters)
	if len(s.Sequences) == 0 {
		r.planned = last
	}
	return plan, err
}

// letterRows add up what several requests count.
type letterRows map[[2]string]*stream.DeadCount

func (t letterRows) add(app string, counts []api.DeadLetterCount) {
	for _, c := range counts {
		row := t[[2]string{app, c.Reason}]
		if row == nil {
			row = &stream.DeadCount{App: app, Reason: c.Reason}
			t[[2]string{app, c.Reason}] = row
		}
		row.Letters, row.Recipients = row.Letters+c.Letters, row.Recipients+c.Recipients
	}
}

func (t letterRows) counts() []stream.DeadCount {
	var list []stream.DeadCount
	for _, row := range t {
		list = append(list, *row)
	}
	slices.SortFunc(list, func(a, b stream.DeadCount) int {
		return cmp.Or(cmp.Compare(b.Letters, a.Letters), cmp.Compare(a.App, b.App), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}

// redrive bounds each request by half a second's recipients, and waits between them.
func (r *remoteLetters) redrive(ctx context.Context, s *selection, rate int, moved func(int)) (redriven, error) {
	base := api.DeadLetterChoice{Limit: letterPart}
	if rate > 0 {
		base.MaxRecipients = max(1, rate/2)
		base.Limit = min(letterPart, base.MaxRecipients)
	}
	var sum redriven
	pace := pacer{rate: rate}
	err := r.parts(ctx, letterRedrive, s, base, func(_ string, part *api.DeadLetterResult) error {
		sum.letters, sum.recipients, sum.again = sum.letters+part.Letters, sum.recipients+part.Recipients, sum.again+part.Again
		moved(part.Letters)
		if part.Next == 0 {
			return nil
		}
		// What was redriven is waited for before the next part.
		if err := pace.wait(ctx, max(part.Recipients, part.Letters)); err != nil {
			return err
		}
		return pace.wait(ctx, 0)
	})
	return sum, err
}

func (r *remoteLetters) purge(ctx context.Context, s *selection, _ *letterPlan, moved func(int)) (deleted int, _ error) {
	err := r.parts(ctx, letterPurge, s, api.DeadLetterChoice{Limit: letterPart}, func(_ string, part *api.DeadLetterResult) error {
		deleted += part.Letters
		moved(part.Letters)
		return nil
	})
	return deleted, err
}
