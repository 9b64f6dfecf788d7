package apnstest_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	now := time.Now()
	srv := newServer(t, apnstest.Config{Now: func() time.Time { return now }})
	c := ready(t, srv)
	srv.Reset()
	expiration := now.Unix() + 60
	id := c.push(tokenN(1), "apns-id", someID, "apns-priority", "5", "apns-expiration", fmt.Sprint(expiration), "apns-collapse-id", "score")
	c.answer(id)
	c.answer(c.push(tokenN(1), "apns-expiration", "0"))
	c.answer(c.push(tokenN(2), "apns-topic", "-"))
	dead := now.Add(-time.Hour)
	if err := srv.SetDevice(tokenN(3), apnstest.Device{DeadSince: &dead}); err != nil {
		t.Fatal(err)
	}
	c.answer(c.push(tokenN(3)))

	all := srv.Ledger(apnstest.Filter{})
	if len(all) != 4 {
		t.Fatalf("got %d records, want 4: %+v", len(all), all)
	}
	want := apnstest.Record{
		APNsID: someID, DeviceToken: tokenN(1), Topic: bundle, PushType: "alert", Priority: 5, Expiration: &expiration,
		CollapseID: "score", Body: payload, Connection: 1, Stream: id, ReceivedAt: now, Status: 200, Answered: true,
	}
	got := all[0]
	if got.Expiration == nil || *got.Expiration != expiration {
		t.Errorf("expiration: got %v, want %d", got.Expiration, expiration)
	}
	got.Expiration = want.Expiration
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if r := all[1]; r.Expiration == nil || *r.Expiration != 0 || r.Priority != 0 {
		t.Errorf("expiration 0 and no priority: got %+v", r)
	}
	if r := all[2]; r.Status != 400 || r.Reason != "MissingTopic" || r.Expiration != nil || r.Timestamp != 0 {
		t.Errorf("rejected: got %+v, want MissingTopic without expiration", r)
	}
	if r := all[3]; r.Status != 410 || r.Timestamp != dead.UnixMilli() {
		t.Errorf("dead: got %+v, want 410 with timestamp %d", r, dead.UnixMilli())
	}
	for name, tt := range map[string]struct {
		filter apnstest.Filter
		want   []apnstest.Record
	}{
		"token":           {apnstest.Filter{DeviceToken: strings.ToUpper(tokenN(1))}, all[:2]},
		"apns-id":         {apnstest.Filter{APNsID: strings.ToUpper(someID)}, all[:1]},
		"limit":           {apnstest.Filter{Limit: 2}, all[2:]},
		"token and limit": {apnstest.Filter{DeviceToken: tokenN(1), Limit: 1}, all[1:2]},
		"nothing":         {apnstest.Filter{DeviceToken: "ff"}, nil},
	} {
		got := srv.Ledger(tt.filter)
		if fmt.Sprint(len(got)) != fmt.Sprint(len(tt.want)) {
			t.Errorf("%s: got %d records, want %d", name, len(got), len(tt.want))
			continue
		}
		for i := range got {
			if got[i].Stream != tt.want[i].Stream {
				t.Errorf("%s: got stream %d at %d, want %d", name, got[i].Stream, i, tt.want[i].Stream)
			}
		}
	}
	srv.Reset()
	if st := srv.Stats(); len(srv.Ledger(apnstest.Filter{})) != 0 || st.Received != 0 || st.ConnectionsOpen != 1 {
		t.Errorf("after reset: got %+v, want nothing but the connection", st)
	}
	if _, ok := srv.Device(tokenN(3)); ok {
		t.Error("after reset: the device is still set")
	}
}

func TestLedgerLimit(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{LedgerLimit: 10})
	c := ready(t, srv)
	for i := range 25 {
		c.answer(c.push(tokenN(i)))
	}
	got := srv.Ledger(apnstest.Filter{})
	if len(got) != 10 || got[9].DeviceToken != tokenN(24) || got[0].DeviceToken != tokenN(15) {
		t.Errorf("got %d records, the last %+v, want the newest ten", len(got), got[len(got)-1])
	}
}

// TestSums compares with what a client adds up itself, in another order.
func TestSums(t *testing.T) {
	t.Parallel()
	for _, mode := range []apnstest.LedgerMode{apnstest.LedgerFull, apnstest.LedgerHash, apnstest.LedgerOff} {
		srv := newServer(t, apnstest.Config{Ledger: mode})
		c := ready(t, srv)
		srv.Reset()
		var sent []apnstest.Notification
		add := func(token string, n apnstest.Notification, over ...string) {
			t.Helper()
			raw, err := hex.DecodeString(token)
			if err != nil {
				t.Fatal(err)
			}
			n.DeviceToken, n.APNsID = raw, uuid.New()
			over = append(over, "apns-id", uuid.UUID(n.APNsID).String())
			c.answer(c.send(c.fields(token, over...), n.Body))
			sent = append(sent, n)
		}
		add(tokenN(1), apnstest.Notification{Topic: bundle, PushType: "alert", Expiration: -1, Body: []byte(payload)})
		add(tokenN(2), apnstest.Notification{Topic: bundle, PushType: "alert", Expiration: 0, Priority: 10, Body: []byte("{}")},
			"apns-expiration", "0", "apns-priority", "10")
		add(strings.Repeat("ab", 80), apnstest.Notification{
			Topic: bundle + ".voip", PushType: "voip", Expiration: 1 << 40, Priority: 5, CollapseID: "x", Body: []byte(payload),
		}, "apns-expiration", fmt.Sprint(1<<40), "apns-priority", "5", "apns-collapse-id", "x", "apns-push-type", "voip", "apns-topic", bundle+".voip")
		c.answer(c.push("zz")) // rejected: not in the sums
		var want apnstest.Sums
		for i := len(sent) - 1; i >= 0; i-- {
			want.Add(&sent[i])
		}
		if mode == apnstest.LedgerOff {
			want = apnstest.Sums{}
		}
		if got := srv.Stats().Sums; got != want {
			t.Errorf("%v: got %+v, want %+v", mode, got, want)
		}
	}
	// Everything counts.
	base := apnstest.Notification{DeviceToken: []byte{1}, Topic: "t", PushType: "p", Priority: 5, Expiration: 7, CollapseID: "c", Body: []byte("b")}
	for name, change := range map[string]func(*apnstest.Notification){
		"token":      func(n *apnstest.Notification) { n.DeviceToken = []byte{2} },
		"apns-id":    func(n *apnstest.Notification) { n.APNsID[15] = 1 },
		"topic":      func(n *apnstest.Notification) { n.Topic = "tp"; n.PushType = "" },
		"push type":  func(n *apnstest.Notification) { n.PushType = "q" },
		"priority":   func(n *apnstest.Notification) { n.Priority = 10 },
		"expiration": func(n *apnstest.Notification) { n.Expiration = 0 },
		"collapse":   func(n *apnstest.Notification) { n.CollapseID = "cb"; n.Body = nil },
		"body":       func(n *apnstest.Notification) { n.Body = []byte("c") },
	} {
		other := base
		change(&other)
		if base.Hash() == other.Hash() {
			t.Errorf("hash does not depend on %s", name)
		}
	}
	absent, zero := base, base
	absent.Expiration, zero.Expiration = -1, 0
	if absent.Hash() == zero.Hash() {
		t.Error("hash does not tell an absent expiration from 0")
	}
	text, err := json.Marshal(apnstest.Sums{Tokens: 1, Pairs: 2, Content: 1 << 63})
	var back apnstest.Sums
	if err != nil || json.Unmarshal(text, &back) != nil || back.Content != 1<<63 || !strings.Contains(string(text), `"8000000000000000"`) {
		t.Errorf("sums in JSON: got %s, %v and back %+v", text, err, back)
	}
	if err := json.Unmarshal([]byte(`"12"`), &back.Tokens); err == nil {
		t.Error("short sum in JSON: got no error")
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  apnstest.Config
		want int64
	}{
		{apnstest.Config{}, 3},
		{apnstest.Config{Ledger: apnstest.LedgerHash}, 3},
		{apnstest.Config{Ledger: apnstest.LedgerOff}, 0},
		{apnstest.Config{Ledger: apnstest.LedgerHash, IgnoreDuplicates: true}, 0},
	} {
		srv := newServer(t, tt.cfg)
		c := ready(t, srv)
		other := ready(t, srv)
		c.answer(c.push(tokenN(1), "apns-id", someID))
		c.answer(c.push(tokenN(2), "apns-id", someID))                                      // another device
		c.answer(c.push(tokenN(1)))                                                         // another id
		c.answer(c.push(tokenN(1), "apns-id", someID, "apns-topic", ""))                    // rejected
		c.answer(c.push(tokenN(1), "apns-id", someID))                                      // 1
		c.answer(c.push(strings.ToUpper(tokenN(1)), "apns-id", strings.ToUpper(someID)))    // 2
		other.answer(other.push(tokenN(1), "apns-id", someID, "apns-collapse-id", "other")) // 3
		if got := srv.Stats().Duplicates; got != tt.want {
			t.Errorf("%v: got %d duplicates, want %d", tt.cfg.Ledger, got, tt.want)
		}
	}
}

func TestSlot(t *testing.T) {
	t.Parallel()
	clk := newClock()
	srv := newServer(t, apnstest.Config{Now: clk.now})
	c := ready(t, srv)
	send := func(body string, over ...string) {
		t.Helper()
		c.answer(c.send(c.fields(tokenN(1), over...), []byte(body)))
	}
	show := func() (bodies []string) {
		for _, r := range srv.Slot(tokenN(1), bundle).Shown {
			bodies = append(bodies, r.Body)
		}
		return bodies
	}
	send("a", "apns-collapse-id", "x")
	send("b")
	send("c", "apns-collapse-id", "x") // replaces a
	send("d", "apns-push-type", "voip", "apns-topic", bundle+".voip")
	if got := fmt.Sprint(show()); got != "[b c d]" {
		t.Errorf("shown: got %s, want [b c d]", got)
	}
	offline := apnstest.Device{Offline: true}
	if err := srv.SetDevice(tokenN(1), offline); err != nil {
		t.Fatal(err)
	}
	send("e")
	send("f", "apns-expiration", "0") // one attempt: lost
	send("g", "apns-expiration", fmt.Sprint(clk.now().Unix()+60))
	sl := srv.Slot(tokenN(1), bundle)
	if sl.Stored == nil || sl.Stored.Body != "g" || sl.Overwritten != 1 || sl.Discarded != 1 || sl.Accepted != 7 || len(sl.Shown) != 3 {
		t.Errorf("offline: got %+v, want g stored over e, f lost", sl)
	}
	if err := srv.SetDevice(tokenN(1), apnstest.Device{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(show()); got != "[b c d g]" || srv.Slot(tokenN(1), bundle).Stored != nil {
		t.Errorf("online again: got %s, want [b c d g]", got)
	}
	// What expires while it is stored is not delivered.
	if err := srv.SetDevice(tokenN(1), offline); err != nil {
		t.Fatal(err)
	}
	send("h", "apns-expiration", fmt.Sprint(clk.now().Unix()+60))
	clk.advance(2 * time.Minute)
	if err := srv.SetDevice(tokenN(1), apnstest.Device{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(show()); got != "[b c d g]" {
		t.Errorf("expired meanwhile: got %s, want [b c d g]", got)
	}
	if got := srv.Slot("zz", bundle); got.Accepted != 0 {
		t.Errorf("slot of rubbish: got %+v", got)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Latency: 20 * time.Millisecond})
	began := time.Now()
	if st := srv.Stats(); !st.FirstReceivedAt.IsZero() || !st.LastReceivedAt.IsZero() {
		t.Errorf("nothing came: got it from %v to %v, want no times", st.FirstReceivedAt, st.LastReceivedAt)
	}
	a := ready(t, srv)
	b := ready(t, srv)
	a.burst(30)
	b.answer(b.push("zz"))
	b.answer(b.push(tokenN(1), "apns-topic", "-"))
	waitFor(t, srv, "all is answered", func(st apnstest.Stats) bool { return st.HoldCount == 34 })
	_ = b.conn.Close()
	waitFor(t, srv, "one is gone", func(st apnstest.Stats) bool { return st.ConnectionsOpen == 1 })
	st := srv.Stats()
	if st.Received != 34 || st.Accepted != 32 || st.Rejected != 2 || st.Statuses["200"] != 32 || st.Statuses["400"] != 2 ||
		st.Reasons["BadDeviceToken"] != 1 || st.Reasons["MissingTopic"] != 1 || len(st.Reasons) != 2 {
		t.Errorf("answers: got %+v", st)
	}
	if first, last := st.FirstReceivedAt, st.LastReceivedAt; first.Before(began) || last.Sub(first) < 40*time.Millisecond || last.After(time.Now()) {
		t.Errorf("received: got it from %v to %v, want two latencies between them at least, and both since %v", first, last, began)
	}
	if st.HoldSeconds < 34*0.02 || st.HoldMeanSeconds < 0.02 {
		t.Errorf("hold: got %+v, want at least 20ms each", st)
	}
	if st.ConnectionsTotal != 2 || st.MaxConnectionsOpen != 2 || st.MaxConnectsPerMinute != 2 || st.AnswersLost != 0 {
		t.Errorf("connections: got %+v", st)
	}
	if st.BodyBytes != int64(34*len(payload)) || st.BytesIn < st.BodyBytes || st.BytesOut == 0 || st.HPACK.BlockBytes == 0 {
		t.Errorf("bytes: got %+v", st)
	}
	conns := srv.Connections()
	if st.AnsweredLate != conns[0].LastAnswers { // how many depends on the machine
		t.Errorf("answers within 100 ms of the end: got %d, of the connection %d", st.AnsweredLate, conns[0].LastAnswers)
	}
	if len(conns) != 2 || conns[0].ID != 2 || conns[0].Received != 3 || conns[0].Cause != "closed by the client" || conns[0].ClosedAt.IsZero() ||
		conns[1].ID != 1 || conns[1].Answered != 31 || !conns[1].ClosedAt.IsZero() || conns[1].KeyID != srv.KeyID() || conns[1].StreamLimit != 1000 {
		t.Errorf("connections: got %+v", conns)
	}
}

func TestRecentAnswers(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	for _, tt := range []struct {
		name string
		now  int64
		want int64 // of 1 at 1000 ms, 2 at 1050 ms and 4 at 1099 ms
	}{
		{"at once", 1099 * ms, 7},
		{"the first is too old", 1111 * ms, 6},
		{"the last is left", 1170 * ms, 4},
		{"all are too old", 1210 * ms, 0},
		{"much later", 99_999 * ms, 0},
	} {
		var r apnstest.RecentAnswers
		r.Add(1000*ms, 1)
		r.Add(1050*ms, 2)
		r.Add(1099*ms, 4)
		if got := r.Sum(tt.now); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := srv.Wait(ctx, func(apnstest.Stats) bool { return false }); !errors.Is(err, cause) {
		t.Errorf("wait for what never comes: got %v, want the cause", err)
	}
	if err := srv.Wait(ctx, func(apnstest.Stats) bool { return true }); err != nil {
		t.Errorf("wait for what is so: got %v", err)
	}
	done := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- srv.Wait(ctx, func(st apnstest.Stats) bool { return st.Accepted == 3 })
	}()
	c := ready(t, srv)
	c.burst(2)
	if err := <-done; err != nil {
		t.Errorf("wait for three: got %v", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, m := range []apnstest.LedgerMode{apnstest.LedgerFull, apnstest.LedgerHash, apnstest.LedgerOff} {
		if got, err := apnstest.ParseLedgerMode(m.String()); err != nil || got != m {
			t.Errorf("ledger mode %v: got back %v, %v", m, got, err)
		}
	}
	if _, err := apnstest.ParseLedgerMode("some"); err == nil {
		t.Error("ledger mode some: got no error")
	}
	for f, want := range map[fmt.Stringer]string{
		apnstest.Healthy: "healthy", apnstest.Dead: "dead", apnstest.Bad: "bad", apnstest.WrongTopic: "wrong_topic",
		apnstest.Fate(9): "fate(9)", apnstest.LedgerMode(9): "ledger(9)",
	} {
		if got := f.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]apnstest.Config{
		"environment": {Environment: "staging"},
		"shares":      {DeadShare: 0.7, BadShare: 0.7},
		"streams":     {Streams: -1},
		"latency":     {Latency: -1},
		"ledger":      {Ledger: 9},
		"unknown":     {Unknown: 9},
		"topics":      {Topics: []string{"no topic"}},
		"key":         {Keys: []apnstest.Key{{ID: "x"}}},
		"listen":      {Addr: "127.0.0.1:99999"},
		"aliases":     {Aliases: []string{"127.0.0.1:99999"}},
	} {
		srv, err := apnstest.New(cfg)
		if err == nil {
			_ = srv.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "apnstest: ") {
			t.Errorf("%s: got %v, want an error", name, err)
		}
	}
}
