package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/pushfleet/pushfleet/device"
)

// State is where a campaign stands.
type State string

// The states. Cancelled and Done are for ever.
const (
	Loading   State = "loading"   // the recipients of a file are still being handed in
	Scheduled State = "scheduled" // waits for its start, or for its next run
	Running   State = "running"
	Paused    State = "paused"
	Cancelled State = "cancelled"
	Done      State = "done"
)

// States returns all of them, in the order in which a campaign may come through them.
func States() []State { return []State{Loading, Scheduled, Running, Paused, Cancelled, Done} }

// ErrState is what errors of changes wrap that the state of a campaign does not
// allow.
var ErrState = errors.New("campaign: not in this state")

// Status is a campaign in the fleet. It is all that is kept of it, but the counts,
// and the only truth about its state.
type Status struct {
	App string `json:"-"` // of the key that it is kept under
	ID  string `json:"id"`
	// Revision of the entry that this was read from; 0: it has none yet.
	Revision uint64 `json:"-"`

	// Definition is the campaign as [Campaign.AppendJSON] writes it.
	Definition json.RawMessage `json:"definition"`
	State      State           `json:"state"`
	// Rate in force, in notifications per second over the whole fleet; 0: none.
	Rate int `json:"rate,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	// StartAt is when it is to start, and what local times and a ttl count from, also
	// where the fleet is late with it; of a recurring one, its next run.
	StartAt   time.Time `json:"start_at"`
	StartedAt time.Time `json:"started_at,omitzero"` // when a worker started it
	PausedAt  time.Time `json:"paused_at,omitzero"`  // of the last pause
	EndedAt   time.Time `json:"ended_at,omitzero"`   // cancelled or done
	// Parent is the recurring campaign that this is a run of; empty: none.
	Parent string `json:"parent,omitempty"`
	// Trace is the one that its creation belongs to, as traceparent of W3C Trace Context
	// has it; empty: none. A run of a recurring campaign has none.
	Trace string `json:"trace,omitempty"`

	// The audience is divided by the hash of device tokens into Classes, a power of
	// two, and each range has Width of them, the last one perhaps less. Both are set
	// at the start. Tags are those that lead to the audience; empty: all devices are
	// read. Of a campaign to a file of recipients all three are zero.
	Classes int      `json:"classes,omitempty"`
	Width   int      `json:"width,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	// Ranges are published so far, numbered from 0, with Devices in them: as many as
	// were counted when they were, those that the audience leaves out among them.
	// Expanded: these are all.
	Ranges   int   `json:"ranges,omitempty"`
	Devices  int64 `json:"devices,omitempty"`
	Expanded bool  `json:"expanded,omitempty"`
	// Digest is, of a campaign to a file that is handed in, a hash of the recipients so
	// far: who goes on must have the same file.
	Digest string `json:"digest,omitempty"`
	// Closed: it has ended, nothing of it is in a queue any more, and Counts are final.
	Closed bool `json:"closed,omitempty"`
}

// NewStatus returns a campaign of an app as it begins: scheduled for its start, at
// once where it has none, or for its next run; or, if it is to a file, loading. What
// depends on the time is for [Campaign.Check]. An invalid campaign is refused like by
// [Campaign.Validate].
func NewStatus(app string, c *Campaign, now time.Time) (Status, error) {
	if err := c.Validate(); err != nil {
		return Status{}, err
	}
	definition, err := c.AppendJSON(nil)
	if err != nil {
		return Status{}, err
	}
	st := Status{App: app, ID: c.ID, Definition: definition, State: Scheduled, Rate: c.Rate, CreatedAt: now.UTC(), StartAt: c.StartAt.UTC()}
	if c.StartAt.IsZero() {
		st.StartAt = st.CreatedAt
	}
	if c.Recipients != nil {
		st.State = Loading
	}
	if c.Recurrence != nil {
		// Check refuses one that never comes; here its start is as good as any.
		if next, ok := c.NextRun(now, new(device.Zones)); ok {
			st.StartAt = next.UTC()
		}
	}
	return st, nil
}

// Load takes in how far the handing in of a file has come: ranges and recipients in
// all, and the hash of them.
func (s *Status) Load(ranges int, recipients int64, digest string) error {
	if s.State != Loading {
		return s.refuse("load")
	}
	s.Ranges, s.Devices, s.Digest = ranges, recipients, digest
	return nil
}

// Loaded makes a campaign whose file is handed in scheduled: for now, if its start
// has passed meanwhile.
func (s *Status) Loaded(now time.Time) error {
	if s.State != Loading {
		return s.refuse("load")
	}
	s.State, s.Expanded = Scheduled, true
	s.notBefore(now)
	return nil
}

// notBefore moves a start that has passed to now: somebody chose that it is now.
func (s *Status) notBefore(now time.Time) {
	if s.StartAt.Before(now) && !s.Recurs() {
		s.StartAt = now.UTC()
	}
}

// Recurs reports whether it is a campaign that others are runs of: it is not sent
// itself.
func (s *Status) Recurs() bool {
	var d struct {
		Recurrence json.RawMessage `json:"recurrence"`
	}
	return json.Unmarshal(s.Definition, &d) == nil && d.Recurrence != nil
}

// Ended reports whether it has been cancelled or is done.
func (s *Status) Ended() bool { return s.State == Cancelled || s.State == Done }

// Start makes a scheduled campaign run.
func (s *Status) Start(now time.Time) error {
	if s.State != Scheduled {
		return s.refuse("start")
	}
	s.State, s.StartedAt = Running, now
	return nil
}

// Pause stops a campaign that has not ended until [Status.Resume]. To pause a
// paused one changes nothing.
func (s *Status) Pause(now time.Time) error {
	switch s.State {
	case Paused:
		return nil
	case Scheduled, Running:
		s.State, s.PausedAt = Paused, now
		return nil
	}
	return s.refuse("pause")
}

// Resume lets a paused campaign go on where it was: one that had not started is
// scheduled again, for now if its start has passed. To resume one that is not paused
// changes nothing.
func (s *Status) Resume(now time.Time) error {
	switch {
	case s.State == Scheduled, s.State == Running:
		return nil
	case s.State == Paused && s.StartedAt.IsZero():
		s.State = Scheduled
		s.notBefore(now)
		return nil
	case s.State == Paused:
		s.State = Running
		return nil
	}
	return s.refuse("resume")
}

// Cancel ends a campaign. To cancel a cancelled one changes nothing.
func (s *Status) Cancel(now time.Time) error {
	switch s.State {
	case Cancelled:
		return nil
	case Done:
		return s.refuse("cancel")
	}
	s.State, s.EndedAt = Cancelled, now
	return nil
}

// SetRate changes the rate of a campaign that has not ended, in notifications per
// second over the whole fleet; 0: as fast as it goes.
func (s *Status) SetRate(rate int) error {
	if rate < 0 || rate > MaxRate {
		return fmt.Errorf("rate: must be 1 to %d, or 0 for none, got %d", MaxRate, rate)
	}
	if s.Ended() {
		return s.refuse("pace")
	}
	s.Rate = rate
	return nil
}

// Finish makes a running or paused campaign done.
func (s *Status) Finish(now time.Time) error {
	if s.State != Running && s.State != Paused {
		return s.refuse("finish")
	}
	s.State, s.EndedAt = Done, now
	return nil
}

func (s *Status) refuse(what string) error {
	return fmt.Errorf("%w: cannot %s campaign %q, which is %s", ErrState, what, s.ID, s.State)
}

// MaxRate is the largest rate of a campaign.
const MaxRate = 10_000_000

// RangeOf returns the number of the range that a device token is in, whether or not
// the audience has it; false: the campaign has not started, or is one to a file, whose
// ranges are not divided by device tokens.
func (s *Status) RangeOf(t device.Token) (n int, ok bool) {
	if s.Classes == 0 || s.Width == 0 {
		return 0, false
	}
	return int(xxhash.Sum64String(t.Raw())&uint64(s.Classes-1)) / s.Width, true
}
