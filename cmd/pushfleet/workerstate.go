package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pushfleet/pushfleet/stream"
)

// workerState is what the probes of a worker process know of it: at first nothing but
// why JetStream is not reached yet. It is safe for concurrent use.
type workerState struct {
	mu      sync.Mutex
	streams *stream.Streams // guarded by mu: nil until JetStream is reached
	fleet   *fleet          // guarded by mu: the same
	failure error           // guarded by mu: of the last try to reach it
}

var errJoins = errors.New("has not reached JetStream yet")

func (s *workerState) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

func (s *workerState) reached(streams *stream.Streams, f *fleet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams, s.fleet = streams, f
}

func (s *workerState) look() (*stream.Streams, *fleet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams, s.fleet, s.failure
}

// queue returns nil until JetStream is reached.
func (s *workerState) queue() *stream.Streams {
	streams, _, _ := s.look()
	return streams
}

// ready returns nil while the worker takes jobs.
func (s *workerState) ready(ctx context.Context) error {
	streams, f, err := s.look()
	switch {
	case f != nil:
		return errors.Join(f.worker.Ready(), streams.Ready(ctx))
	case err != nil:
		return fmt.Errorf("%w: %w", errJoins, err)
	}
	return errJoins
}

// notes are lines about what the worker works with all the same.
func (s *workerState) notes() []string {
	_, f, _ := s.look()
	if f == nil {
		return nil
	}
	return slices.Concat(f.fuse.Notes(), f.worker.Notes(), f.clock.Notes())
}
