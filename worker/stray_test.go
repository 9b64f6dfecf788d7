package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/stream"
)

// Ranges without a campaign are given up, those that come when theirs is over are
// dropped, and those of one that there is stay, whoever knows its app.
func TestStrayRanges(t *testing.T) {
	f := setup(t, nil)
	publish := func(app, id string) {
		t.Helper()
		if err := f.js.PublishRanges(f.ctx, app, []campaign.Range{{Campaign: id, Number: 7, Devices: 10}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, app := range []string{"shop", "ghost"} {
		st := campaign.Status{App: app, ID: "spring sale", State: campaign.Running, Definition: []byte("{}"), CreatedAt: time.Now()}
		if _, _, err := f.js.CreateCampaign(f.ctx, st); err != nil {
			t.Fatal(err)
		}
		publish(app, "spring sale")
	}
	over := campaign.Status{App: "shop", ID: "over", State: campaign.Cancelled, Definition: []byte("{}"), Closed: true}
	if _, _, err := f.js.CreateCampaign(f.ctx, over); err != nil {
		t.Fatal(err)
	}
	publish("shop", "over")
	publish("shop", "never was")
	publish("ghost", "never was")
	// A consumer that somebody left must not keep them.
	if _, err := f.js.RangesConsumer(f.ctx, "shop", "never was"); err != nil {
		t.Fatal(err)
	}
	f.start(options{})
	for _, app := range []string{"shop", "ghost"} {
		h := f.dead(app, 1)[0].Headers()
		if got, want := h.Get(stream.HeaderReason)+", "+h.Get(stream.HeaderCampaign), "unknown campaign, never was"; got != want {
			t.Errorf("dead letter of %s: got %s, want %s", app, got, want)
		}
	}
	f.eventually("only ranges of campaigns that there are", func() (string, bool) {
		waiting, err := f.js.RangeSubjects(f.ctx)
		if err != nil {
			return err.Error(), false
		}
		left := ""
		for _, w := range waiting {
			left += fmt.Sprintf("%s %d, ", w.Subject, w.Messages)
		}
		want := fmt.Sprintf("%s 1, %s 1, ", stream.RangesSubject("ghost", "spring sale"), stream.RangesSubject("shop", "spring sale"))
		return left, left == want
	})
	if got := f.deadCount("shop") + f.deadCount("ghost"); got != 2 {
		t.Errorf("dead letters: got %d, want 2", got)
	}
}
