package apnstest

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"golang.org/x/net/http2"
)

// holding is a GOAWAY that waits for requests which it will not cover.
type holding struct {
	g    *GoAway
	left int
}

// Do does a to the open connections with the given ids, or to all open ones if
// there are none. It returns to how many. Safe for concurrent use.
func (s *Server) Do(a Action, ids ...uint64) (int, error) {
	if err := a.check(); err != nil {
		return 0, fmt.Errorf("do: %w", err)
	}
	s.mu.Lock()
	var conns []*conn
	if len(ids) == 0 {
		for _, c := range s.conns {
			conns = append(conns, c)
		}
	}
	for _, id := range ids {
		if c := s.conns[id]; c != nil {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.work.Lock()
		c.tick()
		s.event(c.id, 0, "", a.what())
		c.act(&a)
		c.publish()
		c.work.Unlock()
	}
	return len(conns), nil
}

// what says in a few words what an action does.
func (a *Action) what() string {
	switch {
	case a.GoAway != nil:
		return "goaway"
	case a.Close != "":
		return "close " + a.Close
	case a.Freeze:
		return "freeze"
	case a.StopReading:
		return "stop reading"
	case a.Thaw:
		return "thaw"
	case a.Mute:
		return "mute"
	case a.Settings != nil:
		return "settings"
	case a.Wedge:
		return "wedge"
	case a.Ping:
		return "ping"
	default:
		return "raw"
	}
}

// act does an action. work is held.
func (c *conn) act(a *Action) {
	switch {
	case a.GoAway != nil:
		c.startGoAway(a.GoAway, 0)
	case a.Close == "rst":
		c.halted = true
		c.end("reset by the server", true)
	case a.Close != "":
		c.ignoreAbove = 0
		c.finishAt(c.now, true, a.Close == "fin", a.what())
	case a.Freeze:
		c.halted = true
		c.readGate.shut()
		c.writeGate.shut()
	case a.StopReading:
		c.halted = true
		c.readGate.shut()
	case a.Thaw:
		c.mu.Lock()
		c.mute = false
		c.mu.Unlock()
		c.readGate.open()
		c.writeGate.open()
		c.signal()
	case a.Mute:
		c.mu.Lock()
		c.mute = true
		c.mu.Unlock()
	case a.Settings != nil:
		c.sendSettings(*a.Settings)
	case a.Wedge:
		c.wedged = true
	case a.Ping:
		c.control = appendFrame(c.control, http2.FramePing, 0, 0, []byte("apnstest"))
	default:
		c.control = append(c.control, a.Raw...)
	}
}

// finishAt has the writer close the connection at a time, or as soon as all is
// answered; mute holds the answers back.
func (c *conn) finishAt(at int64, mute, noNotify bool, why string) {
	c.publish() // what was decided before
	c.mu.Lock()
	c.draining, c.drainBy = true, at
	c.mute = c.mute || mute
	c.noNotify = noNotify
	if c.why == "" {
		c.why = why
	}
	c.mu.Unlock()
	c.signal()
}

// startGoAway begins what a GoAway says. trigger is the stream whose request is
// not to be processed, 0 if there is none.
func (c *conn) startGoAway(g *GoAway, trigger uint32) {
	if g.TwoPhase > 0 {
		first := *g
		first.Last, first.Then, first.TwoPhase = "max", "stay", 0
		c.sendGoAway(&first)
		second := *g
		second.TwoPhase = 0
		c.after(time.Duration(g.TwoPhase), func() { c.startGoAway(&second, 0) })
		return
	}
	left := g.Hold
	if trigger != 0 {
		c.local.faulted++
		c.ignoreAbove = min(c.ignoreAbove, trigger-1)
		left--
	} else if left > 0 {
		c.ignoreAbove = min(c.ignoreAbove, c.maxID)
	}
	if left > 0 {
		c.hold = &holding{g: g, left: left}
		return
	}
	c.sendGoAway(g)
}

// ignored counts a request that a GOAWAY excludes.
func (c *conn) ignored() {
	c.local.faulted++
	if c.hold == nil {
		return
	}
	if c.hold.left--; c.hold.left <= 0 {
		g := c.hold.g
		c.hold = nil
		c.sendGoAway(g)
	}
}

func (c *conn) sendGoAway(g *GoAway) {
	last := c.judgedID
	switch g.Last {
	case "max":
		last = math.MaxInt32
	case "zero":
		last = 0
	default:
		last -= min(last, 2*uint32(g.Back))
	}
	if last != math.MaxInt32 {
		c.ignoreAbove = last
		c.withdrawAbove(last)
	}
	debug := []byte(g.Debug)
	if g.Reason != "" {
		debug, _ = json.Marshal(map[string]string{"reason": g.Reason}) // strings always encode
	}
	code, _ := errorCode(g.Code) // checked when it was set
	c.local.goAways++
	c.control = appendGoAway(c.control, last, code, debug)
	switch g.Then {
	case "stay":
	case "close":
		c.finishAt(c.now, true, false, "goaway")
	default:
		c.finishAt(c.now+int64(drainTime), false, false, "goaway")
	}
}

// withdrawAbove disowns what was taken on streams above last.
func (c *conn) withdrawAbove(last uint32) {
	c.publish() // all answers are in the queue then
	c.mu.Lock()
	gone := c.queue.takeAbove(last)
	over := len(gone)
	for i := c.enc.firstBlockedAbove(last); i >= 0; i = c.enc.firstBlockedAbove(last) {
		c.enc.unblock(c.enc.blocked[i].stream)
		over++
	}
	c.mu.Unlock()
	c.closed.Add(int64(over))
	c.srv.inFlight.Add(-int64(over))
	for i := range gone {
		c.withdraw(&gone[i])
	}
	for stream, p := range c.parts {
		if stream > last {
			c.unpart(stream, p)
			if !p.answered {
				c.opened--
				c.local.faulted++
			}
		}
	}
}

// withdraw takes an answer's request out of all counts.
func (c *conn) withdraw(a *answer) {
	l := &c.local
	l.received--
	l.faulted++
	if a.counted {
		l.accepted--
		l.withdrawn++
		l.tokens -= a.tokenHash
		l.pairs -= a.pairHash
		l.content -= a.contentHash
		if a.duplicate {
			l.duplicates--
		} else if a.pairHash != 0 {
			c.srv.pairs.remove(a.pairHash)
		}
	} else {
		if l.rejected == nil {
			l.rejected = make(map[*outcome]int64)
		}
		l.rejected[a.out]--
	}
	if a.rec != nil {
		c.srv.ledger.withdraw(a.rec)
	}
	if c.srv.cfg.Journal != nil {
		c.srv.cfg.Journal.write(appendWithdrawn(nil, c.id, a.stream))
	}
}
