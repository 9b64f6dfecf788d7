package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// How many device tokens of an app may be removed in an hour because APNs said
// so: a tenth of the token set, and removalsLeast at least.
//
// choice: APNs's 410s are final, but they come in waves that Apple itself has
// called a glitch (Apple DTS, forums/827088), and a mistake in our own reading of
// them must not empty the set before somebody looks. A campaign to a set that has
// not been cleaned for years is through in a few hours; what is not removed is
// only sent to once more.
const (
	removalsLeast = 10_000
	removalsShare = 10 // one in so many
)

// countAge is how long a token set's size is relied on for the cap.
const countAge = 10 * time.Minute

type cachedCount struct {
	n      int64
	readAt time.Time // monotonic
}

func removalsKey(app string) string { return "pf:{" + app + "}:removals" }

// claimRemovals asks for n removals in this hour, and returns how many are
// granted.
func (s *Store) claimRemovals(ctx context.Context, app string, n int) (int, error) {
	switch most := s.cfg.RemovalsPerHour; {
	case n == 0:
		return 0, nil
	case most < 0:
		return n, nil
	case most > 0:
		return s.countRemovals(ctx, app, n, most)
	}
	granted, err := s.countRemovals(ctx, app, n, removalsLeast)
	if err != nil || granted == n {
		return granted, err
	}
	// Only now does the size matter.
	size, err := s.cachedCount(ctx, app)
	if err != nil {
		return granted, err
	}
	more, err := s.countRemovals(ctx, app, n-granted, max(removalsLeast, int(size/removalsShare)))
	return granted + more, err
}

// noteRemovals counts removals that are not capped, or gives back what was
// granted and not used.
func (s *Store) noteRemovals(ctx context.Context, app string, n int) error {
	if n == 0 || s.cfg.RemovalsPerHour < 0 {
		return nil
	}
	_, err := s.countRemovals(ctx, app, n, math.MaxInt32)
	return err
}

func (s *Store) countRemovals(ctx context.Context, app string, n, most int) (int, error) {
	calls := []call{{keys: []string{removalsKey(app)}, args: []any{s.now(), n, most}}}
	err := s.run(ctx, "removals", calls)
	if err == nil {
		var reply []int64
		if reply, err = calls[0].ints(2); err == nil {
			return int(reply[0]), nil
		}
	}
	return 0, fmt.Errorf("count removals of app %q: %w", app, err)
}

func (s *Store) cachedCount(ctx context.Context, app string) (int64, error) {
	s.mu.Lock()
	known, ok := s.counts[app]
	s.mu.Unlock()
	if ok && time.Since(known.readAt) < countAge {
		return known.n, nil
	}
	n, err := s.Count(ctx, app)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.counts[app] = cachedCount{n: n, readAt: time.Now()}
	s.mu.Unlock()
	return n, nil
}
