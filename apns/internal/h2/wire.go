package h2

import (
	"net"
	"sync"
	"time"
)

// Sizes of a Wire's buffers. The larger ones are what one system call moves at
// full speed; an idle connection has the small ones.
const (
	wireReadMin  = 4 << 10
	wireReadMax  = 64 << 10
	wireWriteMax = 128 << 10
)

// Wire goes between crypto/tls and the network. crypto/tls makes a system call
// for every record of at most 16 KB, and one for about every record that it
// reads; a Wire gathers many of them into one.
//
// The TLS client writes to it as to any [net.Conn]: at once, unless the
// connection's writer has corked it. Every write has a deadline.
type Wire struct {
	net.Conn
	timeout time.Duration

	mu     sync.Mutex // crypto/tls's reader may write too (KeyUpdate, alerts)
	corked bool
	out    []byte
	taken  int // bytes that the network took since it was corked

	in   []byte // only touched by Read
	r, w int
}

// NewWire puts a Wire over nc. A write that the network does not take within
// timeout fails.
func NewWire(nc net.Conn, timeout time.Duration) *Wire {
	return &Wire{Conn: nc, timeout: timeout, in: make([]byte, wireReadMin)}
}

// Read implements [net.Conn].
func (w *Wire) Read(p []byte) (int, error) {
	if w.r == w.w {
		if len(p) >= len(w.in) {
			return w.Conn.Read(p)
		}
		n, err := w.Conn.Read(w.in)
		w.r, w.w = 0, n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, w.in[w.r:w.w])
	w.r += n
	if w.r == w.w && w.w == len(w.in) && len(w.in) < wireReadMax {
		w.in = make([]byte, 2*len(w.in))
		w.r, w.w = 0, 0
	}
	return n, nil
}

// Write implements [net.Conn].
func (w *Wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.corked {
		return w.send(p)
	}
	if len(w.out)+len(p) > wireWriteMax {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// cork makes the writes that follow wait for uncork. buf is what they are
// gathered in; uncork returns it.
func (w *Wire) cork(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked, w.taken, w.out = true, 0, buf[:0]
}

// uncork sends what was gathered. It returns the buffer, and how many bytes the
// network took since cork: none means that the peer has seen nothing of it.
func (w *Wire) uncork() (buf []byte, taken int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.flush()
	buf, w.out, w.corked = w.out[:0], nil, false
	return buf, w.taken, err
}

func (w *Wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	n, err := w.send(w.out)
	w.taken += n
	w.out = w.out[:0]
	return err
}

func (w *Wire) send(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}
