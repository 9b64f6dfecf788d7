package store

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// writeTries is how often a write begins anew because the layout changed: it
// does so twice in a doubling, which takes minutes.
const writeTries = 8

// isOldLayout reports whether a script refused its caller's layout.
func isOldLayout(err error) bool { return redis.HasErrorPrefix(err, "LAYOUT") }

// part is some of the items of a write, and the run of the script on them.
type part struct {
	members []int
	call
}

// write runs a fenced script on items that are grouped by their buckets, and
// begins anew with what was refused since the layout is older than the bucket.
// Each item is in one of the parts it returns.
//
// move brings what is still in the bucket that it has to leave to where it
// belongs; nothing may be written to it before. It returns an error for each of
// the items it is given, or nil if there is none.
func (s *Store) write(
	ctx context.Context, l *layout, script string, n int,
	move func(l *layout, items []int) []error, build func(l *layout, items []int) []part,
) []part {
	todo := make([]int, n)
	for i := range todo {
		todo[i] = i
	}
	var done []part
	for try := 1; len(todo) > 0; try++ {
		var again []int
		settle := func(p part) {
			switch {
			case !isOldLayout(p.err):
				done = append(done, p)
			case try < writeTries:
				again = append(again, p.members...)
			default:
				p.err = errMarkedAhead
				done = append(done, p)
			}
		}
		if l.from != 0 {
			if errs := move(l, todo); errs != nil {
				ready := todo[:0:0]
				for k, i := range todo {
					if errs[k] != nil {
						settle(part{members: []int{i}, call: call{err: errs[k]}})
					} else {
						ready = append(ready, i)
					}
				}
				todo = ready
			}
		}
		parts := build(l, todo)
		calls := make([]call, len(parts))
		for k := range parts {
			calls[k] = parts[k].call
		}
		_ = s.runFenced(ctx, l, script, calls) // each call has its error
		for k := range parts {
			parts[k].call = calls[k]
			settle(parts[k])
		}
		todo = again
		if len(todo) == 0 {
			break
		}
		slices.Sort(todo)
		now, err := s.newLayout(ctx, l.app, l)
		if err != nil {
			return append(done, part{members: todo, call: call{err: err}})
		}
		l = now
	}
	return done
}

// runFenced is run for scripts that are told the level of the layout.
func (s *Store) runFenced(ctx context.Context, l *layout, script string, calls []call) error {
	if len(calls) == 0 {
		return nil
	}
	for i := range calls {
		calls[i].args = append(calls[i].args, l.level())
	}
	return s.run(ctx, script, calls)
}

// partsError is the error of the first part that has one.
func partsError(parts []part) error {
	for i := range parts {
		if parts[i].err != nil {
			return parts[i].err
		}
	}
	return nil
}

// bucketScript is a script that writes to buckets of device tokens.
type bucketScript struct {
	name  string
	kinds string // of its keys
	head  []any  // arguments before those of the device tokens
	items int    // how many device tokens
	token func(i int) device.Token
	args  func(dst []any, i int) []any // appends those that follow device token i
}

// onBuckets runs a script for each bucket of its device tokens.
func (s *Store) onBuckets(ctx context.Context, l *layout, sc bucketScript) []part {
	return s.write(ctx, l, sc.name, sc.items,
		func(l *layout, items []int) []error {
			tokens := make([]device.Token, len(items))
			for k, i := range items {
				tokens[k] = sc.token(i)
			}
			return s.moveTokens(ctx, l, tokens)
		},
		func(l *layout, items []int) []part {
			groups := group(len(items), scriptItems, func(k int) bucket { return l.bucketOf(sc.token(items[k])) })
			parts := make([]part, len(groups))
			for g, members := range groups {
				b := l.bucketOf(sc.token(items[members[0]]))
				p := &parts[g]
				p.keys = l.keysOf(b, sc.kinds)
				p.args = append(make([]any, 0, len(sc.head)+6*len(members)+1), sc.head...)
				for _, k := range members {
					i := items[k]
					p.members = append(p.members, i)
					p.args = sc.args(append(p.args, sc.token(i).Raw()), i)
				}
			}
			return parts
		})
}

// keysOf are the keys of b that end in each of kinds.
func (l *layout) keysOf(b bucket, kinds string) []string {
	keys := make([]string, len(kinds))
	for i := range kinds {
		keys[i] = l.key(b, kinds[i])
	}
	return keys
}

// moveTokens moves the device tokens that are still in the bucket they have to
// leave. It returns an error for each, or nil if there is none. It may be cut off
// anywhere, and any number may do it at once.
func (s *Store) moveTokens(ctx context.Context, l *layout, tokens []device.Token) []error {
	var moving []int
	for i, t := range tokens {
		if _, ok := l.left(l.bucketOf(t)); ok {
			moving = append(moving, i)
		}
	}
	if len(moving) == 0 {
		return nil
	}
	var errs []error
	fail := func(members []int, err error) {
		if errs == nil {
			errs = make([]error, len(tokens))
		}
		for _, m := range members {
			errs[moving[m]] = err
		}
	}
	groups := group(len(moving), scriptItems, func(m int) bucket { return l.bucketOf(tokens[moving[m]]) })
	leave := make([]call, len(groups))
	for g, members := range groups {
		old, _ := l.left(l.bucketOf(tokens[moving[members[0]]]))
		leave[g].keys = l.keysOf(old, "dxr")
		for _, m := range members {
			leave[g].args = append(leave[g].args, tokens[moving[m]].Raw())
		}
	}
	_ = s.runFenced(ctx, l, "leave", leave) // each call has its error

	var take, drop []call
	var taken [][]int // of take
	for g, members := range groups {
		held, err := leave[g].list(3 * len(members))
		if err != nil {
			fail(members, err)
			continue
		}
		var put, away call
		for n, m := range members {
			if held[3*n] == "" {
				continue // moved, or never there
			}
			raw := tokens[moving[m]].Raw()
			put.args = append(put.args, raw, held[3*n], held[3*n+1], held[3*n+2])
			away.args = append(away.args, raw)
		}
		if len(away.args) == 0 {
			continue
		}
		put.keys = l.keysOf(l.bucketOf(tokens[moving[members[0]]]), "dxr")
		away.keys = leave[g].keys
		take, drop, taken = append(take, put), append(drop, away), append(taken, members)
	}
	_ = s.runFenced(ctx, l, "take", take)
	put := drop[:0]
	putOf := taken[:0]
	for k := range take {
		if take[k].err != nil {
			fail(taken[k], take[k].err)
			continue
		}
		put, putOf = append(put, drop[k]), append(putOf, taken[k])
	}
	_ = s.runFenced(ctx, l, "drop", put)
	for k := range put {
		if put[k].err != nil {
			fail(putOf[k], put[k].err)
		}
	}
	return errs
}

// place is a bucket of an index.
type place struct {
	ix index
	n  uint32
}

// onSlots runs a script of an index for each bucket of list's.
func (s *Store) onSlots(ctx context.Context, l *layout, script string, list []pointer) []part {
	return s.write(ctx, l, script, len(list),
		func(l *layout, items []int) []error {
			return s.moveSlots(ctx, l, len(items), func(k int) (index, device.Key) {
				return list[items[k]].ix, list[items[k]].key
			})
		},
		func(l *layout, items []int) []part {
			where := func(k int) place { return place{list[items[k]].ix, l.slotBucket(list[items[k]].key)} }
			groups := group(len(items), scriptItems, where)
			parts := make([]part, len(groups))
			for g, members := range groups {
				at := where(members[0])
				slots, long := l.slotKeys(at.ix, at.n)
				p := &parts[g]
				p.keys = []string{slots, long}
				p.args = make([]any, 0, 3*len(members)+1)
				for _, k := range members {
					i := items[k]
					p.members = append(p.members, i)
					p.args = append(p.args, string(list[i].key[:]), list[i].generation, list[i].token.Raw())
				}
			}
			return parts
		})
}

// moveSlots is moveTokens for n keys of indexes, each with all its slots.
func (s *Store) moveSlots(ctx context.Context, l *layout, n int, key func(i int) (index, device.Key)) []error {
	type subject struct {
		ix  index
		key device.Key
	}
	var moving []subject
	at := make(map[subject]int)
	for i := range n {
		ix, k := key(i)
		if _, ok := l.slotLeft(l.slotBucket(k)); !ok {
			continue
		}
		if _, ok := at[subject{ix, k}]; !ok {
			at[subject{ix, k}] = len(moving)
			moving = append(moving, subject{ix, k})
		}
	}
	if len(moving) == 0 {
		return nil
	}
	failed := make([]error, len(moving))
	anyFailed := false
	fail := func(m int, err error) { failed[m], anyFailed = err, true }

	groups := group(len(moving), scriptItems, func(m int) place {
		return place{moving[m].ix, l.slotBucket(moving[m].key)}
	})
	leave := make([]call, len(groups))
	for g, members := range groups {
		first := moving[members[0]]
		old, _ := l.slotLeft(l.slotBucket(first.key))
		slots, long := l.slotKeys(first.ix, old)
		leave[g].keys = []string{slots, long}
		for _, m := range members {
			leave[g].args = append(leave[g].args, string(moving[m].key[:]))
		}
	}
	_ = s.runFenced(ctx, l, "leave_index", leave) // each call has its error

	var take, drop []call
	var whose []int // of take and drop
	for g, members := range groups {
		lists, err := leave[g].list(len(members))
		for k, m := range members {
			var held []any
			if err == nil {
				var ok bool
				if held, ok = lists[k].([]any); !ok || len(held)%2 != 0 {
					err = errReply
				}
			}
			if err != nil {
				fail(m, err)
				continue
			}
			slots, long := l.slotKeys(moving[m].ix, l.slotBucket(moving[m].key))
			for some := range slices.Chunk(held, 2*scriptItems) {
				put := call{keys: []string{slots, long}}
				away := call{keys: leave[g].keys}
				for j := 0; j < len(some); j += 2 {
					args := []any{string(moving[m].key[:]), some[j], some[j+1]}
					away.args = append(away.args, args...)
					if some[j+1] != "" { // a long device token that is gone
						put.args = append(put.args, args...)
					}
				}
				take, drop, whose = append(take, put), append(drop, away), append(whose, m)
			}
		}
	}
	_ = s.runFenced(ctx, l, "index", take)
	var put []call
	var putOf []int
	for k := range take {
		if take[k].err != nil {
			fail(whose[k], take[k].err)
			continue
		}
		put, putOf = append(put, drop[k]), append(putOf, whose[k])
	}
	_ = s.runFenced(ctx, l, "unindex", put)
	for k := range put {
		if put[k].err != nil {
			fail(putOf[k], put[k].err)
		}
	}
	if !anyFailed {
		return nil
	}
	errs := make([]error, n)
	for i := range n {
		ix, k := key(i)
		if m, ok := at[subject{ix, k}]; ok {
			errs[i] = failed[m]
		}
	}
	return errs
}
