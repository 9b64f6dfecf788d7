package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/pushfleet/pushfleet/device"
)

// Restored counts what a [Store.Restore] did.
type Restored struct {
	Live       int // live again
	Forgotten  int // were never registered: not remembered as removed any more
	Superseded int // left: their install has, or gets back, another one of that kind
	Changed    int // left: their record is not as it was read any more
}

// Restore makes removed and quarantined device tokens live again, at the next
// generation, so that what was said about them before does not count any more.
// Those that were never registered are forgotten instead. Live ones among list,
// and those whose record could not be read, are passed over.
//
// Of several device tokens of one install and kind only one comes back: of those
// in one call the one registered last.
//
// Each is changed only if its record is still as list has it, so doing it again
// does no harm. Of a device token that is removed for longer than
// [Config.Remember] nothing may be left to restore.
func (s *Store) Restore(ctx context.Context, app string, list []Entry) (Restored, error) {
	var done Restored
	l, err := s.layout(ctx, app)
	if err != nil {
		return done, err
	}
	for from := 0; from < len(list); from += pipelineTokens {
		if err := s.restore(ctx, l, list[from:min(from+pipelineTokens, len(list))], &done); err != nil {
			return done, fmt.Errorf("restore device tokens of app %q: %w", app, err)
		}
	}
	return done, nil
}

func (s *Store) restore(ctx context.Context, l *layout, list []Entry, done *Restored) error {
	var swaps []swap
	var never []Entry
	for _, e := range list {
		switch {
		case !e.Known || e.Record.State == device.Live:
		case e.Record.RegisteredAt == 0:
			never = append(never, e)
		default:
			after := e.Record
			after.State, after.ChangedAt, after.Reason, after.Rejections = device.Live, 0, 0, 0
			if after.Generation < 1<<32-1 {
				after.Generation++
			}
			swaps = append(swaps, swap{token: e.Token, before: e.Record, after: after})
		}
	}
	forgotten, err := s.eraseRecords(ctx, l, never)
	done.Forgotten += forgotten
	if err != nil {
		return err
	}
	all := len(swaps)
	if swaps, err = s.unsuperseded(ctx, l, swaps); err != nil {
		return err
	}
	done.Superseded += all - len(swaps)
	if len(swaps) == 0 {
		return nil
	}
	// Slots before the record, so that a crash leaves none without; and after it,
	// since a reader who met them in between has taken them out.
	var slots []pointer
	for _, w := range swaps {
		slots = append(slots, pointersOf(Entry{Token: w.token, Record: w.after})...)
	}
	if err := pointErr(s.point(ctx, l, slots)); err != nil {
		return err
	}
	changed, err := s.swapRecords(ctx, l, swaps)
	slots = slots[:0]
	for i, w := range swaps {
		if changed[i] {
			done.Live++
			slots = append(slots, pointersOf(Entry{Token: w.token, Record: w.after})...)
		} else if err == nil {
			done.Changed++
		}
	}
	if err != nil {
		return err
	}
	return pointErr(s.point(ctx, l, slots))
}

// unsuperseded is list without those whose install has another live device token
// of the same kind: with both, the device would get everything twice.
func (s *Store) unsuperseded(ctx context.Context, l *layout, list []swap) ([]swap, error) {
	keys := make([]device.Key, len(list))
	for i, w := range list {
		if w.after.Kind != device.LiveActivity {
			keys[i] = w.after.Install
		}
	}
	others, err := s.follow(ctx, l, installIndex, keys)
	if err != nil {
		return nil, err
	}
	type seat struct {
		install device.Key
		kind    device.Kind
	}
	newest := make(map[seat]int) // of those to be restored themselves
	for i, w := range list {
		if keys[i].IsZero() {
			continue
		}
		at := seat{keys[i], w.after.Kind}
		if j, ok := newest[at]; !ok || list[j].after.RegisteredAt < w.after.RegisteredAt {
			newest[at] = i
		}
	}
	var out []swap
	for i, w := range list {
		stays := true
		if !keys[i].IsZero() && newest[seat{keys[i], w.after.Kind}] != i {
			stays = false
		}
		for _, o := range others[i] {
			if o.Token != w.token && o.Record.Usable() && o.Record.Kind == w.after.Kind {
				stays = false
			}
		}
		if stays {
			out = append(out, w)
		}
	}
	return out, nil
}

// pointErr is the first error of pointing that makes the whole worth repeating.
func pointErr(list []pointed) error {
	for _, p := range list {
		if p.err != nil && !errors.Is(p.err, ErrTooManyDevices) {
			return p.err
		}
	}
	return nil
}

// eraseRecords forgets device tokens whose record is still as given.
func (s *Store) eraseRecords(ctx context.Context, l *layout, list []Entry) (int, error) {
	parts := s.onBuckets(ctx, l, bucketScript{
		name: "erase", kinds: "dxr", items: len(list),
		token: func(i int) device.Token { return list[i].Token },
		args:  func(dst []any, i int) []any { return append(dst, string(list[i].Record.Append(nil))) },
	})
	erased := 0
	for i := range parts {
		if n, ok := parts[i].reply.(int64); ok && parts[i].err == nil {
			erased += int(n)
		}
	}
	return erased, partsError(parts)
}
