package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// jitter lets other goroutines go first before some pipelines, so that steps of
// registrations interleave in many ways.
type jitter struct{}

func (jitter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (jitter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (jitter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for range rand.IntN(30) {
			runtime.Gosched()
		}
		return next(ctx, cmds)
	}
}

// history is what registrations and verdicts reported of one device token.
type history struct {
	mu         sync.Mutex
	registered map[uint32]int64 // generation -> at
	removed    []store.Verdict
	twice      []uint32 // generations that two registrations got
}

// race runs registrations, and if dead is set 410s, of a few device tokens at
// once, and checks what comes out of it against the rules alone.
type race struct {
	*fixture
	round   string
	tokens  []device.Token
	byUse   bool // replace by previous token only, else by install too
	dead    bool
	history []history
}

func TestRaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		byUse bool
		dead  bool
	}{
		{name: "by install"},
		{name: "by previous token", byUse: true},
		{name: "by install, 410s between", dead: true},
		{name: "by previous token, 410s between", byUse: true, dead: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Redis(t)
			rounds := 120
			if !db.Real {
				rounds = 20 // its scripts take thirty times as long
			}
			client := db.Client
			client.AddHook(jitter{})
			f := &fixture{Store: store.New(client, store.Config{Buckets: 4}), client: client}
			for n := range rounds {
				r := &race{
					fixture: f, round: fmt.Sprint("round ", n), byUse: tt.byUse, dead: tt.dead,
					history: make([]history, 4),
				}
				for i := range r.history {
					r.tokens = append(r.tokens, token(10*n+i))
					r.history[i].registered = make(map[uint32]int64)
				}
				r.run(t)
				r.check(t)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// The ids that registrations of a round choose from. Where a reader looks for
// the user's devices all the time, the user stays.
func (r *race) users() []string {
	if r.dead {
		return []string{r.round, r.round + ", another user"}
	}
	return []string{r.round}
}

func (r *race) installs() []string {
	if r.byUse {
		return []string{""}
	}
	return []string{r.round, r.round, r.round + ", another install"}
}

func pick(from []string) string { return from[rand.IntN(len(from))] }

func (r *race) registration(i int) device.Registration {
	reg := registration(r.tokens[i])
	reg.User, reg.InstallID = pick(r.users()), pick(r.installs())
	if i == 0 {
		reg.Kind = device.VoIP
	}
	if p := rand.IntN(2 * len(r.tokens)); p < len(r.tokens) && (r.byUse || p%2 == 0) {
		reg.PreviousToken = r.tokens[p]
	}
	return reg
}

func (r *race) register(t *testing.T, i int) {
	got, err := r.Register(t.Context(), app, r.registration(i))
	if err != nil {
		t.Errorf("%s: Register: %v", r.round, err)
		return
	}
	h := &r.history[i]
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.registered[got.Generation]; ok {
		h.twice = append(h.twice, got.Generation)
	}
	h.registered[got.Generation] = got.RegisteredAt
}

func (r *race) kill(t *testing.T, i int) {
	entries, err := r.Lookup(t.Context(), app, r.tokens[i:i+1], nil)
	if err != nil {
		t.Errorf("%s: Lookup: %v", r.round, err)
		return
	}
	v := store.Verdict{
		Token: r.tokens[i], Said: store.Dead, Generation: entries[0].Record.Generation, Reason: device.Unregistered,
		Timestamp: time.Now().UnixMilli() + rand.Int64N(3) - 1,
	}
	for range rand.IntN(100) {
		runtime.Gosched()
	}
	applied, err := r.Apply(t.Context(), app, []store.Verdict{v})
	if err != nil {
		t.Errorf("%s: Apply: %v", r.round, err)
		return
	}
	if applied[0] == store.RemovedIt {
		h := &r.history[i]
		h.mu.Lock()
		defer h.mu.Unlock()
		h.removed = append(h.removed, v)
	}
}

func (r *race) run(t *testing.T) {
	r.register(t, 0)
	var writers, reader sync.WaitGroup
	var done atomic.Bool
	for range 4 {
		writers.Go(func() {
			for range 3 {
				r.register(t, rand.IntN(len(r.tokens)))
			}
		})
	}
	if r.dead {
		writers.Go(func() {
			for range 6 {
				r.kill(t, rand.IntN(len(r.tokens)))
			}
		})
	} else {
		reader.Go(func() {
			for !done.Load() {
				found, err := r.ByUsers(t.Context(), app, []string{r.round})
				if err != nil || len(found[0]) == 0 {
					t.Errorf("%s: a reader got %v, %v, want a device", r.round, found, err)
					return
				}
			}
		})
	}
	writers.Go(func() {
		for b := range 4 {
			if _, err := r.Sweep(t.Context(), app, b); err != nil {
				t.Errorf("%s: Sweep: %v", r.round, err)
			}
		}
	})
	writers.Wait()
	done.Store(true)
	reader.Wait()
}

func (r *race) check(t *testing.T) {
	entries, err := r.Lookup(t.Context(), app, r.tokens, nil)
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		install device.Key
		kind    device.Kind
	}
	var live []device.Token
	perPlace := make(map[place][]device.Token)
	perUser := make(map[device.Key][]device.Token)
	perInstall := make(map[device.Key][]device.Token)
	for i, e := range entries {
		h := &r.history[i]
		rec := e.Record
		if rec.Usable() && e.Known {
			live = append(live, e.Token)
			p := place{rec.Install, rec.Kind}
			perPlace[p] = append(perPlace[p], e.Token)
			perUser[rec.User] = append(perUser[rec.User], e.Token)
			perInstall[rec.Install] = append(perInstall[rec.Install], e.Token)
		}
		if len(h.twice) > 0 || int(rec.Generation) != len(h.registered) {
			t.Errorf("%s, %v: got generation %d after %d registrations, %v twice",
				r.round, e.Token, rec.Generation, len(h.registered), h.twice)
		}
		at := h.registered[rec.Generation]
		if at != rec.RegisteredAt {
			t.Errorf("%s, %v: registered at %d, but generation %d was at %d", r.round, e.Token, rec.RegisteredAt, rec.Generation, at)
		}
		killed := false
		for _, v := range h.removed {
			if v.Generation == 0 {
				killed = killed || rec.Reason == device.Unregistered
				continue
			}
			if h.registered[v.Generation] >= v.Timestamp {
				t.Errorf("%s, %v: removed at %d by a 410 of %d", r.round, e.Token, h.registered[v.Generation], v.Timestamp)
			}
			killed = killed || v.Generation == rec.Generation
		}
		switch {
		case killed && (rec.State != device.Removed || rec.Reason != device.Unregistered):
			t.Errorf("%s, %v: a 410 removed it at its last generation, but it is %v", r.round, e.Token, rec)
		case rec.State == device.Removed && rec.Reason == device.Replaced && !r.newerThan(i, at):
			t.Errorf("%s, %v: replaced, though none was registered later than %d", r.round, e.Token, at)
		case rec.State == device.Removed && rec.Reason == device.Unregistered && !killed && rec.Generation != 0:
			t.Errorf("%s, %v: removed at generation %d by a 410 of another", r.round, e.Token, rec.Generation)
		}
		if rec.Replaces {
			t.Errorf("%s, %v: a replacement is left over", r.round, e.Token)
		}
	}
	if !r.dead && len(live) == 0 {
		t.Errorf("%s: no device token is left", r.round)
	}
	for p, tokens := range perPlace {
		if !r.byUse && len(tokens) > 1 {
			t.Errorf("%s: %v are left of kind %v of one install, want one", r.round, tokens, p.kind)
		}
	}
	for _, user := range r.users() {
		wantTokens(t, user+": devices of the user", r.ofUser(t, user), perUser[device.KeyOf(user)]...)
	}
	for _, install := range r.installs() {
		if install != "" {
			wantTokens(t, install+": devices of the install", r.ofInstall(t, install), perInstall[device.KeyOf(install)]...)
		}
	}
}

// newerThan reports whether another device token was registered later than token
// i at that time.
func (r *race) newerThan(i int, at int64) bool {
	for j := range r.history {
		if j == i {
			continue
		}
		for _, other := range r.history[j].registered {
			if other > at || other == at && r.tokens[j].Raw() > r.tokens[i].Raw() {
				return true
			}
		}
	}
	// Named as the previous one before it was ever registered.
	return at == 0
}
