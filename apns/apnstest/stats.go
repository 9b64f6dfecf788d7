package apnstest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Stats is what a server counted since it started, or since [Server.Reset].
type Stats struct {
	// Received counts requests whose end came and that were judged; those that a
	// fault reset or ignored before that are in Faulted only.
	Received int64 `json:"received"`
	// Accepted counts answers of 200 to notifications, repeated ones included, at
	// the moment of the decision: with a latency the answer is still to come.
	Accepted int64 `json:"accepted"`
	Rejected int64 `json:"rejected"` // judged with any other status
	Faulted  int64 `json:"faulted"`  // not judged: refused, reset or ignored by a fault
	// When the first and the last of Received came, by the machine's clock, as exactly
	// as batches of reading; zero: none did.
	FirstReceivedAt time.Time `json:"first_received_at,omitzero"`
	LastReceivedAt  time.Time `json:"last_received_at,omitzero"`

	Statuses map[string]int64 `json:"statuses"` // by HTTP status
	Reasons  map[string]int64 `json:"reasons"`  // by reason, without 200

	// Duplicates counts notifications accepted whose pair of device token and
	// apns-id had been accepted before. Always 0 with [LedgerOff].
	Duplicates int64 `json:"duplicates"`
	// Withdrawn counts accepted ones that a GOAWAY disowned again; they are in
	// none of the numbers above.
	Withdrawn int64 `json:"withdrawn"`
	Sums      Sums  `json:"sums"` // zero with [LedgerOff]

	// Answered counts answers handed to TLS. AnswersLost counts requests that were
	// judged and whose connection ended without that (a reset is no answer);
	// Cancelled those that the client reset, ended or not.
	Answered    int64 `json:"answered"`
	AnswersLost int64 `json:"answers_lost"`
	Cancelled   int64 `json:"cancelled"`
	// AnsweredLate counts, over connections that ended, the answers written in the
	// 100 ms before: the client may not have seen them.
	AnsweredLate int64 `json:"answered_late"`

	Pending     int64 `json:"pending"`       // requests open now
	MaxInFlight int64 `json:"max_in_flight"` // most requests open at once, over all connections

	// HoldSeconds sums, over all answers, the time from having read a request's
	// end from the socket to having written its answer to it.
	// HoldCount is how many that are: Answered, once all that is being written is.
	HoldCount       int64   `json:"hold_count"`
	HoldSeconds     float64 `json:"hold_seconds"`
	HoldMeanSeconds float64 `json:"hold_mean_seconds"` // 0 without answers

	ConnectionsOpen      int64 `json:"connections_open"`
	ConnectionsTotal     int64 `json:"connections_total"`   // handshakes done
	ConnectionsRefused   int64 `json:"connections_refused"` // by a fault or the reconnect guard
	MaxConnectionsOpen   int64 `json:"max_connections_open"`
	MaxConnectsPerMinute int64 `json:"max_connects_per_minute"` // over any minute; attempts, refused ones too
	HandshakesFailed     int64 `json:"handshakes_failed"`
	GuardBlocks          int64 `json:"guard_blocks"` // times that the reconnect guard closed for a source

	RefusedStreams int64 `json:"refused_streams"` // above the stream limit
	GoAways        int64 `json:"go_aways"`        // sent
	PingsReceived  int64 `json:"pings_received"`

	BytesIn   int64 `json:"bytes_in"`   // application bytes after decryption
	BytesOut  int64 `json:"bytes_out"`  // before encryption
	BodyBytes int64 `json:"body_bytes"` // of requests' bodies

	HPACK HPACKStats `json:"hpack"`
}

// HPACKStats says how well clients compress their headers.
type HPACKStats struct {
	BlockBytes int64 `json:"block_bytes"` // on the wire
	ListBytes  int64 `json:"list_bytes"`  // decoded, without the overhead of 32 bytes a field
	Fields     int64 `json:"fields"`
	Indexed    int64 `json:"indexed"`  // fields sent as nothing but an index
	Inserted   int64 `json:"inserted"` // into the dynamic table
	Evicted    int64 `json:"evicted"`  // from it
}

// Connection tells about one connection, open or ended.
type Connection struct {
	ID       uint64    `json:"id"` // counts from 1 over the server's life
	Remote   string    `json:"remote"`
	OpenedAt time.Time `json:"opened_at"`
	ClosedAt time.Time `json:"closed_at,omitzero"` // zero while it is open
	// Cause says in a few words why it ended.
	Cause string `json:"cause,omitempty"`

	Received    int64 `json:"received"`
	Accepted    int64 `json:"accepted"`
	Answered    int64 `json:"answered"`
	Unanswered  int64 `json:"unanswered"` // received and not answered, be it for a reset by either side
	MaxInFlight int64 `json:"max_in_flight"`
	// LastAnswers counts answers written in the 100 ms before it ended.
	LastAnswers int64 `json:"last_answers"`
	// StreamLimit is what its last SETTINGS allowed.
	StreamLimit int    `json:"stream_limit"`
	LastStream  uint32 `json:"last_stream"` // highest stream id that came
	KeyID       string `json:"key_id,omitempty"`
}

// counters are what a connection counts. The reader owns one set, without locks,
// and folds it into the shared one once per batch.
type counters struct {
	received, accepted, faulted   int64
	first, last                   int64 // received, nanoseconds since the server started; 0: none
	duplicates, withdrawn         int64
	tokens, pairs, content        uint64
	answered, cancelled, given    int64 // given up: cancelled after it was judged
	held, hold                    int64 // answers written, and their nanoseconds
	refused, goAways, pings       int64
	bytesIn, bytesOut, bodyBytes  int64
	blockBytes, listBytes         int64
	fields, indexed, ins, evicted int64
	rejected                      map[*outcome]int64
}

func (c *counters) add(d *counters) {
	c.received += d.received
	if d.first != 0 && (c.first == 0 || d.first < c.first) {
		c.first = d.first
	}
	c.last = max(c.last, d.last)
	c.accepted += d.accepted
	c.faulted += d.faulted
	c.duplicates += d.duplicates
	c.withdrawn += d.withdrawn
	c.tokens += d.tokens
	c.pairs += d.pairs
	c.content += d.content
	c.answered += d.answered
	c.cancelled += d.cancelled
	c.given += d.given
	c.held += d.held
	c.hold += d.hold
	c.refused += d.refused
	c.goAways += d.goAways
	c.pings += d.pings
	c.bytesIn += d.bytesIn
	c.bytesOut += d.bytesOut
	c.bodyBytes += d.bodyBytes
	c.blockBytes += d.blockBytes
	c.listBytes += d.listBytes
	c.fields += d.fields
	c.indexed += d.indexed
	c.ins += d.ins
	c.evicted += d.evicted
	for o, n := range d.rejected {
		if c.rejected == nil {
			c.rejected = make(map[*outcome]int64)
		}
		c.rejected[o] += n
	}
}

// clear makes c zero and keeps its map.
func (c *counters) clear() {
	m := c.rejected
	clear(m)
	*c = counters{rejected: m}
}

// Stats returns what the server counted. An answer that a client has seen is
// always counted.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := counters{}
	sum.add(&s.closedCounters)
	st := s.base
	st.ConnectionsOpen = int64(len(s.conns))
	for _, c := range s.conns {
		c.mu.Lock()
		sum.add(&c.shared)
		c.mu.Unlock()
	}
	st.Pending = s.inFlight.Load()
	st.MaxInFlight = s.maxInFlight.Load()
	st.Statuses, st.Reasons = make(map[string]int64), make(map[string]int64)
	st.Received, st.Accepted, st.Faulted = sum.received, sum.accepted, sum.faulted
	if sum.last > 0 {
		st.FirstReceivedAt, st.LastReceivedAt = s.started.Add(time.Duration(sum.first)), s.started.Add(time.Duration(sum.last))
	}
	if sum.accepted > 0 {
		st.Statuses["200"] = sum.accepted
	}
	for o, n := range sum.rejected {
		if n == 0 {
			continue
		}
		st.Statuses[strconv.Itoa(o.status)] += n
		if o.reason != "" {
			st.Reasons[o.reason] += n
		}
		if o.status >= 300 {
			st.Rejected += n
		}
	}
	st.Duplicates, st.Withdrawn = sum.duplicates, sum.withdrawn
	st.Sums = Sums{Tokens: Sum(sum.tokens), Pairs: Sum(sum.pairs), Content: Sum(sum.content)}
	st.Answered, st.Cancelled = sum.answered, sum.cancelled
	st.HoldSeconds = time.Duration(sum.hold).Seconds()
	st.HoldCount = sum.held
	if sum.held > 0 {
		st.HoldMeanSeconds = st.HoldSeconds / float64(sum.held)
	}
	st.RefusedStreams, st.GoAways, st.PingsReceived = sum.refused, sum.goAways, sum.pings
	st.BytesIn, st.BytesOut, st.BodyBytes = sum.bytesIn, sum.bytesOut, sum.bodyBytes
	st.HPACK = HPACKStats{
		BlockBytes: sum.blockBytes, ListBytes: sum.listBytes,
		Fields: sum.fields, Indexed: sum.indexed, Inserted: sum.ins, Evicted: sum.evicted,
	}
	return st
}

// Connections returns the open connections and, before them, the last thousand
// that ended, in order of their ids within each group.
func (s *Server) Connections() []Connection {
	s.mu.Lock()
	out := append([]Connection(nil), s.ended...)
	open := slices.Collect(maps.Values(s.conns))
	s.mu.Unlock() // a connection at work may be waiting for it
	slices.SortFunc(open, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	for _, c := range open {
		out = append(out, c.info())
	}
	return out
}

// maxEnded bounds how many ended connections are remembered.
const maxEnded = 1000

// connectRate finds the most events within any minute. Guarded by its user.
type connectRate struct {
	at  []time.Duration // of the last minute
	max int64
}

func (r *connectRate) add(now time.Duration) {
	i := 0
	for i < len(r.at) && now-r.at[i] > time.Minute {
		i++
	}
	r.at = append(r.at[i:], now)
	r.max = max(r.max, int64(len(r.at)))
}
