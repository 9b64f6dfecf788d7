package worker

import (
	"sync"
	"time"
)

// A lane of which brakeAfter messages in a row were handed back with nothing
// settled is taken from only a little at a time, every brakePause: its fuse has
// tripped, its route is stopped, its APNs is down. Else a backlog would be taken,
// looked up and handed back at full speed, at the cost of everybody else, and again
// when its delay is over. The first message that gets somewhere lets go.
const (
	brakeAfter = 64
	brakePause = 250 * time.Millisecond
)

// brake counts what a lane took in vain. The zero value is let go.
type brake struct {
	mu     sync.Mutex
	inVain int // guarded by mu: in a row
}

// wasted notes that a message went back and nothing of it was settled.
func (b *brake) wasted() {
	b.mu.Lock()
	b.inVain++
	b.mu.Unlock()
}

// gotSomewhere notes that a recipient was settled.
func (b *brake) gotSomewhere() {
	b.mu.Lock()
	b.inVain = 0
	b.mu.Unlock()
}

func (b *brake) isOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inVain >= brakeAfter
}
