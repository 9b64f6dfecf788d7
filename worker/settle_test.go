package worker

import (
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// What is whole is counted without a look at who it is, so an outcome must not be called
// that while another one may tell of somebody else.
func TestOutcomeIsWhole(t *testing.T) {
	t.Parallel()
	first, second := job.RecipientHash(device.TokenFromRaw("first")), job.RecipientHash(device.TokenFromRaw("second"))
	marked := job.Recipient{Result: job.Accepted}
	for name, tc := range map[string]struct {
		progress store.Progress
		want     bool
	}{
		"nothing was known":                 {store.Progress{}, true},
		"one was marked, and is told":       {store.Progress{Marked: map[uint64]job.Recipient{first: marked}}, true},
		"one was marked, and is gone":       {store.Progress{Marked: map[uint64]job.Recipient{first: marked, second: marked}}, false},
		"one was settled, and told already": {store.Progress{Settled: map[uint64]struct{}{second: {}}}, false},
	} {
		m := &message{in: new(stream.Message), lane: new(lane), progress: tc.progress, recipients: []recipient{{hash: first, fate: accepted}}}
		got := m.outcomes(true)
		if len(got) != 1 || !got[0].Complete || got[0].Whole != tc.want {
			t.Errorf("%s: got %+v, want it complete, and whole %t", name, got, tc.want)
		}
	}
}

// A device that waits for nine o'clock does not wait longer because the rest of its range
// was sent slowly meanwhile; one that APNs told to wait does so from its answer on.
func TestWaitsUntilItsTime(t *testing.T) {
	t.Parallel()
	decided := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	nine := recipient{hash: 1, fate: waiting, later: true, delay: time.Hour}
	again := recipient{hash: 2, fate: waiting, attempts: 1, delay: 15 * time.Minute}
	for name, tc := range map[string]struct {
		recipients []recipient
		after      time.Duration // since the decision
		want       time.Duration
	}{
		"at once":            {[]recipient{nine}, 0, time.Hour},
		"sent slowly":        {[]recipient{nine}, 40 * time.Minute, 20 * time.Minute},
		"too late":           {[]recipient{nine}, 2 * time.Hour, 0},
		"a retry":            {[]recipient{again}, 40 * time.Minute, 15 * time.Minute},
		"a retry goes first": {[]recipient{nine, again}, 40 * time.Minute, 15 * time.Minute},
		"its time is first":  {[]recipient{again, nine}, 50 * time.Minute, 10 * time.Minute},
	} {
		m := &message{decidedAt: decided, recipients: tc.recipients}
		now := decided.Add(tc.after)
		h, delay := m.retries(now)
		if delay != tc.want || !h.RetryAt.Equal(now.Add(tc.want)) {
			t.Errorf("%s: got a delay of %s until %s, want %s", name, delay, h.RetryAt, tc.want)
		}
	}
}
