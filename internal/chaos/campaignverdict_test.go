//go:build chaos && linux

package chaos_test

import (
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// place is what a device token is to a campaign.
type place struct {
	of   *tally
	what string // for a person
	// must: it is to be sent to, unless the campaign is cancelled. may: it may be.
	must, may bool
	healthy   bool
	mover     int    // below 0: it is a member's
	payload   uint64 // hash of what is to be sent
}

// tally is what the journal and OUTCOMES have of a campaign.
type tally struct {
	*sent
	must, accepted, duplicates int
	told                       int         // accepted, by OUTCOMES
	last                       int64       // when the last was accepted
	movers                     map[int]int // how many device tokens of a mover accepted it
}

// campaignRow is a line of the table of campaigns.
type campaignRow struct {
	id, kind, state            string
	must, accepted, duplicates int
	replaced                   int // movers who got it under more than one device token
	halts                      int
	took                       time.Duration
}

// places are all pairs of device token and apns-id that campaigns can have made.
func (c *campaigns) places(tallies []*tally) map[uint64]*place {
	all := make(map[uint64]*place)
	for _, of := range tallies {
		ids := job.NewAPNsIDs(club, "campaign\n"+of.id)
		shared := apnstest.PayloadHash(of.payload(0))
		add := func(t device.Token, p *place) {
			p.of, p.healthy = of, healthy(t)
			if p.payload == 0 {
				p.payload = shared
			}
			p.must = p.must && p.healthy
			if p.must {
				of.must++
			}
			all[apnstest.PairHash([]byte(t.Raw()), ids.ID(t))] = p
		}
		inFile := make(map[int]bool)
		for _, i := range of.file {
			inFile[i] = true
		}
		for i := range c.roll.members {
			p := &place{what: fmt.Sprintf("member %d", i), mover: -1}
			switch of.kind {
			case fileKind:
				p.must, p.payload = inFile[i], apnstest.PayloadHash(of.payload(i))
			case tagKind:
				p.must = i%tagged == 0
			default:
				p.must = true
			}
			p.may = p.must
			add(c.roll.member(i), p)
		}
		for i := range c.roll.movers {
			for n, had := range c.roll.movers[i].had {
				add(c.roll.mover(i, n), &place{what: fmt.Sprintf("mover %d.%d", i, n), mover: i, may: of.kind != fileKind && (of.kind != tagKind || had)})
			}
		}
	}
	return all
}

// judgeCampaigns holds campaigns against the journal and OUTCOMES, and adds what
// they may have sent to expected.
func (v *verdict) judgeCampaigns(c *campaigns, j *journal, b *bounding, outcomes map[uint64]told, expected map[uint64]struct{}) {
	var tallies []*tally
	for _, s := range c.all() {
		tallies = append(tallies, &tally{sent: s, movers: make(map[int]int)})
	}
	places := c.places(tallies)
	times, explained := make(map[uint64]int), make(map[uint64]int)
	for i := range j.requests {
		r := &j.requests[i]
		p := places[r.pair]
		if p == nil {
			continue
		}
		if p.may && r.payload != p.payload {
			v.bad("campaign: sent what it should not", "%s, %s", p.of.id, p.what)
		}
		v.judgeHalts(p, r, b)
		if !r.accepted() {
			continue
		}
		times[r.pair]++
		p.of.last = max(p.of.last, r.received)
		if _, ok := b.mayRepeat(r); ok {
			explained[r.pair]++
		}
	}
	for pair, p := range places {
		expected[pair] = struct{}{}
		v.judgePlace(p, outcomes[pair], times[pair], explained[pair])
	}
	for _, of := range tallies {
		v.judgeCounts(of)
		if of.kind != cancelKind {
			v.sent += of.must
		}
		replaced := 0
		for _, n := range of.movers {
			replaced += min(1, n-1)
		}
		v.campaigns = append(v.campaigns, campaignRow{
			id: of.id, kind: of.kind, state: of.shown.State, must: of.must, accepted: of.accepted, duplicates: of.duplicates, replaced: replaced,
			halts: len(of.halts), took: max(0, time.UnixMicro(of.last).Sub(of.asked)),
		})
	}
}

// judgeHalts: nothing comes while a campaign is paused, or after it was cancelled.
func (v *verdict) judgeHalts(p *place, r *request, b *bounding) {
	for _, h := range p.of.halts {
		from := unix(h.from.Add(haltWithin))
		if r.received > from && (h.to.IsZero() || r.received < unix(h.to)) && !b.heldUp(r, unix(h.from)) {
			v.bad("campaign: sent while it was halted", "%s, %s, %s after that was acknowledged by worker %d", p.of.id, p.what,
				time.Duration(r.received-unix(h.from))*time.Microsecond, b.owner[r.conn])
		}
	}
}

// judgePlace judges what became of one device token in a campaign.
func (v *verdict) judgePlace(p *place, e told, accepted, explained int) {
	who := func() string { return fmt.Sprintf("campaign %s, %s", p.of.id, p.what) }
	v.repeated += max(0, int(e.times)-1)
	if e.results&bits[job.Accepted] != 0 {
		p.of.told++
		if accepted == 0 {
			v.bad("campaign: accepted, it says, and not in the ledger", "%s", who())
		}
	}
	if accepted > 0 {
		p.of.accepted++
		p.of.duplicates += accepted - 1
		if p.mover >= 0 {
			p.of.movers[p.mover]++
		}
	}
	switch {
	case accepted > 0 && !p.may:
		v.bad("campaign: sent to somebody outside the audience", "%s", who())
	case accepted-1 > explained:
		v.bad("campaign: sent again, and no fault explains it", "%s: %d times, %d of them explained", who(), accepted, explained)
	case p.of.kind == cancelKind:
		if p.must && e.results&^(bits[job.Accepted]|bits[job.Skipped]) != 0 {
			v.bad("wrong outcome", "%s, healthy, of a cancelled campaign: %s", who(), resultsOf(e.results))
		}
	case p.must && (accepted == 0 || e.times == 0):
		v.lost++
		v.bad("campaign: lost", "%s: accepted %d times, told %q", who(), accepted, resultsOf(e.results))
	case p.must && e.results != bits[job.Accepted]:
		v.bad("wrong outcome", "%s, healthy: %s", who(), resultsOf(e.results))
	case !p.healthy && e.results&^(bits[job.Rejected]|bits[job.Suppressed]) != 0:
		v.bad("wrong outcome", "%s, dead or bad: %s", who(), resultsOf(e.results))
	}
}

// judgeCounts holds what campaign show says against OUTCOMES.
func (v *verdict) judgeCounts(of *tally) {
	counts, sum := of.shown.Counts, int64(0)
	for _, n := range counts.Results {
		sum += n
	}
	state := campaign.Done
	if of.kind == cancelKind && len(of.halts) > 0 {
		state = campaign.Cancelled
	}
	if of.shown.State != string(state) || !of.shown.Closed {
		v.bad("campaign: not ended", "%s is %s, closed %t, want it %s", of.id, of.shown.State, of.shown.Closed, state)
	}
	if counts.Results[string(job.Accepted)] != int64(of.told) {
		v.bad("campaign: counts are wrong", "%s: %d accepted, OUTCOMES have %d", of.id, counts.Results[string(job.Accepted)], of.told)
	}
	switch {
	case state == campaign.Done && (sum != counts.Matched || counts.Remaining != 0 || counts.Ranges != int64(of.shown.Ranges) || counts.Devices != of.shown.Devices):
		v.bad("campaign: counts do not add up", "%s of %d ranges, %d devices: %+v", of.id, of.shown.Ranges, of.shown.Devices, counts)
	case sum < counts.Matched || counts.Devices+counts.Remaining != of.shown.Devices:
		v.bad("campaign: counts do not add up", "%s of %d ranges, %d devices, cancelled: %+v", of.id, of.shown.Ranges, of.shown.Devices, counts)
	}
}

// heldUp reports whether a request may have been on its way since before a time.
func (b *bounding) heldUp(r *request, since int64) bool {
	w := b.owner[r.conn]
	if w == all {
		return false
	}
	for _, s := range b.held[w] {
		if s.from <= r.received && s.to+heldAfter >= since {
			return true
		}
	}
	return false
}
