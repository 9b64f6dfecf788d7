package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/pushfleet/pushfleet/device"
)

// Replacing an older device token cannot be one script, since the two are in
// different buckets. What is to be replaced is remembered in the bucket of the
// new device token, by the same script that writes its record, and forgotten
// when it is done; in between a reader sees both.
//
// Of two device tokens the one registered later stays. A registration is put
// later than all that it is known to replace, whatever the clocks of different
// servers say; of two in the same millisecond, which only happens in a race, the
// one with the larger bytes stays. So two registrations that replace each other
// never remove both.

// How a device token came to be replaced. The numbers are stored.
const (
	previousToken byte = 1 // it was named as the one before
	sameInstall   byte = 2 // the newer one is of the same install and kind
)

// older is a device token to be replaced.
type older struct {
	token device.Token
	at    int64 // when the newer one was registered, at that time
	how   byte
}

// packOlder is what the register script takes: how, length - 1, device token.
func packOlder(list []older) string {
	var packed []byte
	for _, o := range list {
		packed = append(packed, o.how, byte(o.token.Len()-1))
		packed = append(packed, o.token.Raw()...)
	}
	return string(packed)
}

// unpackOlder reads what the register script remembers: for each the time in six
// bytes, then as in packOlder.
func unpackOlder(packed string) ([]older, error) {
	const head = 8
	var list []older
	for packed != "" {
		if len(packed) < head || len(packed) < head+1+int(packed[7]) {
			return nil, errors.New("what is to be replaced cannot be read")
		}
		end := head + 1 + int(packed[7])
		o := older{how: packed[6], token: device.TokenFromRaw(packed[head:end])}
		for i := range 6 {
			o.at = o.at<<8 | int64(packed[i])
		}
		list = append(list, o)
		packed = packed[end:]
	}
	return list, nil
}

// successor is a device token that replaces others.
type successor struct {
	token   device.Token
	kind    device.Kind
	install device.Key
	at      int64 // when it was registered
	olds    []older

	replaced   int
	superseded bool
	err        error
}

// replacesInstall reports whether t replaces other device tokens of its install.
// A Live Activity's does not: each activity has one of its own.
func (t *successor) replacesInstall() bool {
	return !t.install.IsZero() && t.kind != device.LiveActivity
}

// What replace.lua replies.
const (
	replaceUnreadable = -1
	replaceDone       = 1
	replaceLater      = 2
)

// duel is one device token to be removed in favour of another.
type duel struct {
	loser  device.Token
	at     int64 // when the other one was registered
	wins   bool  // the other one wins a tie
	how    byte
	winner *successor
}

// replaceOlder removes the older device tokens of each of list.
func (s *Store) replaceOlder(ctx context.Context, l *layout, list []*successor) {
	var duels, back []duel
	for _, t := range list {
		for _, o := range t.olds {
			duels = append(duels, duel{
				loser: o.token, at: o.at, wins: t.token.Raw() > o.token.Raw(), how: o.how, winner: t,
			})
		}
	}
	s.fight(ctx, l, duels, func(d duel, did, at int64) {
		switch did {
		case replaceDone:
			d.winner.replaced++
		case replaceUnreadable:
			d.winner.err = fmt.Errorf("replace an older device token: %w", errRecordVersion)
		case replaceLater:
			// In a race between two of one install the other may not have seen this one.
			if d.how == sameInstall {
				back = append(back, duel{
					loser: d.winner.token, at: at, wins: !d.wins, how: sameInstall, winner: d.winner,
				})
			}
		}
	})
	s.fight(ctx, l, back, func(d duel, did, _ int64) {
		if did == replaceDone {
			d.winner.superseded = true
		}
	})
}

// fight runs the replace script on each loser, and tells what it did.
func (s *Store) fight(ctx context.Context, l *layout, duels []duel, tell func(d duel, did, at int64)) {
	if len(duels) == 0 {
		return
	}
	parts := s.onBuckets(ctx, l, bucketScript{
		name: "replace", kinds: "d", head: []any{s.now(), uint8(device.Replaced)}, items: len(duels),
		token: func(i int) device.Token { return duels[i].loser },
		args: func(dst []any, i int) []any {
			d := &duels[i]
			return append(dst, d.at, d.wins, d.how, uint8(d.winner.kind), string(d.winner.install[:]))
		},
	})
	for g := range parts {
		members := parts[g].members
		reply, err := parts[g].ints(2 * len(members))
		for n, i := range members {
			if err != nil {
				duels[i].winner.err = fmt.Errorf("replace an older device token: %w", err)
				continue
			}
			tell(duels[i], reply[2*n], reply[2*n+1])
		}
	}
}

// finished is a device token whose remembered replacements are done.
type finished struct {
	token      device.Token
	remembered string
}

// settle forgets replacements.
func (s *Store) settle(ctx context.Context, l *layout, list []finished) error {
	if len(list) == 0 {
		return nil
	}
	return partsError(s.onBuckets(ctx, l, bucketScript{
		name: "settle", kinds: "dr", items: len(list),
		token: func(i int) device.Token { return list[i].token },
		args:  func(dst []any, i int) []any { return append(dst, list[i].remembered) },
	}))
}

// Swept is what a sweep found to do.
type Swept struct {
	Replaced  int // device tokens removed, since a crash had kept them from being replaced
	Forgotten int // removed device tokens that were remembered for long enough
}

// Sweep makes whole what crashes left in one bucket, from 0 to what
// [Store.Buckets] says less one, and forgets device tokens that were removed
// longer ago than [Config.Remember], but in a bucket that is being split. It is to
// be called for every bucket now and then, by any number of processes.
func (s *Store) Sweep(ctx context.Context, app string, n int) (Swept, error) {
	var swept Swept
	l, err := s.layout(ctx, app)
	if err != nil {
		return swept, err
	}
	buckets, err := l.numbered(n)
	if err != nil {
		return swept, err
	}
	var errs []error // what goes wrong for one device token must not keep the rest
	for _, b := range buckets {
		replaced, err := s.sweepReplacements(ctx, l, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep replacements of app %q, bucket %d: %w", app, n, err))
		}
		swept.Replaced += replaced
		if l.from != 0 && uint32(n) >= l.split {
			// What is forgotten in one half could come back from the other.
			continue
		}
		forgotten, err := s.forget(ctx, l, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("forget removed device tokens of app %q, bucket %d: %w", app, n, err))
		}
		swept.Forgotten += forgotten
	}
	if err := s.sweepTag(ctx, l); err != nil {
		errs = append(errs, fmt.Errorf("sweep a tag of app %q: %w", app, err))
	}
	return swept, errors.Join(errs...)
}

func (s *Store) sweepReplacements(ctx context.Context, l *layout, b bucket) (int, error) {
	// Almost always there is none.
	remembered, err := s.client.HGetAll(ctx, l.key(b, 'r')).Result()
	if err != nil || len(remembered) == 0 {
		return 0, err
	}
	tokens := make([]device.Token, 0, len(remembered))
	for raw := range remembered {
		tokens = append(tokens, device.TokenFromRaw(raw))
	}
	entries, err := s.lookup(ctx, l, tokens, nil)
	if err != nil {
		return 0, err
	}
	var errs []error // of single device tokens: the others go on
	var list []*successor
	var slots []pointer
	var live []Entry
	for _, e := range entries {
		olds, err := unpackOlder(remembered[e.Token.Raw()])
		if err = errors.Join(err, e.Err); err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, &successor{
			token: e.Token, kind: e.Record.Kind, install: e.Record.Install, at: e.Record.RegisteredAt, olds: olds,
		})
		if e.Record.State != device.Removed {
			slots = append(slots, pointersOf(e)...)
			live = append(live, e)
		}
	}
	// What was cut off, or is still under way, may not have come to its slots and
	// tags yet. Without them a reader would find neither device token.
	for _, p := range s.point(ctx, l, slots) {
		if p.err != nil && !errors.Is(p.err, ErrTooManyDevices) {
			return 0, p.err
		}
	}
	if err := s.tagAgain(ctx, l, live, tagMove); err != nil {
		return 0, err
	}
	s.replaceOlder(ctx, l, list)
	replaced := 0
	var done []finished
	for _, t := range list {
		replaced += t.replaced
		if t.err != nil {
			errs = append(errs, t.err)
			continue
		}
		done = append(done, finished{token: t.token, remembered: remembered[t.token.Raw()]})
	}
	return replaced, errors.Join(append(errs, s.settle(ctx, l, done))...)
}

// pointersOf are the slots that a record belongs in.
func pointersOf(e Entry) []pointer {
	var list []pointer
	p := pointer{token: e.Token, generation: e.Record.Generation}
	if p.ix, p.key = userIndex, e.Record.User; !p.key.IsZero() {
		list = append(list, p)
	}
	if p.ix, p.key = installIndex, e.Record.Install; !p.key.IsZero() {
		list = append(list, p)
	}
	return list
}

// forget erases tombstones of b that are old enough.
func (s *Store) forget(ctx context.Context, l *layout, b bucket) (int, error) {
	entries, err := s.scan(ctx, l, []bucket{b}, nil)
	if err != nil {
		return 0, err
	}
	now := s.now()
	if now == 0 {
		t, err := s.client.Time(ctx).Result()
		if err != nil {
			return 0, err
		}
		now = t.UnixMilli()
	}
	until := now - s.cfg.Remember.Milliseconds()
	c := call{keys: l.keysOf(b, "dxr")}
	var pointers []pointer
	var old []Entry
	for _, e := range entries {
		if !e.Known || e.Record.State != device.Removed || e.Record.ChangedAt > until {
			continue
		}
		c.args = append(c.args, e.Token.Raw(), string(e.Record.Append(nil)))
		pointers = append(pointers, pointersOf(e)...)
		old = append(old, e)
	}
	if len(c.args) == 0 {
		return 0, nil
	}
	// Slots and tags first: a later registration starts with generation 1 again, and must
	// find none of a higher one.
	if err := s.unpoint(ctx, l, pointers); err != nil {
		return 0, err
	}
	if err := s.tagAgain(ctx, l, old, tagOutUpTo); err != nil {
		return 0, err
	}
	calls := []call{c}
	if err := s.runFenced(ctx, l, "erase", calls); isOldLayout(err) {
		return 0, nil // its turn comes again
	}
	return sum(calls)
}
