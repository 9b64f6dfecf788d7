package h2_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

func maxStreams(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n}
}

func TestConnectionWindow(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	// Sixteen bodies of 4 KB and a byte too many for the window.
	o.submit(job.Transactional, requests(20, 4096)...)
	c.Wake()
	var last *received
	sent := 0
	for sent < 65535 {
		if r := p.note(p.read()); r != last {
			last = r
		} else {
			sent += len(r.body)
		}
	}
	if last.ended || len(last.body) != 4095 {
		t.Errorf("stream that fills the window: got %d bytes, ended %v, want 4095, not ended", len(last.body), last.ended)
	}
	p.sync()
	if got := o.queued(job.Transactional); got != 4 {
		t.Errorf("window closed: got %d queued, want 4", got)
	}
	if got := c.Free(job.Transactional); got != 0 {
		t.Errorf("window closed: got %d free, want 0", got)
	}
	// A WINDOW_UPDATE wakes the writer.
	p.must(p.fr.WriteWindowUpdate(0, 1))
	for !last.ended {
		p.note(p.read())
	}
	p.must(p.fr.WriteWindowUpdate(0, 4*4096))
	for range 4 {
		p.request()
	}
}

func TestInitialWindowMayShrinkBelowZero(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(100), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	o.submit(job.Transactional, request(0, 4096))
	c.Wake()
	skipTo[*http2.HeadersFrame](p)
	r := p.seen[1]
	if r == nil {
		r = &received{id: 1}
		p.seen[1] = r
	}
	read := func(want int) {
		t.Helper()
		for len(r.body) < want {
			p.note(p.read())
		}
		if len(r.body) != want {
			t.Fatalf("body so far: got %d bytes, want %d", len(r.body), want)
		}
	}
	read(1000)
	// The stream's window becomes 0 - 900.
	p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	p.must(p.fr.WriteWindowUpdate(1, 900))
	p.sync()
	read(1000)
	p.must(p.fr.WriteWindowUpdate(1, 50))
	read(1050)
	// New streams begin with the small window.
	o.submit(job.Transactional, request(1, 300))
	c.Wake()
	skipTo[*http2.HeadersFrame](p)
	p.seen[3] = &received{id: 3}
	for len(p.seen[3].body) < 100 {
		p.note(p.read())
	}
	// Larger again: both go on without a WINDOW_UPDATE.
	p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
	for !r.ended || !p.seen[3].ended {
		p.note(p.read())
	}
	if len(r.body) != 4096 || len(p.seen[3].body) != 300 {
		t.Errorf("bodies: got %d and %d bytes, want 4096 and 300", len(r.body), len(p.seen[3].body))
	}
}

func TestNothingBeginsWithoutWindow(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(100), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	o.submit(job.Bulk, requests(5, 100)...)
	c.Wake()
	p.sync()
	if got := o.queued(job.Bulk); got != 5 {
		t.Errorf("window 0: got %d queued, want 5", got)
	}
	p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
	for range 5 {
		p.request()
	}
}

func TestUnfinishedRequestIsUnprocessed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*h2.Conn, *owner, *peer){
		"reset":  func(_ *h2.Conn, _ *owner, p *peer) { p.must(p.fr.WriteRSTStream(1, http2.ErrCodeInternal)) },
		"close":  func(_ *h2.Conn, _ *owner, p *peer) { _ = p.nc.Close() },
		"cancel": func(c *h2.Conn, o *owner, _ *peer) { c.Cancel(o, h2.ErrTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, o, p := connect(t, h2.Config{}, maxStreams(100), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
			o.submit(job.Bulk, request(0, 100))
			c.Wake()
			skipTo[*http2.HeadersFrame](p)
			end(c, o, p)
			wantFailed(t, <-o.done, true)
		})
	}
}

func TestAnswerBeforeTheRequestHasEnded(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(100), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	o.submit(job.Bulk, request(0, 100))
	c.Wake()
	skipTo[*http2.DataFrame](p)
	p.refuse(&received{id: 1}, 413, "PayloadTooLarge")
	wantStatus(t, <-o.done, 0, 413)
	rst := skipTo[*http2.RSTStreamFrame](p)
	if rst.StreamID != 1 || rst.ErrCode != http2.ErrCodeCancel {
		t.Errorf("reset: got stream %d, %v, want stream 1, CANCEL", rst.StreamID, rst.ErrCode)
	}
	// More window does not bring the body back.
	p.must(p.fr.WriteWindowUpdate(1, 1000))
	p.sync()
	if got := c.Stats().Open; got != 0 {
		t.Errorf("open: got %d, want 0", got)
	}
}

func TestReceiveWindowsAreReplenished(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	r := p.request()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndHeaders: true, BlockFragment: p.block(":status", "500")}))
	chunk := make([]byte, 10_000)
	back := map[uint32]uint32{}
	for range 4 { // 4 x (10,000 + 201 of padding) is more than half a window
		p.must(p.fr.WriteDataPadded(r.id, false, chunk, make([]byte, 200)))
	}
	for range 2 {
		w := skipTo[*http2.WindowUpdateFrame](p)
		back[w.StreamID] += w.Increment
	}
	if back[0] != 4*10_201 || back[r.id] != 4*10_201 {
		t.Errorf("given back: got %v, want %d for connection and stream", back, 4*10_201)
	}
	// DATA that nobody waits for counts too.
	p.must(p.fr.WriteRSTStream(r.id, http2.ErrCodeNo))
	got := <-o.done
	wantStatus(t, got, 0, 500)
	if len(got.Body) != 1024 {
		t.Errorf("body kept: got %d bytes, want 1024", len(got.Body))
	}
	for range 4 {
		p.must(p.fr.WriteData(r.id, false, chunk))
	}
	if w := skipTo[*http2.WindowUpdateFrame](p); w.StreamID != 0 || w.Increment != 40_000 {
		t.Errorf("given back: got stream %d, %d, want 0, 40000", w.StreamID, w.Increment)
	}
}
