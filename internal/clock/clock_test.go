package clock_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/internal/clock"
	"github.com/pushfleet/pushfleet/internal/clock/clocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func setup(t *testing.T) (*clocktest.System, *clock.Clock) {
	t.Helper()
	sys := clocktest.New()
	return sys, clock.New(clock.Config{System: sys.Read})
}

// want checks the clock against the true time.
func want(t *testing.T, what string, c *clock.Clock, at time.Time) {
	t.Helper()
	if d := c.Now().Round(0).Sub(at.Round(0)); d.Abs() > time.Second {
		t.Errorf("%s: got %s off", what, d)
	}
}

func TestStepIsFollowedWhenItLasts(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{time.Hour, -time.Hour, 2 * time.Second, -365 * 24 * time.Hour} {
		sys, c := setup(t)
		before := sys.Wall()
		sys.Step(step)
		want(t, "at once", c, before)
		sys.Pass(9 * time.Minute)
		want(t, "after nine minutes", c, before.Add(9*time.Minute))
		if ahead := c.Ahead(); ahead != step {
			t.Errorf("ahead: got %s, want %s", ahead, step)
		}
		if notes := c.Notes(); len(notes) != 1 || !strings.Contains(notes[0], step.String()) {
			t.Errorf("notes: got %q, want the step in it", notes)
		}
		sys.Pass(time.Minute)
		want(t, "after ten minutes", c, sys.Wall())
		if ahead, notes := c.Ahead(), c.Notes(); ahead != 0 || notes != nil {
			t.Errorf("after ten minutes: got %s ahead, notes %q", ahead, notes)
		}
	}
}

func TestStepIsUndone(t *testing.T) {
	t.Parallel()
	sys, c := setup(t)
	sys.Step(time.Hour)
	c.Now()
	sys.Pass(5 * time.Minute)
	c.Now()
	sys.Step(-time.Hour)
	want(t, "undone", c, sys.Wall())
	sys.Pass(time.Hour)
	want(t, "later", c, sys.Wall())
}

// A second step begins the ten minutes anew.
func TestStepAfterStep(t *testing.T) {
	t.Parallel()
	sys, c := setup(t)
	start := sys.Wall()
	sys.Step(time.Hour)
	c.Now()
	sys.Pass(9 * time.Minute)
	c.Now()
	sys.Step(time.Hour)
	c.Now()
	sys.Pass(9 * time.Minute)
	want(t, "nine minutes after the second", c, start.Add(18*time.Minute))
	sys.Pass(time.Minute)
	want(t, "ten minutes after it", c, sys.Wall())
}

// NTP slews half a second in 1000: a day of it is followed as it comes, though it
// is 43 seconds.
func TestSlewIsFollowed(t *testing.T) {
	t.Parallel()
	for _, slew := range []time.Duration{500 * time.Microsecond, -500 * time.Microsecond} {
		sys, c := setup(t)
		for range 86_400 {
			sys.Pass(time.Second)
			sys.Step(slew)
			if ahead := c.Ahead(); ahead != 0 {
				t.Fatalf("slew of %s: taken for a step of %s", slew, ahead)
			}
		}
		want(t, "after a day", c, sys.Wall())
	}
}

// A difference of times is right across a step, and monotonic as a rule.
func TestDifferences(t *testing.T) {
	t.Parallel()
	sys, c := setup(t)
	first := c.Now()
	sys.Pass(time.Minute)
	sys.Step(-time.Hour)
	if d := c.Now().Sub(first); d != time.Minute {
		t.Errorf("over the step: got %s, want a minute", d)
	}
	if now := clock.New(clock.Config{}).Now(); now == now.Round(0) {
		t.Errorf("now: got %v, want the monotonic clock with it", now)
	}
}

func TestRunNoticesByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys, c := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		sys.Step(time.Hour)
		time.Sleep(2 * time.Second) // of the bubble: Run has compared
		synctest.Wait()
		sys.Pass(10 * time.Minute)
		// Ten minutes after it was noticed, not after it was first asked for.
		if ahead := c.Ahead(); ahead != 0 {
			t.Errorf("ahead: got %s, want it followed", ahead)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestNowAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts the allocations of the process
	c := clock.New(clock.Config{Adopt: time.Hour})
	if got := testing.AllocsPerRun(100, func() { c.Now() }); got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

func BenchmarkNow(b *testing.B) {
	c := clock.New(clock.Config{})
	b.ReportAllocs()
	for b.Loop() {
		_ = c.Now()
	}
}
