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
	var got packedDevice
	err = s.reading(ctx, l, func(l *layout) (missed bool, err error) {
		got = packedDevice{}
		for _, b := range slices.Compact([]bucket{l.firstOf(t), l.bucketOf(t)}) {
			p, err := s.readDevice(ctx, l, b, t)
			if err != nil {
				return false, err
			}
			if p.record != "" {
				got = p
			}
			// One that moves may leave between the two.
			if got.whole() {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return d, false, fmt.Errorf("read a device of app %q: %w", app, err)
	}
	if got.record == "" {
		return d, false, nil
	}
	d.Token = t
	if d.Record, err = device.ParseRecord(got.record); err != nil {
		return d, false, fmt.Errorf("read a device of app %q: %w", app, err)
	}
	d.Environment, d.Kind = d.Record.Environment, d.Record.Kind
	if d.Record.RegisteredAt > 0 {
		d.CreatedAt = d.Record.Registered()
	}
	if got.detailed {
		if err := unpackDetails(got.details, &d); err != nil {
			return d, false, fmt.Errorf("read the details of a device of app %q: %w", app, err)
		}
	}
	return d, true, nil
}

// packedDevice is what one bucket has of a device token; "" is no record.
type packedDevice struct {
	record, details string
	detailed        bool
}

// whole reports whether nothing can be missing.
func (p *packedDevice) whole() bool {
	if p.record == "" {
		return false
	}
	r, err := device.ParseRecord(p.record)
	return err != nil || !r.Details || p.detailed
}

func (s *Store) readDevice(ctx context.Context, l *layout, b bucket, t device.Token) (p packedDevice, err error) {
	if t.IsZero() {
		return p, nil
	}
	pipe := s.client.Pipeline()
	record := pipe.HGet(ctx, l.key(b, 'd'), t.Raw())
	det := pipe.HGet(ctx, l.key(b, 'x'), t.Raw())
	if err := s.exec(ctx, pipe); err != nil {
		return p, err
	}
	if p.record, err = record.Result(); err != nil && !errors.Is(err, redis.Nil) {
		return p, err
	}
	p.details, err = det.Result()
	p.detailed = err == nil
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return p, err
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
// for [Store.ScanBuckets] and [Store.Sweep]. While they double, it is the count
// before.
func (s *Store) Buckets(ctx context.Context, app string) (int, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return 0, err
	}
	return int(l.begun()), nil
}

// numbered are the buckets with a number: of short and of long device tokens, and
// what is split off from them.
func (l *layout) numbered(n int) ([]bucket, error) {
	if n < 0 || n >= int(l.begun()) {
		return nil, fmt.Errorf("app %q has buckets 0 to %d, not %d", l.app, l.begun()-1, n)
	}
	list := []bucket{bucket(n), bucket(n) | longBucket}
	if l.from != 0 {
		half := bucket(n) + bucket(l.from)
		list = append(list, half, half|longBucket)
	}
	return list, nil
}

// ScanBuckets appends an Entry to dst for every device token in the buckets from
// one number up to, but without, another: removed and quarantined ones too, in no
// order, each once. What is registered while it runs may be among them. Device
// tokens of one bucket share a string of some kilobytes: clone what is kept long.
//
// The numbers are those of a time when there were n0 buckets, as [Store.Buckets]
// said then, whatever they have doubled to since: number n stands for all buckets
// whose number is n modulo n0. So a scan in many calls, by many processes, that
// keeps the n0 of its beginning comes exactly once to a device token that is in
// the token set throughout.
func (s *Store) ScanBuckets(ctx context.Context, app string, n0, from, to int, dst []Entry) ([]Entry, error) {
	l, err := s.layout(ctx, app)
	if err == nil && n0 > int(l.begun()) { // read before a doubling that others know of
		l, err = s.newLayout(ctx, app, l)
	}
	if err != nil {
		return dst, err
	}
	if n0 < 1 || n0 > int(l.begun()) || n0&(n0-1) != 0 {
		return dst, fmt.Errorf("app %q has %d buckets, and never had %d", app, l.begun(), n0)
	}
	if from < 0 || to > n0 || from > to {
		return dst, fmt.Errorf("app %q had buckets 0 to %d, not %d to %d", app, n0-1, from, to-1)
	}
	var out []Entry
	err = s.reading(ctx, l, func(l *layout) (missed bool, err error) {
		out, err = s.scanClasses(ctx, l, uint32(n0), uint32(from), uint32(to), dst)
		return true, err // whether it missed something cannot be told
	})
	if err != nil {
		return dst, fmt.Errorf("scan buckets %d to %d of app %q: %w", from, to-1, app, err)
	}
	return out, nil
}

// classes returns the buckets that have a number from one up to, but without,
// another, modulo n0: those that are whole, and by the same index in both those that
// have something to leave yet and what they are split into.
func (l *layout) classes(n0, from, to uint32) (whole, olds, news []bucket) {
	for n := from; n < to; n++ {
		for b := bucket(n); b < bucket(l.begun()); b += bucket(n0) {
			for _, b := range []bucket{b, b | longBucket} {
				half := b + bucket(l.from)
				if l.from == 0 {
					whole = append(whole, b)
				} else if _, ok := l.left(half); ok {
					olds, news = append(olds, b), append(news, half)
				} else {
					whole = append(whole, b, half)
				}
			}
		}
	}
	return whole, olds, news
}

func (s *Store) scanClasses(ctx context.Context, l *layout, n0, from, to uint32, dst []Entry) ([]Entry, error) {
	whole, olds, news := l.classes(n0, from, to)
	out, err := s.scan(ctx, l, whole, dst)
	if err != nil || len(olds) == 0 {
		return out, err
	}
	if out, err = s.scanSplit(ctx, l, olds, news, out); err != nil {
		return dst, err
	}
	return out, nil
}

// scanSplit appends what is in buckets that are being split to dst.
func (s *Store) scanSplit(ctx context.Context, l *layout, olds, news []bucket, dst []Entry) ([]Entry, error) {
	// The old ones first: what moves is put before it is dropped.
	before, err := s.scan(ctx, l, olds, nil)
	if err != nil {
		return dst, err
	}
	out, err := s.scan(ctx, l, news, dst)
	if err != nil {
		return dst, err
	}
	there := make(map[device.Token]bool, len(out)-len(dst))
	for i := range out[len(dst):] {
		there[out[len(dst)+i].Token] = true
	}
	for i := range before {
		if !there[before[i].Token] {
			out = append(out, before[i])
		}
	}
	return out, nil
}

// scan appends all records of the buckets to dst, or returns dst as it was.
func (s *Store) scan(ctx context.Context, l *layout, list []bucket, dst []Entry) ([]Entry, error) {
	out := dst
	keys := make([]string, len(list))
	for i, b := range list {
		keys[i] = l.key(b, 'd')
	}
	err := s.readHashes(ctx, keys, func(_ int, field, value string) {
		if field == "" {
			return // the mark
		}
		e := Entry{Token: device.TokenFromRaw(field)}
		e.Record, e.Err = device.ParseRecord(value)
		e.Known = e.Err == nil
		out = append(out, e)
	})
	if err != nil {
		return dst, err
	}
	return out, nil
}
