package apnstest

import "math"

// answer is a request that was judged and whose answer is still to be written.
type answer struct {
	due      int64 // when, on the server's monotonic clock; never: not at all
	received int64
	out      *outcome
	rec      *entry   // full ledger only
	more     *special // nil for an ordinary answer

	timestamp int64 // of a 410, milliseconds

	// What was added to the sums, so that a GOAWAY can take it back.
	tokenHash, pairHash, contentHash uint64

	stream    uint32
	id        [16]byte
	upper     bool // write the id in upper case
	counted   bool // as accepted
	duplicate bool
	looked    bool // for duplicates
}

// special is what an unusual answer has beyond that.
type special struct {
	reset     bool          // RST_STREAM instead of an answer, or after its headers
	headers   bool          // the headers come first
	twice     bool          // and a second reset
	resetCode uint32        //
	noBody    bool          // headers only: the request was HEAD
	fields    []headerField // in place of apns-id
	body      []byte
}

// headerField is a header of an unusual answer.
type headerField struct{ name, value string }

// never is the due time of what is not answered.
const never = math.MaxInt64

// answerQueue holds answers until they are due. With a constant latency they
// come in order, so most are in a ring; only what is due earlier than its
// predecessor goes into the heap. Guarded by its connection's mu.
type answerQueue struct {
	line []answer // in order of due, from head on
	head int
	heap []answer // by due; the rest
}

func (q *answerQueue) len() int { return len(q.line) - q.head + len(q.heap) }

func (q *answerQueue) push(a *answer) {
	if a.due != never && (q.head == len(q.line) || a.due >= q.line[len(q.line)-1].due) {
		if q.head > 0 && len(q.line) == cap(q.line) {
			n := copy(q.line, q.line[q.head:])
			clear(q.line[n:])
			q.line, q.head = q.line[:n], 0
		}
		q.line = append(q.line, *a)
		return
	}
	q.heap = append(q.heap, *a)
	q.up(len(q.heap) - 1)
}

// next returns when the first answer is due; never if there is none.
func (q *answerQueue) next() int64 {
	due := int64(never)
	if q.head < len(q.line) {
		due = q.line[q.head].due
	}
	if len(q.heap) > 0 {
		due = min(due, q.heap[0].due)
	}
	return due
}

// pop takes the first answer if it is due by now.
func (q *answerQueue) pop(now int64, a *answer) bool {
	due := q.next()
	if due > now || due == never {
		return false
	}
	if q.head < len(q.line) && q.line[q.head].due == due {
		*a = q.line[q.head]
		q.line[q.head] = answer{}
		if q.head++; q.head == len(q.line) {
			q.line, q.head = q.line[:0], 0
		}
		return true
	}
	*a = q.heap[0]
	q.removeHeap(0)
	return true
}

// take removes the answer to a stream.
func (q *answerQueue) take(stream uint32, a *answer) bool {
	for i := q.head; i < len(q.line); i++ {
		if q.line[i].stream == stream {
			*a = q.line[i]
			q.line = append(q.line[:i], q.line[i+1:]...)
			return true
		}
	}
	for i := range q.heap {
		if q.heap[i].stream == stream {
			*a = q.heap[i]
			q.removeHeap(i)
			return true
		}
	}
	return false
}

// has reports whether the answer to a stream is waiting.
func (q *answerQueue) has(stream uint32) bool {
	for i := q.head; i < len(q.line); i++ {
		if q.line[i].stream == stream {
			return true
		}
	}
	for i := range q.heap {
		if q.heap[i].stream == stream {
			return true
		}
	}
	return false
}

// takeAbove removes and returns the answers to all streams above last.
func (q *answerQueue) takeAbove(last uint32) []answer {
	var out []answer
	keep := q.line[:q.head]
	for _, a := range q.line[q.head:] {
		if a.stream > last {
			out = append(out, a)
		} else {
			keep = append(keep, a)
		}
	}
	clear(q.line[len(keep):])
	q.line = keep
	for i := 0; i < len(q.heap); {
		if q.heap[i].stream > last {
			out = append(out, q.heap[i])
			q.removeHeap(i)
			i = 0 // the heap was reordered
		} else {
			i++
		}
	}
	return out
}

// waiting counts the answers that are ever due.
func (q *answerQueue) waiting() int {
	n := len(q.line) - q.head
	for i := range q.heap {
		if q.heap[i].due != never {
			n++
		}
	}
	return n
}

func (q *answerQueue) removeHeap(i int) {
	last := len(q.heap) - 1
	q.heap[i] = q.heap[last]
	q.heap[last] = answer{}
	q.heap = q.heap[:last]
	if i < last {
		q.up(q.down(i))
	}
}

func (q *answerQueue) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if q.heap[parent].due <= q.heap[i].due {
			return
		}
		q.heap[parent], q.heap[i] = q.heap[i], q.heap[parent]
		i = parent
	}
}

// down returns where the element ends.
func (q *answerQueue) down(i int) int {
	for {
		c := 2*i + 1
		if c >= len(q.heap) {
			return i
		}
		if c+1 < len(q.heap) && q.heap[c+1].due < q.heap[c].due {
			c++
		}
		if q.heap[i].due <= q.heap[c].due {
			return i
		}
		q.heap[i], q.heap[c] = q.heap[c], q.heap[i]
		i = c
	}
}
