package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// Device returns what the token set has of a device token, also of one that is
// removed or quarantined, and whether it has anything. PreviousToken is not
// kept. CreatedAt is exact for devices with a user, an install or other details;
// of one without it is the last registration.
func (s *Store) Device(ctx context.Context, app string, t device.Token) (d device.Device, ok bool, err error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return d, false, err
	}
	b := l.bucketOf(t)
	p := s.client.Pipeline()
	record := p.HGet(ctx, l.key(b, 'd'), t.Raw())
	det := p.HGet(ctx, l.key(b, 'x'), t.Raw())
	if err := s.exec(ctx, p); err != nil {
		return d, false, fmt.Errorf("read a device of app %q: %w", app, err)
	}
	packed, err := record.Result()
	if errors.Is(err, redis.Nil) {
		return d, false, nil
	}
	if err != nil {
		return d, false, fmt.Errorf("read a device of app %q: %w", app, err)
	}
	d.Token = t
	if d.Record, err = device.ParseRecord(packed); err != nil {
		return d, false, fmt.Errorf("read a device of app %q: %w", app, err)
	}
	d.Environment, d.Kind = d.Record.Environment, d.Record.Kind
	if d.Record.RegisteredAt > 0 {
		d.CreatedAt = d.Record.Registered()
	}
	more, err := det.Result()
	if err == nil {
		err = unpackDetails(more, &d)
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return d, false, fmt.Errorf("read the details of a device of app %q: %w", app, err)
	}
	return d, true, nil
}

// Delete removes a device token for a reason of ours, leaving a tombstone, and
// reports whether it was there and not removed already.
func (s *Store) Delete(ctx context.Context, app string, t device.Token, reason device.Reason) (bool, error) {
	applied, err := s.Apply(ctx, app, []Verdict{{Token: t, Said: deleted, Reason: reason}})
	if err != nil {
		return false, err
	}
	if applied[0] == Unreadable {
		return false, fmt.Errorf("delete a device token of app %q: %w", app, errRecordVersion)
	}
	return applied[0] == RemovedIt, nil
}

// DeleteMany removes device tokens as [Store.Delete] does, and reports in order
// which were there and not removed already. One whose record cannot be read is
// not removed and makes no error.
func (s *Store) DeleteMany(ctx context.Context, app string, tokens []device.Token, reason device.Reason) ([]bool, error) {
	verdicts := make([]Verdict, len(tokens))
	for i, t := range tokens {
		verdicts[i] = Verdict{Token: t, Said: deleted, Reason: reason}
	}
	applied, err := s.Apply(ctx, app, verdicts)
	if err != nil {
		return nil, err
	}
	was := make([]bool, len(tokens))
	for i, a := range applied {
		was[i] = a == RemovedIt
	}
	return was, nil
}

// Buckets is how many buckets the token set of app has. They are numbered from 0
// for [Store.ScanBuckets] and [Store.Sweep].
func (s *Store) Buckets(ctx context.Context, app string) (int, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return 0, err
	}
	return int(l.buckets), nil
}

// numbered are the buckets with a number: of short and of long device tokens.
func (l *layout) numbered(n int) ([2]bucket, error) {
	if n < 0 || n >= int(l.buckets) {
		return [2]bucket{}, fmt.Errorf("app %q has buckets 0 to %d, not %d", l.app, l.buckets-1, n)
	}
	return [2]bucket{bucket(n), bucket(n) | longBucket}, nil
}

// ScanBuckets appends an Entry for every device token in the buckets from one
// number up to, but without, another to dst: removed and quarantined ones too, in
// no order, each once. What is registered while it runs may be among them. Device
// tokens of one bucket share a string of some kilobytes: clone what is kept long.
func (s *Store) ScanBuckets(ctx context.Context, app string, from, to int, dst []Entry) ([]Entry, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return dst, err
	}
	if from < 0 || to > int(l.buckets) || from > to {
		return dst, fmt.Errorf("app %q has buckets 0 to %d, not %d to %d", app, l.buckets-1, from, to-1)
	}
	var list []bucket
	for n := from; n < to; n++ {
		list = append(list, bucket(n), bucket(n)|longBucket)
	}
	out, err := s.scan(ctx, l, list, dst)
	if err != nil {
		return dst, fmt.Errorf("scan buckets %d to %d of app %q: %w", from, to-1, app, err)
	}
	return out, nil
}

// scan appends all records of the buckets to dst, or returns dst as it was.
func (s *Store) scan(ctx context.Context, l *layout, list []bucket, dst []Entry) ([]Entry, error) {
	out := dst
	for part := range slices.Chunk(list, 64) { // a few thousand devices in a pipeline
		keys := make([]string, len(part))
		for i, b := range part {
			keys[i] = l.key(b, 'd')
		}
		err := s.readHashes(ctx, keys, func(_ int, field, value string) {
			e := Entry{Token: device.TokenFromRaw(field)}
			e.Record, e.Err = device.ParseRecord(value)
			e.Known = e.Err == nil
			out = append(out, e)
		})
		if err != nil {
			return dst, err
		}
	}
	return out, nil
}

// Count is how many device tokens of app are in the token set. It counts fields
// without reading them, so removed ones that are still remembered, and
// quarantined ones, are among them.
func (s *Store) Count(ctx context.Context, app string) (int64, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return 0, err
	}
	var total int64
	for from := uint32(0); from < l.buckets; from += pipelineTokens {
		p := s.client.Pipeline()
		var cmds []*redis.IntCmd
		for n := from; n < min(from+pipelineTokens, l.buckets); n++ {
			cmds = append(cmds, p.HLen(ctx, l.key(bucket(n), 'd')), p.HLen(ctx, l.key(bucket(n)|longBucket, 'd')))
		}
		if err := s.exec(ctx, p); err != nil {
			return 0, fmt.Errorf("count device tokens of app %q: %w", app, err)
		}
		for _, cmd := range cmds {
			total += cmd.Val()
		}
	}
	return total, nil
}
