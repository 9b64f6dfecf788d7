package api

import "time"

// Looks is how many looks at the counts are remembered.
func (m *Meter) Looks() int { return len(m.looks) }

// SetWorkTime says how long requests go on with further dead letters.
func (a *API) SetWorkTime(d time.Duration) { a.workTime = d }
