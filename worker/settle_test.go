package worker

import (
	"testing"

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
