package worker

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/pushfleet/pushfleet/job"
)

func TestRoomIsShared(t *testing.T) {
	t.Parallel()
	r := newRoom(1000)
	ctx := context.Background()
	bulk, other, urgent := &holder{lane: job.Bulk}, &holder{lane: job.Bulk}, &holder{lane: job.Transactional}

	// Alone, one gets half of what is not reserved; the next half of what is left.
	for _, step := range []struct {
		name       string
		h          *holder
		most, want int
	}{
		{"asks for little", bulk, 300, 300},
		{"holds 300, leaves 600: may hold 150 more", bulk, 1000, 150},
		{"holds as much as it leaves, but for the reserve", other, 1000, 225},
		{"transactional, out of the reserve too", urgent, 1000, 162},
	} {
		if n, err := r.take(ctx, step.h, 1, step.most); n != step.want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", step.name, n, err, step.want)
		}
	}
	if got := r.inUse(); got != 837 {
		t.Errorf("in use: got %d, want 837", got)
	}
}

func TestRoomWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1000)
		h := &holder{lane: job.Bulk}
		if n, err := r.take(t.Context(), h, 600, 600); n != 600 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		got := make(chan int)
		go func() {
			n, _ := r.take(t.Context(), h, 200, 200)
			got <- n
		}()
		synctest.Wait()
		select {
		case n := <-got:
			t.Fatalf("took %d while there was no room", n)
		default:
		}
		r.adjust(h, -600)
		if n := <-got; n != 200 {
			t.Errorf("after room was given back: got %d, want 200", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.take(ctx, h, 5000, 5000); err == nil {
			t.Error("take after cancel: got no error")
		}
	})
}
