package apnstest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// Journal writes down, line by line, every notification that a server judged and
// when it answered it: what a test needs that works out, for itself, what a
// client may have sent twice. A line is a letter and fields with spaces between:
//
//	o CONN AT REMOTE               a connection is open, from this address
//	r CONN STREAM AT STATUS PAIR TOKEN TIMESTAMP PAYLOAD   a request is judged
//	a CONN STREAM AT               its answer is handed to TLS
//	w CONN STREAM                  a GOAWAY disowned it: it was not processed
//	e CONN AT                      the connection has ended
//
// AT is in microseconds since the epoch, TIMESTAMP what a 410 says in
// milliseconds (else 0), STATUS what was or will be answered. PAIR, TOKEN and PAYLOAD
// are [PairHash], [TokenHash] and [PayloadHash] in hexadecimal; requests without a
// device token are left out. A reset is no answer. Broadcasts are not written down.
//
// The zero value is no use: make one with [NewJournal]. It is safe for
// concurrent use.
type Journal struct {
	mu  sync.Mutex
	out *bufio.Writer // guarded by mu
	err error         // guarded by mu: the first that a write ended in
}

// NewJournal returns a journal that writes to w, which stays the caller's. It
// keeps some in memory: see [Journal.Flush].
func NewJournal(w io.Writer) *Journal { return &Journal{out: bufio.NewWriterSize(w, 256<<10)} }

// Flush writes what is in memory, and returns the first error of any write.
func (j *Journal) Flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.out.Flush(); err != nil && j.err == nil {
		j.err = fmt.Errorf("write journal: %w", err)
	}
	return j.err
}

// write writes whole lines. A nil journal takes none.
func (j *Journal) write(lines []byte) {
	if j == nil || len(lines) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.out.Write(lines); err != nil && j.err == nil {
		j.err = fmt.Errorf("write journal: %w", err)
	}
}

// journalTime is a time of the server's monotonic clock, in microseconds since
// the epoch.
func (s *Server) journalTime(mono int64) int64 {
	return s.started.Add(time.Duration(mono)).UnixMicro()
}

func appendJudged(dst []byte, conn uint64, at int64, a *answer, pair, token, payload uint64) []byte {
	dst = appendFields(append(dst, 'r'), conn, uint64(a.stream), uint64(at), uint64(a.out.status))
	dst = strconv.AppendUint(append(dst, ' '), pair, 16)
	dst = strconv.AppendUint(append(dst, ' '), token, 16)
	timestamp := uint64(0)
	if a.out.status == 410 {
		timestamp = uint64(a.timestamp)
	}
	dst = append(appendFields(dst, timestamp), ' ')
	return append(strconv.AppendUint(dst, payload, 16), '\n')
}

func appendAnswered(dst []byte, conn uint64, stream uint32, at int64) []byte {
	return append(appendFields(append(dst, 'a'), conn, uint64(stream), uint64(at)), '\n')
}

func appendWithdrawn(dst []byte, conn uint64, stream uint32) []byte {
	return append(appendFields(append(dst, 'w'), conn, uint64(stream)), '\n')
}

func appendFields(dst []byte, fields ...uint64) []byte {
	for _, f := range fields {
		dst = strconv.AppendUint(append(dst, ' '), f, 10)
	}
	return dst
}
