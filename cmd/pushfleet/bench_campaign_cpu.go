package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
)

// benchDead is the part of the devices that APNs calls dead.
const benchDead = 0.01

// renderedBody is campaignBody with two variables of each device in it.
const renderedBody = `"notification":{"title":"{{attributes.name}}, your order is on its way","body":"It was shipped, and you have {{attributes.points}} points",` +
	`"badge":1,"sound":"default","thread_id":"orders"},"data":{"order":4711,"url":"https://example.com/orders/4711"}`

// campaignCPU are the figures of the part cpu.
type campaignCPU struct {
	CPU            float64     `json:"cpu_per_100k"`
	RenderedCPU    float64     `json:"rendered_cpu_per_100k"`
	APNs2CPU       float64     `json:"apns2_cpu_per_100k"`
	Ratio          float64     `json:"cpu_ratio_apns2"` // of the medians
	Spread         benchSpread `json:"cpu_ratio_apns2_spread"`
	RenderedRatio  float64     `json:"rendered_cpu_ratio_apns2"`
	RenderedSpread benchSpread `json:"rendered_cpu_ratio_apns2_spread"`

	PerSecond         float64 `json:"per_second"`
	RenderedPerSecond float64 `json:"rendered_per_second"`
	APNs2PerSecond    float64 `json:"apns2_per_second"`

	// What the others spend meanwhile.
	NATSCPU          float64 `json:"nats_cpu_per_100k"`
	RedisCPU         float64 `json:"redis_cpu_per_100k"`
	RenderedNATSCPU  float64 `json:"rendered_nats_cpu_per_100k"`
	RenderedRedisCPU float64 `json:"rendered_redis_cpu_per_100k"`

	MaxRSSMB float64 `json:"cpu_worker_rss_mb"`
	Rounds   int     `json:"cpu_rounds"`
	N        int     `json:"cpu_devices"`
}

// personalDevice has a locale, a time zone and attributes.
func personalDevice(t device.Token, n int) device.Registration {
	r := bareDevice(t, n)
	r.Locale = []string{"de-AT", "en-GB", "fr", "es-MX"}[n%4]
	r.Timezone = []string{"Europe/Vienna", "Europe/London", "Europe/Paris", "America/Mexico_City"}[n%4]
	r.AppVersion = "4.2." + strconv.Itoa(n%10)
	r.Attributes = map[string]string{"name": "Name" + strconv.Itoa(n), "points": strconv.Itoa(n % 5000)}
	return r
}

// cpu compares a worker with apns2.
func (c *campaignBench) cpu(ctx context.Context) (r *campaignCPU, err error) {
	f := &c.flags
	core, others := 0, 1
	if runtime.NumCPU() < 2 {
		core, others = -1, -1
		c.sayf("one core only: all share it, and the figures mean little")
	}
	rig, err := c.rig(partCPU, core, others)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rig.stop()) }()
	if err := rig.open(ctx, c, f.n, personalDevice, f.cpuProfile, "--dead", fmt.Sprint(benchDead)); err != nil {
		return nil, err
	}
	rig.findDead()
	healthy, err := startSim(ctx, filepath.Join(rig.dir, "healthy"), others)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, healthy.stop()) }()

	// Connections, scripts and heaps are warm before anything counts.
	for _, body := range []string{campaignBody, renderedBody} {
		if _, err := rig.measured(ctx, body); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	var plain, rendered, apns2 jobsShape
	var ratios, renderedRatios []float64
	for round := range f.rounds {
		for _, part := range []struct {
			shape *jobsShape
			n     int
			run   func() (benchMeasure, error)
		}{
			{&plain, f.n, func() (benchMeasure, error) { return rig.measured(ctx, campaignBody) }},
			{&apns2, f.apns2N, func() (benchMeasure, error) { return rig.apns2(ctx, healthy, f.apns2N) }},
			{&rendered, f.n, func() (benchMeasure, error) { return rig.measured(ctx, renderedBody) }},
		} {
			m, err := part.run()
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			part.shape.add(m, part.n)
		}
		ratios = append(ratios, plain.cpu[round]/apns2.cpu[round])
		renderedRatios = append(renderedRatios, rendered.cpu[round]/apns2.cpu[round])
		c.sayf("round %d of %d: CPU s/100k: worker %.3f, with two variables %.3f, apns2 %.2f: ratios %.4f and %.4f",
			round+1, f.rounds, plain.cpu[round], rendered.cpu[round], apns2.cpu[round], ratios[round], renderedRatios[round])
	}
	rss, err := procMaxRSS(rig.worker.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return &campaignCPU{
		CPU: median(plain.cpu), RenderedCPU: median(rendered.cpu), APNs2CPU: median(apns2.cpu),
		Ratio: median(plain.cpu) / median(apns2.cpu), Spread: benchSpread{slices.Min(ratios), slices.Max(ratios)},
		RenderedRatio: median(rendered.cpu) / median(apns2.cpu), RenderedSpread: benchSpread{slices.Min(renderedRatios), slices.Max(renderedRatios)},
		PerSecond: median(plain.perSecond), RenderedPerSecond: median(rendered.perSecond), APNs2PerSecond: median(apns2.perSecond),
		NATSCPU: median(plain.nats), RedisCPU: median(plain.redis), RenderedNATSCPU: median(rendered.nats), RenderedRedisCPU: median(rendered.redis),
		MaxRSSMB: float64(rss) / (1 << 20), Rounds: f.rounds, N: f.n,
	}, nil
}

// findDead finds out which devices the simulator calls dead.
func (b *campaignRig) findDead() {
	shares := apnstest.Shares{Dead: benchDead}
	var buf []byte
	for n := range b.devices {
		buf = appendToken(buf[:0], n)
		if shares.Fate(buf) == apnstest.Dead {
			b.dead = append(b.dead, n)
		}
	}
}

// registerDead registers the dead devices again: as if their apps had come back, to
// be removed for good at the next 410.
func (b *campaignRig) registerDead(ctx context.Context) error {
	for part := range slices.Chunk(b.dead, benchRegister) {
		regs := make([]device.Registration, len(part))
		for i, n := range part {
			regs[i] = b.of(benchToken(n), n)
		}
		if _, err := b.set.RegisterMany(ctx, benchApp, regs); err != nil {
			return err //nolint:wrapcheck // it says what it does
		}
	}
	return nil
}

// removed returns nil if all dead devices are.
func (b *campaignRig) removed(ctx context.Context) error {
	for part := range slices.Chunk(b.dead, benchRegister) {
		tokens := make([]device.Token, len(part))
		for i, n := range part {
			tokens[i] = benchToken(n)
		}
		entries, err := b.set.Lookup(ctx, benchApp, tokens, nil)
		if err != nil {
			return err //nolint:wrapcheck // it says what it does
		}
		for _, e := range entries {
			if !e.Known || e.Record.State != device.Removed {
				return fmt.Errorf("device %v has been called dead, and is not removed", e.Token)
			}
		}
	}
	return nil
}

// measured sends one campaign to all, and measures what it takes until its outcomes
// are recorded.
func (b *campaignRig) measured(ctx context.Context, body string) (m benchMeasure, err error) {
	if err := errors.Join(b.registerDead(ctx), b.reset(ctx)); err != nil {
		return m, err
	}
	pids := [3]int{b.worker.cmd.Process.Pid, b.nats.cmd.Process.Pid, b.redis.cmd.Process.Pid}
	var before, after [3]float64
	if err := cpuOf(pids, &before); err != nil {
		return m, err
	}
	began := time.Now()
	st, err := b.create(ctx, body, 0)
	if err != nil {
		return m, err
	}
	if err := b.drained(ctx, func(ctx context.Context) error { return b.settled(ctx, st.ID) }); err != nil {
		return m, fmt.Errorf("wait for campaign %s: %w", st.ID, err)
	}
	m.took = time.Since(began)
	if err := cpuOf(pids, &after); err != nil {
		return m, err
	}
	m.cpu, m.nats, m.redis = after[0]-before[0], after[1]-before[1], after[2]-before[2]
	if m.cpu <= 0 {
		return m, errors.New("no CPU time was measured: too few devices, or the system does not tell (Linux does)")
	}
	if st, err = b.reaches(ctx, st.ID, campaign.Done); err != nil {
		return m, err
	}
	return m, errors.Join(b.checkAll(ctx, &st), b.removed(ctx))
}
