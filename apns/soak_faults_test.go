//go:build soak

package apns_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

const (
	// soakKillsPerMinute is how many connections the faults end, on average: less
	// than the client may open again, or nothing would be sent at all.
	soakKillsPerMinute = 14
	soakKillsAtOnce    = 2
	soakActEvery       = 600 * time.Millisecond // on average
	soakMixEvery       = 2500 * time.Millisecond
)

// faulter injects faults into the simulator: by rules, a new mix of them every
// few seconds, and by actions on single connections.
//
// It leaves out what lies, because the client can do nothing about that:
// REFUSED_STREAM after processing, and answers before a request's end, whose
// rest then never comes.
type faulter struct {
	s     *soak
	rng   *rand.Rand
	kills float64 // how many connections may be ended now
	due   []undo  // what is to be undone, in no order
}

type undo struct {
	at time.Time
	do func()
}

func newFaulter(s *soak, rng *rand.Rand) *faulter {
	return &faulter{s: s, rng: rng, kills: soakKillsAtOnce}
}

func (f *faulter) count(name string) { f.s.faults[name]++ }

// run injects until ctx ends.
func (f *faulter) run(ctx context.Context) {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var nextAct, nextMix, nextLook time.Time
	last := time.Now()
	f.halfOpen(ctx, last)
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		f.kills = min(soakKillsAtOnce, f.kills+now.Sub(last).Minutes()*soakKillsPerMinute)
		last = now
		f.undo(func(u undo) bool { return !u.at.After(now) })
		if now.After(nextMix) {
			nextMix = now.Add(f.spread(soakMixEvery))
			f.mix()
		}
		if now.After(nextAct) {
			nextAct = now.Add(f.spread(soakActEvery))
			f.act(ctx, now)
		}
		if now.After(nextLook) {
			nextLook = now.Add(time.Second)
			f.s.look()
		}
	}
}

// storm ends all connections, again and again, until ctx ends.
func (f *faulter) storm(ctx context.Context) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.s.look()
		id := f.connection()
		switch {
		case i%20 == 0:
			// Connections that end before they are of use make the client wait longer.
			var fs apnstest.Faults
			if f.chance(3) {
				f.count("storm: connections refused")
				fs.Connections = []apnstest.ConnectionFault{{Probability: 0.5, Refuse: true}}
			}
			if err := f.s.srv.SetFaults(fs); err != nil {
				f.s.violate("set faults: %v", err)
			}
		case id == 0:
		case f.chance(2):
			f.count("storm: close")
			f.do(apnstest.Action{Close: pick(f, "rst", "fin", "tls")}, id)
		default:
			f.count("storm: goaway")
			g, _ := f.goAway()
			f.do(apnstest.Action{GoAway: &g}, id)
		}
	}
}

// heal ends all faults.
func (f *faulter) heal() {
	if err := f.s.srv.SetFaults(apnstest.Faults{}); err != nil {
		f.s.violate("clear faults: %v", err)
	}
	f.undo(func(undo) bool { return true })
	f.do(apnstest.Action{Thaw: true})
	f.do(apnstest.Action{Settings: &apnstest.Settings{
		MaxConcurrentStreams: new(uint32(1000)), InitialWindowSize: new(uint32(65535)), HeaderTableSize: new(uint32(4096)),
	}})
}

func (f *faulter) undo(ready func(undo) bool) {
	var now []undo
	f.due = slices.DeleteFunc(f.due, func(u undo) bool {
		if ready(u) {
			now = append(now, u)
			return true
		}
		return false
	})
	for _, u := range now {
		u.do()
	}
}

// spread returns between a half of d and one and a half.
func (f *faulter) spread(d time.Duration) time.Duration {
	return d/2 + time.Duration(f.rng.Int64N(int64(d)))
}

func (f *faulter) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.rng.Int64N(int64(most-least)))
}

func (f *faulter) chance(oneIn int) bool { return f.rng.IntN(oneIn) == 0 }

func pick[T any](f *faulter, of ...T) T { return of[f.rng.IntN(len(of))] }

func (f *faulter) do(a apnstest.Action, ids ...uint64) {
	if _, err := f.s.srv.Do(a, ids...); err != nil {
		f.s.violate("act: %v", err)
	}
}

// kill reports whether a connection may be ended, and takes that into account.
func (f *faulter) kill() bool {
	if f.kills < 1 {
		return false
	}
	f.kills--
	return true
}

// connection returns the id of an open connection, 0 if there is none.
func (f *faulter) connection() uint64 {
	var open []uint64
	for _, c := range f.s.srv.Connections() {
		if c.ClosedAt.IsZero() {
			open = append(open, c.ID)
		}
	}
	if len(open) == 0 {
		return 0
	}
	return pick(f, open...)
}

// goAway is one of the kinds that APNs was seen to send, or may send.
func (f *faulter) goAway() (apnstest.GoAway, string) {
	var g apnstest.GoAway
	name := "goaway"
	switch f.rng.IntN(6) {
	case 0:
		name += ", last max, then close"
		g.Last, g.Then = "max", "close"
	case 1:
		name += ", last zero"
		g.Last = "zero"
	case 2:
		name += ", last k"
		g.Back = 1 + f.rng.IntN(100)
	case 3:
		name += ", two phases"
		g.TwoPhase = apnstest.Duration(f.between(time.Millisecond, 400*time.Millisecond))
		g.Back = f.rng.IntN(30)
	case 4:
		name += ", held back"
		g.Hold = 1 + f.rng.IntN(50)
	default:
		name += ", last processed"
	}
	if f.chance(4) && g.Last != "max" {
		name += ", then close"
		g.Then = "close"
	}
	switch f.rng.IntN(4) {
	case 0:
		g.Reason = pick(f, "Shutdown", "IdleTimeout", "InternalServerError")
		f.count("goaway debug data: JSON")
	case 1:
		g.Debug = "Maximum active streams violated for this endpoint."
		f.count("goaway debug data: text")
	default:
		f.count("goaway debug data: none")
	}
	g.Code = pick(f, "", "", "", "REFUSED_STREAM", "ENHANCE_YOUR_CALM", "INTERNAL_ERROR")
	return g, name
}

// halfOpen freezes a connection for as long as the client's PING needs to find
// out, if there is so much time.
func (f *faulter) halfOpen(ctx context.Context, now time.Time) {
	id := f.connection()
	if deadline, _ := ctx.Deadline(); id == 0 || deadline.Sub(now) < 40*time.Second {
		return
	}
	f.kill()
	f.count("freeze, half-open for over 30 s")
	f.do(apnstest.Action{Freeze: true}, id)
	f.due = append(f.due, undo{now.Add(f.between(31*time.Second, 40*time.Second)), func() { f.do(apnstest.Action{Thaw: true}, id) }})
}

// act does something to a connection.
func (f *faulter) act(ctx context.Context, now time.Time) {
	id := f.connection()
	if id == 0 {
		return
	}
	// lasting has a undo what was done, within the phase or at its end.
	lasting := func(least, most time.Duration, a apnstest.Action) {
		f.due = append(f.due, undo{now.Add(f.between(least, most)), func() { f.do(a, id) }})
	}
	thaw := apnstest.Action{Thaw: true}
	switch kind := f.rng.IntN(20); {
	case kind < 4:
		if !f.kill() {
			return
		}
		g, name := f.goAway()
		f.count(name)
		f.do(apnstest.Action{GoAway: &g}, id)
	case kind < 6:
		if !f.kill() {
			return
		}
		how := pick(f, "rst", "rst", "fin", "tls")
		f.count("close " + how)
		f.do(apnstest.Action{Close: how}, id)
	case kind < 8:
		f.count("freeze and thaw")
		f.do(apnstest.Action{Freeze: true}, id)
		lasting(50*time.Millisecond, 6*time.Second, thaw)
	case kind < 10:
		f.count("stop reading and go on")
		f.do(apnstest.Action{StopReading: true}, id)
		lasting(20*time.Millisecond, 5*time.Second, thaw)
	case kind == 10:
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < 15*time.Second || !f.kill() {
			return
		}
		f.count("stop reading for over 12 s")
		f.do(apnstest.Action{StopReading: true}, id)
		lasting(12*time.Second, 14*time.Second, thaw)
	case kind == 11:
		f.count("mute and speak again")
		f.do(apnstest.Action{Mute: true}, id)
		lasting(100*time.Millisecond, 6*time.Second, thaw)
	case kind < 14:
		f.count("stream limit lowered and raised")
		f.do(apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: new(pick(f, uint32(0), 1, 1, 7, 50, 300))}}, id)
		lasting(20*time.Millisecond, 3*time.Second, apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: new(pick(f, uint32(1000), 1000, 500, 1500))}})
	case kind == 14:
		f.count("stream limit flaps")
		for i := range 10 {
			n := uint32(1000)
			if i%2 == 0 {
				n = uint32(f.rng.IntN(20))
			}
			at := now.Add(time.Duration(i) * f.between(5*time.Millisecond, 60*time.Millisecond))
			f.due = append(f.due, undo{at, func() { f.do(apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: &n}}, id) }})
		}
		lasting(600*time.Millisecond, 700*time.Millisecond, apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: new(uint32(1000))}})
	case kind == 15:
		f.count("initial window zero and back")
		f.do(apnstest.Action{Settings: &apnstest.Settings{InitialWindowSize: new(uint32(0))}}, id)
		lasting(20*time.Millisecond, 3*time.Second, apnstest.Action{Settings: &apnstest.Settings{InitialWindowSize: new(uint32(65535))}})
	case kind == 16:
		f.count("initial window changes")
		f.do(apnstest.Action{Settings: &apnstest.Settings{InitialWindowSize: new(pick(f, uint32(1), 100, 5000, 1<<20, 1<<30))}}, id)
		lasting(20*time.Millisecond, 3*time.Second, apnstest.Action{Settings: &apnstest.Settings{InitialWindowSize: new(uint32(65535))}})
	case kind == 17:
		f.count("header table size changes")
		f.do(apnstest.Action{Settings: &apnstest.Settings{HeaderTableSize: new(pick(f, uint32(0), 100, 1000, 4096, 65536))}}, id)
	case kind == 18:
		f.count("PING")
		f.do(apnstest.Action{Ping: true}, id)
	default:
		f.count("frame size changes")
		f.do(apnstest.Action{Settings: &apnstest.Settings{MaxFrameSize: new(pick(f, uint32(16384), 20000, 1<<20))}}, id)
	}
}

// mix sets a new mixture of rules.
func (f *faulter) mix() {
	ms := func(n int) apnstest.Duration { return apnstest.Duration(time.Duration(n) * time.Millisecond) }
	fs := apnstest.Faults{Seed: f.rng.Uint64()}
	switch f.rng.IntN(5) {
	case 0:
	case 1:
		f.count("latency: constant and jitter")
		fs.Latency.Constant, fs.Latency.Jitter = ms(2), ms(20)
	case 2:
		f.count("latency: log-normal")
		fs.Latency.Median, fs.Latency.Sigma = ms(15), 0.8
	case 3:
		f.count("latency: tail of 1.5 s")
		fs.Latency.Constant, fs.Latency.TailShare, fs.Latency.Tail = ms(5), 0.01, ms(1500)
	case 4:
		f.count("latency: tail beyond the timeout")
		fs.Latency.Jitter, fs.Latency.TailShare, fs.Latency.Tail = ms(10), 0.002, ms(6000)
	}
	if f.chance(3) {
		f.count("device tokens that are never answered")
		fs.Latency.SilentShare = 0.003
	}
	rule := func(name string, oneIn int, r apnstest.RequestFault) {
		f.count(name)
		r.Name, r.Probability, r.Skip = name, 1/float64(oneIn), 3
		fs.Requests = append(fs.Requests, r)
	}
	if f.chance(2) {
		rule("REFUSED_STREAM before processing", 50+f.rng.IntN(400), apnstest.RequestFault{Reset: &apnstest.Reset{Code: "REFUSED_STREAM", Twice: f.chance(2)}})
	}
	if f.chance(3) {
		code := pick(f, "INTERNAL_ERROR", "CANCEL", "ENHANCE_YOUR_CALM", "PROTOCOL_ERROR", "STREAM_CLOSED", "NO_ERROR")
		rule("reset before processing", 200, apnstest.RequestFault{Reset: &apnstest.Reset{Code: code, Twice: f.chance(4)}})
	}
	if f.chance(3) {
		code := pick(f, "INTERNAL_ERROR", "CANCEL", "ENHANCE_YOUR_CALM", "NO_ERROR")
		rule("reset after processing", 200, apnstest.RequestFault{Reset: &apnstest.Reset{Code: code, When: "after", Twice: f.chance(4)}})
	}
	if f.chance(4) {
		f.s.headersOnly = true
		rule("reset after the answer's headers", 300, apnstest.RequestFault{Reset: &apnstest.Reset{Code: "INTERNAL_ERROR", When: "headers"}})
	}
	if f.chance(4) {
		rule("503 ServiceUnavailable", pick(f, 3, 50), apnstest.RequestFault{Answer: &apnstest.Answer{Status: 503, Reason: "ServiceUnavailable"}})
	}
	if f.chance(4) {
		rule("429 TooManyRequests", 100, apnstest.RequestFault{Answer: &apnstest.Answer{Status: 429, Reason: "TooManyRequests"}})
	}
	if f.chance(8) && f.kill() && f.kill() {
		rule("500 InternalServerError", pick(f, 2, 50), apnstest.RequestFault{
			Match: apnstest.Match{Connection: f.connection()}, Answer: &apnstest.Answer{Status: 500, Reason: "InternalServerError"},
		})
	}
	if f.chance(8) && f.kill() {
		rule("503 Shutdown", 5000, apnstest.RequestFault{Match: apnstest.Match{Times: 1}, Answer: &apnstest.Answer{Status: 503, Reason: "Shutdown"}})
	}
	if f.chance(4) {
		rule("requests never answered", 1000, apnstest.RequestFault{NeverAnswer: true})
	}
	if f.chance(3) && f.kill() {
		g, name := f.goAway()
		rule("by a request: "+name, 500, apnstest.RequestFault{Match: apnstest.Match{Times: 1}, Do: &apnstest.Action{GoAway: &g}})
	}
	if f.chance(5) && f.kill() {
		rule("by a request: close", 500, apnstest.RequestFault{Match: apnstest.Match{Times: 1}, Do: &apnstest.Action{Close: pick(f, "rst", "fin", "tls")}})
	}
	if f.chance(4) {
		f.count("stream limit flaps, new connections")
		fs.Streams.FlapEvery, fs.Streams.FlapTo = ms(50+f.rng.IntN(500)), uint32(1+f.rng.IntN(50))
	}
	if f.chance(4) {
		f.count("a lowered stream limit binds at once")
		fs.Streams.Strict = true
	}
	if f.chance(4) {
		f.count("errors halve the stream limit")
		fs.Score.Mode = pick(f, "halve", "one")
	}
	if f.chance(4) {
		f.count("small windows, new connections")
		fs.Flow.InitialWindow = new(pick(f, uint32(0), 1, 200))
	}
	if f.chance(4) {
		f.count("windows granted in pieces")
		fs.Flow.UpdateBytes = 500 + f.rng.IntN(5000)
	}
	if f.chance(5) && f.kill() {
		f.count("windows never granted")
		fs.Flow.Withhold = true
	}
	if f.chance(4) {
		f.count("small header tables, new connections")
		fs.Flow.TableSize = new(pick(f, uint32(0), 64, 512, 65536))
	}
	if f.chance(2) {
		f.count("unusual answers, new connections")
		fs.Responses = apnstest.ResponseFaults{
			Continuation: f.chance(2), Padding: pick(f, 0, 0, 7, 255), Informational: f.chance(3), Trailers: f.chance(3),
			SplitBody: f.chance(3), Index: f.chance(2), Unknown: f.chance(3),
		}
	}
	if f.chance(12) {
		c := apnstest.ConnectionFault{Times: 1}
		switch f.rng.IntN(4) {
		case 0:
			f.count("next connection refused")
			c.Refuse = true
		case 1:
			f.count("next connection: TLS stalls")
			c.StallHandshake = true
		case 2:
			f.count("next connection: no SETTINGS")
			c.NoSettings = true
		default:
			f.count("next connection: GOAWAY soon")
			g, _ := f.goAway()
			c.After, c.Do = ms(f.rng.IntN(300)), &apnstest.Action{GoAway: &g}
		}
		fs.Connections = append(fs.Connections, c)
	}
	if err := f.s.srv.SetFaults(fs); err != nil {
		f.s.violate("set faults: %v", err)
	}
}
