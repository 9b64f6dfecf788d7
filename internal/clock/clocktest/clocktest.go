// Package clocktest is a machine's clock that tests move and set.
package clocktest

import (
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/internal/clock"
)

// System is a machine's wall clock and monotonic clock. It is safe for concurrent
// use.
type System struct {
	started time.Time // zero: it stands still

	mu   sync.Mutex
	wall time.Time     // guarded by mu
	mono time.Duration // guarded by mu
}

// New returns a machine whose clock shows the present time, and stands still unless
// it is moved.
func New() *System { return &System{wall: time.Now().Round(0)} }

// Running returns a machine whose clock shows the present time, and goes on.
func Running() *System {
	now := time.Now()
	return &System{started: now, wall: now.Round(0)}
}

// Read implements [clock.Config.System].
func (s *System) Read() clock.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	passed := time.Duration(0)
	if !s.started.IsZero() {
		passed = time.Since(s.started)
	}
	return clock.Reading{Wall: s.wall.Add(passed), Monotonic: s.mono + passed}
}

// Wall returns what the wall clock shows.
func (s *System) Wall() time.Time { return s.Read().Wall }

// Pass lets time pass.
func (s *System) Pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wall, s.mono = s.wall.Add(d), s.mono+d
}

// Step sets the wall clock ahead, or back, without any time passing.
func (s *System) Step(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wall = s.wall.Add(d)
}
