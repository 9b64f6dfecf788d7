package worker_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/worker"
)

// progress is [worker.Progress], which has a method of its name.
type progress = worker.Progress

// recalls notes what is found out about messages that are delivered again: which are
// handed back with a time to try them again, and of which it is read when that is. Each
// counts once: JetStream may hand one out twice while another one still waits.
type recalls struct {
	progress
	back, read ranges
}

func (r *recalls) HandBack(ctx context.Context, k store.JobKey, b store.HandBack) error {
	defer r.back.add(k)
	return r.progress.HandBack(ctx, k, b)
}

func (r *recalls) Progress(ctx context.Context, keys []store.JobKey) ([]store.Progress, error) {
	defer r.read.add(keys...)
	return r.progress.Progress(ctx, keys)
}

// ranges is a set of them. The zero value is empty; it is safe for concurrent use.
type ranges struct{ keys sync.Map }

func (r *ranges) add(keys ...store.JobKey) {
	for _, k := range keys {
		r.keys.Store(k, true)
	}
}

func (r *ranges) len() (n int) {
	r.keys.Range(func(any, any) bool {
		n++
		return true
	})
	return n
}

// moved is a time of day that is set.
type moved struct{ unix atomic.Int64 }

func (m *moved) Now() time.Time { return time.Unix(m.unix.Load(), 0).UTC() }

// firstShown is the first minute, from a time on, at which a zone's clock comes to
// show hour:minute, or jumps over it.
func firstShown(t *testing.T, zone string, from time.Time, hour, minute int) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	wall := func(at time.Time) int64 {
		_, offset := at.In(loc).Zone()
		return at.Unix() + int64(offset)
	}
	const day = 24 * 60 * 60
	for at := from; ; at = at.Add(time.Minute) {
		// Whole days of the wall clock, counted from hour:minute on.
		shift := int64(hour*60*60 + minute*60)
		before, now := wall(at.Add(-time.Minute))-shift, wall(at)-shift
		if before/day < now/day {
			return at
		}
	}
}

// A campaign at a local time, while the day goes around the world and clocks change
// in it: each device gets it at its moment, and once. JetStream hands out too early
// what it keeps for later, as it does when a server starts again.
func TestLocalTimeAroundTheWorld(t *testing.T) {
	zones := []string{
		"Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Vienna",
		"", // the default, UTC
	}
	for _, tt := range []struct{ name, start, vienna string }{
		{"spring, 02:30 does not exist", "2027-03-27T12:00:00Z", "2027-03-28T01:00:00Z"},
		{"autumn, 02:30 comes twice", "2027-10-30T12:00:00Z", "2027-10-31T00:30:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var clk moved
			at := make(map[device.Token][]time.Time) // guarded by mu
			f := setup(t, func(n *apns.Notification) apns.Response {
				mu.Lock()
				defer mu.Unlock()
				at[n.DeviceToken] = append(at[n.DeviceToken], clk.Now())
				return accept(n)
			})
			start, err := time.Parse(time.RFC3339, tt.start)
			if err != nil {
				t.Fatal(err)
			}
			clk.unix.Store(start.Unix())
			const devices = 3000
			zone := make(map[device.Token]string)
			f.registerMany(devices, func(i int, r *device.Registration) {
				r.Timezone = zones[i%len(zones)]
				zone[r.Token] = r.Timezone
			})
			moments := make(map[string]time.Time)
			var instants []time.Time
			for _, z := range zones {
				moments[z] = firstShown(t, z, start, 2, 30)
				instants = append(instants, moments[z].Add(-time.Second), moments[z])
			}
			if got := moments["Europe/Vienna"].Format(time.RFC3339); got != tt.vienna {
				t.Fatalf("the test's own moment for Vienna: got %s, want %s", got, tt.vienna)
			}
			slices.SortFunc(instants, time.Time.Compare)

			again := &recalls{progress: f.set}
			f.start(options{progress: again, change: func(c *worker.Config) { c.Campaigns, c.Now = f.set, clk.Now }})
			def, err := campaign.Parse([]byte(`{"id":"l","audience":{"all":true},"notification":{"title":"Hello"},"local_time":"02:30"}`))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := f.js.NewCampaign(f.ctx, "shop", def, start); err != nil {
				t.Fatal(err)
			}
			var st campaign.Status
			looked := func(set *ranges) {
				t.Helper()
				f.eventually("all ranges to be looked at", func() (string, bool) {
					st, err = f.js.Campaign(f.ctx, "shop", "l")
					n := set.len()
					return fmt.Sprintf("%d of %d, %v", n, st.Ranges, err), err == nil && st.Expanded && n == st.Ranges
				})
			}
			looked(&again.back)
			for i, now := range instants[:len(instants)-1] {
				clk.unix.Store(now.Unix())
				again.back.keys.Clear()
				again.read.keys.Clear()
				f.handOutAgain("l")
				if i%2 == 0 {
					looked(&again.read) // a second too early for all
				} else {
					looked(&again.back)
				}
			}
			clk.unix.Store(instants[len(instants)-1].Unix())
			f.handOutAgain("l")
			st = f.reaches("l", campaign.Done)
			mu.Lock()
			defer mu.Unlock()
			for to, z := range zone {
				if got := at[to]; len(got) != 1 || !got[0].Equal(moments[z]) {
					t.Fatalf("a device in %q got it at %v, want once, at %s", z, got, moments[z])
				}
			}
			wantCounts(t, f.totals(st), map[string]int64{"accepted": devices})
		})
	}
}
