package worker

import "sync"

// spare keeps slices that are done with, for whoever needs one of about that size
// next. It is safe for concurrent use; its zero value is empty.
//
// What a batch needs while it is looked up and sent was a fifth of all that a worker
// allocated, in pieces of a hundred kilobytes.
type spare[T any] struct{ pool sync.Pool } // of *[]T

// take returns an empty slice with room for n.
func (s *spare[T]) take(n int) []T {
	p, ok := s.pool.Get().(*[]T)
	if ok && n <= cap(*p) {
		if cap(*p) <= 4*n+64 {
			return (*p)[:0]
		}
		// Many small batches that wait for a slow APNs must not hold the memory of as
		// many large ones.
		s.pool.Put(p)
	}
	return make([]T, 0, n)
}

// put takes a slice back, of which nothing may be used any more.
func (s *spare[T]) put(used []T) {
	clear(used)
	s.pool.Put(&used)
}
