package store

import (
	"context"
	"fmt"
	"math"

	"github.com/pushfleet/pushfleet/device"
)

// Census is how many device tokens an app has, by state.
type Census struct {
	Live, Quarantined int64
	// Removed are those that are remembered as removed, with RemovedByReason by why.
	Removed         int64
	RemovedByReason map[string]int64
	// Estimated: they were counted in a sample, which says how many there are to about
	// one in a hundred; of what is rare, less exactly.
	Estimated bool
}

const (
	// censusDevices is after how many device tokens a sample is large enough, and
	// censusBuckets after how many buckets, however empty they are: a tenth of a second
	// of Redis's time.
	censusDevices = 50_000
	censusBuckets = 16_384
	// censusFirst is how many buckets are read at once at first, and censusMost at the
	// most: more where there is little in them.
	censusFirst, censusMost = 32, 1024
)

// Census counts the device tokens of app. Of a large token set it reads no more buckets
// than have 50,000 of them: which bucket a device token is in is random, so they are a
// sample of all.
func (s *Store) Census(ctx context.Context, app string) (Census, error) {
	c := Census{RemovedByReason: make(map[string]int64)}
	n0, err := s.Buckets(ctx, app)
	if err != nil {
		return c, fmt.Errorf("count devices of app %q: %w", app, err)
	}
	var entries []Entry
	read, found, step := 0, 0, censusFirst
	for read < n0 && read < censusBuckets && found < censusDevices {
		to := min(read+step, n0)
		if entries, err = s.ScanBuckets(ctx, app, n0, read, to, entries[:0]); err != nil {
			return c, fmt.Errorf("count devices of app %q: %w", app, err)
		}
		for i := range entries {
			c.count(&entries[i])
		}
		read, found = to, found+len(entries)
		if len(entries) < 10*step {
			step = min(2*step, censusMost)
		}
	}
	c.Estimated = read < n0
	c.scale(float64(n0) / float64(max(1, read)))
	return c, nil
}

func (c *Census) count(e *Entry) {
	switch {
	case !e.Known:
	case e.Record.State == device.Live:
		c.Live++
	case e.Record.State == device.Quarantined:
		c.Quarantined++
	default:
		c.Removed++
		c.RemovedByReason[e.Record.Reason.String()]++
	}
}

func (c *Census) scale(by float64) {
	times := func(n int64) int64 { return int64(math.Round(float64(n) * by)) }
	c.Live, c.Quarantined, c.Removed = times(c.Live), times(c.Quarantined), times(c.Removed)
	for reason, n := range c.RemovedByReason {
		c.RemovedByReason[reason] = times(n)
	}
}
