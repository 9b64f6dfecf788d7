//go:build chaos && linux

package chaos_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// The goals of [TestScale].
const (
	// pauseWithin is the longest that nothing of a campaign, or no transactional job,
	// may be accepted, whoever comes or goes; and the longest that one such job takes.
	pauseWithin = time.Second
	// behind is how much later a campaign may end than its rate says, beside the 5 %
	// that a rate may be off: less than the ack wait of a range that was not handed back.
	behind = 5 * time.Second
)

// phaseRow is a line of the table of phases.
type phaseRow struct {
	from, to               int
	failedOver             bool // a Redis master was killed in it
	settled                time.Duration
	working                time.Duration // until each worker that was started had sent something
	campaignGap, urgentGap time.Duration // longest time without an acceptance
	p50, p99, longest      time.Duration // of transactional jobs, since they were due
	least, most            float64       // what a worker sent in the latter half, as a part of an equal share
	perSecond              float64
}

func (r *phaseRow) name() string {
	name := fmt.Sprintf("%d -> %d", r.from, r.to)
	if r.failedOver {
		name += ", failover"
	}
	return name
}

// measures are what the simulator's journal says of a run.
type measures struct {
	phases   []phaseRow
	slow     []string // jobs that took longer than they may
	jobs     int      // transactional ones that were accepted
	campaign []int64
}

func (m *measures) longestPause() time.Duration {
	var d time.Duration
	for i := range m.phases {
		d = max(d, m.phases[i].campaignGap, m.phases[i].urgentGap)
	}
	return d
}

// acceptance is a notification that was accepted for the first time.
type acceptance struct {
	at     int64
	worker int
}

// measure works out what there is to know of each phase.
func measure(c *crew, l *load, k *campaigns, j *journal, b *bounding) *measures {
	m := &measures{}
	first, by := make(map[uint64]int64), make(map[uint64]int)
	var everything []acceptance
	began := make(map[int][]int64) // by worker, when it sent
	for i := range j.requests {
		r := &j.requests[i]
		if !r.accepted() {
			continue
		}
		if _, again := first[r.pair]; again {
			continue
		}
		first[r.pair] = r.received
		w := b.owner[r.conn]
		by[r.pair] = w
		everything = append(everything, acceptance{r.received, w})
		began[w] = append(began[w], r.received)
	}
	ids := job.NewAPNsIDs(club, "campaign\n"+scaleID)
	for i := range k.roll.members {
		t := k.roll.member(i)
		if at := first[apnstest.PairHash([]byte(t.Raw()), ids.ID(t))]; at > 0 {
			m.campaign = append(m.campaign, at)
		}
	}
	slices.Sort(m.campaign)
	type done struct {
		due  time.Time
		took time.Duration
	}
	var jobs []done
	var urgent []int64
	for _, o := range l.orders {
		of, last, who := job.NewAPNsIDs(app, o.id), int64(0), all
		for _, t := range o.tokens(l.p) {
			pair := apnstest.PairHash([]byte(t.Raw()), of.ID(t))
			if at := first[pair]; at > 0 {
				urgent = append(urgent, at)
				last, who = max(last, at), by[pair]
			}
		}
		if last == 0 {
			continue // dead
		}
		took := time.UnixMicro(last).Sub(o.asked)
		jobs = append(jobs, done{o.asked, took})
		if took > pauseWithin {
			m.slow = append(m.slow, fmt.Sprintf("job %s, due at %s: published %s later, accepted of worker %d after %s",
				o.id, o.asked.UTC().Format("15:04:05.000"), o.taken.Sub(o.asked).Round(time.Millisecond), who, took.Round(time.Millisecond)))
		}
	}
	m.jobs = len(jobs)
	slices.Sort(urgent)
	for _, p := range c.phases {
		row := phaseRow{from: p.from, to: p.to, failedOver: p.failedOver, settled: p.settled, campaignGap: pauseOf(m.campaign, p), urgentGap: pauseOf(urgent, p)}
		var took []time.Duration
		for _, d := range jobs {
			if !d.due.Before(p.begin) && d.due.Before(p.end) {
				took = append(took, d.took)
			}
		}
		if slices.Sort(took); len(took) > 0 {
			row.p50, row.p99, row.longest = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
		}
		row.working = firstWork(p, began)
		row.least, row.most, row.perSecond = share(p, everything)
		m.phases = append(m.phases, row)
	}
	return m
}

// pauseOf is the longest time between two of at, which is sorted, of which a part
// is in a phase.
func pauseOf(at []int64, p *phase) time.Duration {
	longest := int64(0)
	for i := 1; i < len(at); i++ {
		if at[i] > unix(p.begin) && at[i-1] < unix(p.end) {
			longest = max(longest, at[i]-at[i-1])
		}
	}
	return time.Duration(longest) * time.Microsecond
}

// firstWork is how long after a phase began each worker that it started had sent
// something; what sent nothing took all of it.
func firstWork(p *phase, sent map[int][]int64) time.Duration {
	longest := time.Duration(0)
	for w, started := range p.started {
		took := p.end.Sub(p.begin)
		for _, at := range sent[w] {
			if at >= unix(started) {
				took = min(took, time.UnixMicro(at).Sub(p.begin))
			}
		}
		longest = max(longest, took)
	}
	return longest
}

// share is what the workers of a phase sent in its latter half, as parts of an equal
// share, and together a second.
func share(p *phase, all []acceptance) (least, most, perSecond float64) {
	half := p.end.Sub(p.begin) / 2
	from, to := unix(p.end.Add(-half)), unix(p.end)
	by, sum := make(map[int]int), 0
	for _, a := range all {
		if a.at >= from && a.at < to {
			by[a.worker]++
			sum++
		}
	}
	for i, w := range p.running {
		part := float64(by[w]) * float64(len(p.running)) / float64(max(sum, 1))
		if i == 0 || part < least {
			least = part
		}
		most = max(most, part)
	}
	return least, most, float64(sum) / half.Seconds()
}

// judgeScale holds a run against the goals.
func (v *verdict) judgeScale(p scaling, c *crew, m *measures) {
	if v.duplicates > 0 {
		v.bad("duplicates without a fault", "%d", v.duplicates)
	}
	if len(m.campaign) == 0 || m.jobs == 0 {
		v.bad("nothing to measure", "%d notifications of the campaign, %d transactional jobs", len(m.campaign), m.jobs)
		return
	}
	end := time.UnixMicro(m.campaign[len(m.campaign)-1])
	if last := c.last(); end.Before(last.end) {
		v.bad("nothing to measure", "the campaign was over %s before the last phase was: lower -scale.rate, or raise -scale.devices", last.end.Sub(end).Round(time.Millisecond))
	}
	planned := time.Duration(float64(p.devices) / float64(p.rate) * 1.05 * float64(time.Second))
	if took := v.campaigns[0].took; took > planned+behind {
		v.bad("the campaign fell behind", "it took %s, planned were %s", took.Round(time.Millisecond), planned)
	}
	for _, r := range m.phases {
		if r.failedOver {
			continue // without a part of Redis a campaign waits: docs/redis.md
		}
		if r.campaignGap > pauseWithin {
			v.bad("pause", "%d -> %d workers: nothing of the campaign for %s", r.from, r.to, r.campaignGap)
		}
		if r.urgentGap > pauseWithin {
			v.bad("pause", "%d -> %d workers: no transactional job for %s", r.from, r.to, r.urgentGap)
		}
		if r.longest > pauseWithin {
			v.bad("pause", "%d -> %d workers: a transactional job took %s", r.from, r.to, r.longest)
		}
		if r.least == 0 {
			v.bad("a worker without work", "%d -> %d workers", r.from, r.to)
		}
	}
}
