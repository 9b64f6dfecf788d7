// Package clock is the door through which a process gets the time of day.
//
// The machine's wall clock may be set: by hand, by a virtual machine that is
// moved, by NTP after a bad answer. What is decided by the time of day (whether a
// job has expired, when the next try is due, when a provider token was issued)
// must not follow such a step at once: an hour ahead, everything would expire.
//
//	follows the wall clock ── step ──► runs on the monotonic clock
//	         ▲                             │          │
//	         ├──── the step is undone ─────┘          │
//	         └──── it has lasted for 10 minutes ──────┘
//
// Durations need no door: [time.Now] and [time.Since] use the monotonic clock.
package clock

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

const (
	// tolerance is the difference between wall and monotonic clock, since they were
	// last compared, that is taken for the slewing of NTP: that is half a second in
	// 1000 at most, and they are compared every second.
	tolerance = time.Second
	// defaultAdopt: choice: longer than what corrects itself (a wrong answer of an NTP
	// server, a machine that is moved), and shorter than a provider token with a wrong
	// time of issue lives.
	defaultAdopt = 10 * time.Minute
	// compareEvery is how often the clocks are compared at least.
	compareEvery = time.Second
)

// Reading is what a machine's clocks show at a moment.
type Reading struct {
	Wall      time.Time
	Monotonic time.Duration // since some beginning
}

// Config describes a [Clock]. Its zero value is good.
type Config struct {
	// System reads the machine's clocks; nil: by time.Now.
	System func() Reading
	// Adopt is how long a step must last before it is followed; 0: 10 minutes.
	Adopt   time.Duration
	Logger  *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
}

// Clock tells the time of day. It is safe for concurrent use. It takes the
// machine's time at its start for right.
type Clock struct {
	system func() Reading
	adopt  time.Duration
	log    *zap.Logger
	steps  prometheus.Counter

	state atomic.Pointer[state]
}

// state is where the clocks were when they were last compared.
type state struct {
	at    Reading
	ahead time.Duration // the machine's wall clock less ours: a step that is not followed
	since time.Duration // monotonic: when that began
}

// New returns a clock.
func New(cfg Config) *Clock {
	if cfg.System == nil {
		start := time.Now()
		cfg.System = func() Reading {
			now := time.Now()
			return Reading{Wall: now, Monotonic: now.Sub(start)}
		}
	}
	if cfg.Adopt == 0 {
		cfg.Adopt = defaultAdopt
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	c := &Clock{
		system: cfg.System, adopt: cfg.Adopt, log: cfg.Logger.Named("clock"),
		steps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushfleet_clock_steps_total",
			Help: "How often the machine's wall clock was set while the process ran.",
		}),
	}
	c.state.Store(&state{at: c.system()})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(c.steps, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pushfleet_clock_ahead_seconds",
			Help: "How far the machine's wall clock is ahead of the time that the process goes by; 0 but for the first minutes after it was set.",
		}, func() float64 { return c.Ahead().Seconds() }))
	}
	return c
}

// Now returns the time of day. The difference of two of its times is monotonic,
// unless one of them is from while a step was not followed: then it is that of the
// times of day.
func (c *Clock) Now() time.Time {
	now, st := c.look()
	if st.ahead == 0 {
		return now.Wall
	}
	// Without the monotonic clock, which cannot be had with another wall clock.
	return now.Wall.Round(0).Add(-st.ahead)
}

// Ahead returns how far the machine's wall clock is ahead of [Clock.Now].
func (c *Clock) Ahead() time.Duration {
	_, st := c.look()
	return st.ahead
}

// look compares the clocks. It is called several times for every notification, and
// makes a new state only where it keeps one.
func (c *Clock) look() (Reading, *state) {
	for {
		was := c.state.Load()
		now := c.system()
		elapsed := now.Monotonic - was.at.Monotonic
		step := now.Wall.Round(0).Sub(was.at.Wall.Round(0)) - elapsed
		ahead, since := was.ahead, was.since
		switch {
		case step.Abs() > tolerance:
			if ahead += step; ahead.Abs() <= tolerance {
				ahead = 0
			}
			since = now.Monotonic
		case was.ahead != 0 && now.Monotonic-was.since >= c.adopt:
			ahead = 0
		case elapsed < compareEvery && elapsed >= 0:
			return now, was
		}
		next := &state{at: now, ahead: ahead, since: since}
		if c.state.CompareAndSwap(was, next) {
			c.tell(was, next, step)
			return now, next
		}
	}
}

// tell logs what has changed.
func (c *Clock) tell(was, now *state, step time.Duration) {
	switch {
	case step.Abs() > tolerance:
		c.steps.Inc()
		if now.ahead == 0 {
			c.log.Warn("the machine's clock was set back to where it was", zap.Duration("step", step))
			return
		}
		c.log.Error("the machine's clock was set: it is followed when that has lasted",
			zap.Duration("step", step), zap.Duration("ahead", now.ahead), zap.Duration("followed_after", c.adopt))
	case was.ahead != 0 && now.ahead == 0:
		c.log.Warn("follows the machine's clock again", zap.Duration("step", was.ahead))
	}
}

// Notes says in a line that the machine's clock was set, for people; nothing, if it
// was not.
func (c *Clock) Notes() []string {
	ahead := c.Ahead()
	if ahead == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the machine's clock was set: it is %s ahead of what this process goes by; it is followed when that has lasted for %s", ahead.Round(time.Second), c.adopt)}
}

// Run compares the clocks until ctx ends, so that a step is noticed, and told,
// while nobody asks for the time. It returns nil.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.look()
		case <-ctx.Done():
			return nil
		}
	}
}
