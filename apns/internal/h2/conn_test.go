package h2_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{Authorization: bearer})
	r := request(7, 212)
	r.CollapseID = "order-4711"
	o.submit(job.Transactional, r)
	c.Wake()
	got := p.request()
	want := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: "/3/device/" + r.DeviceToken.Hex()},
		{Name: ":authority", Value: "api.push.apple.com"},
		{Name: "content-type", Value: "application/json"},
		{Name: "authorization", Value: bearer},
		{Name: "apns-topic", Value: "com.example.app"},
		{Name: "apns-push-type", Value: "alert"},
		{Name: "apns-priority", Value: "10"},
		{Name: "apns-id", Value: r.APNsID.String()},
		{Name: "apns-expiration", Value: "1800000000"},
		{Name: "apns-collapse-id", Value: "order-4711"},
	}
	if !slices.Equal(got.fields, want) {
		t.Errorf("fields: got %v, want %v", got.fields, want)
	}
	if string(got.body) != string(r.Payload) {
		t.Errorf("body: got %q, want %q", got.body, r.Payload)
	}
	p.accept(got)
	done := <-o.done
	wantStatus(t, done, 0, 200)
	if done.APNsID != r.APNsID {
		t.Errorf("apns-id: got %v, want %v", done.APNsID, r.APNsID)
	}
}

func TestFieldsThatAreLeftOut(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, h2.Request{DeviceToken: device.TokenFromRaw("\x80\x01"), Expiration: -1})
	c.Wake()
	got := p.request()
	want := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: "/3/device/8001"},
		{Name: ":authority", Value: "api.push.apple.com"},
		{Name: "content-type", Value: "application/json"},
	}
	if !slices.Equal(got.fields, want) {
		t.Errorf("fields: got %v, want %v", got.fields, want)
	}
	if len(got.body) != 0 || !got.ended {
		t.Errorf("body: got %q, ended %v, want none, ended", got.body, got.ended)
	}
}

func TestExpirationZeroIsSent(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	r := request(1, 2)
	r.Expiration = 0
	o.submit(job.Bulk, r, r)
	c.Wake()
	for range 2 { // the second is encoded another way, with the name indexed
		if got := p.request().get("apns-expiration"); got != "0" {
			t.Errorf("apns-expiration: got %q, want 0", got)
		}
	}
}

func TestRejected(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	p.refuse(p.request(), 410, "Unregistered")
	got := <-o.done
	wantStatus(t, got, 0, 410)
	if want := `{"reason":"Unregistered"}`; string(got.Body) != want {
		t.Errorf("body: got %s, want %s", got.Body, want)
	}
}

func TestUniqueIDAndMissingAPNsID(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	r := p.request()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: r.id, EndStream: true, EndHeaders: true,
		BlockFragment: p.block(":status", "200", "apns-unique-id", "6D3F1C52-0000-4000-8000-000000000001"),
	}))
	got := <-o.done
	wantStatus(t, got, 0, 200)
	if got.UniqueID != "6D3F1C52-0000-4000-8000-000000000001" || got.APNsID != uuid.Nil {
		t.Errorf("ids: got %q and %v, want the unique id and none", got.UniqueID, got.APNsID)
	}
}

func TestOneStreamUntilAuthenticated(t *testing.T) {
	t.Parallel()
	c, o, p := dial(t, h2.Config{Authorization: bearer})
	o.submit(job.Bulk, requests(20, 2)...)
	c.Wake()
	first := p.request() // before SETTINGS: one is assumed
	if got := o.queued(job.Bulk); got != 19 {
		t.Fatalf("before SETTINGS: got %d queued, want 19", got)
	}
	p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
	p.sync()
	if got := o.queued(job.Bulk); got != 19 {
		t.Errorf("before an answer: got %d queued, want 19", got)
	}
	p.refuse(first, 403, "InvalidProviderToken")
	wantStatus(t, <-o.done, 0, 403)
	second := p.request()
	p.sync()
	if got := o.queued(job.Bulk); got != 18 {
		t.Errorf("after a 403: got %d queued, want 18", got)
	}
	p.accept(second)
	for range 18 {
		p.request()
	}
	if got := o.queued(job.Bulk); got != 0 {
		t.Errorf("after a 200: got %d queued, want 0", got)
	}
}

func TestLimitFollowsSettings(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
	o.submit(job.Transactional, requests(10, 2)...)
	c.Wake()
	a, b, d := p.request(), p.request(), p.request()
	p.sync()
	if got := c.Stats(); got.Open != 3 || got.Limit != 3 {
		t.Errorf("at limit 3: got %+v", got)
	}
	// Lowered while three are open: nothing new until only one is.
	p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	p.accept(a)
	p.accept(b)
	p.sync()
	if got := o.queued(job.Transactional); got != 7 {
		t.Errorf("above the lowered limit: got %d queued, want 7", got)
	}
	p.accept(d)
	e := p.request()
	p.sync()
	if got := o.queued(job.Transactional); got != 6 {
		t.Errorf("at limit 1: got %d queued, want 6", got)
	}
	// Raised: the writer wakes by itself.
	p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	for range 6 {
		p.request()
	}
	p.accept(e)
	// To nothing, which is a limit like any other.
	p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	o.submit(job.Transactional, request(11, 2))
	c.Wake()
	p.sync()
	if got := o.queued(job.Transactional); got != 1 {
		t.Errorf("at limit 0: got %d queued, want 1", got)
	}
}

func TestOwnCapOnStreams(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{MaxStreams: 5}, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	o.submit(job.Transactional, requests(10, 2)...)
	c.Wake()
	p.sync()
	p.sync()
	if got := o.queued(job.Transactional); got != 5 {
		t.Errorf("peer without a limit: got %d queued, want 5", got)
	}
}

func TestRefusedStream(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, requests(3, 2)...)
	c.Wake()
	a, b, d := p.request(), p.request(), p.request()
	p.must(p.fr.WriteRSTStream(b.id, http2.ErrCodeRefusedStream))
	p.must(p.fr.WriteRSTStream(b.id, http2.ErrCodeStreamClosed)) // for its DATA: ignored
	p.sync()
	got := <-o.done
	wantFailed(t, got, true)
	var reset h2.ResetError
	if !errors.As(got.Err, &reset) || reset.Code != http2.ErrCodeRefusedStream {
		t.Errorf("error: got %v, want a reset by REFUSED_STREAM", got.Err)
	}
	if got := c.Stats().Limit; got != 2 {
		t.Errorf("limit after a refusal with two others open: got %d, want 2", got)
	}
	p.accept(a)
	wantStatus(t, <-o.done, 0, 200)
	p.accept(d)
	wantStatus(t, <-o.done, 2, 200)
	if got := c.Stats().Limit; got != 4 {
		t.Errorf("limit after two answers: got %d, want 4", got)
	}
	p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 500})
	if got := c.Stats().Limit; got != 500 {
		t.Errorf("limit after SETTINGS: got %d, want 500", got)
	}
}

func TestOtherResetsAreUnknown(t *testing.T) {
	t.Parallel()
	for _, code := range []http2.ErrCode{
		http2.ErrCodeNo, http2.ErrCodeInternal, http2.ErrCodeCancel, http2.ErrCodeEnhanceYourCalm, http2.ErrCodeStreamClosed,
	} {
		c, o, p := connect(t, h2.Config{})
		o.submit(job.Transactional, request(0, 2))
		c.Wake()
		p.must(p.fr.WriteRSTStream(p.request().id, code))
		wantFailed(t, <-o.done, false)
	}
}

func TestResetAfterStatusIsAnAnswer(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, request(0, 2))
	c.Wake()
	r := p.request()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndHeaders: true, BlockFragment: p.block(":status", "400")}))
	p.must(p.fr.WriteRSTStream(r.id, http2.ErrCodeNo))
	wantStatus(t, <-o.done, 0, 400)
}

func TestGoAway(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, requests(4, 2)...)
	c.Wake()
	rs := []*received{p.request(), p.request(), p.request(), p.request()}
	debug := `{"reason":"Shutdown","timestamp":1}`
	p.must(p.fr.WriteGoAway(rs[1].id, http2.ErrCodeNo, []byte(debug)))
	p.sync()
	// Above the last id: unprocessed, at once.
	for range 2 {
		got := <-o.done
		if got.index < 2 {
			t.Errorf("unprocessed: got %d, want 2 or 3", got.index)
		}
		wantFailed(t, got, true)
	}
	if g := <-o.away; g.Debug != debug || g.Code != http2.ErrCodeNo || g.LastStreamID != rs[1].id {
		t.Errorf("GOAWAY: got %+v, want its debug data and last id %d", g, rs[1].id)
	}
	// No new streams, but those up to the last id are still answered.
	o.submit(job.Transactional, request(5, 2))
	c.Wake()
	p.accept(rs[0])
	wantStatus(t, <-o.done, 0, 200)
	p.sync()
	if got := o.queued(job.Transactional); got != 1 {
		t.Errorf("after GOAWAY: got %d queued, want 1", got)
	}
	if got := c.Stats().Limit; got != 0 {
		t.Errorf("limit after GOAWAY: got %d, want 0", got)
	}
	// The other one never is: nobody can tell.
	_ = p.nc.Close()
	got := <-o.done
	wantFailed(t, got, false)
	var g *h2.GoAwayError
	if !errors.As(got.Err, &g) || !errors.Is(got.Err, h2.ErrPeerClosed) {
		t.Errorf("error: got %v, want both the GOAWAY and %v", got.Err, h2.ErrPeerClosed)
	}
	<-o.closed
}

func TestGoAwayInTwoPhases(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, requests(2, 2)...)
	c.Wake()
	a, b := p.request(), p.request()
	p.must(p.fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil))
	p.sync()
	if g := <-o.away; g.Debug != "" {
		t.Errorf("debug: got %q, want none", g.Debug)
	}
	p.must(p.fr.WriteGoAway(a.id, http2.ErrCodeNo, []byte("Maximum active streams violated for this endpoint.")))
	wantFailed(t, <-o.done, true)
	if g := <-o.away; g.Debug != "Maximum active streams violated for this endpoint." {
		t.Errorf("debug: got %q, want the text", g.Debug)
	}
	// A third with a larger id takes nothing back.
	p.must(p.fr.WriteGoAway(b.id, http2.ErrCodeNo, nil))
	if g := <-o.away; g.LastStreamID != a.id {
		t.Errorf("last id: got %d, want %d", g.LastStreamID, a.id)
	}
	p.accept(a)
	wantStatus(t, <-o.done, 0, 200)
	// Everything is answered: the connection says goodbye and ends.
	skipTo[*http2.GoAwayFrame](p)
	if err := (<-o.closed).err; !errors.Is(err, h2.ErrRetired) {
		t.Errorf("closed: got %v, want %v", err, h2.ErrRetired)
	}
}

func TestGoAwayBeforeSettings(t *testing.T) {
	t.Parallel()
	_, o, p := dial(t, h2.Config{})
	p.must(p.fr.WriteGoAway(0, http2.ErrCodeNo, []byte(`{"reason":"BadCertificate"}`)))
	if g := <-o.away; g.Debug != `{"reason":"BadCertificate"}` {
		t.Errorf("debug: got %q, want the reason", g.Debug)
	}
	skipTo[*http2.GoAwayFrame](p)
	<-o.closed
}

func TestRetire(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	r := p.request()
	c.Retire(time.Time{})
	o.submit(job.Bulk, request(1, 2))
	c.Wake()
	p.sync()
	if got := o.queued(job.Bulk); got != 1 {
		t.Errorf("retired: got %d queued, want 1", got)
	}
	p.accept(r)
	wantStatus(t, <-o.done, 0, 200)
	skipTo[*http2.GoAwayFrame](p)
	if err := (<-o.closed).err; !errors.Is(err, h2.ErrRetired) {
		t.Errorf("closed: got %v, want %v", err, h2.ErrRetired)
	}
}

func TestStreamIDsRunOut(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{MaxStreamID: 1_000_001})
	c.SetNextStreamID(999_999)
	o.submit(job.Bulk, requests(5, 2)...)
	c.Wake()
	a, b := p.request(), p.request()
	if a.id != 999_999 || b.id != 1_000_001 {
		t.Errorf("stream ids: got %d and %d, want 999999 and 1000001", a.id, b.id)
	}
	p.accept(a)
	p.accept(b)
	wantStatus(t, <-o.done, 0, 200)
	wantStatus(t, <-o.done, 1, 200)
	skipTo[*http2.GoAwayFrame](p)
	if err := (<-o.closed).err; !errors.Is(err, h2.ErrRetired) {
		t.Errorf("closed: got %v, want %v", err, h2.ErrRetired)
	}
	if got := o.queued(job.Bulk); got != 3 {
		t.Errorf("left to others: got %d, want 3", got)
	}
}

func TestSlowStreamDoesNotPinTheRing(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 4})
	total := 5 * h2.MinRing
	o.submit(job.Transactional, requests(total, 2)...)
	c.Wake()
	slow := p.request()
	for range total - 1 {
		p.accept(p.request())
		if got := <-o.done; got.Err != nil || got.Status != 200 {
			t.Fatalf("result: got status %d, error %v, want 200", got.Status, got.Err)
		}
	}
	if got := c.SlowStreams(); got != 1 {
		t.Errorf("overtaken streams: got %d, want 1", got)
	}
	p.accept(slow)
	wantStatus(t, <-o.done, 0, 200)
	if got := c.Stats(); got.Open != 0 || got.Answers != uint64(total) {
		t.Errorf("stats: got %+v, want nothing open and %d answers", got, total)
	}
}

func TestRingGrowsWithStreamsOpen(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 50})
	const total = 400
	o.submit(job.Transactional, requests(total, 2)...)
	c.Wake()
	rs := make([]*received, 0, total)
	for range 50 {
		rs = append(rs, p.request())
	}
	p.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
	for len(p.seen) < total || len(rs) < total {
		rs = append(rs, p.request())
	}
	for i, r := range rs {
		p.accept(r)
		wantStatus(t, <-o.done, int32(i), 200)
	}
	if got := c.SlowStreams(); got != 0 {
		t.Errorf("overtaken streams: got %d, want 0", got)
	}
}

func TestPeerClosesIdle(t *testing.T) {
	t.Parallel()
	_, o, p := connect(t, h2.Config{})
	_ = p.nc.Close()
	if err := (<-o.closed).err; !errors.Is(err, h2.ErrPeerClosed) {
		t.Errorf("closed: got %v, want %v", err, h2.ErrPeerClosed)
	}
}

func TestCloseTellsEverything(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, requests(3, 2)...)
	c.Wake()
	for range 3 {
		p.request()
	}
	c.Close()
	for range 3 {
		got := <-o.done
		wantFailed(t, got, false)
		if !errors.Is(got.Err, h2.ErrClosed) {
			t.Errorf("error: got %v, want %v", got.Err, h2.ErrClosed)
		}
	}
	c.Close() // again: nothing
}
