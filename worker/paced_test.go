package worker_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
)

// A worker at a campaign's rate sends its ranges one after the other: when it stops, one
// is half done at most. Each half-done one is told recipient by recipient, which is slow,
// and redelivered jobs of all lanes wait until it is recorded.
func TestPacedRangesGoOneAfterTheOther(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(8000, nil)
	first := f.start(options{change: f.sendsCampaigns})
	f.create(`{"id":"paced","audience":{"all":true},"rate":2000,"notification":{"title":"Hello"}}`)
	// By then it holds as many ranges as it may: those of two seconds.
	for len(f.sender.got()) < 2500 {
		select {
		case <-f.sender.seen:
		case <-f.ctx.Done():
			t.Fatalf("sent: got %d, want 2500", len(f.sender.got()))
		}
	}
	first.stop()
	complete := make(map[int]bool) // ranges of which something was sent
	accepted := 0
	f.outcomes(func(all []job.JobOutcome) bool {
		accepted = 0
		for i := range all {
			complete[all[i].Range] = complete[all[i].Range] || all[i].Complete
			accepted += len(all[i].Accepted)
		}
		return accepted == len(f.sender.got())
	})
	if half := incomplete(complete); half > 1 {
		t.Errorf("half done of %d ranges: got %d, want 1 at most", len(complete), half)
	}

	f.start(options{name: "w2", change: f.sendsCampaigns})
	st := f.reaches("paced", campaign.Done)
	wantCounts(t, f.totals(st), map[string]int64{"accepted": 8000})
	for to, n := range times(f.sender.got()) {
		if n != 1 {
			t.Errorf("device %v: got %d notifications, want 1", to, n)
		}
	}
}

func incomplete(complete map[int]bool) (n int) {
	for _, is := range complete {
		if !is {
			n++
		}
	}
	return n
}
