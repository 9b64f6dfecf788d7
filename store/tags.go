package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// The index of tags leads from a tag to the device tokens that have it. It is
// hints: whoever follows one is told only of devices whose own details have the
// tag, and takes out what is stale in passing.
//
// Each tag has buckets of its own, which grow by linear hashing (Litwin, 1980):
// one bucket is split at a time, in the order of their numbers, so one number
// says how far a tag has grown. With n buckets, and 2^k the largest power of two
// up to n, a device token is in bucket hash mod 2^k, or hash mod 2^(k+1) if that
// bucket was split already, which the first n - 2^k were.
//
// A split is several steps, since the two buckets are in different slots of a
// cluster, and any number of processes may do it at once, or take up what a crash
// left:
//
//  1. the growth says that a split has begun: from now on readers read the new
//     bucket too, and writers write to it
//  2. the bucket is marked: writers that have not heard of it yet are refused
//  3. what belongs into the new bucket is put there, and then taken out here
//  4. the growth says that the split is done
//
// choice: a tag begins with one bucket, without an entry anywhere that says so.
// Only those that have outgrown one are written down, so what a caller makes up
// cannot make that hash large: it takes a hundred devices a tag.

// tagEntries is how many device tokens a bucket of a tag may have before the tag
// grows.
//
// choice: a listpack of 128 fields on every server, one of them the mark.
const tagEntries = 127

// growth says how far a tag has grown: twice the number of its buckets, and one
// more while a split is under way. It only ever rises by one.
type growth uint64

const oneBucket growth = 2

func (g growth) buckets() uint32 { return uint32(g / 2) }
func (g growth) splitting() bool { return g%2 == 1 }

// all is how many buckets may have device tokens.
func (g growth) all() uint32 { return uint32(g+1) / 2 }

// level is the largest power of two up to n.
func level(n uint32) uint32 { return 1 << (bits.Len32(n) - 1) }

// tagBucket is the bucket of a device token where there are n, and the modulus
// by which it was chosen.
func tagBucket(t device.Token, n uint32) (b, modulus uint32) {
	h, l := uint32(xxhash.Sum64String(t.Raw())), level(n)
	if b = h & (l - 1); b < n-l {
		return h & (2*l - 1), 2 * l
	}
	return b, l
}

// modulusOf is the modulus of bucket b where there are n.
func modulusOf(b, n uint32) uint32 {
	if l := level(n); b >= n-l && b < l {
		return l
	}
	return 2 * level(n)
}

// tagID is a tag of an app.
type tagID struct {
	app string
	key device.Key
}

// What lua/tag.lua does with a device token.
type tagAct uint8

const (
	tagPut        tagAct = 1
	tagMove       tagAct = 2
	tagOutUpTo    tagAct = 3
	tagOutExactly tagAct = 4
)

// tagHint is one device token in a tag, or about to be.
type tagHint struct {
	tag        device.Key
	act        tagAct
	token      device.Token
	generation uint64
	err        error // of carrying it out
}

// tagPlace is a bucket of a tag.
type tagPlace struct {
	tag             device.Key
	bucket, modulus uint32
}

// writeTags puts device tokens into the tags that they are registered with, and
// takes them out of those that they had before.
//
// choice: what a device does not have any more is taken out at once, though a
// reader would do it: a tag that names a day, say, is never read again, and would
// stay for ever.
//
// choice: most registrations change nothing. Then it is only looked whether the
// device token is in its tags, which costs Redis a fifth of putting it there. A
// reader that is about to take it out has read its hint before details without
// the tag, and so before the registration that put it there with another
// generation.
func (s *Store) writeTags(ctx context.Context, l *layout, wave []*registering) {
	var hints, same []tagHint
	var whose, whoseSame []*registering
	for _, r := range wave {
		if !r.ok() {
			continue
		}
		tags := uniqueTags(r.reg.Tags)
		h := tagHint{act: tagPut, token: r.token, generation: uint64(r.out.Generation)}
		unchanged := r.inUse() && r.before.Details && r.detailsBefore == ""
		for _, tag := range tags {
			h.tag = device.KeyOf(tag)
			if unchanged {
				same, whoseSame = append(same, h), append(whoseSame, r)
			} else {
				hints, whose = append(hints, h), append(whose, r)
			}
		}
		if r.detailsBefore == "" {
			continue
		}
		h.act = tagOutUpTo
		for _, tag := range uniqueTags(tagsIn(r.detailsBefore)) {
			if !slices.Contains(tags, tag) {
				h.tag = device.KeyOf(tag)
				hints, whose = append(hints, h), append(whose, r)
			}
		}
	}
	for i, there := range s.hinted(ctx, l.app, same) {
		if !there {
			hints, whose = append(hints, same[i]), append(whose, whoseSame[i])
		}
	}
	if len(hints) == 0 {
		return
	}
	full := s.hint(ctx, l.app, hints)
	for i, r := range whose {
		// One that was not taken out is found stale by a reader.
		if err := hints[i].err; err != nil && hints[i].act == tagPut && r.ok() {
			r.out.Err = fmt.Errorf("put it into its tags: %w", err)
		}
	}
	// One registration waits for one split at most; many together make more room
	// than they took.
	splits := 1 + 4*len(hints)/s.tagEntries
	for tag, wanted := range full {
		for range wanted {
			if splits--; splits < 0 {
				return
			}
			if grown, err := s.split(ctx, tagID{l.app, tag}); err != nil || !grown {
				break // the next registration finds it as full
			}
		}
	}
}

func uniqueTags(tags []string) []string {
	if len(tags) < 2 {
		return tags
	}
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return slices.Compact(tags)
}

// tagsIn reads the tags alone out of the JSON of details; none if it cannot be
// read.
func tagsIn(text string) []string {
	var det struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal([]byte(text), &det); err != nil {
		return nil
	}
	return det.Tags
}

// hinted reports which of hints are in the buckets of their tags. What could not
// be read is not.
func (s *Store) hinted(ctx context.Context, app string, hints []tagHint) []bool {
	there := make([]bool, len(hints))
	if len(hints) == 0 {
		return there
	}
	growths, err := s.growths(ctx, app, hints)
	if err != nil {
		return there
	}
	type place struct {
		tagPlace
		long bool
	}
	where := func(i int) place {
		b, m := tagBucket(hints[i].token, growths[hints[i].tag].all())
		return place{tagPlace{hints[i].tag, b, m}, hints[i].token.Len() > shortToken}
	}
	groups := group(len(hints), scriptItems, where)
	cmds := make([]*redis.SliceCmd, len(groups))
	p := s.client.Pipeline()
	for g, members := range groups {
		at := where(members[0])
		key, long := tagKeys(tagID{app, at.tag}, at.bucket)
		if at.long {
			key = long
		}
		raws := make([]string, len(members))
		for n, i := range members {
			raws[n] = hints[i].token.Raw()
		}
		cmds[g] = p.HMGet(ctx, key, raws...)
	}
	if err := s.exec(ctx, p); err != nil {
		return there
	}
	for g, members := range groups {
		for n, v := range cmds[g].Val() {
			there[members[n]] = v != nil
		}
	}
	return there
}

// errTagGrows is told if every try met another split. It takes as many splits of
// one tag within a call as there are tries.
var errTagGrows = errors.New("the tag grows faster than it can be written")

// hint carries out hints, each with its error, and returns how many splits the
// tags want that have got too full.
func (s *Store) hint(ctx context.Context, app string, hints []tagHint) (full map[device.Key]int) {
	todo := make([]int, len(hints))
	for i := range todo {
		todo[i] = i
	}
	full = make(map[device.Key]int)
	growths, err := s.growths(ctx, app, hints)
	const tries = 8
	for range tries {
		if err != nil {
			break
		}
		var again []int
		var raise []growthStep
		again, raise, err = s.hintOnce(ctx, app, hints, todo, growths, full)
		if err == nil && len(raise) > 0 {
			err = s.grow(ctx, app, raise, growths)
		}
		todo = again
		if len(todo) == 0 {
			return full
		}
	}
	if err == nil {
		err = errTagGrows
	}
	for _, i := range todo {
		hints[i].err = err
	}
	return full
}

// hintOnce carries out those of hints that are in todo. It returns those that
// were refused, and what the growth of their tags must be at least.
func (s *Store) hintOnce(
	ctx context.Context, app string, hints []tagHint, todo []int, growths map[device.Key]growth, full map[device.Key]int,
) (again []int, raise []growthStep, err error) {
	type item struct {
		hint int
		tagPlace
	}
	items := make([]item, 0, len(todo))
	for _, i := range todo {
		h := &hints[i]
		g := growths[h.tag]
		b, m := tagBucket(h.token, g.all())
		items = append(items, item{i, tagPlace{h.tag, b, m}})
		if old, _ := tagBucket(h.token, g.buckets()); h.act == tagOutUpTo && old != b {
			// It may not have been moved yet.
			items = append(items, item{i, tagPlace{h.tag, old, m}})
		}
	}
	groups := group(len(items), scriptItems, func(i int) tagPlace { return items[i].tagPlace })
	calls := make([]call, len(groups))
	for g, members := range groups {
		p := items[members[0]].tagPlace
		short, long := tagKeys(tagID{app, p.tag}, p.bucket)
		calls[g].keys = []string{short, long}
		calls[g].args = append(make([]any, 0, 1+3*len(members)), p.modulus)
		for _, i := range members {
			h := &hints[items[i].hint]
			calls[g].args = append(calls[g].args, h.token.Raw(), uint8(h.act), h.generation)
		}
	}
	_ = s.run(ctx, "tag", calls) // each call has its error
	for g, members := range groups {
		p := items[members[0]].tagPlace
		reply, callErr := calls[g].ints(2)
		if callErr != nil {
			for _, i := range members {
				hints[items[i].hint].err = callErr
			}
			continue
		}
		if modulus := uint32(reply[0]); modulus != 0 {
			// The mark proves that the growth was this far, even if a fail-over of
			// another master has forgotten it.
			raise = append(raise, growthStep{tag: p.tag, from: -1, to: growth(2*(modulus/2+p.bucket) + 1)})
			for _, i := range members {
				if n := items[i].hint; len(again) == 0 || again[len(again)-1] != n {
					again = append(again, n)
				}
			}
		} else if over := int(reply[1]) - s.tagEntries; over > 0 {
			full[p.tag] += 1 + over/(s.tagEntries/2)
		}
	}
	return again, raise, nil
}

// growthStep takes the growth of a tag to a number, from another or, if that is
// -1, from any lower one.
type growthStep struct {
	tag  device.Key
	from int64
	to   growth
}

// grow takes the growth of tags on, and sets growths to what it is then.
func (s *Store) grow(ctx context.Context, app string, steps []growthStep, growths map[device.Key]growth) error {
	for part := range slices.Chunk(steps, scriptItems) {
		calls := []call{{keys: []string{growthKey(app)}}}
		for _, st := range part {
			calls[0].args = append(calls[0].args, string(st.tag[:]), st.from, uint64(st.to))
		}
		_ = s.run(ctx, "tag_growth", calls) // the call has its error
		reply, err := calls[0].ints(len(part))
		if err != nil {
			return err
		}
		for i, st := range part {
			growths[st.tag] = growth(reply[i])
			s.noteGrowth(tagID{app, st.tag}, growth(reply[i]))
		}
	}
	return nil
}

// maxGrowths is how many tags' growths are kept in memory.
//
// choice: above it they are all forgotten and read again as they come, which is
// cheap enough for an app with so many large tags.
const maxGrowths = 1 << 16

type cachedGrowth struct {
	growth
	readAt time.Time // monotonic
}

func (s *Store) noteGrowth(id tagID, g growth) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g <= oneBucket {
		delete(s.growthsKnown, id)
		return
	}
	if len(s.growthsKnown) >= maxGrowths {
		clear(s.growthsKnown)
	}
	s.growthsKnown[id] = cachedGrowth{growth: g, readAt: time.Now()}
}

// growths returns how far the tags of hints have grown, as far as is known here.
// A tag of which nothing is known is taken to have one bucket: where it has more,
// that bucket is marked, and says so. What was known for long is read again, as
// layouts are, for the case that Redis was emptied.
func (s *Store) growths(ctx context.Context, app string, hints []tagHint) (map[device.Key]growth, error) {
	out := make(map[device.Key]growth)
	var steps []growthStep
	s.mu.Lock()
	for i := range hints {
		tag := hints[i].tag
		if _, ok := out[tag]; ok {
			continue
		}
		known, ok := s.growthsKnown[tagID{app, tag}]
		switch {
		case !ok:
			out[tag] = oneBucket
		case time.Since(known.readAt) < layoutAge:
			out[tag] = known.growth
		default:
			out[tag] = known.growth
			steps = append(steps, growthStep{tag: tag, from: -1})
		}
	}
	s.mu.Unlock()
	return out, s.grow(ctx, app, steps, out)
}

// growthOf reads how far a tag has grown.
func (s *Store) growthOf(ctx context.Context, id tagID) (growth, error) {
	text, err := s.client.HGet(ctx, growthKey(id.app), string(id.key[:])).Result()
	if errors.Is(err, redis.Nil) {
		return oneBucket, nil
	}
	if err != nil {
		return 0, err
	}
	g, err := strconv.ParseUint(text, 10, 32)
	if err != nil || growth(g) < oneBucket {
		return 0, fmt.Errorf("growth of a tag cannot be read: %w", errReply)
	}
	return growth(g), nil
}

// split splits the next bucket of a tag, or finishes a split that has begun. It
// reports whether it did.
func (s *Store) split(ctx context.Context, id tagID) (bool, error) {
	g, err := s.growthOf(ctx, id)
	if err != nil {
		return false, err
	}
	defer func() { s.noteGrowth(id, g) }()
	n := g.buckets()
	b := n - level(n)
	short, long := tagKeys(id, b)
	if !g.splitting() {
		p := s.client.Pipeline()
		size := [2]*redis.IntCmd{p.HLen(ctx, short), p.HLen(ctx, long)}
		if err := s.exec(ctx, p); err != nil {
			return false, err
		}
		// choice: device tokens that somebody chose so that they meet in one bucket
		// must not make buckets without end that nobody needs.
		if size[0].Val()+size[1].Val() < int64(s.tagEntries/2) || n >= maxBuckets {
			return false, nil
		}
		if g, err = s.growFrom(ctx, id, g); err != nil || !g.splitting() || g.buckets() != n {
			return false, err // another one did it
		}
	}
	modulus := 2 * level(n)
	calls := []call{{keys: []string{short}, args: []any{modulus}}}
	if err := s.run(ctx, "tag_mark", calls); err != nil {
		return false, err
	}
	held, err := s.readTag(ctx, id, []uint32{b}, nil)
	if err != nil {
		return false, err
	}
	for _, act := range []tagAct{tagMove, tagOutExactly} {
		if ok, err := s.move(ctx, id, held, act, modulus); err != nil || !ok {
			return false, err
		}
	}
	g, err = s.growFrom(ctx, id, g)
	return err == nil, err
}

// growFrom takes the growth of a tag one further, if it is still g, and returns
// what it is then.
func (s *Store) growFrom(ctx context.Context, id tagID, g growth) (growth, error) {
	out := make(map[device.Key]growth, 1)
	err := s.grow(ctx, id.app, []growthStep{{tag: id.key, from: int64(g), to: g + 1}}, out)
	return out[id.key], err
}

// move puts what belongs into the other half of a bucket there, or takes it out
// where it is. It reports whether the buckets were not split further by others.
func (s *Store) move(ctx context.Context, id tagID, held []heldHint, act tagAct, modulus uint32) (bool, error) {
	var calls []call
	for part := range slices.Chunk(held, scriptItems) {
		byBucket := make(map[uint32]*call)
		for _, h := range part {
			to := uint32(xxhash.Sum64String(h.token.Raw())) & (modulus - 1)
			if to != h.bucket+modulus/2 {
				continue
			}
			if act == tagOutExactly {
				to = h.bucket
			}
			c := byBucket[to]
			if c == nil {
				short, long := tagKeys(id, to)
				c = &call{keys: []string{short, long}, args: []any{modulus}}
				byBucket[to] = c
			}
			c.args = append(c.args, h.token.Raw(), uint8(act), h.generation)
		}
		for _, c := range byBucket {
			calls = append(calls, *c)
		}
	}
	if len(calls) == 0 {
		return true, nil
	}
	if err := s.run(ctx, "tag", calls); err != nil {
		return false, err
	}
	for i := range calls {
		reply, err := calls[i].ints(2)
		if err != nil {
			return false, err
		}
		if reply[0] != 0 {
			return false, nil
		}
	}
	return true, nil
}

// heldHint is a device token in a bucket of a tag.
type heldHint struct {
	token      device.Token
	bucket     uint32
	generation uint64
}

// readTag appends what is in buckets of a tag to dst.
func (s *Store) readTag(ctx context.Context, id tagID, buckets []uint32, dst []heldHint) ([]heldHint, error) {
	keys := make([]string, 0, 2*len(buckets))
	for _, b := range buckets {
		short, long := tagKeys(id, b)
		keys = append(keys, short, long)
	}
	var bad error
	err := s.readHashes(ctx, keys, func(n int, field, value string) {
		if field == "" {
			return // the mark
		}
		g, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			bad = errReply
		}
		dst = append(dst, heldHint{token: device.TokenFromRaw(field), bucket: buckets[n/2], generation: g})
	})
	if err := errors.Join(err, bad); err != nil {
		return dst, err
	}
	return dst, nil
}

// Tagged is a device with its tags.
type Tagged struct {
	Entry
	Tags []string
}

// TagBuckets is into how many classes the device tokens of a tag can be divided
// for [Store.ScanTag]: a power of two. It does not fall, but where Redis loses
// what it holds.
func (s *Store) TagBuckets(ctx context.Context, app, tag string) (int, error) {
	if _, err := s.layout(ctx, app); err != nil {
		return 0, err
	}
	g, err := s.growthOf(ctx, tagID{app, device.KeyOf(tag)})
	if err != nil {
		return 0, fmt.Errorf("read buckets of a tag of app %q: %w", app, err)
	}
	return int(level(g.buckets())), nil
}

// ScanTag appends a Tagged for every device token that has a tag, and is in the
// classes from one number up to, but without, another to dst: removed and
// quarantined ones too, in no order, each once. Classes are numbered from 0, and
// are those of classes, a power of two, which should be what [Store.TagBuckets]
// said when a series of calls began: in such a series a device token that has the
// tag throughout is in exactly one class, however the tag grows meanwhile, and
// one that gets it or loses it meanwhile in one at most.
//
// An Entry with an Err has a record or details that cannot be read; whether it
// has the tag is then not known. On an error, which is Redis's, nothing is
// appended.
func (s *Store) ScanTag(ctx context.Context, app, tag string, classes, from, to int, dst []Tagged) ([]Tagged, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return dst, err
	}
	if classes < 1 || classes > maxBuckets || bits.OnesCount(uint(classes)) != 1 || from < 0 || to > classes || from > to {
		return dst, fmt.Errorf("a tag has a power of two of classes, and numbers below that, not %d to %d of %d", from, to-1, classes)
	}
	id := tagID{app, device.KeyOf(tag)}
	held, err := s.readClasses(ctx, id, uint32(classes), uint32(from), uint32(to))
	if err != nil {
		return dst, fmt.Errorf("scan a tag of app %q: %w", app, err)
	}
	out, err := s.verifyTag(ctx, l, id, held, func(t string) bool { return t == tag }, dst)
	if err != nil {
		return dst, fmt.Errorf("scan a tag of app %q: %w", app, err)
	}
	return out, nil
}

// readClasses reads what is in the classes. What is split meanwhile comes twice,
// but nothing is missed: buckets are read in the order in which splits move
// device tokens, and the growth is read again when all are read.
func (s *Store) readClasses(ctx context.Context, id tagID, classes, from, to uint32) ([]heldHint, error) {
	var held []heldHint
	var base uint32 // the level at the first reading: what is below is not moved to below
	for done := uint32(0); ; {
		g, err := s.growthOf(ctx, id)
		if err != nil {
			return nil, err
		}
		all := g.all()
		if all <= done {
			return slices.DeleteFunc(held, func(h heldHint) bool {
				c := uint32(xxhash.Sum64String(h.token.Raw())) & (classes - 1)
				return c < from || c >= to
			}), nil
		}
		if base == 0 {
			base = level(all)
		}
		list := classBuckets(classes, from, to, done, all)
		for len(list) > 0 {
			n := len(list)
			if i := slices.IndexFunc(list, func(b uint32) bool { return b >= base }); i != 0 {
				if i > 0 {
					n = i
				}
			} else if i := slices.IndexFunc(list, func(b uint32) bool { return level(b) > level(list[0]) }); i > 0 {
				n = i
			}
			if held, err = s.readTag(ctx, id, list[:n], held); err != nil {
				return nil, err
			}
			list = list[n:]
		}
		done = all
	}
}

// classBuckets are the buckets, of those from done up to all, that have device
// tokens of the classes, in order.
func classBuckets(classes, from, to, done, all uint32) []uint32 {
	var list []uint32
	l := level(all)
	if classes <= l {
		for base := uint32(0); base < all; base += classes {
			for b := max(base+from, done); b < min(base+to, all); b++ {
				list = append(list, b)
			}
		}
		return list
	}
	// The tag has fewer buckets than there are classes: it lost some, or the caller
	// chose so.
	for c := from; c < to; c++ {
		for _, m := range [2]uint32{l, 2 * l} {
			if b := c & (m - 1); b >= done && b < all {
				list = append(list, b)
			}
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return list
}

// verifyTag appends what the records and details of device tokens say to dst,
// and takes out of the tag those that do not have it any more.
func (s *Store) verifyTag(
	ctx context.Context, l *layout, id tagID, held []heldHint, is func(tag string) bool, dst []Tagged,
) ([]Tagged, error) {
	tokens := make([]device.Token, 0, len(held))
	seen := make(map[device.Token]bool, len(held))
	for _, h := range held {
		if !seen[h.token] {
			seen[h.token] = true
			tokens = append(tokens, h.token)
		}
	}
	entries, err := s.lookup(ctx, l, tokens, make([]Entry, 0, len(tokens)))
	if err != nil {
		return dst, err
	}
	packed, err := s.readDetails(ctx, l, tokens)
	if err != nil {
		return dst, err
	}
	stale := make(map[device.Token]bool)
	for i, e := range entries {
		var d device.Device
		if e.Known && packed[i] != "" {
			if err := unpackDetails(packed[i], &d); err != nil {
				e.Known, e.Err = false, fmt.Errorf("%w: its details are damaged, or a newer version wrote them", device.ErrRecord)
			}
		}
		if e.Err != nil || e.Known && slices.ContainsFunc(d.Tags, is) {
			dst = append(dst, Tagged{Entry: e, Tags: d.Tags})
			continue
		}
		stale[e.Token] = true
	}
	if len(stale) > 0 {
		// What could not be taken out is found stale by the next reader.
		_ = s.takeOut(ctx, id, slices.DeleteFunc(held, func(h heldHint) bool { return !stale[h.token] }))
	}
	return dst, nil
}

// takeOut takes what is stale out of the buckets in which it was read, unless it
// was put there again since.
func (s *Store) takeOut(ctx context.Context, id tagID, stale []heldHint) error {
	g, err := s.growthOf(ctx, id)
	if err != nil {
		return err
	}
	groups := group(len(stale), scriptItems, func(i int) uint32 { return stale[i].bucket })
	calls := make([]call, len(groups))
	for n, members := range groups {
		b := stale[members[0]].bucket
		short, long := tagKeys(id, b)
		calls[n] = call{keys: []string{short, long}, args: []any{modulusOf(b, g.all())}}
		for _, i := range members {
			calls[n].args = append(calls[n].args, stale[i].token.Raw(), uint8(tagOutExactly), stale[i].generation)
		}
	}
	return s.run(ctx, "tag", calls)
}

// hintsOf are the hints that details ask for.
func (s *Store) hintsOf(ctx context.Context, l *layout, list []Entry, act tagAct) ([]tagHint, error) {
	var tokens []device.Token
	var generations []uint32
	for _, e := range list {
		if e.Record.Details {
			tokens, generations = append(tokens, e.Token), append(generations, e.Record.Generation)
		}
	}
	if len(tokens) == 0 {
		return nil, nil
	}
	packed, err := s.readDetails(ctx, l, tokens)
	if err != nil {
		return nil, err
	}
	var hints []tagHint
	for i, t := range tokens {
		if len(packed[i]) < createdBytes {
			continue
		}
		for _, tag := range uniqueTags(tagsIn(packed[i][createdBytes:])) {
			hints = append(hints, tagHint{tag: device.KeyOf(tag), act: act, token: t, generation: uint64(generations[i])})
		}
	}
	return hints, nil
}

// tagAgain puts devices into their tags where a crash may have kept a
// registration from it, or takes those that are to be forgotten out.
func (s *Store) tagAgain(ctx context.Context, l *layout, list []Entry, act tagAct) error {
	hints, err := s.hintsOf(ctx, l, list, act)
	if err != nil || len(hints) == 0 {
		return err
	}
	s.hint(ctx, l.app, hints)
	for i := range hints {
		if hints[i].err != nil {
			return hints[i].err
		}
	}
	return nil
}

// sweepTag looks after one bucket of a tag of more than one, both at random: it
// finishes a split that a crash left, and takes out what is stale and nobody
// reads.
func (s *Store) sweepTag(ctx context.Context, l *layout) error {
	keys, err := s.client.HRandField(ctx, growthKey(l.app), 1).Result()
	if err != nil || len(keys) == 0 {
		return err
	}
	id := tagID{app: l.app}
	if copy(id.key[:], keys[0]) != len(id.key) {
		return errReply
	}
	g, err := s.growthOf(ctx, id)
	if err != nil {
		return err
	}
	b := rand.Uint32N(g.all()) //nolint:gosec // any will do
	held, err := s.readTag(ctx, id, []uint32{b}, nil)
	if err != nil {
		return err
	}
	if g.splitting() || len(held) > s.tagEntries {
		if _, err := s.split(ctx, id); err != nil {
			return err
		}
	}
	_, err = s.verifyTag(ctx, l, id, held, func(t string) bool { return device.KeyOf(t) == id.key }, nil)
	return err
}

// countedBuckets is how many buckets of a tag are counted for its size.
const countedBuckets = 64

// CountTag is about how many device tokens have a tag: removed and quarantined
// ones, and some that have lost it, are among them. It counts fields without
// reading them. In a tag of up to some 5,000 it counts all, in a larger one a part
// of its buckets, and is then off by a few percent.
func (s *Store) CountTag(ctx context.Context, app, tag string) (int64, error) {
	if _, err := s.layout(ctx, app); err != nil {
		return 0, err
	}
	id := tagID{app, device.KeyOf(tag)}
	g, err := s.growthOf(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("count a tag of app %q: %w", app, err)
	}
	all := g.all()
	counted := min(all, countedBuckets)
	l := level(all)
	var marks int64
	p := s.client.Pipeline()
	var cmds []*redis.IntCmd
	for i := range counted {
		// Evenly spread, so that of those that were split lately, which are half as
		// full, there is the right share.
		b := uint32(uint64(i) * uint64(all) / uint64(counted))
		if b < l/2 || b < all-l {
			marks++
		}
		short, long := tagKeys(id, b)
		cmds = append(cmds, p.HLen(ctx, short), p.HLen(ctx, long))
	}
	if err := s.exec(ctx, p); err != nil {
		return 0, fmt.Errorf("count a tag of app %q: %w", app, err)
	}
	var sum int64
	for _, cmd := range cmds {
		sum += cmd.Val()
	}
	return max(0, sum-marks) * int64(all) / int64(counted), nil
}
