//go:build chaos && linux

package chaos_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// verdict is what a run comes to.
type verdict struct {
	sent, lost, duplicates, bound int
	why                           map[string]int // of bound
	urgent                        time.Duration  // longest from a clean kill to the acceptance of a transactional job
	kills                         int
	repeated                      int    // outcomes told a second time
	heard                         string // what the backend was told, in a line
	rows                          []row
	campaigns                     []campaignRow
	problems                      []string
	counted                       map[string]int // problems by kind
}

// bad notes a violation; of each kind the first few are told.
func (v *verdict) bad(kind, format string, args ...any) {
	v.counted[kind]++
	if v.counted[kind] <= 5 {
		v.problems = append(v.problems, kind+": "+fmt.Sprintf(format, args...))
	}
}

func (v *verdict) failed() bool { return len(v.counted) > 0 }

// told is what the fleet said of a recipient.
type told struct {
	results uint8 // bits
	times   uint8
}

var bits = map[job.Result]uint8{
	job.Accepted: 1, job.Rejected: 2, job.Suppressed: 4, job.Expired: 8, job.Skipped: 16, job.Unknown: 32, job.Failed: 64,
}

func resultsOf(b uint8) string {
	var list []string
	for _, r := range slices.Sorted(maps.Keys(bits)) {
		if b&bits[r] != 0 {
			list = append(list, string(r))
		}
	}
	return strings.Join(list, " and ")
}

// outcomes reads everything that the fleet has told, by the pair of device token
// and apns-id.
func (f *fleet) outcomes() (map[uint64]told, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), 5*time.Minute)
	defer cancel()
	st, err := f.js.Stream(ctx, stream.Outcomes)
	if err != nil {
		return nil, err
	}
	all := make(map[uint64]told)
	last := st.CachedInfo().State.LastSeq
	if st.CachedInfo().State.Msgs == 0 {
		return all, nil
	}
	c, err := st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	iter, err := c.Messages()
	if err != nil {
		return nil, err
	}
	defer iter.Stop()
	for {
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		o, err := job.ParseOutcomes(msg.Data())
		if err != nil {
			return nil, err
		}
		of := strings.Split(msg.Subject(), ".")[2] // push.outcomes.<app>.…
		for i := range o.Jobs {
			jo := &o.Jobs[i]
			ids := job.NewAPNsIDs(of, jo.ID)
			if jo.Campaign != "" {
				ids = job.NewAPNsIDs(of, "campaign\n"+jo.Campaign)
			}
			add := func(t device.Token, r job.Result) {
				pair := apnstest.PairHash([]byte(t.Raw()), ids.ID(t))
				e := all[pair]
				e.results |= bits[r]
				e.times++
				all[pair] = e
			}
			for _, t := range jo.Accepted {
				add(t, job.Accepted)
			}
			for _, r := range jo.Others {
				if r.DeviceToken != (device.Token{}) {
					add(r.DeviceToken, r.Result)
				}
			}
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		if meta.Sequence.Stream >= last {
			return all, nil
		}
	}
}

// judge holds everything that is known of a run against everything else. c may be
// nil: it had no campaigns.
func judge(f *fleet, l *load, c *campaigns, j *journal, b *bounding, faults []fault) (*verdict, error) {
	v := &verdict{why: make(map[string]int), counted: make(map[string]int)}
	for i := range faults {
		if strings.HasPrefix(faults[i].kind, "kill") {
			v.kills++
		}
	}
	// The ledger: how often each pair was accepted, and when first.
	times := make(map[uint64]uint8)
	first := make(map[uint64]int64)
	for i := range j.requests {
		r := &j.requests[i]
		if !r.accepted() {
			continue
		}
		times[r.pair]++
		if at, ok := first[r.pair]; !ok || r.received < at {
			first[r.pair] = r.received
		}
		if why, ok := b.mayRepeat(r); ok {
			v.bound++
			v.why[why]++
		}
	}
	outcomes, err := f.outcomes()
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	expected := make(map[uint64]struct{}, len(times))
	settled := make([]int64, len(l.orders)) // when the last of an order was accepted first
	for n, o := range l.orders {
		ids := job.NewAPNsIDs(app, o.id)
		for i, t := range o.tokens(l.p) {
			pair := apnstest.PairHash([]byte(t.Raw()), ids.ID(t))
			expected[pair] = struct{}{}
			v.sent++
			settled[n] = max(settled[n], first[pair])
			v.recipient(l.p, o, i, t, outcomes[pair], times[pair])
			v.repeated += max(0, int(outcomes[pair].times)-1)
		}
	}
	if c != nil {
		v.judgeCampaigns(c, j, b, outcomes, expected)
	}
	for pair, n := range times {
		v.duplicates += int(n) - 1
		if _, ok := expected[pair]; !ok {
			v.bad("a pair of device token and apns-id that no job and no campaign has", "%016x", pair)
		}
	}
	if v.duplicates > v.bound {
		v.bad("more duplicates than the bound", "%d, bound %d", v.duplicates, v.bound)
	}
	v.judgeUrgent(l.orders, settled, faults)
	v.rows = v.table(l.orders, settled, faults)
	if err := v.judgeProgress(f, l); err != nil {
		return nil, err
	}
	if err := v.judgeTokens(f, l, j); err != nil {
		return nil, err
	}
	return v, nil
}

// recipient judges what became of one recipient of an order.
func (v *verdict) recipient(p *population, o *order, i int, t device.Token, e told, accepted uint8) {
	who := func() string { return fmt.Sprintf("job %s, recipient %d", o.id, i) }
	if e.times == 0 {
		v.lost++
		v.bad("lost: no outcome", "%s, published at %s, accepted %d times", who(), o.taken.UTC().Format("15:04:05.000"), accepted)
		return
	}
	healthy := shares.Fate([]byte(t.Raw())) == apnstest.Healthy
	if n := o.first + i; o.user < 0 && n%p.size < p.ghosts {
		healthy = false
	}
	switch {
	case healthy && accepted == 0:
		v.lost++
		v.bad("lost: not in the ledger", "%s: told %s", who(), resultsOf(e.results))
	case healthy && e.results != bits[job.Accepted]:
		v.bad("wrong outcome", "%s of a healthy device: %s", who(), resultsOf(e.results))
	case !healthy && e.results&^(bits[job.Rejected]|bits[job.Suppressed]) != 0:
		v.bad("wrong outcome", "%s of a dead or bad device: %s", who(), resultsOf(e.results))
	}
}

// urgentWithin is how long after a kill a transactional job of the dead worker is
// accepted.
const urgentWithin = 15 * time.Second

// judgeUrgent looks at kills with nothing else around them.
func (v *verdict) judgeUrgent(orders []*order, settled []int64, faults []fault) {
	for i := range faults {
		kill := &faults[i]
		if kill.kind != killWorker {
			continue
		}
		clean := !slices.ContainsFunc(faults, func(f fault) bool {
			return f != *kill && f.to.After(kill.from.Add(-3*time.Second)) && f.from.Before(kill.from.Add(urgentWithin))
		})
		if !clean {
			continue
		}
		for n, o := range orders {
			if o.lane != job.Transactional || o.taken.After(kill.from) || settled[n] <= unix(kill.from) {
				continue
			}
			took := time.UnixMicro(settled[n]).Sub(kill.from)
			v.urgent = max(v.urgent, took)
			if took > urgentWithin {
				v.bad("urgent job too late after a kill", "job %s: %s", o.id, took)
			}
		}
	}
}

// judgeProgress asks Redis: every job is complete, and its counts add up.
func (v *verdict) judgeProgress(f *fleet, l *load) error {
	const batch = 500
	for orders := range slices.Chunk(l.orders, batch) {
		keys := make([]store.JobKey, len(orders))
		for i, o := range orders {
			keys[i] = store.JobKey{App: app, Lane: o.lane, ID: o.id}
		}
		progress, err := f.set.Progress(f.ctx, keys)
		if err != nil {
			return fmt.Errorf("read progress: %w", err)
		}
		for i, o := range orders {
			p, sum := &progress[i], 0
			for _, n := range p.Counts {
				sum += n
			}
			if !p.Complete || sum != o.count || p.Total != o.count {
				v.bad("counts do not add up", "job %s of %d: complete %v, total %d, counts %v", o.id, o.count, p.Complete, p.Total, p.Counts)
			}
		}
	}
	return nil
}

// judgeTokens holds the token set against what a model of it makes of the
// registrations and of the answers that the simulator gave: a device token is
// removed exactly if one of its 410s says a later time than its last
// registration.
func (v *verdict) judgeTokens(f *fleet, l *load, j *journal) error {
	died := make(map[uint64]int64) // latest timestamp of an answered 410, in milliseconds
	bad := make(map[uint64]bool)
	for i := range j.requests {
		r := &j.requests[i]
		switch {
		case r.withdrawn || r.answered == 0:
		case r.status == 410:
			died[r.token] = max(died[r.token], r.timestamp)
		case r.status == 400:
			bad[r.token] = true
		}
	}
	asked := make(map[int]int64)
	for _, r := range l.registrations {
		asked[r.token] = max(asked[r.token], r.asked.UnixMilli())
	}
	tokens := make([]device.Token, l.p.registered)
	for i := range tokens {
		tokens[i] = l.p.token(i)
	}
	var entries []store.Entry
	for part := range slices.Chunk(tokens, 1000) {
		var err error
		if entries, err = f.set.Lookup(f.ctx, app, part, entries); err != nil {
			return fmt.Errorf("read token set: %w", err)
		}
	}
	for i, e := range entries {
		hash := apnstest.TokenHash([]byte(e.Token.Raw()))
		dead := died[hash]
		switch {
		case !e.Known:
			v.bad("token set: a registered device is gone", "device %d: %v", i, e.Err)
		case e.Record.State == device.Removed && dead <= asked[i]:
			v.bad("token set: removed without cause", "device %d: last 410 of %d, registered at %d", i, dead, asked[i])
		case e.Record.State == device.Live && dead > e.Record.RegisteredAt:
			v.bad("token set: kept a dead device", "device %d: 410 of %d, registered at %d", i, dead, e.Record.RegisteredAt)
		case e.Record.State == device.Quarantined && !bad[hash]:
			v.bad("token set: quarantined without cause", "device %d", i)
		}
	}
	return nil
}

// row is a line of the table of faults.
type row struct {
	kind            string
	times           int
	median, longest time.Duration // from a fault until all was settled that had been published before it
}

// table sums up the faults by kind.
func (v *verdict) table(orders []*order, settled []int64, faults []fault) []row {
	byTaken := make([]int, len(orders))
	for i := range byTaken {
		byTaken[i] = i
	}
	slices.SortFunc(byTaken, func(a, b int) int { return orders[a].taken.Compare(orders[b].taken) })
	last := make([]int64, len(orders)) // of all up to here
	for n, i := range byTaken {
		last[n] = settled[i]
		if n > 0 {
			last[n] = max(last[n], last[n-1])
		}
	}
	took := make(map[string][]time.Duration)
	for i := range faults {
		at := faults[i].from
		n, _ := slices.BinarySearchFunc(byTaken, at, func(i int, at time.Time) int { return orders[i].taken.Compare(at) })
		d := time.Duration(0)
		if n > 0 {
			d = max(0, time.UnixMicro(last[n-1]).Sub(at))
		}
		took[faults[i].kind] = append(took[faults[i].kind], d)
	}
	var rows []row
	for _, kind := range slices.Sorted(maps.Keys(took)) {
		list := took[kind]
		slices.Sort(list)
		rows = append(rows, row{kind, len(list), list[len(list)/2], list[len(list)-1]})
	}
	return rows
}
