package worker

import (
	"context"
	"sync"

	"github.com/pushfleet/pushfleet/job"
)

// room is how many notifications a worker may hold, and who holds them. A
// holder is one app's lane. It may hold at most as much as it leaves free: so one
// that does not get rid of its own, because its APNs is down, ends at half of what
// the others leave, and never at all of it.
type room struct {
	mu       sync.Mutex // guards what follows
	capacity int
	reserve  int // of capacity, for transactional only
	used     int
	freed    chan struct{} // closed and replaced when room is given back
}

// holder is one app's lane in a room.
type holder struct {
	lane job.Lane
	held int // guarded by room.mu
	// grown is how much of held came on top of what was admitted: users and installs
	// that have many devices. Guarded by room.mu.
	grown int
	// expanding is held by whoever looks up a long list of users or installs.
	expanding chan struct{}
}

func newHolder(lane job.Lane) *holder {
	return &holder{lane: lane, expanding: make(chan struct{}, 1)}
}

func newRoom(capacity int) *room {
	return &room{capacity: capacity, reserve: capacity / 10, freed: make(chan struct{})}
}

// resize changes how many may be held. What is held above that is not taken back.
func (r *room) resize(capacity int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.capacity, r.reserve = capacity, capacity/10
	r.tell()
}

// tell wakes who waits for room; r.mu is held.
func (r *room) tell() {
	close(r.freed)
	r.freed = make(chan struct{})
}

// take waits until h may hold at least least more, and takes up to most.
func (r *room) take(ctx context.Context, h *holder, least, most int) (int, error) {
	for {
		r.mu.Lock()
		free := r.capacity - r.used
		if h.lane == job.Bulk {
			free -= r.reserve
		}
		n := min(most, (free-h.held)/2)
		// Who holds nothing gets one message's worth as soon as it fits at all: a
		// message larger than half the room must not wait for ever.
		if n < least && h.held == 0 && least <= free {
			n = least
		}
		if n >= least {
			h.held += n
			r.used += n
			r.mu.Unlock()
			return n, nil
		}
		freed := r.freed
		r.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// adjust changes what h holds by delta, without waiting: what was taken on an
// estimate turned out to be more or less.
func (r *room) adjust(h *holder, delta int) {
	if delta == 0 {
		return
	}
	r.mu.Lock()
	h.held += delta
	r.used += delta
	if delta < 0 {
		r.tell()
	}
	r.mu.Unlock()
}

// release gives back what a message held.
func (r *room) release(h *holder, cost, grown int) {
	r.mu.Lock()
	h.grown -= grown
	r.mu.Unlock()
	r.adjust(h, -cost)
}

// grow changes what h holds by what a message turned out to be.
func (r *room) grow(h *holder, delta int) {
	r.mu.Lock()
	h.grown += delta
	r.mu.Unlock()
	r.adjust(h, delta)
}

// overgrown reports whether more is held than there is room for because h has
// grown, and what is closed when that may have changed.
func (r *room) overgrown(h *holder) (bool, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return h.grown > 0 && r.used > r.capacity, r.freed
}

// inUse returns how many notifications are held.
func (r *room) inUse() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}
