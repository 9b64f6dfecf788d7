package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/pushfleet/pushfleet/device"
)

// The layout of an app is its bucket count. It doubles under a running fleet,
// from N to 2N: what has the next bit of its hash set goes from bucket b to b+N,
// bucket by bucket (grow.go), or when somebody writes to it (move.go). What holds
// meanwhile, whatever stops or is repeated:
//
//   - A bucket's mark is the level (log2 of the bucket count) that it was taken to.
//     A script that writes carries its caller's level and refuses a bucket with a
//     higher mark: who goes by an older layout, however long it was frozen, never
//     writes to a bucket that was left.
//   - The old bucket is marked before anything leaves it, so nothing that moves is
//     written there from then on. What moves is put before it is dropped.
//   - Nothing is written to it in the new bucket while it is in the old one. So a
//     reader looks into the old one first, believes what it finds, and finds it in
//     the new one otherwise.
//   - A new bucket is marked once the old one has nothing left for it. What a mover
//     that was frozen has still in hand is refused from then on; so only then may
//     what is in it be forgotten.
//
// Who reads by an older layout can only miss something. So a look-up that missed
// something, and a scan, read the layout again afterwards; the slots of an index
// are read together with the mark.
//
// The keys of an index move in the same way, each with all its slots.

// layout says how the token set of one app is laid out. It is immutable.
type layout struct {
	app     string
	buckets uint32 // a power of two; while they double, what they double to
	from    uint32 // while they double, how many there were; else 0
	split   uint32 // how many of those have been split, the first ones
}

// level is what marks are compared with.
func (l *layout) level() int { return bits.Len32(l.buckets) - 1 }

// isLeft reports whether a bucket with that mark was left, or split, since.
func (l *layout) isLeft(mark string) bool {
	n, err := strconv.Atoi(mark)
	return err == nil && n > l.level()
}

// same reports whether everything is where it is by other.
func (l *layout) same(other *layout) bool {
	return l.buckets == other.buckets && l.from == other.from
}

// begun is the bucket count that a scan of everything goes by.
func (l *layout) begun() uint32 {
	if l.from != 0 {
		return l.from
	}
	return l.buckets
}

// bucketOf is where t belongs.
func (l *layout) bucketOf(t device.Token) bucket {
	raw := t.Raw()
	b := bucket(xxhash.Sum64String(raw)) & bucket(l.buckets-1)
	if len(raw) > shortToken {
		b |= longBucket
	}
	return b
}

// left returns the bucket that what belongs in b may still have to leave, and
// whether there is one.
func (l *layout) left(b bucket) (bucket, bool) {
	n := uint32(b &^ longBucket)
	if l.from == 0 || n < l.from || n-l.from < l.split {
		return b, false
	}
	return b - bucket(l.from), true
}

// firstOf is the bucket in which a reader looks for t first.
func (l *layout) firstOf(t device.Token) bucket {
	b, _ := l.left(l.bucketOf(t))
	return b
}

// slotBucket is the bucket of an index that k belongs in.
func (l *layout) slotBucket(k device.Key) uint32 {
	return binary.BigEndian.Uint32(k[:]) & (l.buckets*indexSplit - 1)
}

// slotLeft is left for buckets of an index.
func (l *layout) slotLeft(n uint32) (uint32, bool) {
	if l.from == 0 || n < l.from*indexSplit || n%l.from < l.split {
		return n, false
	}
	return n - l.from*indexSplit, true
}

type cachedLayout struct {
	*layout
	readAt time.Time // monotonic
}

// Versions of the layout. The second one has doubled, or does: processes that do
// not know of it must not touch the token set any more.
const (
	layoutVersion   = "1"
	layoutIsDoubled = "2"
)

// layoutAge is how long a layout that was read is relied on. It bounds the harm
// when Redis is emptied or restored from a backup under a running fleet, and is
// how long a doubling goes unnoticed where nothing is refused or missed.
const layoutAge = 10 * time.Second

// layout returns how the token set of app is laid out; the first use of an app
// writes it down.
//
// choice: it is in Redis, beside the data that it describes, not in JetStream:
// a backup that is restored must bring the layout that it was written with.
func (s *Store) layout(ctx context.Context, app string) (*layout, error) {
	if s.invalid != nil {
		return nil, s.invalid
	}
	s.mu.Lock()
	cached, ok := s.layouts[app]
	if ok && time.Since(cached.readAt) < layoutAge {
		s.mu.Unlock()
		return cached.layout, nil
	}
	if ok {
		// Only one caller reads it again, the others go on with what is known.
		cached.readAt = time.Now()
		s.layouts[app] = cached
	}
	s.mu.Unlock()
	return s.newLayout(ctx, app, cached.layout)
}

// newLayout reads the layout again, whatever is known.
func (s *Store) newLayout(ctx context.Context, app string, known *layout) (*layout, error) {
	l, err := s.readLayout(ctx, app, known)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.layouts, app)
		return nil, fmt.Errorf("read layout of app %q: %w", app, err)
	}
	s.layouts[app] = cachedLayout{layout: l, readAt: time.Now()}
	return l, nil
}

func (s *Store) readLayout(ctx context.Context, app string, known *layout) (*layout, error) {
	if !validApp(app) {
		return nil, errors.New("an app's name is letters, digits, - and _")
	}
	fields := []string{"buckets", "split", "layout"}
	p := s.client.Pipeline()
	reply := p.HMGet(ctx, layoutKey(app), fields...)
	if err := s.exec(ctx, p); err != nil {
		return nil, err
	}
	values := reply.Val()
	if values[0] == nil || values[2] == nil {
		// Written only where it is missing: a Redis that is out of memory, or that is a
		// replica, can still be read.
		buckets := s.cfg.Buckets
		if known != nil {
			// Of an emptied Redis. No bucket can have been marked with more than this
			// by who knows no more.
			buckets = int(known.buckets)
		}
		p = s.client.Pipeline()
		p.HSetNX(ctx, layoutKey(app), "buckets", buckets)
		p.HSetNX(ctx, layoutKey(app), "layout", layoutVersion)
		reply = p.HMGet(ctx, layoutKey(app), fields...)
		if err := s.exec(ctx, p); err != nil {
			return nil, err
		}
		values = reply.Val()
	}
	var stored [3]string
	for i := range stored {
		stored[i], _ = values[i].(string)
	}
	l, err := parseLayout(app, stored[0], stored[1], stored[2])
	if err == nil && known != nil && *known == *l {
		return known, nil
	}
	return l, err
}

func parseLayout(app, count, split, version string) (*layout, error) {
	if version != layoutVersion && version != layoutIsDoubled {
		return nil, fmt.Errorf("layout %q is not known to this version, which knows %s and %s",
			version, layoutVersion, layoutIsDoubled)
	}
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil || n == 0 || n > maxBuckets || bits.OnesCount64(n) != 1 {
		return nil, fmt.Errorf("its bucket count %q is not a power of two of at most %d", count, maxBuckets)
	}
	l := &layout{app: app, buckets: uint32(n)}
	if split == "" {
		return l, nil
	}
	done, err := strconv.ParseUint(split, 10, 32)
	if err != nil || done >= n || n == maxBuckets {
		return nil, fmt.Errorf("%q of its %d buckets cannot have been split", split, n)
	}
	l.from, l.buckets, l.split = l.buckets, 2*l.buckets, uint32(done)
	return l, nil
}

// reading runs read, which may miss something if the layout changes meanwhile,
// until it did not. read reports whether it may have missed anything at all.
func (s *Store) reading(ctx context.Context, l *layout, read func(l *layout) (missed bool, err error)) error {
	const readings = 8 // a doubling takes minutes, and each begins and ends once
	for range readings {
		missed, err := read(l)
		if err != nil {
			return err
		}
		if !missed {
			return nil
		}
		now, err := s.newLayout(ctx, l.app, l)
		if err != nil {
			return err
		}
		if now.same(l) {
			return nil
		}
		l = now
	}
	return errLayoutMoves
}

var (
	errLayoutMoves = errors.New("the layout of the token set changes faster than it can be read")
	errMarkedAhead = errors.New("a bucket was split further than the layout says: was an older layout restored?")
)
