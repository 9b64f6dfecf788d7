package store_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testenv.HoldRedis(m), goleak.IgnoreAnyFunction(testenv.RedisDialing))
}

const app = "shop"

// fixture is a token set with a clock that the test moves.
type fixture struct {
	*store.Store
	client redis.UniversalClient
	clock  *clock
}

// onBoth runs a test on a real server, where there is one, and on miniredis,
// which the demo uses.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Parallel()
	for _, on := range []struct {
		name string
		open func(testing.TB) *testenv.RedisDB
	}{
		{"server", testenv.Redis},
		{"miniredis", testenv.Miniredis},
	} {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			test(t, setup(on.open(t).Client))
		})
	}
}

func setup(client redis.UniversalClient) *fixture {
	c := newClock()
	// Few buckets, so that device tokens meet in them.
	return &fixture{
		Store:  store.New(client, store.Config{Buckets: 4, Clock: c.now}),
		client: client,
		clock:  c,
	}
}

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.UnixMilli(1_800_000_000_000)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return c.at
}

// token makes the nth device token of the classic length.
func token(n int) device.Token { return tokenOf(n, 32) }

// longToken makes one of the length seen for Live Activities.
func longToken(n int) device.Token { return tokenOf(n, 80) }

func tokenOf(n, size int) device.Token {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	binary.BigEndian.PutUint64(seed[8:], uint64(size))
	raw := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(raw)
	return device.TokenFromRaw(string(raw))
}

func registration(t device.Token) device.Registration {
	return device.Registration{Token: t, Environment: device.Production}
}

// mustRegister registers and returns what became of it.
func (f *fixture) mustRegister(t *testing.T, r device.Registration) store.Registered {
	t.Helper()
	got, err := f.Register(t.Context(), app, r)
	if err != nil {
		t.Fatalf("Register: %v", err)
	}
	return got
}

// entry looks one device token up.
func (f *fixture) entry(t *testing.T, tok device.Token) store.Entry {
	t.Helper()
	got, err := f.Lookup(t.Context(), app, []device.Token{tok}, nil)
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	return got[0]
}

// apply applies one verdict.
func (f *fixture) apply(t *testing.T, v store.Verdict) store.Applied {
	t.Helper()
	got, err := f.Apply(t.Context(), app, []store.Verdict{v})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return got[0]
}

// ofUser and ofInstall are the device tokens found for an id.
func (f *fixture) ofUser(t *testing.T, user string) []device.Token {
	t.Helper()
	found, err := f.ByUsers(t.Context(), app, []string{user})
	if err != nil {
		t.Fatalf("ByUsers: %v", err)
	}
	return tokensOf(found[0])
}

func (f *fixture) ofInstall(t *testing.T, install string) []device.Token {
	t.Helper()
	found, err := f.ByInstalls(t.Context(), app, []string{install})
	if err != nil {
		t.Fatalf("ByInstalls: %v", err)
	}
	return tokensOf(found[0])
}

func tokensOf(entries []store.Entry) []device.Token {
	var tokens []device.Token
	for _, e := range entries {
		tokens = append(tokens, e.Token)
	}
	return tokens
}

func wantTokens(t *testing.T, what string, got []device.Token, want ...device.Token) {
	t.Helper()
	left := make(map[device.Token]int)
	for _, tok := range got {
		left[tok]++
	}
	for _, tok := range want {
		left[tok]--
	}
	for tok, n := range left {
		if n != 0 {
			t.Errorf("%s: got %v, want %v (%v is %+d)", what, got, want, tok, n)
		}
	}
}

// cutter is a client hook that lets a number of pipelines pass and then fails
// every one: to the store this is the crash of its process between two steps.
type cutter struct {
	mu   sync.Mutex
	left int
}

type cutError struct{}

func (cutError) Error() string { return "cut off" }

func (c *cutter) pass() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	return c.left >= 0
}

func (c *cutter) set(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = n
}

func (c *cutter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *cutter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *cutter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if c.pass() {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(cutError{})
		}
		return cutError{}
	}
}

// interloper is a client hook that calls before in front of the nth script
// pipeline that it sees, counted from 1: what another process does between two
// steps.
type interloper struct {
	mu     sync.Mutex
	n      int
	before func()
}

func (i *interloper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *interloper) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (i *interloper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "evalsha" && i.now() {
			i.before()
		}
		return next(ctx, cmds)
	}
}

func (i *interloper) now() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n--
	return i.n == 0
}

// beside returns a second process's client of the same Redis.
func (f *fixture) beside(t *testing.T) *fixture {
	t.Helper()
	c, ok := f.client.(*redis.Client)
	if !ok {
		t.Fatalf("client is a %T", f.client)
	}
	client := redis.NewClient(&redis.Options{Addr: c.Options().Addr, DB: c.Options().DB})
	t.Cleanup(func() { _ = client.Close() })
	return &fixture{
		Store:  store.New(client, store.Config{Buckets: 4, Clock: f.clock.now}),
		client: client,
		clock:  f.clock,
	}
}
