package worker_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/worker"
)

func TestSpareLendsNothingOfBeforeAndNoMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	var s worker.Spare
	for range 100 { // the pool drops what it likes
		for _, n := range []int{1000, 1, 300, 0, 4000} {
			got := s.Take(n)
			if len(got) != 0 || cap(got) < n || cap(got) > 4*n+64 {
				t.Fatalf("take %d: got %d of %d, want none of %d to %d", n, len(got), cap(got), n, 4*n+64)
			}
			got = got[:cap(got)]
			for i, v := range got {
				if v != 0 {
					t.Fatalf("take %d: got %d at %d, want nothing of before", n, v, i)
				}
				got[i] = n + 1
			}
			s.Put(got)
		}
	}
}
