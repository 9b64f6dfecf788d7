package explain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// explained is one case: a device, or a user or an installation without one.
type explained struct {
	device    device.Device
	known     bool // the token set has it
	explained Finding
}

// cases finds the devices that are meant.
func (a *asking) cases(ctx context.Context) ([]*explained, error) {
	if !a.q.Token.IsZero() {
		c, err := a.caseOf(ctx, a.q.Token)
		return []*explained{c}, err
	}
	find, ids := a.Set.ByUsers, []string{a.q.User}
	if a.q.Install != "" {
		find, ids = a.Set.ByInstalls, []string{a.q.Install}
	}
	found, err := find(ctx, a.q.App, ids)
	if err != nil {
		return nil, err
	}
	var cases []*explained
	for _, entry := range found[0] {
		c, err := a.caseOf(ctx, entry.Token)
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	// What was sent to users names those who had no device.
	if len(cases) == 0 || a.q.User != "" {
		cases = append(cases, &explained{explained: Finding{User: a.q.User, Install: a.q.Install}})
	}
	return cases, nil
}

func (a *asking) caseOf(ctx context.Context, t device.Token) (*explained, error) {
	d, known, err := a.Set.Device(ctx, a.q.App, t)
	if err != nil {
		return nil, err
	}
	d.Token = t
	c := &explained{device: d, known: known, explained: Finding{Token: t.String(), User: d.User, Install: d.InstallID}}
	if t == a.q.Token {
		c.explained.Token = t.Hex()
	}
	return c, nil
}

// note takes from a message of OUTCOMES what it tells of a case; of says which of its
// jobs are meant.
func (c *explained) note(o *job.Outcomes, of func(*job.JobOutcome) bool) {
	for i := range o.Jobs {
		jo := &o.Jobs[i]
		if !of(jo) {
			continue
		}
		told := Told{At: o.At, Worker: o.Worker, Attempt: jo.Attempt}
		if r := c.in(jo); r != nil {
			told.Result, told.Reason, told.Status = r.Result, r.Reason, r.Status
			if r.Timestamp != 0 {
				since := time.UnixMilli(r.Timestamp).UTC()
				told.DeadSince = &since
			}
			if c.has(&told) {
				continue
			}
			c.explained.Told = append(c.explained.Told, told)
			c.explained.Verdict, c.explained.Text = string(told.Result), told.Sentence()
			if jo.Campaign != "" {
				c.explained.Range = &jo.Range
			}
		}
	}
}

// has reports whether an outcome was noted: a search and a look at its place may both
// come to it.
func (c *explained) has(told *Told) bool {
	return slices.ContainsFunc(c.explained.Told, func(t Told) bool {
		return t.At.Equal(told.At) && t.Worker == told.Worker && t.Attempt == told.Attempt && t.Result == told.Result
	})
}

// in returns what an outcome tells of the case, or nil.
func (c *explained) in(jo *job.JobOutcome) *job.Recipient {
	if !c.device.Token.IsZero() {
		for _, t := range jo.Accepted {
			if t == c.device.Token {
				return &job.Recipient{Result: job.Accepted, Status: 200}
			}
		}
	}
	for i := range jo.Others {
		r := &jo.Others[i]
		switch {
		case !r.DeviceToken.IsZero():
			if r.DeviceToken == c.device.Token {
				return r
			}
		case c.explained.Token == "" && (r.User != "" && r.User == c.explained.User || r.Install != "" && r.Install == c.explained.Install):
			return r
		}
	}
	return nil
}

// open reports whether nothing is told of the case.
func (c *explained) open() bool { return len(c.explained.Told) == 0 }

func (c *explained) say(verdict, format string, args ...any) {
	c.explained.Verdict, c.explained.Text = verdict, fmt.Sprintf(format, args...)
}

// waits says that a case is to wait, until a time where that is known.
func (c *explained) waits(until time.Time, format string, args ...any) {
	c.say(Waiting, format, args...)
	if !until.IsZero() {
		until = until.UTC()
		c.explained.Until = &until
	}
}

// hash is what progress knows the case by.
func (c *explained) hash() uint64 {
	switch {
	case c.explained.Token != "":
		return job.RecipientHash(c.device.Token)
	case c.explained.User != "":
		return job.UserHash(c.explained.User)
	default:
		return job.InstallHash(c.explained.Install)
	}
}

// byProgress says of a case what progress knows, and reports whether that is anything.
func (c *explained) byProgress(p *store.Progress) bool {
	h := c.hash()
	if marked, ok := p.Marked[h]; ok {
		c.say(string(marked.Result), "%s, which a worker has noted and not told yet", marked.Result)
		return true
	}
	if _, ok := p.Settled[h]; ok {
		c.say(Settled, "settled, but OUTCOMES does not have any more how")
		return true
	}
	if w, ok := p.Waiting[h]; ok {
		c.waits(w.RetryAt, "waits until %s: tried %d times in vain", Instant(w.RetryAt), w.Attempts)
		return true
	}
	return false
}

// dropUserWithDevices leaves out a user's own case where there are devices, unless
// something was told of it.
func dropUserWithDevices(cases []*explained) []*explained {
	if last := len(cases) - 1; last > 0 && cases[last].explained.Token == "" && cases[last].open() {
		return cases[:last]
	}
	return cases
}
