//go:build chaos && linux

package chaos_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// request is a notification as the simulator saw it.
type request struct {
	received, answered int64 // microseconds since the epoch; answered 0: it was not
	pair, token        uint64
	payload            uint64 // hash
	timestamp          int64  // of a 410, milliseconds
	conn               uint32
	status             uint16
	withdrawn          bool
}

func (r *request) accepted() bool { return r.status == 200 && !r.withdrawn }

// connection is a connection as the simulator saw it.
type connection struct {
	remote string
	ended  int64 // 0: it is open
}

// journal is all that the simulator wrote down.
type journal struct {
	requests []request
	conns    map[uint32]*connection
}

func readJournal(name string) (*journal, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	defer file.Close()
	j := &journal{conns: make(map[uint32]*connection)}
	open := make(map[uint64]int) // connection and stream -> its request
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		number := func(i, base int) uint64 {
			v, e := strconv.ParseUint(f[i], base, 64)
			if e != nil && err == nil {
				err = fmt.Errorf("read journal: line %d: %w", n, e)
			}
			return v
		}
		conn := uint32(number(1, 10))
		key := func() uint64 { return uint64(conn)<<32 | number(2, 10) }
		switch f[0] {
		case "o":
			j.conns[conn] = &connection{remote: f[3]}
		case "r":
			open[key()] = len(j.requests)
			j.requests = append(j.requests, request{
				conn: conn, received: int64(number(3, 10)), status: uint16(number(4, 10)),
				pair: number(5, 16), token: number(6, 16), timestamp: int64(number(7, 10)), payload: number(8, 16),
			})
		case "a":
			if i, ok := open[key()]; ok {
				j.requests[i].answered = int64(number(3, 10))
				delete(open, key())
			}
		case "w":
			if i, ok := open[key()]; ok {
				j.requests[i].withdrawn = true
			}
		case "e":
			if c := j.conns[conn]; c != nil {
				c.ended = int64(number(2, 10))
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return j, nil
}

// unix is a time as the journal tells it.
func unix(t time.Time) int64 { return t.UnixMicro() }

const (
	// late is how long before a fault an answer may have come without being marked
	// in the progress: docs/guarantees.md.
	late = int64(100 * time.Millisecond / time.Microsecond)
	// blindAfter is how much longer than a system is out of reach nothing may get
	// there: a time-out of a mark, and the next one.
	blindAfter = int64(2500 * time.Millisecond / time.Microsecond)
	// heldAfter is how much longer than a link is slow what it held up may take.
	heldAfter = int64(time.Second / time.Microsecond)
)

// span is a time from and to, in microseconds since the epoch.
type span struct{ from, to int64 }

// bounding works out which requests a fleet may have repeated. It knows the
// faults and the journal, and nothing of what the fleet says of itself.
type bounding struct {
	j      *journal
	owner  map[uint32]int // connection -> worker
	blind  [][]span       // of each worker: when it could not see answers or not write marks
	frozen [][]span       // of each worker
	held   [][]span       // of each worker: when what it sent to APNs was held up
}

func newBounding(j *journal, faults []fault, dialed []map[string]bool) *bounding {
	b := &bounding{j: j, owner: make(map[uint32]int), blind: make([][]span, len(dialed)), frozen: make([][]span, len(dialed)), held: make([][]span, len(dialed))}
	for id, c := range j.conns {
		b.owner[id] = all
		for w, addrs := range dialed {
			if addrs[c.remote] {
				b.owner[id] = w
			}
		}
	}
	for i := range faults {
		f := &faults[i]
		s := span{unix(f.from), unix(f.to)}
		for w := range dialed {
			if f.worker != all && f.worker != w {
				continue
			}
			switch f.kind {
			case slowLink + " apns", stallLink + " apns":
				b.held[w] = append(b.held[w], s)
			}
			switch f.kind {
			case killRedis,
				cutLink + " redis", slowLink + " redis", stallLink + " redis",
				slowLink + " apns", stallLink + " apns":
				b.blind[w] = append(b.blind[w], s)
			case freezeWorker:
				b.frozen[w] = append(b.frozen[w], s)
			}
		}
	}
	return b
}

// unseen is since when answers may be unknown to others, at a time.
func (b *bounding) unseen(w int, at int64) int64 {
	since := at
	for again := true; again && w != all; {
		again = false
		for _, s := range b.blind[w] {
			if s.from < since && s.to+blindAfter > since-late {
				since, again = s.from, true
			}
		}
	}
	return since - late
}

// mayRepeat reports whether a request may have been sent once more, and why.
func (b *bounding) mayRepeat(r *request) (string, bool) {
	if !r.accepted() {
		return "", false
	}
	if r.answered == 0 {
		return "not answered", true
	}
	w := b.owner[r.conn]
	if c := b.j.conns[r.conn]; c != nil && c.ended > 0 && r.answered >= b.unseen(w, c.ended) {
		return "answered just before its connection ended", true
	}
	if w == all {
		return "", false
	}
	for _, s := range b.frozen[w] {
		if r.answered >= b.unseen(w, s.from) && r.received <= s.to {
			return "around a freeze", true
		}
	}
	return "", false
}
