package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func tagged(t device.Token, tags ...string) device.Registration {
	reg := registration(t)
	reg.Tags = tags
	return reg
}

// withTag reads all of a tag, class by class.
func (f *fixture) withTag(t *testing.T, tag string) []store.Tagged {
	t.Helper()
	n, err := f.TagBuckets(t.Context(), app, tag)
	if err != nil {
		t.Fatalf("TagBuckets: %v", err)
	}
	var all []store.Tagged
	for c := range n {
		if all, err = f.ScanTag(t.Context(), app, tag, n, c, c+1, all); err != nil {
			t.Fatalf("ScanTag: %v", err)
		}
	}
	return all
}

func (f *fixture) tokensWith(t *testing.T, tag string) (tokens []device.Token) {
	t.Helper()
	for _, e := range f.withTag(t, tag) {
		tokens = append(tokens, e.Token)
	}
	return tokens
}

// inIndex counts the device tokens in all buckets of all tags.
func (f *fixture) inIndex(t *testing.T) (n int) {
	t.Helper()
	for _, kind := range []string{"t", "l"} {
		for _, key := range keysOf(t, f.client, kind) {
			fields, err := f.client.HKeys(t.Context(), key).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range fields {
				if field != "" {
					n++
				}
			}
		}
	}
	return n
}

func TestTags(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		a, b, c := token(1), longToken(2), token(3)
		f.mustRegister(t, tagged(a, "beta", "vip", "beta"))
		f.mustRegister(t, tagged(b, "beta"))
		f.mustRegister(t, tagged(c, "vip"))
		wantTokens(t, "beta", f.tokensWith(t, "beta"), a, b)
		wantTokens(t, "vip", f.tokensWith(t, "vip"), a, c)
		wantTokens(t, "a tag of nobody", f.tokensWith(t, "gold"))
		for _, e := range f.withTag(t, "vip") {
			if e.Token == a && !slices.Equal(e.Tags, []string{"beta", "vip", "beta"}) {
				t.Errorf("tags: got %q, want them as they were registered", e.Tags)
			}
		}
		if n, err := f.CountTag(t.Context(), app, "beta"); err != nil || n != 2 {
			t.Errorf("CountTag: got %d, %v, want 2", n, err)
		}

		f.mustRegister(t, tagged(a, "vip"))
		f.mustRegister(t, registration(c))
		wantTokens(t, "beta, of which one was dropped", f.tokensWith(t, "beta"), b)
		wantTokens(t, "vip, of which one was dropped", f.tokensWith(t, "vip"), a)
		if got := f.inIndex(t); got != 2 {
			t.Errorf("in the index after tags were dropped: got %d, want 2", got)
		}

		if _, err := f.Delete(t.Context(), app, a, device.Deleted); err != nil {
			t.Fatal(err)
		}
		got := f.withTag(t, "vip")
		if len(got) != 1 || got[0].Record.State != device.Removed {
			t.Errorf("vip, of which one was removed: got %+v, want it as removed", got)
		}
		f.clock.move(2 * store.DefaultRemember)
		if swept := f.sweep(t); swept.Forgotten != 1 {
			t.Errorf("sweep: got %+v, want 1 forgotten", swept)
		}
		if got := f.inIndex(t); got != 1 {
			t.Errorf("in the index after one was forgotten: got %d, want 1", got)
		}
	})
}

// A hint alone makes nobody a member of a tag, and goes when it is read.
func TestStaleHintsOfTags(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		a, b := token(1), token(2)
		for _, reg := range []device.Registration{tagged(a, "vip"), tagged(b, "vip")} {
			f.mustRegister(t, reg)
		}
		keys := keysOf(t, f.client, "t")
		if len(keys) != 1 {
			t.Fatalf("buckets of tags: got %q, want one", keys)
		}
		held, err := f.client.HGetAll(t.Context(), keys[0]).Result()
		if err != nil {
			t.Fatal(err)
		}
		f.mustRegister(t, registration(a))
		// As if the registration had been cut off before it took the hint out, and
		// one of a device that is not known was left.
		held[token(3).Raw()] = "7"
		if err := f.client.HSet(t.Context(), keys[0], held).Err(); err != nil {
			t.Fatal(err)
		}
		wantTokens(t, "vip", f.tokensWith(t, "vip"), b)
		if got := f.inIndex(t); got != 1 {
			t.Errorf("in the index after it was read: got %d, want 1", got)
		}
	})
}

// What is taken out as stale stays if the device gets the tag again between the
// reader's steps.
func TestTagIsKeptThatComesBackWhileItIsRead(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		a := token(1)
		f.mustRegister(t, tagged(a, "vip"))
		keys := keysOf(t, f.client, "t")
		held, err := f.client.HGetAll(t.Context(), keys[0]).Result()
		if err != nil {
			t.Fatal(err)
		}
		f.mustRegister(t, registration(a))
		if err := f.client.HSet(t.Context(), keys[0], held).Err(); err != nil {
			t.Fatal(err)
		}
		other := f.beside(t)
		client, ok := f.client.(*redis.Client)
		if !ok {
			t.Fatalf("client is a %T", f.client)
		}
		var once sync.Once
		client.AddHook(&interloper{n: 1, before: func() {
			once.Do(func() { other.mustRegister(t, tagged(a, "vip")) })
		}})
		// It reads the stale hint, and is overtaken before it takes that out.
		if got := f.withTag(t, "vip"); len(got) != 0 {
			t.Errorf("a tag that was gone: got %v", got)
		}
		wantTokens(t, "vip, after it came back", f.tokensWith(t, "vip"), a)
	})
}

// Nothing is written down for a tag of few devices but its one bucket, and that
// goes with them: made-up tags leave nothing.
func TestMadeUpTags(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const devices = 20
		for i := range devices {
			reg := registration(token(i))
			for n := range device.MaxTags {
				reg.Tags = append(reg.Tags, fmt.Sprint("tag ", i*device.MaxTags+n))
			}
			f.mustRegister(t, reg)
		}
		if got := f.inIndex(t); got != devices*device.MaxTags {
			t.Errorf("in the index: got %d, want %d", got, devices*device.MaxTags)
		}
		if n, err := f.client.Exists(t.Context(), store.GrowthKey(app)).Result(); err != nil || n != 0 {
			t.Errorf("growth of tags: got %d keys, %v, want none", n, err)
		}
		for i := range devices {
			f.mustRegister(t, registration(token(i)))
		}
		if got := len(keysOf(t, f.client, "t")); got != 0 {
			t.Errorf("buckets left after all tags were dropped: got %d, want none", got)
		}
	})
}

func TestTagGrows(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.LimitTags(8)
		const devices = 300
		var want []device.Token
		var regs []device.Registration
		for i := range devices {
			tok := token(i)
			if i%10 == 0 {
				tok = longToken(i)
			}
			want, regs = append(want, tok), append(regs, tagged(tok, "vip"))
		}
		for part := range slices.Chunk(regs, 50) {
			if _, err := f.RegisterMany(t.Context(), app, part); err != nil {
				t.Fatal(err)
			}
		}
		n, err := f.TagBuckets(t.Context(), app, "vip")
		if err != nil || n < 32 {
			t.Errorf("buckets of %d devices: got %d, %v, want 32 at least", devices, n, err)
		}
		wantTokens(t, "vip", f.tokensWith(t, "vip"), want...)
		if got := f.inIndex(t); got != devices {
			t.Errorf("in the index: got %d, want each of %d once", got, devices)
		}
		if got, err := f.CountTag(t.Context(), app, "vip"); err != nil || got < devices*8/10 || got > devices*12/10 {
			t.Errorf("CountTag: got %d, %v, want about %d", got, err, devices)
		}
		// Any power of two divides it, also more than it has buckets.
		for _, classes := range []int{1, 2, 1024} {
			got, err := f.ScanTag(t.Context(), app, "vip", classes, 0, classes, nil)
			if err != nil || len(got) != devices {
				t.Errorf("ScanTag of %d classes: got %d, %v, want %d", classes, len(got), err, devices)
			}
		}
		got := 0
		for c := range 256 {
			some, err := f.ScanTag(t.Context(), app, "vip", 256, c, c+1, nil)
			if err != nil {
				t.Fatal(err)
			}
			got += len(some)
		}
		if got != devices {
			t.Errorf("ScanTag, one of 256 classes at a time: got %d, want %d", got, devices)
		}
	})
}

// Whoever chooses device tokens so that they meet in one bucket gets a large
// bucket, not buckets without end.
func TestTagOfDeviceTokensThatMeet(t *testing.T) {
	t.Parallel()
	f := setup(testenv.Redis(t).Client)
	f.LimitTags(8)
	var want []device.Token
	for i := 0; len(want) < 100; i++ {
		if tok := token(i); xxhash.Sum64String(tok.Raw())%256 == 0 {
			want = append(want, tok)
			f.mustRegister(t, tagged(tok, "vip"))
		}
	}
	if n, err := f.TagBuckets(t.Context(), app, "vip"); err != nil || n > 2 {
		t.Errorf("buckets: got %d, %v, want 2 at most", n, err)
	}
	wantTokens(t, "vip", f.tokensWith(t, "vip"), want...)
}

// A fail-over may lose how far a tag had grown: the buckets know.
func TestTagGrowthIsLost(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.LimitTags(8)
		var want []device.Token
		for i := range 100 {
			want = append(want, token(i))
			f.mustRegister(t, tagged(token(i), "vip"))
		}
		if err := f.client.Del(t.Context(), store.GrowthKey(app)).Err(); err != nil {
			t.Fatal(err)
		}
		f.AgeLayouts()
		for i := range 100 {
			f.mustRegister(t, tagged(token(i), "vip"))
		}
		wantTokens(t, "vip", f.tokensWith(t, "vip"), want...)
	})
}

func TestScanTagOfWrongClasses(t *testing.T) {
	t.Parallel()
	f := setup(testenv.Redis(t).Client)
	for _, c := range [][3]int{{0, 0, 0}, {3, 0, 1}, {4, -1, 1}, {4, 0, 5}, {4, 2, 1}, {1 << 30, 0, 1}} {
		if _, err := f.ScanTag(t.Context(), app, "vip", c[0], c[1], c[2], nil); err == nil {
			t.Errorf("ScanTag(%d, %d, %d): got no error", c[0], c[1], c[2])
		}
	}
	if _, err := f.ScanTag(t.Context(), "no app!", "vip", 1, 0, 1, nil); err == nil {
		t.Error("ScanTag of an app of no name: got no error")
	}
}

// counter counts commands.
type counter struct {
	mu    sync.Mutex
	names []string
}

func (c *counter) note(cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range cmds {
		c.names = append(c.names, cmd.Name())
	}
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.note(cmd)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.note(cmds...)
		return next(ctx, cmds)
	}
}

// A tag of few among many costs as much as there are few.
func TestSmallTagIsNotAScanOfEverybody(t *testing.T) {
	t.Parallel()
	db := testenv.Redis(t)
	devices := 100_000
	if !db.Real {
		devices = 5000
	}
	st := store.New(db.Client, store.Config{})
	fill(t, st, devices, registration)
	f := &fixture{Store: st, client: db.Client}
	var want []device.Token
	for i := range 10 {
		want = append(want, token(i*devices/10))
		f.mustRegister(t, tagged(want[i], "vip"))
	}
	n, err := f.TagBuckets(t.Context(), app, "vip")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{}
	db.AddHook(c)
	got, err := f.ScanTag(t.Context(), app, "vip", n, 0, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []device.Token
	for _, e := range got {
		tokens = append(tokens, e.Token)
	}
	wantTokens(t, "vip", tokens, want...)
	// A record and details of each, the growth before and after, and two hashes.
	if most := 2*len(want) + 4; len(c.names) > most {
		t.Errorf("commands for a tag of %d: got %d (%s), want at most %d", len(want), len(c.names), strings.Join(c.names, " "), most)
	}
}

func TestTagsOnACluster(t *testing.T) {
	t.Parallel()
	f, _, ok := onCluster(t, 4, false)
	if !ok {
		return
	}
	f.LimitTags(8)
	var want []device.Token
	var regs []device.Registration
	for i := range 300 {
		want = append(want, token(i))
		regs = append(regs, tagged(token(i), "vip", fmt.Sprint("team ", i%50)))
	}
	for part := range slices.Chunk(regs, 60) {
		if _, err := f.RegisterMany(t.Context(), app, part); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.TagBuckets(t.Context(), app, "vip"); err != nil || n < 32 {
		t.Errorf("buckets: got %d, %v, want 32 at least", n, err)
	}
	wantTokens(t, "vip", f.tokensWith(t, "vip"), want...)
	wantTokens(t, "team 7", f.tokensWith(t, "team 7"), want[7], want[57], want[107], want[157], want[207], want[257])
	for i := range regs {
		regs[i].Tags = regs[i].Tags[1:]
	}
	if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
		t.Fatal(err)
	}
	wantTokens(t, "vip, after all dropped it", f.tokensWith(t, "vip"))
}

// tagModel is what the index of tags should lead to.
type tagModel struct {
	t      *testing.T
	rng    *rand.Rand
	stores []*fixture
	cut    []*cutter
	tokens []device.Token
	has    map[device.Token]map[string]bool // nil: not sure, since its registration was cut off
	series []*tagSeries
}

// tagSeries is a campaign that reads a tag class by class.
type tagSeries struct {
	tag      string
	classes  int
	left     []int
	always   map[device.Token]bool // has had the tag since the series began
	sometime map[device.Token]bool // has had it, or may have, at some time since
	got      map[device.Token]int
}

var modelTags = []string{"a", "b", "c"}

// noted tells every series what became of a device; tags nil is not known.
func (m *tagModel) noted(tok device.Token, tags map[string]bool) {
	m.has[tok] = tags
	for _, s := range m.series {
		if tags == nil || !tags[s.tag] {
			delete(s.always, tok)
		}
		if tags == nil || tags[s.tag] {
			s.sometime[tok] = true
		}
	}
}

func (m *tagModel) register() {
	n := m.rng.IntN(len(m.stores))
	regs := make([]device.Registration, 1+m.rng.IntN(12))
	for i := range regs {
		regs[i] = registration(m.tokens[m.rng.IntN(len(m.tokens))])
		for _, tag := range modelTags {
			if m.rng.IntN(3) > 0 {
				regs[i].Tags = append(regs[i].Tags, tag)
			}
		}
		// While it is under way, it may have any of them.
		for _, s := range m.series {
			if slices.Contains(regs[i].Tags, s.tag) {
				s.sometime[regs[i].Token] = true
			}
		}
	}
	if m.rng.IntN(4) == 0 {
		m.cut[n].set(m.rng.IntN(9))
	}
	out, err := m.stores[n].RegisterMany(m.t.Context(), app, regs)
	m.cut[n].set(1 << 30)
	if err != nil && len(out) == 0 {
		if !errors.As(err, new(cutError)) {
			m.t.Fatal(err)
		}
		return // nothing was done
	}
	for i, r := range out {
		if r.Err != nil {
			m.noted(regs[i].Token, nil)
			continue
		}
		tags := make(map[string]bool)
		for _, tag := range regs[i].Tags {
			tags[tag] = true
		}
		m.noted(regs[i].Token, tags)
	}
}

func (m *tagModel) remove() {
	f := m.stores[m.rng.IntN(len(m.stores))]
	// A removed device keeps its tags: an undo brings it back with them.
	if _, err := f.Delete(m.t.Context(), app, m.tokens[m.rng.IntN(len(m.tokens))], device.Deleted); err != nil {
		m.t.Fatal(err)
	}
}

func (m *tagModel) split() {
	n := m.rng.IntN(len(m.stores))
	m.cut[n].set(m.rng.IntN(6))
	_ = m.stores[n].SplitTag(m.t.Context(), app, modelTags[m.rng.IntN(len(modelTags))])
	m.cut[n].set(1 << 30)
}

func (m *tagModel) begin() {
	s := &tagSeries{
		tag: modelTags[m.rng.IntN(len(modelTags))], always: make(map[device.Token]bool),
		sometime: make(map[device.Token]bool), got: make(map[device.Token]int),
	}
	var err error
	if s.classes, err = m.stores[0].TagBuckets(m.t.Context(), app, s.tag); err != nil {
		m.t.Fatal(err)
	}
	s.left = m.rng.Perm(s.classes)
	for tok, tags := range m.has {
		if tags == nil || tags[s.tag] {
			s.sometime[tok] = true
		}
		if tags[s.tag] {
			s.always[tok] = true
		}
	}
	m.series = append(m.series, s)
}

func (m *tagModel) read() {
	if len(m.series) == 0 {
		m.begin()
	}
	at := m.rng.IntN(len(m.series))
	s := m.series[at]
	f := m.stores[m.rng.IntN(len(m.stores))]
	c := s.left[0]
	s.left = s.left[1:]
	got, err := f.ScanTag(m.t.Context(), app, s.tag, s.classes, c, c+1, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range got {
		s.got[e.Token]++
		if !slices.Contains(e.Tags, s.tag) {
			m.t.Errorf("%v: got tags %q, want %s among them", e.Token, e.Tags, s.tag)
		}
	}
	if len(s.left) == 0 {
		m.check(s)
		m.series = slices.Delete(m.series, at, at+1)
	}
}

func (m *tagModel) check(s *tagSeries) {
	for tok := range s.always {
		if s.got[tok] != 1 {
			m.t.Errorf("tag %s, %d classes: %v had it throughout, and was read %d times", s.tag, s.classes, tok, s.got[tok])
		}
	}
	for tok, n := range s.got {
		if n > 1 || !s.sometime[tok] {
			m.t.Errorf("tag %s, %d classes: %v was read %d times, had it at some time: %t", s.tag, s.classes, tok, n, s.sometime[tok])
		}
	}
}

// Whatever is cut off, and whatever stale growth a process goes by, each device
// that has a tag throughout is read exactly once.
func TestTagModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			db := testenv.Redis(t)
			steps := 1500
			if !db.Real {
				steps = 200
			}
			m := &tagModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), has: make(map[device.Token]map[string]bool)}
			first := setup(db.Client)
			for range 3 {
				f := first.beside(t)
				c := &cutter{left: 1 << 30}
				f.client.(*redis.Client).AddHook(c)
				f.LimitTags(4)
				m.stores, m.cut = append(m.stores, f), append(m.cut, c)
			}
			for i := range 150 {
				tok := token(i)
				if i%8 == 0 {
					tok = longToken(i)
				}
				m.tokens = append(m.tokens, tok)
			}
			for range steps {
				switch p := m.rng.IntN(20); {
				case p < 6:
					m.register()
				case p < 7:
					m.remove()
				case p < 9:
					m.split()
				case p < 10:
					if len(m.series) < 4 {
						m.begin()
					}
				case p < 11:
					f := m.stores[m.rng.IntN(len(m.stores))]
					if _, err := f.Sweep(t.Context(), app, m.rng.IntN(4)); err != nil {
						t.Fatal(err)
					}
				default:
					m.read()
				}
				if t.Failed() {
					return
				}
			}
			for len(m.series) > 0 {
				m.read()
			}
			n, err := m.stores[0].TagBuckets(t.Context(), app, "a")
			if err != nil || db.Real && n < 16 {
				t.Errorf("buckets in the end: got %d, %v, want 16 at least, or nothing was tried", n, err)
			}
		})
	}
}

// The same with everything at once.
func TestTagRaces(t *testing.T) {
	t.Parallel()
	db := testenv.Redis(t)
	devices, rounds := 400, 8
	if !db.Real {
		devices, rounds = 100, 2
	}
	first := setup(db.Client)
	store4 := func() *fixture {
		f := first.beside(t)
		f.client.(*redis.Client).AddHook(jitter{})
		f.LimitTags(4)
		return f
	}
	var constant []device.Token
	for i := range devices / 4 {
		constant = append(constant, token(i))
	}
	for _, tok := range constant {
		first.mustRegister(t, tagged(tok, "vip"))
	}
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	var serieses atomic.Int64
	for w := range 3 {
		f := store4()
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 2))
			for range rounds * devices / 10 {
				var regs []device.Registration
				for range 10 {
					i := rng.IntN(devices)
					tags := []string{"vip", "other"}[:1+rng.IntN(2)]
					if i >= len(constant) {
						tags = tags[rng.IntN(len(tags)+1):]
					}
					regs = append(regs, tagged(token(i), tags...))
				}
				if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
					t.Errorf("RegisterMany: %v", err)
				}
			}
		})
	}
	for range 2 {
		f := store4()
		readers.Go(func() {
			for last := false; !last; {
				last = done.Load() // one more when all is still
				n, err := f.TagBuckets(t.Context(), app, "vip")
				if err != nil {
					t.Errorf("TagBuckets: %v", err)
					return
				}
				got := make(map[device.Token]int)
				for c := range n {
					part, err := f.ScanTag(t.Context(), app, "vip", n, c, c+1, nil)
					if err != nil {
						t.Errorf("ScanTag: %v", err)
						return
					}
					for _, e := range part {
						got[e.Token]++
					}
				}
				for _, tok := range constant {
					if got[tok] != 1 {
						t.Errorf("%d classes: %v had the tag throughout, and was read %d times", n, tok, got[tok])
					}
				}
				if most := slices.Max(slices.Collect(maps.Values(got))); most > 1 {
					t.Errorf("%d classes: a device was read %d times", n, most)
				}
				serieses.Add(1)
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if n, err := first.TagBuckets(t.Context(), app, "vip"); err != nil || db.Real && n < 32 || serieses.Load() < 3 {
		t.Errorf("got %d buckets, %v, and %d series: too few to have tried anything", n, err, serieses.Load())
	}
}
