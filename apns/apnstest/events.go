package apnstest

import (
	"sync"
	"time"
)

// Event is something that a fault or an action did.
type Event struct {
	At         time.Time `json:"at"`
	Connection uint64    `json:"connection,omitempty"` // 0: the server
	Stream     uint32    `json:"stream,omitempty"`     // 0: the connection
	Rule       string    `json:"rule,omitempty"`       // the fault's name
	What       string    `json:"what"`
}

// maxEvents bounds the log of events: faults may act on every request.
const maxEvents = 10_000

// eventLog keeps the newest events. Safe for concurrent use.
type eventLog struct {
	mu   sync.Mutex
	list []Event
}

func (l *eventLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = nil
}

func (s *Server) event(conn uint64, stream uint32, rule, what string) {
	e := Event{At: s.cfg.Now(), Connection: conn, Stream: stream, Rule: rule, What: what}
	s.cfg.Logger.Debug("fault", "connection", conn, "stream", stream, "rule", rule, "what", what)
	l := &s.events
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= maxEvents {
		l.list = append(l.list[:0:0], l.list[maxEvents/10:]...)
	}
	l.list = append(l.list, e)
}

// Events returns what faults and actions did, the last ten thousand times, in
// order.
func (s *Server) Events() []Event {
	l := &s.events
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.list...)
}
