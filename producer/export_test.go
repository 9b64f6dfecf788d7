package producer

import "github.com/pushfleet/pushfleet/stream"

// Seen is what remembers the recipients of a file, the first most of them.
type Seen struct{ seen }

// NewSeen returns one.
func NewSeen(most int) *Seen { return &Seen{seen{most: most}} }

// Again reports whether a hash was there before, and remembers it.
func (s *Seen) Again(h uint64) bool { return s.again(h) }

// Bytes returns how much memory it takes.
func (s *Seen) Bytes() int { return 8 * len(s.slots) }

// WaitsFrom returns where in OUTCOMES a wait for jobs begins.
func WaitsFrom(receipts ...Receipt) stream.Start { return newWaiting(receipts).start }
