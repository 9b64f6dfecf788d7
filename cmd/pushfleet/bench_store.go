package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// benchStoreFlags are the flags of bench store.
type benchStoreFlags struct {
	devices  int
	rounds   int
	buckets  int
	scan     int // numbers of buckets in a call of the scan
	redisURL string
	json     bool
}

func newBenchStore() *cobra.Command {
	var f benchStoreFlags
	cmd := &cobra.Command{
		Use:   "store",
		Short: "The token set beside a plain Redis SET of hexadecimal device tokens",
		Long: `store fills the token set, and beside it a SET of the same device tokens as hexadecimal
strings, and compares memory, reading all of it, looking up, registering and removing, in
rounds that take turns. The SET is used as well as it can be: SADD, SREM and SMISMEMBER of a
thousand members in pipelines, SSCAN in pages of a thousand. One goroutine asks at a time.

It starts a redis-server of its own with the settings of docker-compose.yml, so with the
append-only file; --redis-url takes another one, whose database must be empty, and is emptied
again. Every figure is of work that was counted afterwards; a wrong count fails the run.`,
		Example: "  pushfleet bench store\n  pushfleet bench store --devices 100000 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := benchmarkStore(cmd.Context(), f, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), f.json)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.devices, "devices", 1_000_000, "devices in the token set")
	fl.IntVar(&f.rounds, "rounds", 5, "rounds of each comparison")
	fl.IntVar(&f.buckets, "buckets", 0, "buckets of the token set; 0: so many that each holds 100 to 200 devices")
	fl.IntVar(&f.scan, "scan", benchScan, "buckets that one call reads when all are read; above 32 the next are asked for meanwhile")
	fl.StringVar(&f.redisURL, "redis-url", "", "an empty database of a Redis that runs already")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// benchStoreResult is what bench store measures: bytes of Redis's memory a
// device, and medians over the rounds.
type benchStoreResult struct {
	Bytes     float64 `json:"bytes_per_device"`      // device token, times, generation, environment, kind, flags
	BytesTags float64 `json:"bytes_per_device_tags"` // with user, install and three tags
	BytesSet  float64 `json:"set_bytes_per_device"`

	ScanTag   float64 `json:"tag_scans_per_second"` // devices of a tag that one in a hundred has
	Scan      float64 `json:"scans_per_second"`     // devices read
	ScanSet   float64 `json:"set_scans_per_second"`
	ScanRatio float64 `json:"scan_ratio"`

	Lookup    float64 `json:"lookups_per_second"` // a thousand in a call
	LookupSet float64 `json:"set_lookups_per_second"`

	Register     float64 `json:"registrations_per_second"` // thousands in a call
	RegisterSet  float64 `json:"set_registrations_per_second"`
	RegisterTags float64 `json:"registrations_tags_per_second"` // with user, install and three tags

	Remove    float64 `json:"removals_per_second"`
	RemoveSet float64 `json:"set_removals_per_second"`

	RegisterOne    latency `json:"register_one_us"` // one device in a call
	RegisterTagOne latency `json:"register_one_tags_us"`
	RegisterOneSet latency `json:"set_register_one_us"`
	LookupOne      latency `json:"lookup_one_us"`
	LookupOneSet   latency `json:"set_lookup_one_us"`

	Devices int    `json:"devices"`
	Buckets int    `json:"buckets"`
	Rounds  int    `json:"rounds"`
	Redis   string `json:"redis_version"`
	Cores   int    `json:"cores"`
}

// latency is in microseconds.
type latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// benchStoreRun is one run of bench store.
type benchStoreRun struct {
	flags  benchStoreFlags
	talk   io.Writer
	client *redis.Client
	set    *store.Store
	tokens []device.Token
	hex    []string // the same
}

const (
	// The apps of the token set, and the key of the SET beside it.
	benchBare, benchTagged = "bench", "bench-tags"
	benchSet               = "bench-set"

	// benchCall is how many devices a call has where a call has many.
	benchCall = 1000
	// benchRegister is how many are registered in a call: as many as Register
	// pipelines at once.
	benchRegister = 4096
	// benchScan is how many numbers of buckets are read in a call: a few thousand
	// devices, as a range of a campaign has.
	benchScan = 32
)

func benchmarkStore(ctx context.Context, f benchStoreFlags, talk io.Writer) (r *benchStoreResult, err error) {
	if f.scan < 1 {
		return nil, usagef("--scan: must be at least 1, got %d", f.scan)
	}
	if f.devices < benchCall || f.devices > 50_000_000 || f.rounds < 1 || f.rounds > 100 {
		return nil, usagef("needs %d to 50,000,000 devices and 1 to 100 rounds", benchCall)
	}
	if f.buckets == 0 {
		for f.buckets = 1; f.buckets*200 < f.devices; f.buckets *= 2 {
		}
	}
	b := &benchStoreRun{flags: f, talk: talk}
	options, stop, err := b.redis(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	options.ReadTimeout = time.Minute // FLUSHDB of all this takes its time
	b.client = redis.NewClient(options)
	defer b.client.Close()
	if err := waitFor(ctx, func() error { return b.client.Ping(ctx).Err() }); err != nil {
		return nil, fmt.Errorf("wait for redis-server: %w", err)
	}
	if n, err := b.client.DBSize(ctx).Result(); err != nil || n != 0 {
		return nil, errors.Join(err, usagef("--redis-url: the database must be empty, and has %d keys", n))
	}
	if f.redisURL != "" {
		defer func() { err = errors.Join(err, b.empty(ctx)) }()
	}

	b.set = store.New(b.client, store.Config{Buckets: f.buckets, RemovalsPerHour: -1})
	for i := range f.devices {
		b.tokens = append(b.tokens, benchToken(i))
		b.hex = append(b.hex, b.tokens[i].Hex())
	}
	r = &benchStoreResult{Devices: f.devices, Buckets: f.buckets, Rounds: f.rounds, Cores: runtime.NumCPU()}
	if r.Redis, err = b.info(ctx, "server", "redis_version"); err != nil {
		return nil, err
	}
	for _, part := range []func(context.Context, *benchStoreResult) error{b.memory, b.rates, b.latencies, b.removals} {
		if err := part(ctx, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// redis starts a Redis, or finds the one that was named.
func (b *benchStoreRun) redis(ctx context.Context) (options *redis.Options, stop func() error, err error) {
	if b.flags.redisURL != "" {
		if options, err = redis.ParseURL(b.flags.redisURL); err != nil {
			return nil, nil, usagef("--redis-url: %v", err)
		}
		return options, func() error { return nil }, nil
	}
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, nil, errors.New("this benchmark needs redis-server (apt-get install redis-server), or --redis-url")
	}
	addr, _, err := twoAddresses(ctx)
	if err != nil {
		return nil, nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("start redis-server: %w", err)
	}
	dir, err := os.MkdirTemp("", "pushfleet-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("make directory: %w", err)
	}
	// Settings from --appendonly on are those of docker-compose.yml.
	server, err := startPinned(ctx, -1, bin, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--loglevel", "warning",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
		"--hash-max-listpack-entries", "512", "--hash-max-listpack-value", "64")
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &redis.Options{Addr: addr}, func() error { return errors.Join(server.stop(), os.RemoveAll(dir)) }, nil
}

// memory measures the bytes of a device, on a server that has nothing else. While
// the devices with tags are in it, their registrations are measured too.
func (b *benchStoreRun) memory(ctx context.Context, r *benchStoreResult) error {
	progress := newBar(b.talk, 3*b.flags.devices, "memory", "devices", b.flags.json)
	for _, m := range []struct {
		bytes *float64
		rate  *float64
		add   func(ctx context.Context, from, to int) error
		then  func(context.Context, *benchStoreResult) error
	}{
		{bytes: &r.BytesSet, add: b.addToSet},
		{bytes: &r.Bytes, add: func(ctx context.Context, from, to int) error {
			return b.register(ctx, benchBare, bareDevice, from, to)
		}},
		{bytes: &r.BytesTags, rate: &r.RegisterTags, then: b.tags, add: func(ctx context.Context, from, to int) error {
			return b.register(ctx, benchTagged, taggedDevice, from, to)
		}},
	} {
		// What only the first use takes, such as scripts and connections, is not a
		// device's.
		if err := m.add(ctx, 0, 1); err != nil {
			return err
		}
		if err := b.empty(ctx); err != nil {
			return err
		}
		before, err := b.used(ctx)
		if err != nil {
			return err
		}
		var rates []float64
		for round := range b.flags.rounds {
			first, last := b.part(round, b.flags.devices)
			start := time.Now()
			for from := first; from < last; from += benchRegister {
				to := min(from+benchRegister, last)
				if err := m.add(ctx, from, to); err != nil {
					return err
				}
				progress.add(to - from)
			}
			rates = append(rates, float64(last-first)/time.Since(start).Seconds())
		}
		after, err := b.used(ctx)
		if err != nil {
			return err
		}
		if err := b.count(ctx, b.flags.devices, m.bytes == &r.BytesSet, m.bytes == &r.Bytes); err != nil {
			return err
		}
		*m.bytes = float64(after-before) / float64(b.flags.devices)
		if m.rate != nil {
			*m.rate = median(rates)
		}
		if m.then != nil {
			if err := m.then(ctx, r); err != nil {
				return err
			}
		}
	}
	progress.finish()
	return b.empty(ctx)
}

// tags registers devices with tags one by one, and reads a tag that a hundredth
// of all devices have.
func (b *benchStoreRun) tags(ctx context.Context, r *benchStoreResult) error {
	const tag = "city:7"
	want := (b.flags.devices + 92) / 100
	var rates []float64
	for range b.flags.rounds {
		start := time.Now()
		classes, err := b.set.TagBuckets(ctx, benchTagged, tag)
		if err != nil {
			return err
		}
		got := 0
		var dst []store.Tagged
		for from := 0; from < classes; from += benchScan {
			if dst, err = b.set.ScanTag(ctx, benchTagged, tag, classes, from, min(from+benchScan, classes), dst[:0]); err != nil {
				return err
			}
			for i := range dst {
				if dst[i].Known && dst[i].Record.Usable() {
					got++
				}
			}
		}
		rates = append(rates, float64(got)/time.Since(start).Seconds())
		if got != want {
			return fmt.Errorf("%d of %d devices with a tag were read", got, want)
		}
	}
	r.ScanTag = median(rates)
	var took []float64
	for call := range min(4000, b.flags.devices) * b.flags.rounds {
		n := call * 7919 % b.flags.devices
		start := time.Now()
		if err := b.register(ctx, benchTagged, taggedDevice, n, n+1); err != nil {
			return err
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1000)
	}
	r.RegisterTagOne = latencyOf(took)
	return b.count(ctx, b.flags.devices, false, false)
}

func latencyOf(us []float64) latency {
	slices.Sort(us)
	return latency{P50: us[len(us)/2], P99: us[len(us)*99/100]}
}

// count fails if there are not n devices.
func (b *benchStoreRun) count(ctx context.Context, n int, inSet, bare bool) error {
	var got int64
	var err error
	switch {
	case inSet:
		got, err = b.client.SCard(ctx, benchSet).Result()
	case bare:
		got, err = b.set.Count(ctx, benchBare)
	default:
		got, err = b.set.Count(ctx, benchTagged)
	}
	if err != nil || got != int64(n) {
		return errors.Join(err, fmt.Errorf("%d devices should be in it, and %d are", n, got))
	}
	return nil
}

// empty empties the database, and waits until the memory is free.
func (b *benchStoreRun) empty(ctx context.Context) error {
	// The store knows its layouts for some seconds, and writes them down only once.
	b.set = store.New(b.client, store.Config{Buckets: b.flags.buckets, RemovalsPerHour: -1})
	if err := b.client.FlushDB(context.WithoutCancel(ctx)).Err(); err != nil {
		return fmt.Errorf("empty redis: %w", err)
	}
	return nil
}

// used is the memory of the data: Redis's used_memory without what connections
// and the append-only file have waiting.
func (b *benchStoreRun) used(ctx context.Context) (int64, error) {
	err := waitFor(ctx, func() error {
		for _, busy := range []string{"rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"} {
			if v, err := b.info(ctx, "persistence", busy); err != nil || v != "0" {
				return errors.Join(err, fmt.Errorf("redis: %s is %s", busy, v))
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var values [3]int64
	for i, name := range []string{"used_memory", "mem_clients_normal", "mem_aof_buffer"} {
		text, err := b.info(ctx, "memory", name)
		if err == nil {
			values[i], err = strconv.ParseInt(text, 10, 64)
		}
		if err != nil {
			return 0, fmt.Errorf("read redis's memory: %w", err)
		}
	}
	return values[0] - values[1] - values[2], nil
}

// info is one line of Redis's INFO.
func (b *benchStoreRun) info(ctx context.Context, section, name string) (string, error) {
	text, err := b.client.Info(ctx, section).Result()
	if err != nil {
		return "", fmt.Errorf("ask redis: %w", err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("redis does not tell %s", name)
}

// timed is work on some devices. It returns how many it did, and how long it
// took, without what only prepares or counts.
type timed func(ctx context.Context, round int) (n int, took time.Duration, err error)

// compare takes turns, and each round another one first; it returns the median
// of each one's devices a second.
func (b *benchStoreRun) compare(ctx context.Context, progress *bar, works ...timed) ([]float64, error) {
	rates := make([][]float64, len(works))
	for round := range b.flags.rounds {
		for i := range works {
			i = (i + round) % len(works)
			n, took, err := works[i](ctx, round)
			if err != nil {
				return nil, err
			}
			rates[i] = append(rates[i], float64(n)/took.Seconds())
			progress.add(n)
		}
	}
	out := make([]float64, len(works))
	for i := range rates {
		out[i] = median(rates[i])
	}
	return out, nil
}

// part is which devices are a round's, of a share of all.
func (b *benchStoreRun) part(round, of int) (from, to int) {
	return round * of / b.flags.rounds, (round + 1) * of / b.flags.rounds
}

// rates fills both, a part in each round, and then reads them.
func (b *benchStoreRun) rates(ctx context.Context, r *benchStoreResult) error {
	n := b.flags.devices
	progress := newBar(b.talk, 2*n+2*b.flags.rounds*2*n, "rates", "devices", b.flags.json)
	fill := func(inSet, bare bool, add func(ctx context.Context, from, to int) error) timed {
		return func(ctx context.Context, round int) (int, time.Duration, error) {
			from, to := b.part(round, n)
			start := time.Now()
			for at := from; at < to; at += benchRegister {
				if err := add(ctx, at, min(at+benchRegister, to)); err != nil {
					return 0, 0, err
				}
			}
			took := time.Since(start)
			return to - from, took, b.count(ctx, to, inSet, bare)
		}
	}
	rates, err := b.compare(ctx, progress,
		fill(false, true, func(ctx context.Context, from, to int) error { return b.register(ctx, benchBare, bareDevice, from, to) }),
		fill(true, false, b.addToSet),
	)
	if err != nil {
		return err
	}
	r.Register, r.RegisterSet = rates[0], rates[1]
	if rates, err = b.compare(ctx, progress, b.scan, b.scanSet); err != nil {
		return err
	}
	r.Scan, r.ScanSet, r.ScanRatio = rates[0], rates[1], rates[0]/rates[1]
	if rates, err = b.compare(ctx, progress, b.lookup, b.lookupSet); err != nil {
		return err
	}
	r.Lookup, r.LookupSet = rates[0], rates[1]
	progress.finish()
	return nil
}

func bareDevice(t device.Token, _ int) device.Registration {
	return device.Registration{Token: t, Environment: device.Production}
}

// taggedDevice has a user and an install of its own, a tag that a third of all have, one of a hundred, and one of
// ten thousand.
func taggedDevice(t device.Token, n int) device.Registration {
	r := bareDevice(t, n)
	r.User, r.InstallID = fmt.Sprint("user-", n), fmt.Sprint("install-", n)
	r.Tags = []string{fmt.Sprint("plan:", n%3), fmt.Sprint("city:", n%100), fmt.Sprint("team:", n%10_000)}
	return r
}

// register registers devices in one call.
func (b *benchStoreRun) register(ctx context.Context, app string, of func(device.Token, int) device.Registration, from, to int) error {
	regs := slices.Grow([]device.Registration(nil), to-from)
	for n := from; n < to; n++ {
		regs = append(regs, of(b.tokens[n], n))
	}
	_, err := b.set.RegisterMany(ctx, app, regs)
	return err
}

// pipelined runs a command on the SET for members by the thousand, in one
// pipeline.
func (b *benchStoreRun) pipelined(ctx context.Context, command string, from, to int) ([]redis.Cmder, error) {
	cmds, err := b.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for part := range slices.Chunk(b.hex[from:to], benchCall) {
			args := make([]any, 0, 2+len(part))
			args = append(args, command, benchSet)
			for i := range part {
				args = append(args, &part[i]) // a pointer is not allocated again
			}
			p.Do(ctx, args...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return cmds, nil
}

func (b *benchStoreRun) addToSet(ctx context.Context, from, to int) error {
	_, err := b.pipelined(ctx, "sadd", from, to)
	return err
}

// scan reads all devices, as a campaign does.
func (b *benchStoreRun) scan(ctx context.Context, _ int) (n int, took time.Duration, err error) {
	var dst []store.Entry
	start := time.Now()
	usable := 0
	for from := 0; from < b.flags.buckets; from += b.flags.scan {
		if dst, err = b.set.ScanBuckets(ctx, benchBare, b.flags.buckets, from, min(from+b.flags.scan, b.flags.buckets), dst[:0]); err != nil {
			return 0, 0, err
		}
		for i := range dst {
			if dst[i].Known && dst[i].Record.Usable() {
				usable++
			}
		}
	}
	took = time.Since(start)
	if usable != b.flags.devices {
		err = fmt.Errorf("read %d of %d devices", usable, b.flags.devices)
	}
	return usable, took, err
}

func (b *benchStoreRun) scanSet(ctx context.Context, _ int) (n int, took time.Duration, err error) {
	var cursor uint64
	start := time.Now()
	for {
		page, next, err := b.client.SScan(ctx, benchSet, cursor, "", benchCall).Result()
		if err != nil {
			return 0, 0, fmt.Errorf("sscan: %w", err)
		}
		n += len(page)
		if cursor = next; cursor == 0 {
			break
		}
	}
	took = time.Since(start)
	if n != b.flags.devices { // the SET stands still, so SSCAN shows each once
		err = fmt.Errorf("sscan read %d of %d devices", n, b.flags.devices)
	}
	return n, took, err
}

func (b *benchStoreRun) lookup(ctx context.Context, _ int) (n int, took time.Duration, err error) {
	var dst []store.Entry
	start := time.Now()
	for part := range slices.Chunk(b.tokens, benchCall) {
		if dst, err = b.set.Lookup(ctx, benchBare, part, dst[:0]); err != nil {
			return 0, 0, err
		}
		for i := range dst {
			if dst[i].Known && dst[i].Record.Usable() {
				n++
			}
		}
	}
	took = time.Since(start)
	if n != b.flags.devices {
		err = fmt.Errorf("found %d of %d devices", n, b.flags.devices)
	}
	return n, took, err
}

func (b *benchStoreRun) lookupSet(ctx context.Context, _ int) (n int, took time.Duration, err error) {
	start := time.Now()
	for from := 0; from < b.flags.devices; from += benchCall {
		cmds, err := b.pipelined(ctx, "smismember", from, min(from+benchCall, b.flags.devices))
		if err != nil {
			return 0, 0, err
		}
		for _, cmd := range cmds {
			is, err := cmd.(*redis.Cmd).Int64Slice() //nolint:errcheck // pipelined queues nothing else
			if err != nil {
				return 0, 0, fmt.Errorf("smismember: %w", err)
			}
			for _, v := range is {
				n += int(v)
			}
		}
	}
	took = time.Since(start)
	if n != b.flags.devices {
		err = fmt.Errorf("found %d of %d devices in the SET", n, b.flags.devices)
	}
	return n, took, err
}

// latencies measures calls of one device, one after the other.
func (b *benchStoreRun) latencies(ctx context.Context, r *benchStoreResult) error {
	calls := min(4000, b.flags.devices)
	progress := newBar(b.talk, 4*b.flags.rounds*calls, "one by one", "calls", b.flags.json)
	var dst []store.Entry
	works := []struct {
		to *latency
		do func(n int) error
	}{
		{&r.RegisterOne, func(n int) error { return b.register(ctx, benchBare, bareDevice, n, n+1) }},
		{&r.RegisterOneSet, func(n int) error { return b.client.SAdd(ctx, benchSet, b.hex[n]).Err() }},
		{&r.LookupOne, func(n int) (err error) {
			if dst, err = b.set.Lookup(ctx, benchBare, b.tokens[n:n+1], dst[:0]); err == nil && !dst[0].Known {
				err = errors.New("a device was not found")
			}
			return err
		}},
		{&r.LookupOneSet, func(n int) error {
			is, err := b.client.SIsMember(ctx, benchSet, b.hex[n]).Result()
			if err == nil && !is {
				err = errors.New("a device was not found in the SET")
			}
			return err
		}},
	}
	took := make([][]float64, len(works))
	for round := range b.flags.rounds {
		for i, w := range works {
			for call := range calls {
				n := (round*calls + call*7919) % b.flags.devices
				start := time.Now()
				if err := w.do(n); err != nil {
					return err
				}
				took[i] = append(took[i], float64(time.Since(start).Nanoseconds())/1000)
			}
			progress.add(calls)
		}
	}
	for i, w := range works {
		*w.to = latencyOf(took[i])
	}
	progress.finish()
	return nil
}

// removals removes a tenth of all devices, as when APNs calls them dead.
func (b *benchStoreRun) removals(ctx context.Context, r *benchStoreResult) error {
	n := b.flags.devices / 10
	progress := newBar(b.talk, 2*n, "removals", "devices", b.flags.json)
	dead := time.Now().Add(time.Hour).UnixMilli()
	rates, err := b.compare(ctx, progress, func(ctx context.Context, round int) (int, time.Duration, error) {
		from, to := b.part(round, n)
		verdicts := make([]store.Verdict, to-from)
		for i, t := range b.tokens[from:to] {
			verdicts[i] = store.Verdict{Token: t, Said: store.Dead, Timestamp: dead, Reason: device.Unregistered}
		}
		start := time.Now()
		applied, err := b.set.Apply(ctx, benchBare, verdicts)
		took := time.Since(start)
		for _, a := range applied {
			if err == nil && a != store.RemovedIt {
				err = fmt.Errorf("a device was not removed: %s", a)
			}
		}
		return to - from, took, err
	}, func(ctx context.Context, round int) (int, time.Duration, error) {
		from, to := b.part(round, n)
		start := time.Now()
		for at := from; at < to; at += benchRegister {
			if _, err := b.pipelined(ctx, "srem", at, min(at+benchRegister, to)); err != nil {
				return 0, 0, err
			}
		}
		took := time.Since(start)
		return to - from, took, b.count(ctx, b.flags.devices-to, true, false)
	})
	if err != nil {
		return err
	}
	r.Remove, r.RemoveSet = rates[0], rates[1]
	progress.finish()
	return b.countRemoved(ctx, n)
}

// countRemoved fails if not exactly n devices are removed.
func (b *benchStoreRun) countRemoved(ctx context.Context, n int) error {
	var dst []store.Entry
	var err error
	got := 0
	for from := 0; from < b.flags.buckets; from += benchScan {
		if dst, err = b.set.ScanBuckets(ctx, benchBare, b.flags.buckets, from, min(from+benchScan, b.flags.buckets), dst[:0]); err != nil {
			return err
		}
		for i := range dst {
			if dst[i].Record.State == device.Removed {
				got++
			}
		}
	}
	if got != n {
		return fmt.Errorf("%d devices should be removed, and %d are", n, got)
	}
	return nil
}

func (r *benchStoreResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, `
%d devices in %d buckets, medians of %d rounds, Redis %s, %d cores

                                     token set  SET of hex    ratio     goal
bytes a device                          %6.1f      %6.1f    %5.2f    <= 56
  with user, install, three tags        %6.1f
read all, devices/s                  %9.0f   %9.0f    %5.2f   >= 2.5
  those with one tag, with their tags %9.0f
look up by the thousand, devices/s   %9.0f   %9.0f    %5.2f
register by the thousand, devices/s  %9.0f   %9.0f    %5.2f
  with user, install, three tags     %9.0f
remove by the thousand, devices/s    %9.0f   %9.0f    %5.2f
`, r.Devices, r.Buckets, r.Rounds, r.Redis, r.Cores,
		r.Bytes, r.BytesSet, r.Bytes/r.BytesSet, r.BytesTags,
		r.Scan, r.ScanSet, r.ScanRatio, r.ScanTag, r.Lookup, r.LookupSet, r.Lookup/r.LookupSet,
		r.Register, r.RegisterSet, r.Register/r.RegisterSet, r.RegisterTags, r.Remove, r.RemoveSet, r.Remove/r.RemoveSet)
	fmt.Fprintf(out, "\none by one, microseconds                p50       p99\n")
	for _, l := range []struct {
		what string
		latency
	}{
		{"register", r.RegisterOne},
		{"  with user, install, three tags", r.RegisterTagOne},
		{"  in the SET (SADD)", r.RegisterOneSet},
		{"look up", r.LookupOne},
		{"  in the SET (SISMEMBER)", r.LookupOneSet},
	} {
		fmt.Fprintf(out, "%-34s %8.0f  %8.0f\n", l.what, l.P50, l.P99)
	}
	return nil
}
