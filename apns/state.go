package apns

// State is what a client does at one moment.
type State struct {
	Connections int // that take notifications
	Wanted      int // that there are to be; 0: nothing was sent yet
	InFlight    int // requests that wait for an answer

	// Stopped is set while APNs refuses the credential, and nothing is sent.
	Stopped *RouteError
	// Dial is why the last attempt to connect failed; nil if it did not.
	Dial error

	// Answered is how many answers came since the client was made, and AnsweredWithin
	// how many of those took no longer than so many seconds.
	Answered       uint64
	AnsweredWithin map[float64]uint64
}

// State says what the client does now. It is cheap enough to be asked every second.
func (c *Client) State() State {
	p := c.pool
	var st State
	p.mu.Lock()
	st.Wanted, st.Dial = p.target, p.lastErr
	if stopped := p.credentials.stopped; stopped != nil && p.cfg.Now().Before(stopped.Until) {
		st.Stopped = stopped
	}
	for _, l := range p.links {
		st.InFlight += l.conn.Stats().Open
		if l.usable() {
			st.Connections++
		}
	}
	p.mu.Unlock()
	st.Answered, _, st.AnsweredWithin = p.latencies.Snapshot()
	return st
}
