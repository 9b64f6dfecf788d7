package store

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/redis/go-redis/v9"
)

// Count is how many device tokens of app are in the token set. It counts fields
// without reading them, so removed ones that are still remembered, and
// quarantined ones, are among them. Only in buckets that are being split they are
// read, so that none is counted twice.
func (s *Store) Count(ctx context.Context, app string) (int64, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return 0, err
	}
	var total int64
	err = s.reading(ctx, l, func(l *layout) (missed bool, err error) {
		total = 0
		for from := uint32(0); from < l.begun(); from += pipelineTokens {
			n, err := s.count(ctx, l, from, min(from+pipelineTokens, l.begun()))
			if err != nil {
				return false, err
			}
			total += n
		}
		return true, nil // whether it missed something cannot be told
	})
	if err != nil {
		return 0, fmt.Errorf("count device tokens of app %q: %w", app, err)
	}
	return total, nil
}

// count counts what is in the buckets from one number up to, but without,
// another, and in what is split off from them.
func (s *Store) count(ctx context.Context, l *layout, from, to uint32) (int64, error) {
	var whole, olds []bucket
	for n := from; n < to; n++ {
		for _, b := range []bucket{bucket(n), bucket(n) | longBucket} {
			half := b + bucket(l.from)
			if l.from == 0 {
				whole = append(whole, b)
			} else if _, ok := l.left(half); ok {
				olds = append(olds, b)
			} else {
				whole = append(whole, b, half)
			}
		}
	}
	// Of one that is not marked nothing has left yet. The length comes first: it
	// must not be that after something has left.
	lengths, marks, err := s.lengths(ctx, l, append(whole, olds...))
	if err != nil {
		return 0, err
	}
	var total int64
	for i, n := range lengths {
		total += n
		if marks[i] == "" {
			continue
		}
		total-- // the mark
		if i < len(whole) || !l.isSplitting(marks[i]) {
			continue
		}
		// What has left it, or is about to.
		total -= n - 1
		b := olds[i-len(whole)]
		before, err := s.scan(ctx, l, []bucket{b}, nil)
		if err != nil {
			return 0, err
		}
		both, err := s.scan(ctx, l, []bucket{b + bucket(l.from)}, before)
		if err != nil {
			return 0, err
		}
		seen := make(map[string]bool, len(both))
		for k := range both {
			seen[both[k].Token.Raw()] = true
		}
		total += int64(len(seen))
	}
	return total, nil
}

// isSplitting reports whether a bucket with that mark has begun to be split.
func (l *layout) isSplitting(mark string) bool {
	older := layout{buckets: l.from}
	return older.isLeft(mark)
}

// lengths are the numbers of fields of buckets, and their marks. The mark is read
// later, and "" is none.
func (s *Store) lengths(ctx context.Context, l *layout, list []bucket) ([]int64, []string, error) {
	lengths, marks := make([]*redis.IntCmd, len(list)), make([]*redis.SliceCmd, len(list))
	p := s.client.Pipeline()
	for i, b := range list {
		lengths[i] = p.HLen(ctx, l.key(b, 'd'))
		marks[i] = p.HMGet(ctx, l.key(b, 'd'), "")
	}
	if err := s.exec(ctx, p); err != nil {
		return nil, nil, err
	}
	n, m := make([]int64, len(list)), make([]string, len(list))
	for i := range list {
		n[i] = lengths[i].Val()
		if v := marks[i].Val(); len(v) == 1 {
			m[i], _ = v[0].(string)
		}
	}
	return n, m, nil
}

// sampled is how many buckets are looked at to know how full they are: of 200
// devices each, that tells to about one.
const sampled = 256

// fullness is how many device tokens a bucket has on average, about.
func (s *Store) fullness(ctx context.Context, l *layout) (float64, error) {
	list := make([]bucket, min(sampled, int(l.buckets)))
	for i := range list {
		list[i] = bucket(i)
		if int(l.buckets) > sampled {
			list[i] = bucket(rand.Uint32N(l.buckets)) //nolint:gosec // a sample
		}
	}
	lengths, marks, err := s.lengths(ctx, l, list)
	if err != nil {
		return 0, err
	}
	var total int64
	for i, n := range lengths {
		total += n
		if marks[i] != "" {
			total--
		}
	}
	return float64(total) / float64(len(list)), nil
}
