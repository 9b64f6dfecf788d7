package api

import (
	"math"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
)

// Meter measures how fast a campaign goes, by its counts at different times. The zero
// value is ready. It is for one goroutine.
type Meter struct {
	looks []look // oldest first
}

type look struct {
	at              time.Time
	settled, ranges int64
}

// A rate is that of the last meterSpan at least. Recipients are counted when all of
// their range are settled: of a slow campaign in jumps, so it goes back further, until
// meterRanges of them are in it, but by no more than meterMemory. What is looked at more
// often than meterStep is not remembered more often.
const (
	meterSpan   = 5 * time.Second
	meterFirst  = time.Second // enough for a first answer
	meterStep   = 500 * time.Millisecond
	meterRanges = 3
	meterMemory = 2 * time.Minute
)

// PerSecond returns how many recipients were settled a second, as they were counted at
// a time and before, and remembers that. It is no more than a hint unless sure; without
// ok it is not known.
func (m *Meter) PerSecond(at time.Time, c *CampaignCounts) (rate float64, sure, ok bool) {
	now := look{at: at, settled: c.Settled(), ranges: c.Ranges}
	if n := len(m.looks); n > 0 && (now.settled < m.looks[n-1].settled || at.Before(m.looks[n-1].at)) {
		m.looks = m.looks[:0] // it is not the same any more
	}
	// The youngest of those that are old enough is the one to compare with.
	enough := func(l *look) bool { return at.Sub(l.at) >= meterSpan && now.ranges-l.ranges >= meterRanges }
	for len(m.looks) > 1 && enough(&m.looks[1]) || len(m.looks) > 0 && at.Sub(m.looks[0].at) > meterMemory {
		m.looks = m.looks[1:]
	}
	if len(m.looks) > 0 {
		from := &m.looks[0]
		took := at.Sub(from.at)
		sure = took >= meterFirst && now.ranges-from.ranges >= meterRanges
		if ok = sure || took >= meterSpan; ok {
			rate = float64(now.settled-from.settled) / took.Seconds()
		}
	}
	if n := len(m.looks); n == 0 || at.Sub(m.looks[n-1].at) >= meterStep {
		m.looks = append(m.looks, now)
	}
	return rate, sure, ok
}

// Settled is how many recipients have a result.
func (c *CampaignCounts) Settled() (n int64) {
	for _, of := range c.Results {
		n += of
	}
	return n
}

// Left is about how many recipients are still to be settled: exact where everybody who
// is looked at matches, else by the share of those who did so far. false: it is not
// known yet how many devices there are to look at.
func (c *CampaignCounts) Left(st *campaign.Status) (n int64, ok bool) {
	share := 1.0
	if c.Devices > 0 {
		share = float64(c.Matched) / float64(c.Devices)
	}
	return max(0, int64(math.Round(float64(st.Devices)*share))-c.Settled()), st.Expanded
}

// Pace says how fast a campaign goes, and how long that will take.
type Pace struct {
	_ struct{} `additionalProperties:"true"`

	PerSecond   *float64 `json:"per_second,omitempty" doc:"While it runs: recipients settled a second, over the last seconds. They are counted in ranges of about a thousand: of a slow campaign in jumps. Absent at the first request in two minutes."`
	SecondsLeft *int64   `json:"seconds_left,omitempty" doc:"About how long the rest takes at this speed, or as long as too little is known of that, at the campaign's rate. It does not know of devices that wait for their time. Absent where neither is known, or the audience is still being divided."`
}

// PaceOf says how fast a campaign goes by what m knows of it, which is told.
func PaceOf(m *Meter, at time.Time, st *campaign.Status, c *CampaignCounts) (p Pace) {
	if st.State != campaign.Running {
		return Pace{}
	}
	rate, sure, ok := m.PerSecond(at, c)
	if ok {
		rounded := math.Round(rate*10) / 10
		p.PerSecond = &rounded
	}
	if !sure {
		rate = float64(st.Rate)
	}
	if left, ok := c.Left(st); ok && rate > 0 {
		seconds := int64(math.Ceil(float64(left) / rate))
		p.SecondsLeft = &seconds
	}
	return p
}

// meters has one for each campaign that is asked for. It is safe for concurrent use.
type meters struct {
	mu sync.Mutex
	of map[meterKey]*Meter // guarded by mu
}

type meterKey struct{ app, id string }

// maxMeters bounds them. choice: more than run at a time.
const maxMeters = 1000

func (m *meters) pace(at time.Time, st *campaign.Status, c *CampaignCounts) Pace {
	key := meterKey{st.App, st.ID}
	m.mu.Lock()
	defer m.mu.Unlock()
	if st.State != campaign.Running {
		delete(m.of, key)
		return Pace{}
	}
	if m.of == nil {
		m.of = make(map[meterKey]*Meter)
	}
	one := m.of[key]
	if one == nil {
		m.forget(at)
		one = new(Meter)
		m.of[key] = one
	}
	return PaceOf(one, at, st, c)
}

// forget makes room for one more: what nobody has asked for in a while goes first.
func (m *meters) forget(at time.Time) {
	if len(m.of) < maxMeters {
		return
	}
	for key, one := range m.of {
		if at.Sub(one.looks[len(one.looks)-1].at) > meterMemory {
			delete(m.of, key)
		}
	}
	for key := range m.of {
		if len(m.of) < maxMeters {
			return
		}
		delete(m.of, key)
	}
}
