package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// An index leads from a user or an install to device tokens. It has up to
// maxSlots slots for each key, fields of one hash: the key and the slot's number,
// and as value the generation that put it there (four bytes, big endian) and the
// device token. A device token too long to share the hash is under the same
// field of another one.
//
// Used slots are the first ones, without a hole. Slots, rather than one long
// value, keep every value short enough for a listpack.
//
// The generation is what makes taking out safe: it takes out only what the
// registration that is known to be outdated, or an earlier one, put in.
const (
	maxSlots = 256

	// slotBytes is a device token's generation in front of it.
	slotBytes = 4
)

// readSlots are the numbers of slots that are read one after the other, until
// the last one read is free. One HMGET each: several would show a slot twice, or
// not at all, if it moved between them.
var readSlots = [...]int{4, 32, maxSlots}

// ErrTooManyDevices is the error of a registration whose user or install has
// 256 other device tokens. The device is registered, but not found by the one
// that has too many.
var ErrTooManyDevices = errors.New("store: user or install has 256 device tokens already")

// slot is one used slot.
type slot struct {
	token      device.Token
	generation uint32
}

// ByUsers returns, for each of users in their order, the device tokens that are
// registered for that user and not removed; quarantined ones are among them. An
// unknown user has none.
//
// What leads to records that do not name the user any more is taken out of the
// index in passing.
func (s *Store) ByUsers(ctx context.Context, app string, users []string) ([][]Entry, error) {
	return s.byIDs(ctx, app, userIndex, "users", users)
}

// ByInstalls is [Store.ByUsers] for installs.
func (s *Store) ByInstalls(ctx context.Context, app string, installs []string) ([][]Entry, error) {
	return s.byIDs(ctx, app, installIndex, "installs", installs)
}

func (s *Store) byIDs(ctx context.Context, app string, ix index, what string, ids []string) ([][]Entry, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return nil, err
	}
	keys := make([]device.Key, len(ids))
	for i, id := range ids {
		keys[i] = device.KeyOf(id)
	}
	found, err := s.follow(ctx, l, ix, keys)
	if err != nil {
		return nil, fmt.Errorf("look up %d %s of app %q: %w", len(ids), what, app, err)
	}
	return found, nil
}

// follow returns the devices that each of keys leads to, verified by their
// records. Zero keys have none.
func (s *Store) follow(ctx context.Context, l *layout, ix index, keys []device.Key) ([][]Entry, error) {
	out := make([][]Entry, len(keys))
	todo := make([]int, 0, len(keys))
	for i, k := range keys {
		if !k.IsZero() {
			todo = append(todo, i)
		}
	}
	// A device token that was replaced after its slot was read has its successor in
	// another slot by now: reading again finds it, or else a reader could see
	// neither. Each reading more takes one more replacement at that very moment.
	const readings = 8
	for range readings {
		if len(todo) == 0 {
			break
		}
		again, err := s.followOnce(ctx, l, ix, keys, todo, out)
		if err != nil {
			return nil, err
		}
		todo = again
	}
	return out, nil
}

// followOnce sets out for each position in todo, and returns the positions that
// should be read again.
func (s *Store) followOnce(
	ctx context.Context, l *layout, ix index, keys []device.Key, todo []int, out [][]Entry,
) (again []int, err error) {
	wanted := make([]device.Key, len(todo))
	for i, at := range todo {
		wanted[i] = keys[at]
	}
	slots, err := s.readIndex(ctx, l, ix, wanted)
	if err != nil {
		return nil, err
	}
	var tokens []device.Token
	for _, held := range slots {
		for _, h := range held {
			tokens = append(tokens, h.token)
		}
	}
	entries, err := s.lookup(ctx, l, tokens, make([]Entry, 0, len(tokens)))
	if err != nil {
		return nil, err
	}
	var stale []pointer
	for i, at := range todo {
		out[at] = nil
		repeat := false
		mine := entries[:len(slots[i])]
		entries = entries[len(slots[i]):]
		for j, e := range mine {
			switch {
			case e.Token.IsZero():
				repeat = true
			case slices.ContainsFunc(out[at], func(o Entry) bool { return o.Token == e.Token }):
			case e.Err != nil:
				// Whose it is cannot be told, nor that it is stale.
			case e.Known && e.Record.State != device.Removed && named(e.Record, ix) == keys[at]:
				out[at] = append(out[at], e)
			default:
				stale = append(stale, pointer{ix: ix, key: keys[at], token: e.Token, generation: slots[i][j].generation})
				repeat = repeat || e.Known && e.Record.State == device.Removed && e.Record.Reason == device.Replaced
			}
		}
		if repeat {
			again = append(again, at)
		}
	}
	// What could not be taken out is found stale again by the next reader.
	_ = s.unpoint(ctx, l, stale)
	return again, nil
}

// named is the key that a record has for an index.
func named(r device.Record, ix index) device.Key {
	if ix == userIndex {
		return r.User
	}
	return r.Install
}

// readIndex returns the used slots of each of keys. A slot whose long device
// token moved to another while they were read has none, and that device token
// may be there twice.
func (s *Store) readIndex(ctx context.Context, l *layout, ix index, keys []device.Key) ([][]slot, error) {
	out := make([][]slot, len(keys))
	left := false
	err := s.reading(ctx, l, func(l *layout) (_ bool, err error) {
		clear(out)
		var moving []int
		for i, k := range keys {
			if _, ok := l.slotLeft(l.slotBucket(k)); ok {
				moving = append(moving, i)
			}
		}
		// The bucket that they leave first: then they are found in one of them.
		var olds map[int][]slot
		if len(moving) > 0 {
			left, err = s.readIndexAt(ctx, l, ix, keys, moving, out, func(k device.Key) uint32 {
				n, _ := l.slotLeft(l.slotBucket(k))
				return n
			})
			if left || err != nil {
				return left, err
			}
			olds = make(map[int][]slot, len(moving))
			for _, i := range moving {
				olds[i], out[i] = out[i], nil
			}
		}
		all := make([]int, len(keys))
		for i := range all {
			all[i] = i
		}
		left, err = s.readIndexAt(ctx, l, ix, keys, all, out, l.slotBucket)
		for i, list := range olds {
			for _, o := range list {
				if !slices.ContainsFunc(out[i], func(h slot) bool { return h.token == o.token }) {
					out[i] = append(out[i], o)
				}
			}
		}
		return left, err
	})
	if err == nil && left {
		err = errMarkedAhead
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// readIndexAt sets out for each position in todo, from the bucket that where
// says. It reports whether one was left by the time it was read.
func (s *Store) readIndexAt(
	ctx context.Context, l *layout, ix index, keys []device.Key, todo []int, out [][]slot, where func(device.Key) uint32,
) (left bool, err error) {
	for _, width := range readSlots {
		if len(todo) == 0 {
			break
		}
		var next []int
		for part := range slices.Chunk(todo, pipelineTokens/width) {
			more, left, err := s.readSlots(ctx, l, ix, keys, part, width, out, where)
			if left || err != nil {
				return left, err
			}
			next = append(next, more...)
		}
		todo = next
	}
	return false, nil
}

// readSlots sets out for each position in todo to its first width slots, and
// returns the positions where there may be more.
func (s *Store) readSlots(
	ctx context.Context, l *layout, ix index, keys []device.Key, todo []int, width int, out [][]slot,
	where func(device.Key) uint32,
) (more []int, left bool, err error) {
	cmds := make([]*redis.SliceCmd, len(todo))
	p := s.client.Pipeline()
	for i, at := range todo {
		k, _ := l.slotKeys(ix, where(keys[at]))
		// With the bucket's mark: that a slot is missing is no sign.
		cmds[i] = p.HMGet(ctx, k, append(slotFields(keys[at], width), "")...)
	}
	if err := s.exec(ctx, p); err != nil {
		return nil, false, err
	}
	type longSlot struct{ at, slot int }
	var long []longSlot
	for i, at := range todo {
		values := cmds[i].Val()
		if len(values) != width+1 {
			return nil, false, errReply
		}
		if mark, ok := values[width].(string); ok && l.isLeft(mark) {
			return nil, true, nil
		}
		out[at] = out[at][:0]
		for n, v := range values[:width] {
			value, ok := v.(string)
			if !ok || len(value) < slotBytes {
				break
			}
			if len(value) == slotBytes {
				long = append(long, longSlot{at: at, slot: n})
			}
			out[at] = append(out[at], slot{
				token:      device.TokenFromRaw(value[slotBytes:]),
				generation: binary.BigEndian.Uint32([]byte(value[:slotBytes])),
			})
		}
		if len(out[at]) == width && width < maxSlots {
			more = append(more, at)
		}
	}
	if len(long) == 0 {
		return more, false, nil
	}
	values := make([]*redis.StringCmd, len(long))
	p = s.client.Pipeline()
	for i, ls := range long {
		_, k := l.slotKeys(ix, where(keys[ls.at]))
		values[i] = p.HGet(ctx, k, string(append(keys[ls.at][:], byte(ls.slot))))
	}
	if err := s.exec(ctx, p); err != nil {
		return nil, false, err
	}
	for i, ls := range long {
		raw, err := values[i].Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, false, err
		}
		out[ls.at][ls.slot].token = device.TokenFromRaw(raw)
	}
	return more, false, nil
}

// slotFields are the fields of the first n slots of k.
func slotFields(k device.Key, n int) []string {
	buf := make([]byte, 0, n*(len(k)+1))
	for i := range n {
		buf = append(append(buf, k[:]...), byte(i))
	}
	all := string(buf)
	fields := make([]string, n)
	for i := range fields {
		fields[i] = all[i*(len(k)+1) : (i+1)*(len(k)+1)]
	}
	return fields
}

// pointer is a device token in an index, put there by a generation.
type pointer struct {
	ix         index
	key        device.Key
	token      device.Token
	generation uint32
}

// scriptItems is how many device tokens one run of a script takes: a script
// stops everything else in Redis, and this many take about a millisecond.
const scriptItems = 256

// unpoint takes device tokens out of indexes, unless a later generation put them
// there.
func (s *Store) unpoint(ctx context.Context, l *layout, list []pointer) error {
	return partsError(s.onSlots(ctx, l, "unindex", list))
}

// pointed is what became of putting a device token into an index.
type pointed struct {
	others []device.Token // that share the key
	err    error
}

// pointAgain is point, but for those of list that are the same as they were it
// only looks whether they are there, and writes what is not.
func (s *Store) pointAgain(ctx context.Context, l *layout, list []pointer, same []bool) []pointed {
	out := make([]pointed, len(list))
	var write []int
	look := make(map[index][]int)
	for i := range list {
		if same[i] {
			look[list[i].ix] = append(look[list[i].ix], i)
		} else {
			write = append(write, i)
		}
	}
	for ix, items := range look {
		keys := make([]device.Key, len(items))
		for k, i := range items {
			keys[k] = list[i].key
		}
		slots, err := s.readIndex(ctx, l, ix, keys)
		if err != nil {
			write = append(write, items...) // which will say what is wrong
			continue
		}
		for k, i := range items {
			there := false
			for _, h := range slots[k] {
				switch {
				case h.token == list[i].token:
					there = true
				case !h.token.IsZero():
					out[i].others = append(out[i].others, h.token)
				}
			}
			if !there {
				out[i].others = nil
				write = append(write, i)
			}
		}
	}
	slices.Sort(write)
	some := make([]pointer, len(write))
	for k, i := range write {
		some[k] = list[i]
	}
	for k, p := range s.point(ctx, l, some) {
		out[write[k]] = p
	}
	return out
}

// point puts device tokens into indexes, in the order of list.
func (s *Store) point(ctx context.Context, l *layout, list []pointer) []pointed {
	out := make([]pointed, len(list))
	parts := s.onSlots(ctx, l, "index", list)
	for g := range parts {
		members := parts[g].members
		reply, err := parts[g].list(2 * len(members))
		for n, i := range members {
			if err != nil {
				out[i].err = err
				continue
			}
			done, ok := reply[2*n].(int64)
			others, ok2 := reply[2*n+1].(string)
			if !ok || !ok2 {
				out[i].err = errReply
				continue
			}
			if done == 0 {
				out[i].err = ErrTooManyDevices
			}
			for others != "" {
				n := int(others[0]) + 2
				out[i].others = append(out[i].others, device.TokenFromRaw(others[1:n]))
				others = others[n:]
			}
		}
	}
	return out
}

// group puts the numbers below n into groups of one key, in order, of at most
// limit each.
func group[K comparable](n, limit int, key func(int) K) [][]int {
	var groups [][]int
	open := make(map[K]int)
	for i := range n {
		k := key(i)
		g, ok := open[k]
		if !ok || len(groups[g]) == limit {
			g = len(groups)
			groups = append(groups, nil)
			open[k] = g
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}
