package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// campaignRig is a fleet of processes with a token set that campaigns go to.
type campaignRig struct {
	benchFleet
	devices int
	of      func(device.Token, int) device.Registration
	dead    []int // numbers of the device tokens that the simulator calls dead
	created int   // campaigns so far: their ids
}

// open starts the fleet, registers the devices and starts the worker. sim are
// arguments of the simulator.
func (b *campaignRig) open(
	ctx context.Context, c *campaignBench, devices int, of func(device.Token, int) device.Registration, cpuProfile string, sim ...string,
) error {
	b.devices, b.of = devices, of
	if err := b.start(ctx, c.flags.natsServer, devices, sim...); err != nil {
		return err
	}
	progress := newBar(c.talk, devices, "registering", "devices", c.flags.json)
	if err := b.register(ctx, b.byBucket(), progress.add); err != nil {
		return err
	}
	progress.finish()
	if err := b.rewritten(ctx); err != nil {
		return err
	}
	return b.startWorker(ctx, b.redisAddr, cpuProfile)
}

// rewritten makes Redis rewrite its append-only file, and waits for it: so many
// registrations make it due, and in a fleet that has run for a day it is long done.
func (b *campaignRig) rewritten(ctx context.Context) error {
	if err := b.drained(ctx, func(ctx context.Context) error { return b.client.BgRewriteAOF(ctx).Err() }); err != nil {
		return fmt.Errorf("rewrite the append-only file of redis-server: %w", err)
	}
	return b.drained(ctx, func(ctx context.Context) error {
		info, err := b.client.InfoMap(ctx, "persistence").Result()
		if err != nil {
			return fmt.Errorf("ask redis-server for its append-only file: %w", err)
		}
		if p := info["Persistence"]; p["aof_rewrite_in_progress"] != "0" || p["aof_rewrite_scheduled"] != "0" {
			return errors.New("redis-server rewrites its append-only file")
		}
		return nil
	})
}

// byBucket returns the numbers of all devices in the order of their buckets: a call
// that registers what shares buckets is several times as fast.
func (b *campaignRig) byBucket() []int {
	type place struct{ bucket, n uint32 }
	last := uint64(bucketsFor(b.devices) - 1)
	places := make([]place, b.devices)
	var buf []byte
	for n := range places {
		buf = appendToken(buf[:0], n)
		places[n] = place{uint32(xxhash.Sum64(buf) & last), uint32(n)}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.bucket, b.bucket) })
	numbers := make([]int, len(places))
	for i, p := range places {
		numbers[i] = int(p.n)
	}
	return numbers
}

// register puts devices into the token set, as such that APNs has accepted before.
func (b *campaignRig) register(ctx context.Context, numbers []int, done func(int)) error {
	at := time.Now().Add(-time.Hour)
	var mu sync.Mutex // held to call done
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.NumCPU())
	for part := range slices.Chunk(numbers, benchRegister) {
		g.Go(func() error {
			list := make([]store.Import, len(part))
			for i, n := range part {
				list[i] = store.Import{Registration: b.of(benchToken(n), n), RegisteredAt: at, Accepted: true}
			}
			if _, err := b.set.ImportMany(ctx, benchApp, list, false); err != nil {
				return err //nolint:wrapcheck // it says what it does
			}
			mu.Lock()
			defer mu.Unlock()
			done(len(list))
			return nil
		})
	}
	return g.Wait() //nolint:wrapcheck // ours
}

// campaignBody is what campaigns send: as long as what apns2 sends.
const campaignBody = `"notification":{"title":"Your order is on its way","body":"Order 4711 was shipped and will be with you on Friday",` +
	`"badge":1,"sound":"default","thread_id":"orders"},"data":{"order":4711,"url":"https://example.com/orders/4711"}`

// create creates a campaign to all devices, which starts at once, with a rate unless
// it is 0.
func (b *campaignRig) create(ctx context.Context, body string, rate int) (campaign.Status, error) {
	b.created++
	text := fmt.Sprintf(`{"id":"campaign-%d","audience":{"all":true},%s}`, b.created, body)
	def, err := campaign.Parse([]byte(text))
	if err != nil {
		return campaign.Status{}, fmt.Errorf("define campaign: %w", err)
	}
	def.Rate = rate
	st, err := campaign.NewStatus(benchApp, def, time.Now())
	if err != nil {
		return st, fmt.Errorf("define campaign: %w", err)
	}
	st, _, err = b.streams.CreateCampaign(ctx, st)
	return st, err //nolint:wrapcheck // it says what it does
}

// settled returns nil once nothing of a campaign is left to do, but to say that it
// is done.
func (b *campaignRig) settled(ctx context.Context, id string) error {
	st, err := b.streams.Campaign(ctx, benchApp, id)
	if err != nil {
		return err //nolint:wrapcheck // it says what it does
	}
	if !st.Expanded {
		return fmt.Errorf("campaign %s has %d ranges so far", id, st.Ranges)
	}
	left, err := b.streams.RangesLeft(ctx, benchApp, id)
	if err != nil {
		return err //nolint:wrapcheck // it says what it does
	}
	if left > 0 {
		return fmt.Errorf("%d ranges of campaign %s are left", left, id)
	}
	// A range leaves JOBS once its outcomes are stored, so all are there by now.
	return b.recorded(ctx)
}

// reaches waits until a campaign is in a state.
func (b *campaignRig) reaches(ctx context.Context, id string, want campaign.State) (st campaign.Status, err error) {
	err = b.drained(ctx, func(ctx context.Context) (err error) {
		if st, err = b.streams.Campaign(ctx, benchApp, id); err == nil && st.State != want {
			err = fmt.Errorf("campaign %s is %s", id, st.State)
		}
		return err
	})
	return st, err
}

// reset makes the simulator forget what it counted.
func (b *campaignRig) reset(ctx context.Context) error {
	_, err := askSim(ctx, http.MethodPost, b.sim.admin+"/reset", "")
	return err
}

// received waits until the simulator has received n notifications since it was reset.
func (b *campaignRig) received(ctx context.Context, n int64) (st apnstest.Stats, err error) {
	err = b.drained(ctx, func(ctx context.Context) (err error) {
		if st, err = b.sim.stats(ctx); err == nil && st.Received < n {
			err = fmt.Errorf("%d of %d notifications are received", st.Received, n)
		}
		return err
	})
	return st, err
}

// check compares the counts of campaigns to all devices with those of the simulator,
// which has received others' notifications besides.
func (b *campaignRig) check(ctx context.Context, campaigns []campaign.Status, others int) error {
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return err
	}
	var accepted, rejected int64
	for i := range campaigns {
		st := &campaigns[i]
		totals, err := b.set.CampaignTotals(ctx, benchApp, st.ID, st.Ranges)
		if err != nil {
			return err //nolint:wrapcheck // it says what it does
		}
		ok, bad := totals.Counts[string(job.Accepted)], totals.Counts["rejected:Unregistered"]
		if ok+bad != totals.Matched || totals.Matched != int64(b.devices) || bad != int64(len(b.dead)) || totals.Duplicates != 0 || totals.Ranges != int64(st.Ranges) {
			return fmt.Errorf("counts of campaign %s: got %+v of %d ranges, want %d devices, %d of them dead", st.ID, totals, st.Ranges, b.devices, len(b.dead))
		}
		accepted, rejected = accepted+ok, rejected+bad
	}
	if stats.Accepted != accepted+int64(others) || stats.Rejected != rejected || stats.Duplicates != 0 {
		return fmt.Errorf("the simulator has accepted %d and rejected %d notifications, %d of them twice; the campaigns count %d and %d, and there were %d others",
			stats.Accepted, stats.Rejected, stats.Duplicates, accepted, rejected, others)
	}
	return nil
}

// checkAll does what check does for one campaign without others, and compares what
// was received, by a hash over every field and body, with what was to be sent.
func (b *campaignRig) checkAll(ctx context.Context, st *campaign.Status) error {
	if err := b.check(ctx, []campaign.Status{*st}, 0); err != nil {
		return err
	}
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return err
	}
	want, err := b.sums(st)
	if err != nil {
		return err
	}
	if stats.Sums != want {
		return fmt.Errorf("what the simulator received of campaign %s is not what was to be sent: sums %v and %v", st.ID, stats.Sums, want)
	}
	return nil
}

// sums is what the simulator must have accepted of a campaign.
func (b *campaignRig) sums(st *campaign.Status) (sums apnstest.Sums, err error) {
	def, err := campaign.Parse(st.Definition)
	if err != nil {
		return sums, fmt.Errorf("read campaign: %w", err)
	}
	plan, err := def.Compile(campaign.Options{Start: st.StartedAt})
	if err != nil {
		return sums, err //nolint:wrapcheck // it says what it does
	}
	ids := job.NewAPNsIDs(benchApp, "campaign\n"+st.ID) // as the worker makes them: see docs/design.md
	j := plan.Job()
	n := apnstest.Notification{Topic: benchTopic, PushType: string(j.EffectivePushType()), Priority: j.EffectivePriority(), Body: plan.Shared()}
	var body []byte
	next := 0 // in dead
	for i := range b.devices {
		if next < len(b.dead) && b.dead[next] == i {
			next++
			continue
		}
		t := benchToken(i)
		d := device.Device{Registration: device.Registration{Token: t}}
		if plan.Shared() == nil {
			d.Registration = b.of(t, i)
			if body, err = plan.Payload(body[:0], &d, nil); err != nil {
				return sums, fmt.Errorf("render payload: %w", err)
			}
			n.Body = body
		}
		n.DeviceToken, n.APNsID, n.Expiration = []byte(t.Raw()), ids.ID(t), plan.Expiry(&d).Header()
		sums.Add(&n)
	}
	return sums, nil
}

// setLatency sets how long the simulator takes for each answer.
func (b *campaignRig) setLatency(ctx context.Context, d time.Duration) error {
	body, err := json.Marshal(apnstest.Faults{Latency: apnstest.Latency{Constant: apnstest.Duration(d)}})
	if err != nil {
		return fmt.Errorf("encode faults: %w", err)
	}
	_, err = askSim(ctx, http.MethodPut, b.sim.admin+"/faults", string(body))
	return err
}

// errOver is why a campaign cannot be paused in time.
var errOver = errors.New("the campaign is over already")
