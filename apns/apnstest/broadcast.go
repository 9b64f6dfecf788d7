package apnstest

import "sync"

// channel is a broadcast channel.
type channel struct {
	policy int
}

// channels are those of a server, by bundle id and channel id. Safe for
// concurrent use.
type channels struct {
	mu sync.Mutex
	m  map[string]map[string]*channel
}

func (ch *channels) reset() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	clear(ch.m)
}

// channelRequest handles broadcasts and channel management.
func (c *conn) channelRequest(a *answer, r *request, body []byte, length int) {
	a.out = c.srv.outcomes.fixed[badPath]
	c.account(a, r, nil, body, length)
	c.decide(a, nil, false)
}
