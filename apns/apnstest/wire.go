package apnstest

import (
	"net"
	"sync"
)

// wire is a TCP connection with a read buffer below TLS and, while it is held, a
// write buffer: crypto/tls makes a system call per record of 16 KB otherwise.
type wire struct {
	net.Conn
	buf  []byte // read by TLS's reader only
	r, w int

	mu   sync.Mutex // TLS also writes while it reads (key updates)
	hold bool
	out  []byte
}

// wireBytes is four full TLS records, about what a busy client has in flight.
const wireBytes = 64 << 10

func newWire(c net.Conn) *wire { return &wire{Conn: c, buf: make([]byte, wireBytes)} }

func (w *wire) Read(p []byte) (int, error) {
	if w.r == w.w {
		if len(p) >= len(w.buf) {
			return w.Conn.Read(p)
		}
		n, err := w.Conn.Read(w.buf)
		if n == 0 {
			return 0, err
		}
		w.r, w.w = 0, n
	}
	n := copy(p, w.buf[w.r:w.w])
	w.r += n
	return n, nil
}

// recordReady reports whether a whole TLS record is buffered, so that reading
// one cannot block. Only for the reader.
func (w *wire) recordReady() bool {
	const header = 5
	b := w.buf[w.r:w.w]
	return len(b) >= header && len(b) >= header+int(b[3])<<8+int(b[4])
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hold {
		w.out = append(w.out, p...)
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// cork keeps what is written until flush.
func (w *wire) cork() {
	w.mu.Lock()
	w.hold = true
	w.mu.Unlock()
}

func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = false
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.Conn.Write(w.out)
	w.out = w.out[:0]
	return err
}
