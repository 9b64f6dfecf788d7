package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// An audience is read by classes of the hash by which both the token set and the
// tags have their buckets. So a device is in one class for ever, however it is
// found, and whatever doubles or is split meanwhile.

// Classes are hash classes: those of device tokens whose hash modulo Of, a power of
// two, is From up to, but without, To.
type Classes struct{ Of, From, To int }

func (c Classes) check() error {
	if c.Of < 1 || c.Of > maxBuckets || bits.OnesCount(uint(c.Of)) != 1 || c.From < 0 || c.To > c.Of || c.From > c.To {
		return fmt.Errorf("classes are of a power of two, and numbers below that, not %d to %d of %d", c.From, c.To-1, c.Of)
	}
	return nil
}

func (c Classes) has(t device.Token) bool {
	n := int(xxhash.Sum64String(t.Raw()) & uint64(c.Of-1))
	return c.From <= n && n < c.To
}

// AudienceSize says into how many classes an audience should be divided, and about
// how many devices it has: all of app, or those with one of tags, where a device
// with two of them counts twice. Removed and quarantined ones are among them.
func (s *Store) AudienceSize(ctx context.Context, app string, tags []string) (classes int, devices int64, err error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return 0, 0, err
	}
	if len(tags) == 0 {
		full, err := s.fullness(ctx, l)
		if err != nil {
			return 0, 0, fmt.Errorf("size the audience of app %q: %w", app, err)
		}
		return int(l.begun()), int64(math.Round(full * float64(l.buckets))), nil
	}
	classes = 1
	for _, tag := range uniqueTags(tags) {
		n, err := s.TagBuckets(ctx, app, tag)
		if err != nil {
			return 0, 0, err
		}
		count, err := s.CountTag(ctx, app, tag)
		if err != nil {
			return 0, 0, err
		}
		classes, devices = max(classes, n), devices+count
	}
	return classes, devices, nil
}

// CountClasses returns for each of n ranges of width classes, from class first on,
// about how many device tokens are in it: of all of app, or of those with one of
// tags. It counts fields without reading them, so what is removed or quarantined, has
// lost its tag or has two of them, or just moves to another bucket, is counted too. A
// range with none has 0. The last range may have fewer classes.
func (s *Store) CountClasses(ctx context.Context, app string, tags []string, of, width, first, n int) ([]int, error) {
	l, err := s.layout(ctx, app)
	if err == nil {
		err = Classes{of, first, of}.check()
	}
	if err == nil && (width < 1 || n < 0) {
		err = fmt.Errorf("ranges have one class at least, not %d, and %d of them are too few", width, n)
	}
	if err != nil {
		return nil, err
	}
	c := counter{of: of, width: width, first: first, sums: make([]float64, n)}
	if len(tags) == 0 {
		err = s.reading(ctx, l, func(l *layout) (missed bool, err error) {
			c.clear()
			c.addBuckets(l)
			return true, s.countHashes(ctx, &c) // whether it missed something cannot be told
		})
	} else {
		err = s.countTags(ctx, app, uniqueTags(tags), &c)
	}
	if err != nil {
		return nil, fmt.Errorf("count classes of app %q: %w", app, err)
	}
	counts := make([]int, n)
	for i, sum := range c.sums {
		counts[i] = int(math.Ceil(sum))
	}
	return counts, nil
}

// counter adds up the lengths of hashes by ranges of classes.
type counter struct {
	of, width, first int
	sums             []float64

	keys []string
	// The device tokens in the nth hash are of class mod modulus.
	class, modulus []uint32
}

func (c *counter) clear() {
	clear(c.sums)
	c.keys, c.class, c.modulus = c.keys[:0], c.class[:0], c.modulus[:0]
}

// end is the first class behind the ranges.
func (c *counter) end() int { return min(c.first+c.width*len(c.sums), c.of) }

func (c *counter) add(key string, class, modulus uint32) {
	c.keys, c.class, c.modulus = append(c.keys, key), append(c.class, class), append(c.modulus, modulus)
}

func (c *counter) addBuckets(l *layout) {
	n := l.begun()
	list, _ := l.bucketsOf(Classes{c.of, c.first, c.end()}, n)
	for _, b := range list {
		whole, olds, news := l.classes(n, uint32(b), uint32(b)+1)
		for _, some := range [...][]bucket{whole, olds, news} {
			for _, one := range some {
				c.add(l.key(one, 'd'), uint32(b), n)
			}
		}
	}
}

func (c *counter) addTag(id tagID, all uint32) {
	for _, b := range classBuckets(uint32(c.of), uint32(c.first), uint32(c.end()), 0, all) {
		short, long := tagKeys(id, b)
		c.add(short, b, modulusOf(b, all))
		c.add(long, b, modulusOf(b, all))
	}
}

// count adds n device tokens in the ith hash to the ranges that have its classes.
func (c *counter) count(i int, n int64) {
	class, modulus := int(c.class[i]), int(c.modulus[i])
	if modulus >= c.of {
		class, modulus = class%c.of, c.of
	}
	part := float64(n) * float64(modulus) / float64(c.of) // of each class
	if class < c.first {
		class += (c.first - class + modulus - 1) / modulus * modulus
	}
	for ; class < c.end(); class += modulus {
		c.sums[(class-c.first)/c.width] += part
	}
}

// countTags counts what is in the buckets of tags, until none was split meanwhile.
func (s *Store) countTags(ctx context.Context, app string, tags []string, c *counter) error {
	var before []growth
	const tries = 4 // each split more moves some that are still counted then
	for range tries {
		grown := make([]growth, len(tags))
		for i, tag := range tags {
			var err error
			if grown[i], err = s.growthOf(ctx, tagID{app, device.KeyOf(tag)}); err != nil {
				return err
			}
		}
		if slices.Equal(grown, before) {
			break
		}
		before = grown
		c.clear()
		for i, tag := range tags {
			c.addTag(tagID{app, device.KeyOf(tag)}, grown[i].all())
		}
		if err := s.countHashes(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// countHashes counts the hashes of c, without their marks.
func (s *Store) countHashes(ctx context.Context, c *counter) error {
	for from := 0; from < len(c.keys); from += pipelineTokens {
		to := min(from+pipelineTokens, len(c.keys))
		cmds := make([]*redis.IntCmd, to-from)
		p := s.client.Pipeline()
		for i := range cmds {
			cmds[i] = p.HLen(ctx, c.keys[from+i])
		}
		if err := s.exec(ctx, p); err != nil {
			return err
		}
		marks := s.client.Pipeline()
		marked := make(map[int]*redis.BoolCmd)
		for i, cmd := range cmds {
			if cmd.Val() > 0 {
				marked[i] = marks.HExists(ctx, c.keys[from+i], "")
			}
		}
		if err := s.exec(ctx, marks); err != nil {
			return err
		}
		for i, cmd := range cmds {
			n := cmd.Val()
			if mark, ok := marked[i]; ok && mark.Val() {
				n--
			}
			c.count(from+i, n)
		}
	}
	return nil
}

// bucketsOf returns which of n buckets have device tokens of c, in no order, and
// whether those have also others.
func (l *layout) bucketsOf(c Classes, n uint32) (list []bucket, others bool) {
	of := uint32(c.Of)
	for class := uint32(c.From); class < uint32(c.To); class++ {
		for b := class & (n - 1); b < n; b += of {
			list = append(list, bucket(b))
		}
	}
	if of <= n {
		return list, false
	}
	slices.Sort(list)
	return slices.Compact(list), true
}

// ReadAudience appends the devices of some classes that may be sent to, the live
// ones, to dst, in no order, each once: of all of app, or of those with one of tags.
// seen counts all that were looked at, and unreadable those of them whose record or
// details cannot be read. With details it reads what [Store.Device] has, without them
// only what the record says. On an error, which is Redis's, nothing is appended.
//
// In a series of calls with the same tags, of which each class is in one, a device
// that is live, and has one of the tags, throughout is appended by exactly one, and
// any other by one at most, whatever the token set and the tags grow to meanwhile.
//
// Devices share strings of some kilobytes: clone what is kept long.
func (s *Store) ReadAudience(
	ctx context.Context, app string, c Classes, tags []string, details bool, dst []device.Device,
) (devices []device.Device, seen, unreadable int, err error) {
	l, err := s.layout(ctx, app)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return dst, 0, 0, err
	}
	r := audienceReader{s: s, classes: c, details: details}
	if len(tags) > 0 {
		r.dst = dst
		err = r.readTags(ctx, l, uniqueTags(tags))
	} else {
		err = s.reading(ctx, l, func(l *layout) (missed bool, err error) {
			r.dst, r.seen, r.unreadable = dst, 0, 0
			return true, r.readAll(ctx, l) // whether it missed something cannot be told
		})
	}
	if err != nil {
		return dst, 0, 0, fmt.Errorf("read an audience of app %q: %w", app, err)
	}
	return r.dst, r.seen, r.unreadable, nil
}

// audienceReader reads an audience, or a part of it.
type audienceReader struct {
	s       *Store
	classes Classes
	details bool

	dst              []device.Device
	seen, unreadable int

	others bool // buckets have device tokens of other classes too

	torn []int         // where in dst are devices without details that are those of the record
	want []wantDetails // of the bucket that is being read, in its order
	next int           // in want: whose details should come next
	at   map[string]int
	tags []string // what devices' tags are cut from
}

// wantDetails is a device token of a bucket that has details.
type wantDetails struct {
	token string
	at    int // in dst; below 0: they are not wanted, or are there
}

func (r *audienceReader) readAll(ctx context.Context, l *layout) error {
	var list, whole, olds, news []bucket
	list, r.others = l.bucketsOf(r.classes, l.begun())
	for _, b := range list {
		w, o, n := l.classes(l.begun(), uint32(b), uint32(b)+1)
		whole, olds, news = append(whole, w...), append(olds, o...), append(news, n...)
	}
	if err := r.readWhole(ctx, l, whole); err != nil || len(olds) == 0 {
		return err
	}
	entries, err := r.s.scanSplit(ctx, l, olds, news, nil)
	if err != nil {
		return err
	}
	live := entries[:0]
	for i := range entries {
		e := &entries[i]
		if r.others && !r.classes.has(e.Token) {
			continue
		}
		r.seen++
		if e.Err != nil {
			r.unreadable++
		} else if e.Record.Usable() {
			live = append(live, *e)
		}
	}
	if !r.details {
		for i := range live {
			r.put(live[i].Token, live[i].Record)
		}
		return nil
	}
	first := len(r.dst)
	for part := range slices.Chunk(live, pipelineTokens) {
		var unreadable int
		if r.dst, unreadable, err = r.s.describe(ctx, l, part, r.dst); err != nil {
			return err
		}
		r.unreadable += unreadable
	}
	r.drop(first, func(d *device.Device) bool { return !d.Record.Usable() }) // meanwhile
	return nil
}

// put appends a device as its record has it.
func (r *audienceReader) put(t device.Token, rec device.Record) *device.Device {
	r.dst = append(r.dst, device.Device{})
	d := &r.dst[len(r.dst)-1]
	d.Token, d.Record = t, rec
	d.Environment, d.Kind = rec.Environment, rec.Kind
	d.CreatedAt = rec.Registered()
	return d
}

// drop takes out some of the devices from one position on.
func (r *audienceReader) drop(from int, which func(d *device.Device) bool) {
	kept := from
	for i := from; i < len(r.dst); i++ {
		if which(&r.dst[i]) {
			continue
		}
		if kept != i {
			r.dst[kept] = r.dst[i]
		}
		kept++
	}
	clear(r.dst[kept:])
	r.dst = r.dst[:kept]
}

// readWhole reads buckets that are not being split.
//
// choice: details come with the whole of their bucket too. Asked for by device
// token, they take Redis and us several times as long. They are mostly in the order
// of the records, since both were written together.
func (r *audienceReader) readWhole(ctx context.Context, l *layout, list []bucket) error {
	kinds := "d"
	if r.details {
		kinds = "dx"
	}
	keys := make([]string, 0, len(list)*len(kinds))
	for _, b := range list {
		for i := range kinds {
			keys = append(keys, l.key(b, kinds[i]))
		}
	}
	first, current := len(r.dst), -1
	err := r.s.readHashes(ctx, keys, func(n int, field, value string) {
		if bucket := n / len(kinds); bucket != current {
			r.endBucket()
			current = bucket
		}
		if n%len(kinds) == 1 {
			r.addDetails(field, value)
		} else if field != "" { // the mark
			r.addRecord(field, value)
		}
	})
	if err != nil {
		return err
	}
	r.endBucket()
	return r.mend(ctx, l.app, first)
}

func (r *audienceReader) addRecord(raw, packed string) {
	t := device.TokenFromRaw(raw)
	if r.others && !r.classes.has(t) {
		return
	}
	r.seen++
	rec, err := device.ParseRecord(packed)
	if err != nil {
		r.unreadable++
		return
	}
	at := -1
	if rec.Usable() {
		at = len(r.dst)
		r.put(t, rec)
	}
	if r.details && rec.Details {
		r.want = append(r.want, wantDetails{raw, at})
	}
}

func (r *audienceReader) addDetails(raw, packed string) {
	i := r.next
	if i >= len(r.want) || r.want[i].token != raw {
		if i = r.find(raw); i < 0 {
			return
		}
	}
	r.next = i + 1
	w := &r.want[i]
	if w.at < 0 {
		return
	}
	d := &r.dst[w.at]
	if r.unpack(packed, d) {
		w.at = -1
	}
}

// find is where in want a device token is, or below 0.
func (r *audienceReader) find(raw string) int {
	const near = 4
	for i := r.next; i < min(r.next+near, len(r.want)); i++ {
		if r.want[i].token == raw {
			return i
		}
	}
	if len(r.at) == 0 {
		if r.at == nil {
			r.at = make(map[string]int, len(r.want))
		}
		for i := range r.want {
			r.at[r.want[i].token] = i
		}
	}
	if i, ok := r.at[raw]; ok {
		return i
	}
	return -1
}

// unpack reads details into d, and reports whether they are those of its record.
func (r *audienceReader) unpack(packed string, d *device.Device) bool {
	if cap(r.tags)-len(r.tags) < device.MaxTags {
		r.tags = make([]string, 0, 10*device.MaxTags)
	}
	if unpackDetailsWith(packed, d, &r.tags) != nil {
		return false
	}
	return device.KeyOf(d.User) == d.Record.User && device.KeyOf(d.InstallID) == d.Record.Install
}

// endBucket notes whose details did not come.
func (r *audienceReader) endBucket() {
	for i := range r.want {
		if at := r.want[i].at; at >= 0 {
			r.torn = append(r.torn, at)
		}
	}
	r.want, r.next = r.want[:0], 0
	clear(r.at)
}

// mend reads the torn devices again, one by one: they were registered or erased at
// this moment, or are damaged.
func (r *audienceReader) mend(ctx context.Context, app string, first int) error {
	for _, at := range r.torn {
		d, ok, err := r.s.Device(ctx, app, r.dst[at].Token)
		switch {
		case errors.Is(err, device.ErrRecord), errors.Is(err, errDetails):
			r.unreadable++
			ok = false
		case err != nil:
			return err
		}
		if !ok {
			d = device.Device{}
			d.Record.State = device.Removed
		}
		r.dst[at] = d
	}
	if len(r.torn) > 0 {
		r.torn = r.torn[:0]
		r.drop(first, func(d *device.Device) bool { return !d.Record.Usable() })
	}
	return nil
}

// readTags reads what tags lead to. What they lead to and have lost is taken out
// of them, as [Store.ScanTag] does.
func (r *audienceReader) readTags(ctx context.Context, l *layout, tags []string) error {
	held := make([][]heldHint, len(tags))
	at := make(map[device.Token]int)
	var tokens []device.Token
	for i, tag := range tags {
		var err error
		c := r.classes
		if held[i], err = r.s.readClasses(ctx, tagID{l.app, device.KeyOf(tag)}, uint32(c.Of), uint32(c.From), uint32(c.To)); err != nil {
			return err
		}
		for _, h := range held[i] {
			if _, ok := at[h.token]; !ok {
				at[h.token] = len(tokens)
				tokens = append(tokens, h.token)
			}
		}
	}
	entries, err := r.s.lookup(ctx, l, tokens, make([]Entry, 0, len(tokens)))
	if err != nil {
		return err
	}
	packed, err := r.s.readDetails(ctx, l, tokens)
	if err != nil {
		return err
	}
	r.seen = len(tokens)
	// What a device has; nothing is known of the unreadable ones.
	has, unreadable := make([][]string, len(tokens)), make([]bool, len(tokens))
	for i, e := range entries {
		d, ok, err := r.s.tagged(ctx, l.app, e, packed[i])
		if err != nil {
			return err
		}
		if unreadable[i] = !ok; !ok {
			r.unreadable++
			continue
		}
		has[i] = d.Tags
		if !d.Record.Usable() || d.Token.IsZero() || !slices.ContainsFunc(tags, func(tag string) bool { return slices.Contains(d.Tags, tag) }) {
			continue
		}
		if r.details {
			r.dst = append(r.dst, d)
		} else {
			r.put(d.Token, d.Record)
		}
	}
	for i, tag := range tags {
		stale := slices.DeleteFunc(held[i], func(h heldHint) bool {
			n := at[h.token]
			return unreadable[n] || slices.Contains(has[n], tag)
		})
		if len(stale) > 0 {
			// What could not be taken out is found stale by the next reader.
			_ = r.s.takeOut(ctx, tagID{l.app, device.KeyOf(tag)}, stale)
		}
	}
	return nil
}

// tagged is the device that a record and its details make, the zero device if there
// is none. It reports whether they can be read.
func (s *Store) tagged(ctx context.Context, app string, e Entry, packed string) (d device.Device, ok bool, err error) {
	if !e.Known {
		return d, e.Err == nil, nil
	}
	if d, ok = deviceOf(e, packed); ok {
		return d, true, nil
	}
	// Registered again or erased since the record was read, or damaged.
	d, _, err = s.Device(ctx, app, e.Token)
	ok = !errors.Is(err, device.ErrRecord) && !errors.Is(err, errDetails)
	if !ok {
		err = nil
	}
	return d, ok, err
}
