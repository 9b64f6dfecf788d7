package h2

// sendFlow is what the peer lets us send (RFC 9113 section 5.2). Windows are
// signed: a smaller SETTINGS_INITIAL_WINDOW_SIZE makes those of open streams
// negative. A stream's own part is stream.credit. It is guarded by the
// connection's mu.
type sendFlow struct {
	conn     int64 // window of the connection
	initial  int64 // window that each stream begins with
	maxFrame int   // SETTINGS_MAX_FRAME_SIZE
	grown    bool  // something grew since bodies last waited
}

func newSendFlow() sendFlow {
	return sendFlow{conn: defaultWindow, initial: defaultWindow, maxFrame: maxFrameBytes}
}

// open reports whether a new stream could send anything. Without, it is not even
// begun: it could as well go to another connection.
func (f *sendFlow) open() bool { return f.conn > 0 && f.initial > 0 }

// allow returns how many bytes of s may go into one DATA frame.
func (f *sendFlow) allow(s *stream) int {
	n := min(int64(s.size-s.sent), int64(f.maxFrame), f.conn, f.initial+s.credit)
	return int(max(0, n))
}

// spend takes n bytes of body from the windows.
func (f *sendFlow) spend(s *stream, n int) {
	f.conn -= int64(n)
	s.credit -= int64(n)
	s.sent += int32(n)
}
