package store

import (
	"context"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Stale reports whether e is a device token that was not registered since
// before, and is not removed: one that [Store.Prune] would remove.
func Stale(e Entry, before time.Time) bool {
	return e.Known && e.Record.State != device.Removed &&
		e.Record.RegisteredAt > 0 && e.Record.RegisteredAt < before.UnixMilli()
}

// Prune removes those of list that are stale (see [Stale]), each only if its
// record is still as list has it, and returns how many. They are remembered as
// removed, for the reason device.Pruned. They count as removals of this hour, and
// go whatever their number.
func (s *Store) Prune(ctx context.Context, app string, list []Entry, before time.Time) (int, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return 0, err
	}
	n, err := s.prune(ctx, l, list, before)
	if noteErr := s.noteRemovals(ctx, app, n); err == nil {
		err = noteErr
	}
	if err != nil {
		return n, fmt.Errorf("prune device tokens of app %q: %w", app, err)
	}
	return n, nil
}

// Pruned is what a [Store.PruneBucket] did.
type Pruned struct {
	Removed int
	// OverCap counts those that stay for now: enough were removed in this hour.
	OverCap int
}

// PruneBucket removes the device tokens of one bucket, from 0 to what
// [Store.Buckets] says less one, that were not registered for longer than
// unseenFor.
//
// choice: it takes at most half of what may be removed in an hour (see
// [Config.RemovalsPerHour]). A wrong setting, or a clock that jumps, then leaves
// time to notice, and the rest is left to what APNs says.
func (s *Store) PruneBucket(ctx context.Context, app string, n int, unseenFor time.Duration) (Pruned, error) {
	var done Pruned
	l, err := s.layout(ctx, app)
	if err != nil {
		return done, err
	}
	both, err := l.numbered(n)
	if err != nil {
		return done, err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return done, err
	}
	before := now.Add(-unseenFor)
	entries, err := s.scan(ctx, l, both, nil)
	if err == nil {
		done, err = s.pruneCapped(ctx, l, entries, before)
	}
	if err != nil {
		return done, fmt.Errorf("prune bucket %d of app %q: %w", n, app, err)
	}
	return done, nil
}

func (s *Store) pruneCapped(ctx context.Context, l *layout, entries []Entry, before time.Time) (Pruned, error) {
	var done Pruned
	var stale []Entry
	for _, e := range entries {
		if Stale(e, before) {
			stale = append(stale, e)
		}
	}
	if len(stale) == 0 {
		return done, nil
	}
	granted := len(stale)
	if s.cfg.RemovalsPerHour >= 0 {
		most := s.cfg.RemovalsPerHour
		if most == 0 {
			size, err := s.cachedCount(ctx, l.app)
			if err != nil {
				return done, err
			}
			most = max(removalsLeast, int(size/removalsShare))
		}
		var err error
		if granted, err = s.countRemovals(ctx, l.app, len(stale), max(most/2, 1)); err != nil {
			return done, err
		}
		// More than half may be used up by others: then nothing is granted.
		granted = max(granted, 0)
	}
	done.OverCap = len(stale) - granted
	var err error
	done.Removed, err = s.prune(ctx, l, stale[:granted], before)
	if err == nil {
		// What an error leaves unknown counts as used.
		err = s.noteRemovals(ctx, l.app, done.Removed-granted)
	}
	return done, err
}

func (s *Store) prune(ctx context.Context, l *layout, list []Entry, before time.Time) (int, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	for from := 0; from < len(list); from += pipelineTokens {
		var swaps []swap
		for _, e := range list[from:min(from+pipelineTokens, len(list))] {
			if !Stale(e, before) {
				continue
			}
			after := e.Record
			after.State, after.ChangedAt, after.Reason, after.Rejections = device.Removed, now.UnixMilli(), device.Pruned, 0
			swaps = append(swaps, swap{token: e.Token, before: e.Record, after: after})
		}
		done, err := s.swapRecords(ctx, l, swaps)
		for _, ok := range done {
			if ok {
				removed++
			}
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
