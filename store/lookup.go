package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// Entry is what the token set has of a device token.
type Entry struct {
	Token device.Token
	// Known reports whether there is a record; it may say that the device token
	// is removed or quarantined.
	Known  bool
	Record device.Record
	// Err is set, and Known false, if the record cannot be read: it is damaged, or
	// a newer version wrote it. It wraps [device.ErrRecord].
	Err error
}

// pipelineTokens is how many device tokens go into one pipeline: enough to fill
// every bucket's command, and little enough to be answered well within the
// client's read time-out.
const pipelineTokens = 4096

// Lookup appends an Entry for each of tokens to dst, in their order, and
// returns it. On an error, which is Redis's, nothing is appended.
func (s *Store) Lookup(ctx context.Context, app string, tokens []device.Token, dst []Entry) ([]Entry, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return dst, err
	}
	return s.lookup(ctx, l, tokens, dst)
}

func (s *Store) lookup(ctx context.Context, l *layout, tokens []device.Token, dst []Entry) ([]Entry, error) {
	start := len(dst)
	dst = slices.Grow(dst, len(tokens))
	sc, ok := s.scratch.Get().(*lookupScratch)
	if !ok {
		sc = new(lookupScratch)
	}
	defer sc.release(&s.scratch)
	for part := range slices.Chunk(tokens, pipelineTokens) {
		at := len(dst)
		for _, t := range part {
			dst = append(dst, Entry{Token: t})
		}
		err := s.reading(ctx, l, func(l *layout) (missed bool, err error) {
			return s.readEntries(ctx, l, dst[at:], sc)
		})
		if err != nil {
			return dst[:start], fmt.Errorf("look up %d device tokens of app %q: %w", len(tokens), l.app, err)
		}
	}
	return dst, nil
}

// readEntries fills in entries, and reports whether any is not in the token set.
func (s *Store) readEntries(ctx context.Context, l *layout, entries []Entry, sc *lookupScratch) (missed bool, err error) {
	if err := s.readRecords(ctx, entries, sc, l, l.firstOf); err != nil {
		return false, err
	}
	var moved []int // maybe
	for i := range entries {
		e := &entries[i]
		if e.Known || e.Err != nil || e.Token.IsZero() {
			continue
		}
		missed = true
		if _, ok := l.left(l.bucketOf(e.Token)); ok {
			moved = append(moved, i)
		}
	}
	if len(moved) == 0 {
		return missed, nil
	}
	again := make([]Entry, len(moved))
	for k, i := range moved {
		again[k].Token = entries[i].Token
	}
	if err := s.readRecords(ctx, again, sc, l, l.bucketOf); err != nil {
		return false, err
	}
	for k, i := range moved {
		entries[i] = again[k]
	}
	return slices.ContainsFunc(entries, func(e Entry) bool {
		return !e.Known && e.Err == nil && !e.Token.IsZero()
	}), nil
}

// lookupScratch is the memory of one look-up, used again by later ones.
type lookupScratch struct {
	order []uint64 // bucket, then position of a device token
	raws  []string // device tokens in that order
	key   []byte
	ends  []int // of each key in key
	keys  []string
	args  []any
	cmds  []bucketRead
	queue []redis.Cmder // the same
}

// bucketRead is how one bucket is read. Most often there is one device token to
// look for in it, and a reply of one string costs a third of a list with one.
type bucketRead struct {
	one  *redis.StringCmd
	many *redis.SliceCmd // nil: one
}

func (sc *lookupScratch) release(pool *sync.Pool) {
	clear(sc.raws)
	clear(sc.keys)
	clear(sc.args)
	clear(sc.cmds)
	clear(sc.queue)
	pool.Put(sc)
}

// readRecords fills in entries from the buckets that where says, by one HGET or
// HMGET for each in one pipeline.
//
// The arguments of all commands lie in one slice, and are pointers to strings,
// which go-redis takes: boxing each string would allocate it again.
func (s *Store) readRecords(
	ctx context.Context, entries []Entry, sc *lookupScratch, l *layout, where func(device.Token) bucket,
) error {
	sc.order, sc.raws, sc.key, sc.ends = sc.order[:0], sc.raws[:0], sc.key[:0], sc.ends[:0]
	sc.keys, sc.args, sc.cmds, sc.queue = sc.keys[:0], sc.args[:0], sc.cmds[:0], sc.queue[:0]
	for i, e := range entries {
		sc.order = append(sc.order, uint64(where(e.Token))<<32|uint64(i))
	}
	slices.Sort(sc.order)
	for i, o := range sc.order {
		sc.raws = append(sc.raws, entries[uint32(o)].Token.Raw())
		if i == 0 || o>>32 != sc.order[i-1]>>32 {
			sc.key = l.appendKey(sc.key, bucket(o>>32), 'd')
			sc.ends = append(sc.ends, len(sc.key))
		}
	}
	all, from := string(sc.key), 0
	for _, end := range sc.ends {
		sc.keys = append(sc.keys, all[from:end])
		from = end
	}
	sc.args = slices.Grow(sc.args, 2*len(sc.keys)+len(sc.order))
	for i := 0; i < len(sc.order); {
		first, start := i, len(sc.args)
		sc.args = append(sc.args, "hmget", &sc.keys[len(sc.cmds)])
		for b := sc.order[i] >> 32; i < len(sc.order) && sc.order[i]>>32 == b; i++ {
			sc.args = append(sc.args, &sc.raws[i])
		}
		args := sc.args[start:len(sc.args):len(sc.args)]
		if i-first > 1 {
			cmd := redis.NewSliceCmd(ctx, args...)
			sc.cmds, sc.queue = append(sc.cmds, bucketRead{many: cmd}), append(sc.queue, onceFields{cmd})
			continue
		}
		args[0] = "hget"
		cmd := redis.NewStringCmd(ctx, args...)
		sc.cmds, sc.queue = append(sc.cmds, bucketRead{one: cmd}), append(sc.queue, onceField{cmd})
	}
	if len(sc.cmds) == 0 {
		return nil
	}
	if err := s.send(ctx, sc.queue); err != nil {
		return err
	}
	i := 0
	for _, cmd := range sc.cmds {
		if cmd.many == nil {
			packed, err := cmd.one.Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			entries[uint32(sc.order[i])].read(packed, err == nil)
			i++
			continue
		}
		values, err := cmd.many.Result()
		if err != nil {
			return err
		}
		for _, v := range values {
			packed, ok := v.(string)
			entries[uint32(sc.order[i])].read(packed, ok)
			i++
		}
	}
	if i != len(entries) {
		return errReply
	}
	return nil
}

// read takes in what a bucket has for the device token.
func (e *Entry) read(packed string, ok bool) {
	e.Known, e.Record, e.Err = false, device.Record{}, nil
	if ok && !e.Token.IsZero() { // whose field is the mark
		e.Record, e.Err = device.ParseRecord(packed)
		e.Known = e.Err == nil
	}
}
