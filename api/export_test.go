package api

// Looks is how many looks at the counts are remembered.
func (m *Meter) Looks() int { return len(m.looks) }
