package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// DefaultDevicesPerBucket is how many devices a bucket holds on average when the
// buckets double.
//
// choice: after that they hold 100, and chance does not bring one of 200 near the
// 512 entries at which Redis makes a hash table of it.
const DefaultDevicesPerBucket = 200

// growBuckets is how many buckets one step splits: two hundred device tokens move
// in some ten pipelines. With eight, the slowest hundredth of registrations took
// 4 ms meanwhile, with two 3 ms.
const growBuckets = 2

// BucketsFor is a bucket count that suits so many devices, for [Config.Buckets]:
// there are 50 to 100 in each, or fewer in [DefaultBuckets].
func BucketsFor(devices int) int {
	n := DefaultBuckets
	for n < maxBuckets && devices/n > DefaultDevicesPerBucket/2 {
		n *= 2
	}
	return n
}

// Prepare lays out the token set of an app that has none yet for about so many
// devices. One that is there stays as it is, and doubles when it must.
func (s *Store) Prepare(ctx context.Context, app string, devices int) error {
	if s.invalid != nil {
		return s.invalid
	}
	buckets := max(BucketsFor(devices), s.cfg.Buckets)
	_, err := s.newLayout(ctx, app, &layout{app: app, buckets: uint32(buckets)})
	return err
}

// Growth is how far the buckets of an app have doubled.
type Growth struct {
	// Buckets is their count; while they double, the one before.
	Buckets int
	// Doubling reports that they double, and Split how many of Buckets are split.
	Doubling bool
	Split    int
	// Devices is about how many device tokens there are, by a sample of the buckets:
	// quarantined ones, and removed ones that are remembered, among them. -1: the call
	// did not look, as only [Store.Grow] does, and not while the buckets double.
	Devices int64
	// Began and Ended report that the call began a doubling, or ended one.
	Began, Ended bool
}

func (l *layout) growth() Growth {
	return Growth{Buckets: int(l.begun()), Doubling: l.from != 0, Split: int(l.split), Devices: -1}
}

// Growth is how far the buckets of app have doubled. It changes nothing.
func (s *Store) Growth(ctx context.Context, app string) (Growth, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return Growth{}, err
	}
	return l.growth(), nil
}

// ClaimGrowth reports whether the caller may call [Store.Grow] for that long: one
// in the fleet may. Nothing breaks if more do; it would be work done twice.
func (s *Store) ClaimGrowth(ctx context.Context, app string, period time.Duration) (bool, error) {
	err := s.client.SetArgs(ctx, doublingKey(app), 1, redis.SetArgs{Mode: "NX", TTL: period}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("claim growth of app %q: %w", app, err)
	}
	return true, nil
}

// Grow takes one step of doubling the buckets of app: it begins if they are
// fuller than [Config.DevicesPerBucket], and then splits a few with each call,
// until the Growth that it returns is no longer Doubling. A step takes some ten
// pipelines. Everything may be read and written meanwhile.
//
// A step may fail or be cut off anywhere, and any number may be taken at once, by
// any processes.
func (s *Store) Grow(ctx context.Context, app string) (Growth, error) {
	l, err := s.layout(ctx, app)
	if err == nil {
		l, err = s.newLayout(ctx, app, l)
	}
	if err != nil {
		return Growth{}, err
	}
	was := *l
	changed, devices, err := s.growStep(ctx, l)
	if err == nil {
		l, err = s.newLayout(ctx, app, l)
	}
	if err != nil {
		return was.growth(), fmt.Errorf("double the buckets of app %q: %w", app, err)
	}
	g := l.growth()
	g.Devices = devices
	g.Began, g.Ended = changed && was.from == 0, changed && was.from != 0
	return g, nil
}

func (s *Store) growStep(ctx context.Context, l *layout) (changed bool, devices int64, err error) {
	done := ""
	devices = -1
	if l.from == 0 {
		perBucket, err := s.fullness(ctx, l)
		if err != nil {
			return false, -1, err
		}
		devices = int64(perBucket * float64(l.buckets))
		if !s.isFull(ctx, l, perBucket) {
			return false, devices, nil
		}
	} else {
		to := min(l.split+growBuckets, l.from)
		if err := s.splitBuckets(ctx, l, l.split, to); isOldLayout(err) {
			return false, -1, nil // others have ended it
		} else if err != nil {
			return false, -1, err
		}
		done = strconv.FormatUint(uint64(to), 10)
	}
	calls := []call{{keys: []string{layoutKey(l.app)}, args: []any{l.begun(), done, layoutIsDoubled}}}
	if err := s.run(ctx, "grow", calls); err != nil {
		return false, -1, err
	}
	n, err := sum(calls)
	return n == 1, devices, err
}

// isFull reports whether buckets with so many device tokens each should double.
func (s *Store) isFull(ctx context.Context, l *layout, perBucket float64) bool {
	if l.buckets >= maxBuckets {
		return false
	}
	most := s.cfg.DevicesPerBucket
	if most == 0 {
		most = DefaultDevicesPerBucket
		// Some managed servers have 128. What cannot be read is taken to be right.
		const setting = "hash-max-listpack-entries"
		if values, err := s.client.ConfigGet(ctx, setting).Result(); err == nil {
			if n, err := strconv.Atoi(values[setting]); err == nil && n > 1 {
				most = min(most, n/2)
			}
		}
	}
	return perBucket > float64(most)
}

// splitBuckets brings everything that has to leave the buckets from one number up
// to, but without, another to where it belongs.
func (s *Store) splitBuckets(ctx context.Context, l *layout, from, to uint32) error {
	var olds []bucket
	var places []place
	var marks, indexMarks, whole []call
	for n := from; n < to; n++ {
		for _, b := range []bucket{bucket(n), bucket(n) | longBucket} {
			olds = append(olds, b)
			marks = append(marks, call{keys: l.keysOf(b, "dxr")})
			whole = append(whole, call{keys: l.keysOf(b+bucket(l.from), "dxr")})
		}
		for _, ix := range []index{userIndex, installIndex} {
			for k := range uint32(indexSplit) {
				p := place{ix, n + k*l.from}
				slots, long := l.slotKeys(p.ix, p.n)
				places = append(places, p)
				indexMarks = append(indexMarks, call{keys: []string{slots, long}})
			}
		}
	}
	if err := s.runFenced(ctx, l, "leave", marks); err != nil {
		return err
	}
	// From now on nothing that has to leave comes to them.
	entries, err := s.scan(ctx, l, olds, nil)
	if err != nil {
		return err
	}
	var tokens []device.Token
	for i := range entries {
		if b := l.bucketOf(entries[i].Token); uint32(b&^longBucket) >= l.from {
			tokens = append(tokens, entries[i].Token)
		}
	}
	for some := range slices.Chunk(tokens, pipelineTokens) {
		if err := firstOf(s.moveTokens(ctx, l, some)); err != nil {
			return err
		}
	}
	// And nothing more comes to what they were split into.
	if err := s.runFenced(ctx, l, "leave", whole); err != nil {
		return err
	}

	if err := s.runFenced(ctx, l, "leave_index", indexMarks); err != nil {
		return err
	}
	for some := range slices.Chunk(places, 64) {
		list, err := s.leaving(ctx, l, some)
		if err != nil {
			return err
		}
		err = firstOf(s.moveSlots(ctx, l, len(list), func(i int) (index, device.Key) {
			return list[i].ix, list[i].key
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// slotPage is about how many slots come in one page.
const slotPage = 1000

// leaving are the keys that have to leave buckets of indexes.
func (s *Store) leaving(ctx context.Context, l *layout, places []place) ([]pointer, error) {
	var list []pointer
	cursors := make([]uint64, len(places))
	open := make([]int, len(places))
	for i := range open {
		open[i] = i
	}
	for len(open) > 0 {
		cmds := make([]*redis.ScanCmd, len(open))
		p := s.client.Pipeline()
		for k, i := range open {
			slots, _ := l.slotKeys(places[i].ix, places[i].n)
			cmds[k] = p.HScan(ctx, slots, cursors[i], "", slotPage)
		}
		if err := s.exec(ctx, p); err != nil {
			return nil, err
		}
		var next []int
		for k, i := range open {
			fields, cursor := cmds[k].Val()
			for n := 0; n < len(fields); n += 2 {
				var key device.Key
				if len(fields[n]) != len(key)+1 || fields[n][len(key)] != 0 {
					continue // the mark, and all slots but the first
				}
				copy(key[:], fields[n])
				if _, ok := l.slotLeft(l.slotBucket(key)); ok {
					list = append(list, pointer{ix: places[i].ix, key: key})
				}
			}
			if cursors[i] = cursor; cursor != 0 {
				next = append(next, i)
			}
		}
		open = next
	}
	return list, nil
}
