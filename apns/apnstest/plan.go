package apnstest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/net/http2"
)

// plan is Faults with what can be worked out once. It is immutable but for the
// counts of what has acted.
type plan struct {
	faults      Faults
	since       int64 // monotonic: From and Until count from here
	requests    []*requestRule
	conns       []*connRule
	revoked     map[string]bool
	silentShare float64
	scores      bool
	constant    int64
	random      bool
}

type requestRule struct {
	*RequestFault
	index  int
	out    *outcome // of Answer
	reset  *special // of Reset, after judging
	before bool     // Reset comes before judging
	code   http2.ErrCode
	prefix []byte // lower-case hex digits
	topic  []byte
	acted  atomic.Int64
}

type connRule struct {
	*ConnectionFault
	index int
	acted atomic.Int64
}

// Salts keep decisions about the same device token apart from each other.
const (
	silentSalt = 0x5117e47
	ruleSalt   = 0x90e5
)

// shareOf maps a hash to [0,1), differently for each salt.
func shareOf(hash, salt uint64) float64 { return float64(mix(hash^mix(salt))>>11) / (1 << 53) }

func (s *Server) compile(f Faults) (*plan, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	p := &plan{
		faults: f, since: s.mono(), revoked: make(map[string]bool),
		silentShare: f.Latency.SilentShare,
		scores:      f.Score.Mode != "" || f.Score.CloseAt > 0,
		constant:    int64(f.Latency.Constant),
		random:      f.Latency.Jitter > 0 || f.Latency.Median > 0 || f.Latency.TailShare > 0,
	}
	for _, id := range f.Auth.Revoked {
		p.revoked[id] = true
	}
	// The rules are copied: the caller may go on using its slices.
	p.faults.Requests = append([]RequestFault(nil), f.Requests...)
	p.faults.Connections = append([]ConnectionFault(nil), f.Connections...)
	for i := range p.faults.Requests {
		r := &requestRule{RequestFault: &p.faults.Requests[i], index: i}
		r.prefix = []byte(strings.ToLower(r.TokenPrefix))
		r.topic = []byte(r.Topic)
		if r.Answer != nil {
			r.out = s.outcomes.named(r.Answer.Status, r.Answer.Reason)
		}
		if r.Reset != nil {
			r.code, _ = errorCode(r.Reset.Code) // checked above
			if r.Reset.When == "after" || r.Reset.When == "headers" {
				r.reset = &special{
					reset: true, headers: r.Reset.When == "headers",
					twice: r.Reset.Twice, resetCode: uint32(r.code),
				}
			} else {
				r.before = true
			}
		}
		p.requests = append(p.requests, r)
	}
	for i := range p.faults.Connections {
		p.conns = append(p.conns, &connRule{ConnectionFault: &p.faults.Connections[i], index: i})
	}
	return p, nil
}

// SetFaults replaces all faults, those of a Config included, and starts their
// clocks and counts anew. The error names every problem; then nothing changes.
// Safe for concurrent use.
func (s *Server) SetFaults(f Faults) error {
	p, err := s.compile(f)
	if err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	s.plan.Store(p)
	s.event(0, 0, "", "faults set")
	return nil
}

// Faults returns the faults that were set last.
func (s *Server) Faults() Faults {
	f := s.plan.Load().faults
	f.Requests = append([]RequestFault(nil), f.Requests...)
	f.Connections = append([]ConnectionFault(nil), f.Connections...)
	return f
}

// latency is how long the answer to a stream takes.
func (p *plan) latency(c *conn, stream uint32) int64 {
	d := p.constant
	if p.random {
		l := &p.faults.Latency
		seed := p.dice(c.id, uint64(stream), 0)
		if l.Jitter > 0 {
			d += int64(unit(seed) * float64(l.Jitter))
		}
		if l.Median > 0 {
			d += int64(min(float64(l.Median)*math.Exp(l.Sigma*normal(mix(seed+1))), float64(time.Hour)))
		}
		if l.TailShare > 0 && unit(mix(seed+3)) < l.TailShare {
			d += int64(l.Tail)
		}
		if l.InOrder {
			c.judgeDue = max(c.judgeDue, c.now+d)
			d = c.judgeDue - c.now
		}
	}
	return d
}

// dice is a number that depends on nothing but the seed and who asks.
func (p *plan) dice(conn, n, what uint64) uint64 {
	return mix(mix(mix(p.faults.Seed^what)+conn) + n)
}

// unit maps a random number to [0,1).
func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// normal maps a random number to the normal distribution (Box-Muller).
func normal(x uint64) float64 {
	u := 1 - unit(x) // not zero
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*unit(mix(x)))
}

// matchRequest returns the first rule that is for a request, nil if none is. It
// counts as having acted.
func (p *plan) matchRequest(c *conn, r *request, stream uint32) *requestRule {
	const prefix = "/3/device/"
	var token []byte
	if path := r.get(fieldPath); len(path) > len(prefix) {
		token = path[len(prefix):]
	}
	since := c.now - p.since
	for _, rule := range p.requests {
		m := &rule.Match
		if m.Connection != 0 && m.Connection != c.id ||
			since < int64(m.From) || m.Until > 0 && since >= int64(m.Until) ||
			c.requests <= int64(m.Skip) || m.Every > 1 && (c.requests-int64(m.Skip)-1)%int64(m.Every) != 0 {
			continue
		}
		if len(rule.prefix) > 0 && (len(token) < len(rule.prefix) || !bytes.EqualFold(token[:len(rule.prefix)], rule.prefix)) {
			continue
		}
		if len(rule.topic) > 0 && !bytes.Equal(r.get(fieldTopic), rule.topic) {
			continue
		}
		if m.TokenShare > 0 {
			raw, err := hex.DecodeString(string(token))
			if err != nil || shareOf(xxhash.Sum64(raw), ruleSalt+uint64(rule.index)) >= m.TokenShare {
				continue
			}
		}
		if m.Probability > 0 && unit(p.dice(c.id, uint64(c.requests), uint64(rule.index)+1)) >= m.Probability {
			continue
		}
		if n := rule.acted.Add(1); m.Times > 0 && n > int64(m.Times) {
			rule.acted.Add(-1)
			continue
		}
		c.srv.event(c.id, stream, rule.Name, rule.what())
		return rule
	}
	return nil
}

// matchConn returns the rules that are for a connection.
func (p *plan) matchConn(now int64, id uint64) []*connRule {
	var out []*connRule
	since := now - p.since
	for _, rule := range p.conns {
		if rule.Connection != 0 && rule.Connection != id ||
			rule.Every > 1 && id%uint64(rule.Every) != 0 ||
			since < int64(rule.From) || rule.Until > 0 && since >= int64(rule.Until) ||
			rule.Probability > 0 && unit(p.dice(id, 0, uint64(rule.index)+1<<32)) >= rule.Probability {
			continue
		}
		if n := rule.acted.Add(1); rule.Times > 0 && n > int64(rule.Times) {
			rule.acted.Add(-1)
			continue
		}
		out = append(out, rule)
	}
	return out
}

// what says in a few words what a rule does.
func (r *requestRule) what() string {
	var parts []string
	switch {
	case r.Answer != nil:
		parts = append(parts, fmt.Sprintf("answer %d %s", r.Answer.Status, r.Answer.Reason))
	case r.NeverAnswer:
		parts = append(parts, "never answer")
	case r.Reset != nil:
		parts = append(parts, fmt.Sprintf("reset %v", r.code))
	}
	if r.Delay > 0 {
		parts = append(parts, "delay "+time.Duration(r.Delay).String())
	}
	if r.Do != nil {
		parts = append(parts, r.Do.what())
	}
	return strings.Join(parts, ", ")
}

func (r *requestRule) timestamp(now time.Time) int64 {
	if r.Answer.Timestamp != 0 {
		return r.Answer.Timestamp
	}
	return now.UnixMilli()
}

// ruleBefore does what a rule does to a request that is not looked at. It
// reports whether the request is done with.
func (c *conn) ruleBefore(rule *requestRule, a *answer) bool {
	if rule.before {
		c.local.faulted++
		c.opened--
		c.reset(a.stream, rule.code)
		if rule.Reset.Twice {
			c.reset(a.stream, http2.ErrCodeStreamClosed)
		}
		return true
	}
	if rule.Do == nil || rule.judges() {
		return false
	}
	switch g := rule.Do.GoAway; {
	case g != nil && g.Last != "max" && g.TwoPhase == 0:
		c.opened--
		c.startGoAway(g, a.stream)
		return true
	case rule.Do.Close != "":
		c.local.faulted++
		c.opened--
		c.act(rule.Do)
		return true
	}
	c.act(rule.Do)
	return false
}

// judges reports whether a rule has the request judged before it acts on the
// connection.
func (r *requestRule) judges() bool { return r.Answer != nil || r.NeverAnswer || r.reset != nil }

func (c *conn) ruleAfter(rule *requestRule) {
	if rule.Do != nil && rule.judges() {
		c.act(rule.Do)
	}
}

// errorScore makes the connection pay for an answer.
func (c *conn) errorScore(out *outcome) {
	sc := &c.plan.faults.Score
	full := uint32(c.srv.cfg.Streams)
	switch {
	case out.status == 200:
		c.score = max(0, c.score-1)
		if c.lowered {
			c.lowered = false
			c.setStreams(full)
		}
	case out.isClientError():
		c.score++
		if out.reason == "BadDeviceToken" {
			c.score += 2 // choice: Apple says that some count more
		}
		switch sc.Mode {
		case "halve":
			c.lowered = true
			c.setStreams(max(1, c.settings.streams/2))
		case "one":
			c.lowered = true
			c.setStreams(1)
		}
		if sc.CloseAt > 0 && c.score >= sc.CloseAt && !c.scored {
			c.scored = true
			c.startGoAway(&GoAway{Code: "ENHANCE_YOUR_CALM"}, 0)
		}
	}
}

// startFlapping switches the stream limit to and fro, if the faults say so.
func (c *conn) startFlapping() {
	every := time.Duration(c.plan.faults.Streams.FlapEvery)
	if every <= 0 {
		return
	}
	low := false
	var flap func()
	flap = func() {
		f := c.plan.faults.Streams
		if f.FlapEvery <= 0 {
			c.setStreams(uint32(c.srv.cfg.Streams))
			return
		}
		if low = !low; low {
			c.setStreams(max(1, f.FlapTo))
		} else {
			c.setStreams(uint32(c.srv.cfg.Streams))
		}
		c.after(time.Duration(f.FlapEvery), flap)
	}
	c.after(every, flap)
}
