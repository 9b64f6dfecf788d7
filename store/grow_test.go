package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// grow doubles the buckets until they are no longer full.
func grow(t testing.TB, st *store.Store) {
	t.Helper()
	for {
		g, err := st.Grow(t.Context(), app)
		if err != nil {
			t.Fatalf("Grow: %v", err)
		}
		if !g.Doubling && !g.Ended {
			return
		}
	}
}

// sibling is a client of the same database, without the hooks of the first.
func sibling(t testing.TB, db *testenv.RedisDB) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: db.Addr, DB: db.DB, ReadTimeout: time.Minute})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Who goes by an older layout than the bucket's must not write there: every
// script is here, and is fenced, or does not write to buckets.
func TestScriptsRefuseAnOlderLayout(t *testing.T) {
	fenced := map[string][]any{ // arguments but the level, for no device token
		"apply": {1}, "drop": {}, "erase": {}, "fuse_release": {}, "import": {1, 0}, "index": {}, "leave": {}, "leave_index": {},
		"register": {1}, "replace": {1, 1}, "settle": {}, "swap": {}, "take": {}, "unindex": {},
	}
	others := map[string]string{
		"bytes": "a prelude", "clock": "a prelude", "fence": "a prelude", "record": "a prelude", "slots": "a prelude", "totals": "a prelude",
		"fuse_again": "a window", "fuse_count": "counters", "grow": "the layout itself", "removals": "counters",
		"tag": "a tag", "tag_growth": "a tag", "tag_mark": "a tag",
		"caps": "caps", "claim": "a claim", "counts": "counters", "pace": "a campaign",
		"progress_handback": "a job", "progress_hold": "a job", "progress_mark": "a job",
		"progress_part": "a job", "progress_whole": "a job",
	}
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, name := range f.ScriptNames() {
			args, ok := fenced[name]
			if !ok {
				if others[name] == "" {
					t.Errorf("script %s: got neither fenced nor a reason why not", name)
				}
				continue
			}
			keys := []string{name + ":1", name + ":2", name + ":3"}
			if err := f.client.HSet(t.Context(), keys[0], "", 7).Err(); err != nil {
				t.Fatal(err)
			}
			for level := 6; level <= 8; level++ {
				want := level < 7
				err := f.RunScript(t.Context(), name, keys, append(slices.Clone(args), level)...)
				if refused := redis.HasErrorPrefix(err, "LAYOUT"); refused != want || !refused && err != nil {
					t.Errorf("script %s at level %d, the bucket at 7: got %v, want it refused %t", name, level, err, want)
				}
			}
		}
		if known := len(f.ScriptNames()); known != len(fenced)+len(others) {
			t.Errorf("scripts: got %d, want %d", known, len(fenced)+len(others))
		}
	})
}

// between calls do before some of what a client sends.
type between struct {
	do     func()
	inside bool
}

func (b *between) call() {
	if !b.inside {
		b.inside = true
		b.do()
		b.inside = false
	}
}

func (b *between) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *between) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		b.call()
		return next(ctx, cmd)
	}
}

func (b *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		b.call()
		return next(ctx, cmds)
	}
}

// model is a token set that doubles at every turn, and another one that gets the
// same and never does.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	clock  *clock
	stores []*store.Store // with layouts of their own, however old
	plain  *store.Store

	client redis.UniversalClient
	grower *store.Store
	cut    *cutter
	step   int // of the grower, one in so many
	cuts   int

	known []device.Token // registered at some time
	scans []*classScan
	done  int // scans
}

// classScan is a scan by the classes of its beginning.
type classScan struct {
	n0, next int
	want     []device.Token
	got      map[device.Token]int
}

func TestDoublingAgainstAModel(t *testing.T) {
	t.Parallel()
	for _, on := range []struct {
		name   string
		open   func(testing.TB) *testenv.RedisDB
		rounds int
		ops    int
	}{
		{"server", testenv.Redis, 12, 500},
		{"miniredis", testenv.Miniredis, 2, 250},
	} {
		for round := range on.rounds {
			t.Run(fmt.Sprint(on.name, " ", round), func(t *testing.T) {
				t.Parallel()
				m := newModel(t, on.open(t), on.open(t), uint64(round))
				for range on.ops {
					m.op()
					if t.Failed() {
						return
					}
				}
				m.end()
			})
		}
	}
}

func newModel(t *testing.T, db, plain *testenv.RedisDB, seed uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), clock: newClock(), cut: &cutter{}, step: 6}
	cfg := store.Config{Buckets: 1, DevicesPerBucket: 6, Clock: m.clock.now, RemovalsPerHour: -1}
	client := sibling(t, db)
	client.AddHook(m.cut)
	m.client, m.grower = client, store.New(client, cfg)
	for range 3 {
		client := sibling(t, db)
		client.AddHook(&between{do: m.growSome})
		m.stores = append(m.stores, store.New(client, cfg))
	}
	m.plain = store.New(plain.Client, cfg)
	return m
}

// growSome takes a step of the doubling, which may be cut off anywhere.
func (m *model) growSome() {
	if m.rng.IntN(m.step) != 0 {
		return
	}
	m.cut.set(1 << 30)
	if m.rng.IntN(3) > 0 {
		m.cut.set(m.rng.IntN(14))
	}
	_, err := m.grower.Grow(m.t.Context(), app)
	switch {
	case errors.Is(err, cutError{}):
		m.cuts++
	case err != nil:
		m.t.Errorf("Grow: %v", err)
	}
}

func (m *model) anyStore() *store.Store { return m.stores[m.rng.IntN(len(m.stores))] }

func (m *model) anyToken() device.Token {
	n := m.rng.IntN(120)
	if n%10 == 0 {
		return longToken(n)
	}
	return token(n)
}

func (m *model) anyID(what string) string {
	if n := m.rng.IntN(25); n > 0 {
		return fmt.Sprint(what, " ", n)
	}
	return ""
}

// same compares what both token sets said.
func (m *model) same(what string, got, want any, errs ...error) {
	m.t.Helper()
	if err := errors.Join(errs...); err != nil {
		m.t.Errorf("%s: %v", what, err)
	}
	if !reflect.DeepEqual(got, want) {
		m.t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func (m *model) op() {
	m.clock.move(time.Duration(m.rng.IntN(3)) * time.Second)
	st, ctx := m.anyStore(), m.t.Context()
	if m.rng.IntN(8) == 0 {
		st.AgeLayouts()
	}
	switch n := m.rng.IntN(28); {
	case n < 8:
		regs := make([]device.Registration, 1+m.rng.IntN(3))
		for i := range regs {
			regs[i] = registration(m.anyToken())
			regs[i].User, regs[i].InstallID = m.anyID("user"), m.anyID("install")
			if m.rng.IntN(4) == 0 {
				regs[i].PreviousToken = m.anyToken()
			}
			if m.rng.IntN(3) == 0 {
				regs[i].Locale = "de-DE"
			}
			if m.rng.IntN(3) == 0 {
				regs[i].Tags = []string{"vip"}
			}
			m.known = append(m.known, regs[i].Token)
		}
		got, err := st.RegisterMany(ctx, app, regs)
		want, err2 := m.plain.RegisterMany(ctx, app, regs)
		m.same("RegisterMany", got, want, err, err2)
	case n < 11:
		verdicts := make([]store.Verdict, 1+m.rng.IntN(4))
		for i := range verdicts {
			v := &verdicts[i]
			v.Token, v.Said = m.anyToken(), store.Said(1+m.rng.IntN(3))
			v.SentAt, v.Reason = m.clock.now(), device.BadDeviceToken
			v.Generation = m.entry(m.plain, v.Token).Record.Generation
			if v.Said == store.Dead {
				v.Timestamp, v.Reason = m.clock.now().UnixMilli(), device.Unregistered
			}
		}
		m.clock.move(time.Second)
		got, err := st.Apply(ctx, app, verdicts)
		want, err2 := m.plain.Apply(ctx, app, verdicts)
		m.same("Apply", got, want, err, err2)
	case n < 12:
		tok := m.anyToken()
		got, err := st.Delete(ctx, app, tok, device.Deleted)
		want, err2 := m.plain.Delete(ctx, app, tok, device.Deleted)
		m.same("Delete", got, want, err, err2)
	case n < 13:
		list := []store.Rejection{{Token: m.anyToken(), JobID: "a"}}
		list[0].Generation = m.entry(m.plain, list[0].Token).Record.Generation
		got, err := st.TakeBack(ctx, app, list)
		want, err2 := m.plain.TakeBack(ctx, app, list)
		m.same("TakeBack", got.Released, want.Released, err, err2)
	case n < 14:
		tok := m.anyToken()
		got, ok, err := st.Device(ctx, app, tok)
		want, ok2, err2 := m.plain.Device(ctx, app, tok)
		m.same("Device", []any{got, ok}, []any{want, ok2}, err, err2)
	case n < 15:
		m.compareIDs(st, m.anyID("user"), m.anyID("install"))
	case n < 16:
		var tokens []device.Token
		for range 20 {
			tokens = append(tokens, m.anyToken())
		}
		got, err := st.Lookup(ctx, app, tokens, nil)
		want, err2 := m.plain.Lookup(ctx, app, tokens, nil)
		m.same("Lookup", got, want, err, err2)
	case n < 17:
		buckets, err := st.Buckets(ctx, app)
		if err == nil {
			_, err = st.Sweep(ctx, app, m.rng.IntN(buckets))
		}
		m.same("Sweep", nil, nil, err)
	case n < 18:
		got, err := st.Count(ctx, app)
		want, err2 := m.plain.Count(ctx, app)
		m.same("Count", got, want, err, err2)
	case n < 20:
		list := make([]store.Import, 1+m.rng.IntN(3))
		for i := range list {
			list[i].Registration = registration(m.anyToken())
			list[i].User, list[i].InstallID = m.anyID("user"), m.anyID("install")
			list[i].RegisteredAt = m.clock.now().Add(-time.Duration(m.rng.IntN(300)) * time.Second)
		}
		overwrite := m.rng.IntN(2) == 0
		got, err := st.ImportMany(ctx, app, list, overwrite)
		want, err2 := m.plain.ImportMany(ctx, app, list, overwrite)
		m.same("ImportMany", got, want, err, err2)
		for i, r := range want {
			if r.Result == store.ImportedNew {
				m.known = append(m.known, list[i].Token)
			}
		}
	case n < 21:
		list := m.someEntries()
		got, err := st.Restore(ctx, app, list)
		want, err2 := m.plain.Restore(ctx, app, list)
		m.same("Restore", got, want, err, err2)
	case n < 22:
		list, before := m.someEntries(), m.clock.now().Add(-100*time.Second)
		got, err := st.Prune(ctx, app, list, before)
		want, err2 := m.plain.Prune(ctx, app, list, before)
		m.same("Prune", got, want, err, err2)
	case n < 23:
		list := m.someEntries()
		got, _, err := st.Describe(ctx, app, list, nil)
		want, _, err2 := m.plain.Describe(ctx, app, list, nil)
		m.same("Describe", got, want, err, err2)
	case n < 24:
		got, err := st.ScanTag(ctx, app, "vip", 1, 0, 1, nil)
		want, err2 := m.plain.ScanTag(ctx, app, "vip", 1, 0, 1, nil)
		m.same("ScanTag", taggedSet(got), taggedSet(want), err, err2)
	case n < 26:
		m.compareAudience(st)
	default:
		m.scan(st)
	}
}

// someEntries are some that were read.
func (m *model) someEntries() []store.Entry {
	tokens := make(map[device.Token]bool)
	for range 8 {
		tokens[m.anyToken()] = true
	}
	list, err := m.plain.Lookup(m.t.Context(), app, slices.Collect(maps.Keys(tokens)), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	// Whoever was never registered would be forgotten, and the rest of the test
	// relies on that nobody is.
	return slices.DeleteFunc(list, func(e store.Entry) bool { return e.Record.RegisteredAt == 0 })
}

func taggedSet(list []store.Tagged) map[device.Token][]string {
	out := make(map[device.Token][]string)
	for _, e := range list {
		out[e.Token] = e.Tags
	}
	return out
}

func (m *model) entry(st *store.Store, tok device.Token) store.Entry {
	got, err := st.Lookup(m.t.Context(), app, []device.Token{tok}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return got[0]
}

func (m *model) compareIDs(st *store.Store, user, install string) {
	ctx := m.t.Context()
	got, err := st.ByUsers(ctx, app, []string{user})
	want, err2 := m.plain.ByUsers(ctx, app, []string{user})
	m.same("ByUsers", entrySet(got[0]), entrySet(want[0]), err, err2)
	got, err = st.ByInstalls(ctx, app, []string{install})
	want, err2 = m.plain.ByInstalls(ctx, app, []string{install})
	m.same("ByInstalls", entrySet(got[0]), entrySet(want[0]), err, err2)
}

func entrySet(list []store.Entry) map[device.Token]store.Entry {
	out := make(map[device.Token]store.Entry)
	for _, e := range list {
		out[e.Token] = e
	}
	return out
}

// scan begins a scan, or goes on with one.
func (m *model) scan(st *store.Store) {
	if len(m.scans) == 0 || len(m.scans) < 3 && m.rng.IntN(10) == 0 {
		n0, err := st.Buckets(m.t.Context(), app)
		if err != nil {
			m.t.Fatal(err)
		}
		m.scans = append(m.scans, &classScan{n0: n0, want: slices.Clone(m.known), got: make(map[device.Token]int)})
	}
	at := m.rng.IntN(len(m.scans))
	sc := m.scans[at]
	to := min(sc.n0, sc.next+1+m.rng.IntN(3))
	entries, err := st.ScanBuckets(m.t.Context(), app, sc.n0, sc.next, to, nil)
	if err != nil {
		m.t.Errorf("ScanBuckets: %v", err)
	}
	for _, e := range entries {
		sc.got[e.Token]++
	}
	if sc.next = to; to < sc.n0 {
		return
	}
	m.scans = slices.Delete(m.scans, at, at+1)
	m.done++
	for _, tok := range sc.want {
		if sc.got[tok] == 0 {
			m.t.Errorf("scan by %d classes: got nothing of %v", sc.n0, tok)
		}
	}
	for tok, n := range sc.got {
		if n != 1 {
			m.t.Errorf("scan by %d classes: got %v %d times", sc.n0, tok, n)
		}
	}
}

// end finishes the doubling and compares everything.
func (m *model) end() {
	ctx := m.t.Context()
	m.step = 1 << 30
	m.cut.set(1 << 30)
	grow(m.t, m.grower)
	buckets, err := m.grower.Buckets(ctx, app)
	if err != nil || buckets < 8 || m.cuts == 0 || m.done == 0 {
		m.t.Errorf("got %d buckets, %v, %d steps cut off, %d scans, want more", buckets, err, m.cuts, m.done)
	}
	wantEverythingInPlace(m.t, m.client, buckets)
	for _, st := range m.stores {
		got, err := st.ScanBuckets(ctx, app, 1, 0, 1, nil)
		want, err2 := m.plain.ScanBuckets(ctx, app, 1, 0, 1, nil)
		m.same("everything", entrySet(got), entrySet(want), err, err2)
		if len(got) != len(want) {
			m.t.Errorf("everything: got %d, want %d", len(got), len(want))
		}
		for n := range 25 {
			m.compareIDs(st, fmt.Sprint("user ", n), fmt.Sprint("install ", n))
		}
	}
	for _, tok := range m.known {
		got, ok, err := m.stores[0].Device(ctx, app, tok)
		want, ok2, err2 := m.plain.Device(ctx, app, tok)
		m.same("Device", []any{got, ok}, []any{want, ok2}, err, err2)
	}
}

// wantEverythingInPlace checks that nothing is in a bucket where it does not
// belong.
func wantEverythingInPlace(t *testing.T, client redis.UniversalClient, buckets int) {
	t.Helper()
	ctx := t.Context()
	for _, kind := range []byte("dxruil") {
		for _, key := range keysOf(t, client, string(kind)) {
			if strings.HasPrefix(key, "pf:{"+app+":t") {
				continue // of a tag, whose buckets grow by themselves
			}
			fields, err := client.HKeys(ctx, key).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range fields {
				if field == "" {
					continue // the mark
				}
				var want string
				switch {
				case !strings.ContainsRune("uil", rune(kind)):
					want = store.BucketKey(app, buckets, device.TokenFromRaw(field), kind)
				case len(field) != 17:
					t.Errorf("%s has a field of %d bytes", key, len(field))
				default:
					ix := byte('u')
					if strings.Contains(key, ":i") {
						ix = 'i'
					}
					var k device.Key
					copy(k[:], field)
					slots, long := store.SlotsKey(app, buckets, ix, k)
					if want = slots; kind == 'l' {
						want = long
					}
				}
				if want != key {
					t.Errorf("%s has what belongs in %s", key, want)
				}
			}
		}
	}
}

// A mover that was frozen with what it had in hand, while all others went on to
// the end and the device token was forgotten, must not bring it back.
func TestFrozenMoverBringsNothingBack(t *testing.T) {
	t.Parallel()
	for _, open := range []func(testing.TB) *testenv.RedisDB{testenv.Redis, testenv.Miniredis} {
		db := open(t)
		c := newClock()
		cfg := store.Config{Buckets: 1, DevicesPerBucket: 2, Clock: c.now, RemovalsPerHour: -1}
		f := &fixture{Store: store.New(db.Client, cfg), client: db.Client, clock: c}
		for i := range 4 {
			reg := registration(token(i))
			reg.User, reg.InstallID = "anna", fmt.Sprint("install ", i)
			f.mustRegister(t, reg)
		}
		client := sibling(t, db)
		frozen := store.New(client, cfg)
		if g, err := frozen.Grow(t.Context(), app); err != nil || !g.Began {
			t.Fatalf("Grow: got %+v, %v, want it begun", g, err)
		}
		happened := false
		// In front of the third script: marked, taken hold of, and not put yet.
		hook := &interloper{n: 3, before: func() {
			happened = true
			grow(t, f.Store)
			for i := range 4 {
				if ok, err := f.Delete(t.Context(), app, token(i), device.Deleted); err != nil || !ok {
					t.Errorf("Delete: got %t, %v", ok, err)
				}
			}
			c.move(2 * store.DefaultRemember)
			if swept := f.sweep(t); swept.Forgotten != 4 {
				t.Errorf("sweep: got %+v, want 4 forgotten", swept)
			}
		}}
		client.AddHook(hook)
		if _, err := frozen.Grow(t.Context(), app); err != nil {
			t.Errorf("Grow that was frozen: %v", err)
		}
		if n, err := f.Count(t.Context(), app); !happened || err != nil || n != 0 {
			t.Errorf("frozen %t; Count: got %d, %v, want 0", happened, n, err)
		}
	}
}

// Several processes register, look up and scan while others double the buckets
// twice: what is registered throughout is always found, and scanned once.
func TestDoublingUnderLoad(t *testing.T) {
	t.Parallel()
	for _, on := range []struct {
		name string
		open func(testing.TB) *testenv.RedisDB
		n    int
	}{{"server", testenv.Redis, 3000}, {"miniredis", testenv.Miniredis, 300}} {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			db := on.open(t)
			doubleUnderLoad(t, on.n, func() redis.UniversalClient { return sibling(t, db) })
			wantEverythingInPlace(t, db.Client, 32)
		})
	}
}

func TestDoublingOnACluster(t *testing.T) {
	t.Parallel()
	f, _, ok := onCluster(t, 8, false)
	if !ok {
		return
	}
	doubleUnderLoad(t, 1500, func() redis.UniversalClient { return f.client })
}

func doubleUnderLoad(t *testing.T, n int, connect func() redis.UniversalClient) {
	const first, last = 8, 32
	// Full at 16 buckets, and not at 32, with what writers add.
	extra := n / 10
	cfg := store.Config{Buckets: first, DevicesPerBucket: n / 24}
	open := func() *store.Store { return store.New(connect(), cfg) }
	permanent := make([]device.Registration, n)
	tokens := make([]device.Token, n)
	want := make(map[device.Token]bool, n)
	for i := range permanent {
		permanent[i] = registration(token(i))
		if i%20 == 0 {
			permanent[i].Token = longToken(i)
		}
		permanent[i].User, permanent[i].InstallID = fmt.Sprint("user ", i/2), fmt.Sprint("install ", i)
		tokens[i] = permanent[i].Token
		want[tokens[i]] = true
	}
	if _, err := open().RegisterMany(t.Context(), app, permanent); err != nil {
		t.Fatal(err)
	}
	var loads, growers sync.WaitGroup
	var done atomic.Bool
	var added, scans atomic.Int64
	for g := range 2 { // writers
		st := open()
		loads.Go(func() {
			for i := 0; !done.Load(); i++ {
				again := permanent[rand.IntN(n)]
				if i < extra {
					added.Add(1)
				}
				more := registration(token(1_000_000*(g+1) + i%extra))
				more.User = again.User
				if _, err := st.RegisterMany(t.Context(), app, []device.Registration{again, more}); err != nil {
					t.Errorf("RegisterMany: %v", err)
					return
				}
				if ok, err := st.Delete(t.Context(), app, more.Token, device.Deleted); err != nil || !ok {
					t.Errorf("Delete of what was just registered: got %t, %v", ok, err)
					return
				}
			}
		})
	}
	reader := open()
	loads.Go(func() {
		for !done.Load() {
			from := rand.IntN(n - 50)
			entries, err := reader.Lookup(t.Context(), app, tokens[from:from+50], nil)
			if err != nil {
				t.Errorf("Lookup: %v", err)
				return
			}
			for _, e := range entries {
				if !e.Known || !e.Record.Usable() {
					t.Errorf("Lookup: got %+v, want it usable", e)
					return
				}
			}
			user := rand.IntN(n / 2)
			found, err := reader.ByUsers(t.Context(), app, []string{fmt.Sprint("user ", user)})
			if err != nil || !containsToken(found[0], tokens[2*user]) || !containsToken(found[0], tokens[2*user+1]) {
				t.Errorf("ByUsers: got %v, %v, want the user's two", found, err)
				return
			}
		}
	})
	scan := func(st *store.Store, n0 int) {
		got := make(map[device.Token]int)
		for c := range n0 {
			entries, err := st.ScanBuckets(t.Context(), app, n0, c, c+1, nil)
			if err != nil {
				t.Errorf("ScanBuckets: %v", err)
				return
			}
			for _, e := range entries {
				got[e.Token]++
			}
		}
		scans.Add(1)
		for tok := range want {
			if got[tok] != 1 {
				t.Errorf("scan by %d classes: got %v %d times", n0, tok, got[tok])
				return
			}
		}
		for tok, n := range got {
			if n != 1 {
				t.Errorf("scan by %d classes: got %v, another one, %d times", n0, tok, n)
				return
			}
		}
	}
	scanner := open()
	loads.Go(func() {
		for !done.Load() {
			n0, err := scanner.Buckets(t.Context(), app)
			if err != nil {
				t.Errorf("Buckets: %v", err)
				return
			}
			scan(scanner, n0)
		}
	})
	for range 2 {
		st := open()
		growers.Go(func() { grow(t, st) })
	}
	growers.Wait()
	done.Store(true)
	loads.Wait()
	// One that has slept through all of it, and one that has not.
	scan(scanner, first)
	st := open()
	scan(st, first)
	if got, err := st.Buckets(t.Context(), app); err != nil || got != last {
		t.Errorf("buckets: got %d, %v, want %d", got, err, last)
	}
	if got, err := st.Count(t.Context(), app); err != nil || got != int64(n)+added.Load() {
		t.Errorf("Count: got %d, %v, want %d", got, err, int64(n)+added.Load())
	}
	t.Logf("%d devices more, %d scans", added.Load(), scans.Load())
}

func containsToken(list []store.Entry, tok device.Token) bool {
	return slices.ContainsFunc(list, func(e store.Entry) bool { return e.Token == tok })
}

// What was split stays small in memory.
func TestBucketsStayListpacksWhenTheyDouble(t *testing.T) {
	t.Parallel()
	db := testenv.Redis(t)
	if !db.Real {
		t.Log("miniredis does not tell how Redis keeps a hash")
		return
	}
	const buckets, devices = 32, 32 * 210
	st := store.New(db.Client, store.Config{Buckets: buckets})
	fill(t, st, devices, func(tok device.Token) device.Registration {
		reg := registration(tok)
		reg.User = tok.Hex()[:8]
		return reg
	})
	before := float64(bytesOf(t, db.Client)) / devices
	grow(t, st)
	after := float64(bytesOf(t, db.Client)) / devices
	t.Logf("bytes per device, with a user: %.1f in %d buckets, %.1f in %d", before, buckets, after, 2*buckets)
	if n, err := st.Buckets(t.Context(), app); err != nil || n != 2*buckets {
		t.Errorf("buckets: got %d, %v, want %d", n, err, 2*buckets)
	}
	seen := maps.Values(encodings(t, db.Client))
	for enc := range seen {
		if enc != "listpack" && enc != "ziplist" {
			t.Errorf("encoding of a bucket: got %s, want listpack", enc)
		}
	}
}

// A set is laid out for what is to come, once.
func TestPrepare(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, devices := range []int{1_000_000, 10, 50_000_000} {
			if err := f.Prepare(t.Context(), app, devices); err != nil {
				t.Fatal(err)
			}
			if got, err := f.Buckets(t.Context(), app); err != nil || got != store.BucketsFor(1_000_000) {
				t.Errorf("buckets, prepared for %d: got %d, %v, want %d", devices, got, err, store.BucketsFor(1_000_000))
			}
		}
		if err := f.Prepare(t.Context(), "no app", 1); err == nil {
			t.Error("a name that is none: got no error")
		}
	})
}
