package worker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// A worker whose link to JetStream stands still cannot hear of a pause: it stops by
// itself, in time.
func TestPauseReachesAStalledLink(t *testing.T) {
	f := setup(t, nil)
	proxy := testenv.StartProxy(t, strings.TrimPrefix(f.js.Server.URL(), "nats://"))
	t.Cleanup(func() { proxy.Stall(false) })
	streams, err := stream.Open(f.ctx, testenv.Connect(t, "nats://"+proxy.Addr), stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	f.registerMany(4000, nil)
	f.start(options{change: func(c *worker.Config) { c.Campaigns, c.Streams = f.set, streams }})
	f.create(`{"id":"p","audience":{"all":true},"notification":{"title":"Hello"},"rate":500}`)
	f.eventually("the campaign to be under way", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n >= 200
	})
	proxy.Stall(true)
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "p", func(s *campaign.Status) error { return s.Pause(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	f.sender.quiet(f, time.Second)
	if last := f.sender.last(); last.Sub(paused) > 2*time.Second {
		t.Errorf("the last notification came %s after the pause, want at most 2 s", last.Sub(paused))
	}
	if n := len(f.sender.got()); n >= 4000 {
		t.Fatalf("got %d notifications: too late to see anything", n)
	}
	proxy.Stall(false)
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "p", func(s *campaign.Status) error {
		s.Rate = 0
		return s.Resume(time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	st := f.reaches("p", campaign.Done)
	for to, n := range times(f.sender.got()) {
		if n != 1 {
			t.Errorf("device %v: got %d notifications, want 1", to, n)
		}
	}
	wantCounts(t, f.totals(st), map[string]int64{"accepted": 4000})
}

// However soon a campaign is resumed, one intake follows the other: a lane is only
// touched by one, which has one pull out.
func TestPausedAndResumedAtOnce(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(10, nil)
	f.start(options{change: f.sendsCampaigns})
	// All wait, so nothing that is handed back ends a pull.
	now := time.Now().UTC()
	f.create(fmt.Sprintf(`{"id":"p","audience":{"all":true},"notification":{"title":"Hello"},"quiet_hours":{"from":%q,"to":%q,"action":"defer"}}`,
		now.Add(-time.Hour).Format("15:04"), now.Add(time.Hour).Format("15:04")))
	f.eventually("its range to wait", func() (string, bool) {
		for _, c := range f.consumers("p") {
			return fmt.Sprintf("%+v", c), c.NumAckPending == 1 && c.NumWaiting == 1
		}
		return "no consumer", false
	})
	over := time.NewTimer(1500 * time.Millisecond) // a pull lasts for a second
	defer over.Stop()
	for n := 0; ; n++ {
		select {
		case <-over.C:
			return
		default:
		}
		if n < 3 {
			for _, do := range []func(*campaign.Status) error{
				func(s *campaign.Status) error { return s.Pause(time.Now()) },
				func(s *campaign.Status) error { return s.Resume(time.Now()) },
			} {
				if _, err := f.js.ChangeCampaign(f.ctx, "shop", "p", do); err != nil {
					t.Fatal(err)
				}
				f.consumers("p") // as long as this takes
			}
		}
		for _, c := range f.consumers("p") {
			if c.NumWaiting > 1 {
				t.Fatalf("pulls at once: got %d, want one", c.NumWaiting)
			}
		}
	}
}

// A steward that dies between publishing ranges and saying so has the next one
// publish them again, and JetStream knows their ids for two minutes only. Whatever
// became of the first ones by then, nobody is sent to twice.
func TestRangesPublishedAgain(t *testing.T) {
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(7) {
			<-release // its range is in work, the others get done
		}
		return accept(n)
	})
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := api.Stream(f.ctx, stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := jobs.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond // JetStream's least
	if _, err := api.UpdateStream(f.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	const devices = 4000
	f.registerMany(devices, nil)
	f.start(options{change: f.sendsCampaigns})
	f.start(options{name: "w2", change: f.sendsCampaigns})
	t.Cleanup(free) // before they are stopped
	f.create(`{"id":"twice","audience":{"all":true},"notification":{"title":"Hello"}}`)
	var st campaign.Status
	f.eventually("all ranges but one to be done", func() (string, bool) {
		if st, err = f.js.Campaign(f.ctx, "shop", "twice"); err != nil || !st.Expanded {
			return fmt.Sprintf("%+v, %v", st, err), false
		}
		done := f.totals(st).Ranges
		return fmt.Sprintf("%d of %d", done, st.Ranges), st.Ranges >= 3 && done == int64(st.Ranges)-1
	})
	stored := func() uint64 {
		info, err := jobs.Info(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	before := stored()
	f.eventually("the ranges to be stored again", func() (string, bool) {
		if stored() >= before+uint64(st.Ranges) {
			return "", true
		}
		// Whoever published them died before this was written.
		_, err := f.js.ChangeCampaign(f.ctx, "shop", "twice", func(s *campaign.Status) error {
			s.Ranges, s.Devices, s.Expanded = 0, 0, false
			return nil
		})
		return fmt.Sprint(stored()-before, " stored, ", err), false
	})
	f.eventually("all but the first ones to be known", func() (string, bool) {
		left, err := f.js.RangesLeft(f.ctx, "shop", "twice")
		return fmt.Sprint(left, " left, ", err), left == 1
	})
	free()
	st = f.reaches("twice", campaign.Done)
	sent := times(f.sender.got())
	for to, n := range sent {
		if n != 1 {
			t.Errorf("device %v: got %d notifications, want 1", to, n)
		}
	}
	totals := f.totals(st)
	wantCounts(t, totals, map[string]int64{"accepted": devices})
	if len(sent) != devices || st.Devices != devices || totals.Duplicates != 0 {
		t.Errorf("got %d devices sent to, %d in ranges, %d duplicates, want %d, %[4]d, 0", len(sent), st.Devices, totals.Duplicates, devices)
	}
	f.drained()
}

// handOutAgain has JetStream hand out again the ranges of a campaign that nobody has
// acknowledged, as if for the first time, once their consumer is made anew.
func (f *fixture) handOutAgain(id string) {
	f.t.Helper()
	for _, c := range f.consumers(id) {
		if err := f.jobs().DeleteConsumer(f.ctx, c.Name); err != nil {
			f.t.Fatal(err)
		}
	}
}

// consumers are those of a campaign's ranges: one, or none yet.
func (f *fixture) consumers(id string) (list []*jetstream.ConsumerInfo) {
	f.t.Helper()
	for c := range f.jobs().ListConsumers(f.ctx).Info() {
		if c.Config.FilterSubject == stream.RangesSubject("shop", id) {
			list = append(list, c)
		}
	}
	return list
}

func (f *fixture) jobs() jetstream.Stream {
	f.t.Helper()
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	st, err := api.Stream(f.ctx, stream.Jobs)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}
