package apnstest

import (
	"net"
	"time"
)

const (
	// flushBytes is what is written at once: about a thousand answers.
	flushBytes = 64 << 10
	// recentTime is how far [Connection.LastAnswers] looks back.
	recentTime = 100 * time.Millisecond
)

// write is the writer. It ends with the connection.
func (c *conn) write() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var out []byte
	var recs []*entry
	var journal []byte
	for {
		if !c.writeGate.pass(c.done) {
			return
		}
		if do := c.dueAction(); do != nil {
			c.work.Lock()
			c.tick()
			do()
			c.publish()
			c.work.Unlock()
			continue
		}
		now := c.srv.mono()
		var (
			a               answer
			n, over         int
			sum             int64 // of the times that they were received
			waitUntil       = int64(never)
			finished, again bool
		)
		recs = recs[:0]
		c.mu.Lock()
		out = append(out[:0], c.out...)
		c.out = c.out[:0]
		if len(c.enc.blocked) > 0 {
			out, over = c.enc.flushBlocked(out)
		}
		for !c.mute && len(out) < flushBytes && c.queue.pop(now, &a) {
			var ended bool
			out, ended = c.enc.answer(out, &a)
			if ended {
				over++
			}
			if a.more != nil && a.more.reset {
				continue // no answer
			}
			n++
			sum += a.received
			if c.srv.cfg.Journal != nil {
				journal = appendAnswered(journal, c.id, a.stream, c.srv.journalTime(now))
			}
			if a.rec != nil {
				recs = append(recs, a.rec)
			}
		}
		if !c.mute {
			waitUntil = c.queue.next()
			again = waitUntil <= now
		}
		if len(c.timed) > 0 {
			waitUntil = min(waitUntil, c.timed[0].at)
		}
		if c.draining {
			open := c.begun.Load() - c.closed.Load() - int64(over)
			left := int64(c.queue.len() - c.queue.waiting())
			finished = now >= c.drainBy || !c.mute && open == left && len(c.enc.blocked) == 0
			waitUntil = min(waitUntil, c.drainBy)
		}
		noNotify := c.noNotify
		c.shared.answered += int64(n)
		c.shared.bytesOut += int64(len(out))
		c.mu.Unlock()

		if over > 0 { // before the client can know it
			c.closed.Add(int64(over))
			c.srv.inFlight.Add(-int64(over))
		}
		if len(recs) > 0 {
			c.srv.ledger.answered(recs)
		}
		c.srv.cfg.Journal.write(journal)
		journal = journal[:0]
		if len(out) > 0 {
			err := c.flush(out)
			now = c.srv.mono()
			if n > 0 {
				c.mu.Lock()
				c.shared.held += int64(n)
				c.shared.hold += int64(n)*now - sum
				c.recent.add(now, int64(n))
				c.mu.Unlock()
			}
			c.srv.changed()
			if err != nil {
				c.end("write: "+describe(err), false)
				return
			}
		}
		switch {
		case finished:
			c.finishWriting(noNotify)
			return
		case again:
			continue
		}
		var alarm <-chan time.Time
		if waitUntil != never {
			timer.Reset(time.Duration(waitUntil - c.srv.mono()))
			alarm = timer.C
		}
		select {
		case <-c.wake:
		case <-alarm:
		case <-c.done:
			return
		}
	}
}

// flush writes whole TLS records with one system call.
func (c *conn) flush(out []byte) error {
	const record = 16 << 10
	if len(out) <= record {
		_, err := c.tls.Write(out)
		return err
	}
	c.wire.cork()
	_, err := c.tls.Write(out)
	if e := c.wire.flush(); err == nil {
		err = e
	}
	return err
}

// finishWriting says that nothing more comes. The reader goes on until the
// client has closed too, lest the kernel reset the connection under the last
// answers.
func (c *conn) finishWriting(noNotify bool) {
	_ = c.wire.SetReadDeadline(time.Now().Add(lingerTime))
	if !noNotify {
		_ = c.tls.CloseWrite()
	}
	if t, ok := c.wire.Conn.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	<-c.done
}

// dueAction takes the first timed action if its time has come.
func (c *conn) dueAction() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timed) == 0 || c.timed[0].at > c.srv.mono() {
		return nil
	}
	do := c.timed[0].do
	c.timed = c.timed[1:]
	return do
}

// after has the writer do something later, with work held.
func (c *conn) after(d time.Duration, do func()) {
	at := c.srv.mono() + int64(d)
	c.mu.Lock()
	i := len(c.timed)
	for i > 0 && c.timed[i-1].at > at {
		i--
	}
	c.timed = append(c.timed, timedAction{})
	copy(c.timed[i+1:], c.timed[i:])
	c.timed[i] = timedAction{at, do}
	c.mu.Unlock()
	c.signal()
}

// recentAnswers counts what was written lately, in slots of a tenth.
type recentAnswers struct {
	slots [10]int64
	slot  int64 // the newest
}

func (r *recentAnswers) add(now, n int64) {
	r.advance(now)
	r.slots[r.slot%int64(len(r.slots))] += n
}

func (r *recentAnswers) sum(now int64) (n int64) {
	r.advance(now)
	for _, s := range r.slots {
		n += s
	}
	return n
}

func (r *recentAnswers) advance(now int64) {
	slot := now / (int64(recentTime) / int64(len(r.slots)))
	if slot-r.slot >= int64(len(r.slots)) {
		clear(r.slots[:])
		r.slot = slot
	}
	for r.slot < slot {
		r.slot++
		r.slots[r.slot%int64(len(r.slots))] = 0
	}
}
