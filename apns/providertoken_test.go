package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"
)

// testClock is a clock whose wall and monotonic readings move apart on demand.
type testClock struct {
	base time.Time // with the monotonic clock
	wall time.Duration
	mono time.Duration
}

func (c *testClock) now() time.Time {
	t := c.base.Add(c.mono)
	if c.wall == c.mono {
		return t
	}
	// Without a monotonic reading Sub compares the wall clocks.
	return t.Round(0).Add(c.wall - c.mono)
}

func (c *testClock) move(d time.Duration) { c.wall += d; c.mono += d }

func newTokens(t *testing.T) (*ProviderTokens, *testClock) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &testClock{base: time.Now()}
	return NewProviderTokens(Credential{key: key, keyID: "KEY4567890", teamID: "TEAM567890"}, c.now, nil), c
}

func must(t *testing.T) func(ProviderToken, error) ProviderToken {
	return func(p ProviderToken, err error) ProviderToken {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func TestProviderTokenIsShared(t *testing.T) {
	t.Parallel()
	p, clock := newTokens(t)
	first := must(t)(p.ForNewConnection())
	if parts := strings.Split(first.Bearer, "."); len(parts) != 3 {
		t.Fatalf("got %d parts, want a JWT", len(parts))
	}
	clock.move(35 * time.Minute)
	if got := must(t)(p.ForNewConnection()); got != first {
		t.Error("after 35 minutes: got another token, want the shared one")
	}
	clock.move(time.Second)
	second := must(t)(p.ForNewConnection())
	if second == first {
		t.Error("after more: got the old token for a new connection")
	}
}

func TestProviderTokenRotation(t *testing.T) {
	t.Parallel()
	p, clock := newTokens(t)
	held := must(t)(p.ForNewConnection())
	switched := clock.now()
	for range 49 {
		clock.move(time.Minute)
		if got := must(t)(p.Rotate(held, switched)); got != held {
			t.Fatalf("after %s: rotated too early", clock.now().Sub(switched))
		}
	}
	clock.move(time.Minute)
	next := must(t)(p.Rotate(held, switched))
	if next == held {
		t.Fatal("after 50 minutes: not rotated")
	}
	// A connection that has only just switched waits, whatever its token's age.
	if got := must(t)(p.Rotate(held, clock.now().Add(-19*time.Minute))); got != held {
		t.Error("19 minutes after a switch: switched again")
	}
	if got := must(t)(p.Rotate(held, clock.now().Add(-20*time.Minute))); got != next {
		t.Error("20 minutes after a switch: want the new shared token")
	}
}

// A thousand answers say that one token has expired: one new token.
func TestProviderTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	p, _ := newTokens(t)
	old := must(t)(p.ForNewConnection())
	var wg sync.WaitGroup
	got := make([]ProviderToken, 100)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = p.Replace(old); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, g := range got {
		if g == old || g != got[0] {
			t.Fatalf("got different tokens, or the old one")
		}
	}
}

// The wall clock was an hour ahead when the token was signed, and is set right:
// APNs would refuse it for an hour.
func TestProviderTokenAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	p, clock := newTokens(t)
	old := must(t)(p.ForNewConnection())
	clock.wall -= time.Hour
	if got := must(t)(p.ForNewConnection()); got == old {
		t.Error("clock set back an hour: got the token from the future")
	}
}

// The wall clock jumps ahead: the token is older for APNs than for the
// monotonic clock.
func TestProviderTokenAfterTheClockJumpedAhead(t *testing.T) {
	t.Parallel()
	p, clock := newTokens(t)
	old := must(t)(p.ForNewConnection())
	clock.wall += time.Hour
	if got := must(t)(p.ForNewConnection()); got == old {
		t.Error("clock jumped ahead an hour: got the expired token")
	}
}

// What goes wrong is told, and names the key.
func TestSigningErrorsAreTold(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProviderTokens(Credential{key: key, keyID: "KEY4567890", teamID: "TEAM567890"}, nil, nil)
	got, err := p.ForNewConnection()
	if err == nil || got.Bearer != "" || !strings.Contains(err.Error(), "KEY4567890") {
		t.Errorf("got %q, %v, want an error that names the key", got.Bearer, err)
	}
}

// The machine's clock is set, and the time of day does not follow yet: tokens are
// kept and rotated as ever, with the time of day in them.
func TestProviderTokenWhileTheMachinesClockIsWrong(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		_, clock := newTokens(t)
		machine := *clock
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p := NewProviderTokens(Credential{key: key, keyID: "KEY4567890", teamID: "TEAM567890"}, machine.now, clock.now)
		first := must(t)(p.ForNewConnection())
		switched := machine.now()
		machine.wall += step
		if got := must(t)(p.Rotate(first, switched)); got != first {
			t.Errorf("set by %s: rotated, though the time of day is as it was", step)
		}
		// A refusal says that the machine is right. One more, that it is not.
		second := must(t)(p.Replace(first))
		if d := second.IssuedAt.Sub(machine.now().Round(0)); second == first || d != 0 {
			t.Errorf("set by %s, refused: got one from %s off the machine's clock", step, d)
		}
		if got := must(t)(p.ForNewConnection()); got != second {
			t.Errorf("set by %s, accepted: got yet another one", step)
		}
		third := must(t)(p.Replace(second))
		if d := third.IssuedAt.Sub(clock.now().Round(0)); d != 0 {
			t.Errorf("set by %s, refused again: got one from %s off the time of day", step, d)
		}
		// In the end the step is followed.
		clock.wall += step
		if got := must(t)(p.ForNewConnection()); got == third || got.IssuedAt.Sub(machine.now().Round(0)) != 0 {
			t.Errorf("set by %s, followed: got a token from another time", step)
		}
	}
}
