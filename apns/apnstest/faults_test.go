package apnstest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func setFaults(t *testing.T, srv *apnstest.Server, f apnstest.Faults) {
	t.Helper()
	if err := srv.SetFaults(f); err != nil {
		t.Fatal(err)
	}
}

// request makes faults of one request fault.
func request(r apnstest.RequestFault) apnstest.Faults {
	return apnstest.Faults{Requests: []apnstest.RequestFault{r}}
}

// do makes a fault that acts at the n-th request of a connection, once. The
// requests count from 1 and ready makes the first.
func do(n int, a apnstest.Action) apnstest.Faults {
	return request(apnstest.RequestFault{Match: apnstest.Match{Skip: n - 1, Times: 1}, Do: &a})
}

func act(t *testing.T, srv *apnstest.Server, a apnstest.Action) {
	t.Helper()
	if n, err := srv.Do(a); err != nil || n != 1 {
		t.Fatalf("do %+v: got %d connections, %v, want 1", a, n, err)
	}
}

func u32(n uint32) *uint32 { return &n }

func ms(n int) apnstest.Duration { return apnstest.Duration(n) * apnstest.Duration(time.Millisecond) }

// burst sends n requests and waits until all have ended.
func (c *client) burst(n int) []uint32 {
	c.t.Helper()
	var ids []uint32
	for i := range n {
		ids = append(ids, c.push(tokenN(i)))
	}
	c.wait("burst", func() bool { return c.ended(ids...) })
	return ids
}

func TestLatencyDistributions(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	run := func(name string, l apnstest.Latency, n int) (mean time.Duration, sorted bool) {
		t.Helper()
		setFaults(t, srv, apnstest.Faults{Latency: l, Seed: 7})
		waitFor(t, srv, "all is written", func(st apnstest.Stats) bool { return st.HoldCount == st.Received })
		srv.Reset()
		c.order = nil
		c.burst(n)
		waitFor(t, srv, name, func(st apnstest.Stats) bool { return st.HoldCount == int64(n) })
		return time.Duration(srv.Stats().HoldMeanSeconds * float64(time.Second)), slices.IsSorted(c.order)
	}
	if _, sorted := run("jitter", apnstest.Latency{Jitter: ms(80)}, 100); sorted {
		t.Error("jitter: answers came in the order of the requests")
	}
	if mean, sorted := run("in order", apnstest.Latency{Jitter: ms(40), InOrder: true}, 100); !sorted || mean < 5*time.Millisecond {
		t.Errorf("in order: got a mean of %v, sorted %v, want some 40ms in order", mean, sorted)
	}
	if mean, sorted := run("log-normal", apnstest.Latency{Median: ms(20), Sigma: 0.5}, 200); sorted || mean < 15*time.Millisecond {
		t.Errorf("log-normal with median 20ms: got a mean of %v, sorted %v, want about 22ms, shuffled", mean, sorted)
	}
	if mean, _ := run("tail", apnstest.Latency{Constant: ms(1), TailShare: 0.25, Tail: ms(100)}, 200); mean < 15*time.Millisecond {
		t.Errorf("a quarter takes 100ms longer: got a mean of %v", mean)
	}
	// Tokens that are never answered: which ones does not depend on the run.
	setFaults(t, srv, apnstest.Faults{Latency: apnstest.Latency{SilentShare: 0.5}})
	srv.Reset()
	var silent [2][]int
	for run := range silent {
		var ids []uint32
		for i := range 60 {
			ids = append(ids, c.push(tokenN(i)))
		}
		c.ping()
		for i, id := range ids {
			if !c.ended(id) {
				silent[run] = append(silent[run], i)
			}
		}
	}
	if n := len(silent[0]); n < 15 || n > 45 || !slices.Equal(silent[0], silent[1]) {
		t.Errorf("silent tokens: got %v and %v, want the same half", silent[0], silent[1])
	}
	if st := srv.Stats(); st.Accepted != 120 || st.Answered != int64(120-2*len(silent[0])) {
		t.Errorf("silent tokens: got %d accepted, %d answered, want 120, %d", st.Accepted, st.Answered, 120-2*len(silent[0]))
	}
}

func TestRequestFaults(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Auth: apnstest.AuthFaults{UpdateInterval: -1}}})
	for _, tt := range []struct {
		name      string
		fault     apnstest.RequestFault
		status    int
		reason    string
		resets    []http2.ErrCode
		silent    bool
		processed bool // it is in the ledger
	}{
		{name: "503", fault: apnstest.RequestFault{Answer: &apnstest.Answer{Status: 503, Reason: "Shutdown"}}, status: 503, reason: "Shutdown", processed: true},
		{name: "400", fault: apnstest.RequestFault{Answer: &apnstest.Answer{Status: 400, Reason: "BadDeviceToken"}}, status: 400, reason: "BadDeviceToken", processed: true},
		{name: "429", fault: apnstest.RequestFault{Answer: &apnstest.Answer{Status: 429, Reason: "TooManyRequests"}}, status: 429, reason: "TooManyRequests", processed: true},
		{name: "unknown reason", fault: apnstest.RequestFault{Answer: &apnstest.Answer{Status: 499, Reason: "Whatever"}}, status: 499, reason: "Whatever", processed: true},
		{name: "never answered", fault: apnstest.RequestFault{NeverAnswer: true}, silent: true, processed: true},
		{name: "refused", fault: apnstest.RequestFault{Reset: &apnstest.Reset{Code: "REFUSED_STREAM"}}, resets: []http2.ErrCode{http2.ErrCodeRefusedStream}},
		{
			name:   "refused twice",
			fault:  apnstest.RequestFault{Reset: &apnstest.Reset{Code: "REFUSED_STREAM", When: "before", Twice: true}},
			resets: []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeStreamClosed},
		},
		{
			name:   "reset after processing",
			fault:  apnstest.RequestFault{Reset: &apnstest.Reset{Code: "INTERNAL_ERROR", When: "after"}},
			resets: []http2.ErrCode{http2.ErrCodeInternal}, processed: true,
		},
		{
			name:   "reset after headers",
			fault:  apnstest.RequestFault{Reset: &apnstest.Reset{Code: "CANCEL", When: "headers", Twice: true}},
			status: 200, resets: []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeStreamClosed}, processed: true,
		},
	} {
		setFaults(t, srv, apnstest.Faults{})
		c := ready(t, srv)
		srv.Reset()
		tt.fault.Match = apnstest.Match{Times: 1}
		setFaults(t, srv, request(tt.fault))
		id := c.push(tokenN(1), "apns-id", someID)
		after := c.push(tokenN(2))
		c.ping()
		a := c.answers[id]
		switch {
		case tt.silent:
			if a != nil || len(c.resets) > 0 {
				t.Errorf("%s: got %+v, resets %v, want silence", tt.name, a, c.resets)
			}
		case tt.status != 0:
			if a == nil || a.status != tt.status || a.reason() != tt.reason {
				t.Errorf("%s: got %+v, want %d %q", tt.name, a, tt.status, tt.reason)
			}
		case a != nil:
			t.Errorf("%s: got %+v, want no answer", tt.name, a)
		}
		if !slices.Equal(c.resets[id], tt.resets) {
			t.Errorf("%s: got resets %v, want %v", tt.name, c.resets[id], tt.resets)
		}
		if got := c.answers[after]; got == nil || got.status != 200 {
			t.Errorf("%s: got %+v for the next request, want 200", tt.name, got)
		}
		records := srv.Ledger(apnstest.Filter{APNsID: strings.ToUpper(someID)})
		if got := len(records) == 1; got != tt.processed {
			t.Errorf("%s: got ledger %+v, want the request in it: %v", tt.name, records, tt.processed)
		}
		if tt.processed && len(tt.resets) == 0 && records[0].Answered == tt.silent {
			t.Errorf("%s: got answered %v in the ledger, want %v", tt.name, records[0].Answered, !tt.silent)
		}
		st := srv.Stats()
		if want := int64(2); st.Received+st.Faulted != want {
			t.Errorf("%s: got %d received, %d faulted, want %d together", tt.name, st.Received, st.Faulted, want)
		}
		if tt.silent && st.Pending != 1 || !tt.silent && st.Pending != 0 {
			t.Errorf("%s: got %d pending", tt.name, st.Pending)
		}
		_ = c.conn.Close()
		waitFor(t, srv, "the connection is gone", func(st apnstest.Stats) bool { return st.ConnectionsOpen == 0 })
		if got := srv.Stats().Pending; got != 0 {
			t.Errorf("%s: got %d pending after the connection ended, want 0", tt.name, got)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	run := func(m apnstest.Match, f apnstest.Faults, over ...string) (hit []int) {
		t.Helper()
		setFaults(t, srv, apnstest.Faults{})
		c := ready(t, srv) // request 1
		f.Requests = []apnstest.RequestFault{{Match: m, Answer: &apnstest.Answer{Status: 500, Reason: "InternalServerError"}}}
		setFaults(t, srv, f)
		for i, id := range c.burst(20) {
			if c.answers[id].status == 500 {
				hit = append(hit, i+2)
			}
		}
		return hit
	}
	all := make([]int, 20)
	for i := range all {
		all[i] = i + 2
	}
	for _, tt := range []struct {
		name  string
		match apnstest.Match
		want  []int
	}{
		{"all", apnstest.Match{}, all},
		{"skip", apnstest.Match{Skip: 18}, all[17:]},
		{"every", apnstest.Match{Skip: 1, Every: 5}, []int{2, 7, 12, 17}},
		{"times", apnstest.Match{Times: 3}, all[:3]},
		{"token", apnstest.Match{TokenPrefix: strings.ToUpper(tokenN(11)[:63])}, all[:16]},
		{"another token", apnstest.Match{TokenPrefix: "f"}, nil},
		{"topic", apnstest.Match{Topic: bundle}, all},
		{"another topic", apnstest.Match{Topic: "com.example.other"}, nil},
		{"later", apnstest.Match{From: apnstest.Duration(time.Hour)}, nil},
		{"for an hour", apnstest.Match{Until: apnstest.Duration(time.Hour)}, all},
		{"until now", apnstest.Match{Until: 1}, nil},
		{"another connection", apnstest.Match{Connection: 1 << 40}, nil},
	} {
		if got := run(tt.match, apnstest.Faults{}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := run(apnstest.Match{TokenShare: 0.5}, apnstest.Faults{}); len(got) < 3 || len(got) > 17 ||
		!slices.Equal(got, run(apnstest.Match{TokenShare: 0.5}, apnstest.Faults{Seed: 9})) {
		t.Errorf("half of the tokens: got %v, want about half, the same ones each time", got)
	}
	// A probability is repeated on the same connection of another server.
	var runs [3][]int
	for i, seed := range []uint64{1, 1, 2} {
		srv = newServer(t, apnstest.Config{})
		runs[i] = run(apnstest.Match{Probability: 0.5}, apnstest.Faults{Seed: seed})
	}
	if n := len(runs[0]); n < 3 || n > 17 || !slices.Equal(runs[0], runs[1]) || slices.Equal(runs[0], runs[2]) {
		t.Errorf("probability: got %v, %v with the same seed and %v with another", runs[0], runs[1], runs[2])
	}
	if got := srv.Events(); len(got) < len(runs[2]) || got[len(got)-1].What != "answer 500 InternalServerError" {
		t.Errorf("events: got %+v, want one for each time", got)
	}
}

func TestDelayFault(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	setFaults(t, srv, request(apnstest.RequestFault{Match: apnstest.Match{Times: 1}, Delay: ms(50)}))
	slow, fast := c.push(tokenN(1)), c.push(tokenN(2))
	c.wait("both", func() bool { return c.ended(slow, fast) })
	if want := []uint32{fast, slow}; !slices.Equal(c.order[1:], want) {
		t.Errorf("order: got %v, want the delayed one last: %v", c.order[1:], want)
	}
}

func TestFlip(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	for flip, want := range map[string]string{"environment": "BadDeviceToken", "topic": "DeviceTokenNotForTopic", "": ""} {
		setFaults(t, srv, apnstest.Faults{Flip: flip})
		for _, id := range c.burst(5) {
			if got := c.answers[id].reason(); got != want {
				t.Errorf("flip %q: got %q, want %q", flip, got, want)
			}
		}
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	setFaults(t, srv, apnstest.Faults{RateLimit: apnstest.RateLimit{Burst: 2, Every: apnstest.Duration(time.Hour)}})
	var got []int
	for range 4 {
		got = append(got, c.answer(c.push(tokenN(1))).status)
	}
	got = append(got, c.answer(c.push(tokenN(2))).status)
	if want := []int{200, 200, 429, 429, 200}; !slices.Equal(got, want) {
		t.Errorf("burst of 2: got %v, want %v", got, want)
	}
	setFaults(t, srv, apnstest.Faults{RateLimit: apnstest.RateLimit{Burst: 1, Every: 1}})
	for range 3 {
		if got := c.answer(c.push(tokenN(3))).status; got != 200 {
			t.Errorf("bucket that leaks at once: got %d, want 200", got)
		}
	}
}

func TestStrictPayload(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{StrictPayload: true}})
	c := ready(t, srv)
	for body, want := range map[string]string{
		payload: "", `{}`: "", `{"aps":{}}`: "", `{"aps":{"badge":1,"sound":{"critical":1},"content-state":{}},"x":[1]}`: "",
		`hello`: "BadRequestPayload", `[]`: "BadRequestPayload", `null`: "BadRequestPayload", `{"aps":1}`: "BadRequestPayload",
		`{"aps":{"badge":"1"}}`: "BadRequestPayload", `{"aps":{"alert":1}}`: "BadRequestPayload", `{"aps":{}}x`: "BadRequestPayload",
		`{"aps":{"content-changed":1}}`: "BadRequestPayload", `{"aps":{"thread-id":7}}`: "BadRequestPayload", `{"aps":{"attributes":""}}`: "BadRequestPayload",
	} {
		if got := c.answer(c.send(c.fields(tokenN(1)), []byte(body))).reason(); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}

// TestGoAway triggers one at the fifth of nine requests that are in flight.
func TestGoAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		g        apnstest.GoAway
		last     int // request that last-stream-id names, 0 is none, -1 is 2^31-1
		code     http2.ErrCode
		debug    string
		answered int // of the nine, in order
		accepted int64
		stays    bool
	}{
		{name: "plain", g: apnstest.GoAway{}, last: 4, answered: 4, accepted: 4},
		{
			name: "with a reason", g: apnstest.GoAway{Code: "ENHANCE_YOUR_CALM", Reason: "Shutdown"}, last: 4,
			code: http2.ErrCodeEnhanceYourCalm, debug: `{"reason":"Shutdown"}`, answered: 4, accepted: 4,
		},
		{
			name: "with text", g: apnstest.GoAway{Code: "REFUSED_STREAM", Debug: "no more"}, last: 4,
			code: http2.ErrCodeRefusedStream, debug: "no more", answered: 4, accepted: 4,
		},
		{name: "two below", g: apnstest.GoAway{Back: 2}, last: 2, answered: 2, accepted: 2},
		{name: "zero", g: apnstest.GoAway{Last: "zero"}, last: 0, answered: 0, accepted: 0},
		{name: "max, and all goes on", g: apnstest.GoAway{Last: "max"}, last: -1, answered: 9, accepted: 9},
		{name: "held for three more", g: apnstest.GoAway{Hold: 4}, last: 4, answered: 4, accepted: 4},
		{name: "close without answering", g: apnstest.GoAway{Then: "close"}, last: 4, answered: 0, accepted: 4},
		{name: "stay", g: apnstest.GoAway{Then: "stay"}, last: 4, answered: 4, accepted: 4, stays: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, apnstest.Config{})
			c := ready(t, srv)
			srv.Reset()
			base := c.next
			f := do(6, apnstest.Action{GoAway: &tt.g})
			f.Latency.Constant = ms(100)
			setFaults(t, srv, f)
			var ids []uint32
			for i := range 9 {
				ids = append(ids, c.push(tokenN(i)))
			}
			if tt.stays {
				c.wait("answers", func() bool { return c.ended(ids[:tt.answered]...) })
				c.ping()
			} else if err := c.drain(); !isEOF(err) {
				t.Errorf("got %v, want the connection closed in good order", err)
			}
			last := uint32(1<<31 - 1)
			if tt.last == 0 {
				last = 0
				if tt.g.Last != "zero" {
					last = base - 2
				}
			} else if tt.last > 0 {
				last = ids[tt.last-1]
			}
			want := goAway{last, tt.code, tt.debug}
			if len(c.goAways) != 1 || c.goAways[0] != want {
				t.Errorf("got GOAWAY %+v, want %+v", c.goAways, want)
			}
			if want := ids[:tt.answered]; !slices.Equal(c.order[1:], want) {
				t.Errorf("got answers to %v, want %v", c.order[1:], want)
			}
			// It reads on, for as long as the client does not close.
			waitFor(t, srv, "all are counted", func(st apnstest.Stats) bool { return st.Received+st.Faulted == 9 })
			if st := srv.Stats(); st.Accepted != tt.accepted || st.GoAways != 1 {
				t.Errorf("stats: got %d accepted, %d goaways, want %d, 1", st.Accepted, st.GoAways, tt.accepted)
			}
			var accepted int64
			for _, r := range srv.Ledger(apnstest.Filter{}) {
				if r.Status == 200 && !r.Withdrawn {
					accepted++
				}
			}
			if accepted != tt.accepted {
				t.Errorf("ledger: got %d accepted, want %d", accepted, tt.accepted)
			}
			// All that was not accepted may be sent again without a duplicate.
			setFaults(t, srv, apnstest.Faults{})
			again := ready(t, srv)
			for i := int(tt.accepted); i < 9; i++ {
				again.answer(again.push(tokenN(i)))
			}
			if got := srv.Stats().Duplicates; got != 0 {
				t.Errorf("duplicates after sending the rest again: got %d, want 0", got)
			}
		})
	}
}

// TestGoAwayWithdrawsForGood resends with the same ids what a GOAWAY disowned,
// and then once more.
func TestGoAwayWithdrawsForGood(t *testing.T) {
	t.Parallel()
	for _, mode := range []apnstest.LedgerMode{apnstest.LedgerFull, apnstest.LedgerHash} {
		srv := newServer(t, apnstest.Config{Ledger: mode})
		c := ready(t, srv)
		setFaults(t, srv, apnstest.Faults{Latency: apnstest.Latency{Constant: apnstest.Duration(time.Hour)}})
		uuid := func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }
		for i := range 20 {
			c.push(tokenN(i), "apns-id", uuid(i))
		}
		c.ping()
		before := srv.Stats()
		if before.Accepted != 21 || before.Pending != 20 {
			t.Fatalf("%v: got %+v, want 21 accepted, 20 pending", mode, before)
		}
		act(t, srv, apnstest.Action{GoAway: &apnstest.GoAway{Last: "zero"}})
		if err := c.drain(); !isEOF(err) {
			t.Fatal(err)
		}
		waitFor(t, srv, "all is withdrawn", func(st apnstest.Stats) bool { return st.Withdrawn == 20 && st.Pending == 0 })
		setFaults(t, srv, apnstest.Faults{})
		c = ready(t, srv)
		for round, want := range []int64{0, 20} {
			for i := range 20 {
				c.answer(c.push(tokenN(i), "apns-id", uuid(i)))
			}
			if got := srv.Stats().Duplicates; got != want {
				t.Errorf("%v, round %d: got %d duplicates, want %d", mode, round, got, want)
			}
		}
		if mode == apnstest.LedgerFull {
			sl := srv.Slot(tokenN(3), bundle)
			if sl.Accepted != 2 || sl.Duplicates != 1 || len(sl.Shown) != 2 {
				t.Errorf("slot: got %+v, want 2 accepted, 1 duplicate", sl)
			}
			got := srv.Ledger(apnstest.Filter{DeviceToken: tokenN(3)})
			if len(got) != 3 || !got[0].Withdrawn || got[0].Status != 0 || got[1].Duplicate || !got[2].Duplicate {
				t.Errorf("ledger: got %+v, want withdrawn, accepted, duplicate", got)
			}
		}
	}
}

func TestGoAwayInTwoPhases(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	act(t, srv, apnstest.Action{GoAway: &apnstest.GoAway{TwoPhase: ms(50)}})
	c.wait("first GOAWAY", func() bool { return len(c.goAways) == 1 })
	id := c.push(tokenN(1)) // still taken
	if got := c.answer(id).status; got != 200 {
		t.Errorf("between the two: got %d, want 200", got)
	}
	if err := c.drain(); !isEOF(err) {
		t.Errorf("got %v, want the connection closed", err)
	}
	want := []goAway{{1<<31 - 1, 0, ""}, {id, 0, ""}}
	if !slices.Equal(c.goAways, want) {
		t.Errorf("got %+v, want %+v", c.goAways, want)
	}
}

func TestProcessedButNotAnswered(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	setFaults(t, srv, request(apnstest.RequestFault{NeverAnswer: true, Do: &apnstest.Action{GoAway: &apnstest.GoAway{Then: "close"}}}))
	id := c.push(tokenN(1), "apns-id", someID)
	if err := c.drain(); !isEOF(err) {
		t.Errorf("got %v, want the connection closed", err)
	}
	if len(c.goAways) != 1 || c.goAways[0].last != id || c.answers[id] != nil {
		t.Errorf("got GOAWAY %+v, answer %+v, want the request covered and unanswered", c.goAways, c.answers[id])
	}
	setFaults(t, srv, apnstest.Faults{})
	c = ready(t, srv)
	c.answer(c.push(tokenN(1), "apns-id", someID))
	if got := srv.Stats().Duplicates; got != 1 {
		t.Errorf("sent again: got %d duplicates, want 1", got)
	}
}

func TestCloseFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		how    string
		ok     func(error) bool
		notify bool
	}{
		{"tls", isEOF, true},
		{"fin", isEOF, false}, // crypto/tls does not tell these two apart
		{"rst", isReset, false},
	} {
		srv := newServer(t, apnstest.Config{})
		var wire bytes.Buffer
		c := dial(t, srv, dialOptions{record: &wire, maxTLS: tls.VersionTLS12})
		c.warm()
		setFaults(t, srv, do(3, apnstest.Action{Close: tt.how}))
		first, second := c.push(tokenN(1)), c.push(tokenN(2))
		if err := c.drain(); !tt.ok(err) {
			t.Errorf("%s: got %v", tt.how, err)
		}
		if c.ended(second) || len(c.goAways) > 0 {
			t.Errorf("%s: got answer %+v, GOAWAY %+v, want none", tt.how, c.answers[second], c.goAways)
		}
		// Record types of TLS 1.2 are in clear: the last one is an alert, or not.
		const header, alert = 5, 21
		last := byte(0)
		for b := wire.Bytes(); len(b) >= header; b = b[header+(int(b[3])<<8+int(b[4])):] {
			last = b[0]
		}
		if got := last == alert; got != tt.notify {
			t.Errorf("%s: got close_notify %v, want %v", tt.how, got, tt.notify)
		}
		_ = c.conn.NetConn().Close()
		waitFor(t, srv, "the connection is gone", func(st apnstest.Stats) bool { return st.ConnectionsOpen == 0 })
		records := srv.Ledger(apnstest.Filter{})
		if len(records) != 2 || records[1].Stream != first {
			t.Errorf("%s: got ledger %+v, want only the first two requests", tt.how, records)
		}
	}
}

// TestLinger has the client not close its side.
func TestLinger(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	act(t, srv, apnstest.Action{GoAway: &apnstest.GoAway{}})
	if err := c.drain(); !isEOF(err) {
		t.Errorf("got %v, want the connection closed", err)
	}
	waitFor(t, srv, "the server has given up on the client", func(st apnstest.Stats) bool { return st.ConnectionsOpen == 0 })
	if got := srv.Connections(); len(got) != 1 || got[0].Cause != "goaway" {
		t.Errorf("connections: got %+v, want one that ended by GOAWAY", got)
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	setFaults(t, srv, do(2, apnstest.Action{Freeze: true}))
	id := c.push(tokenN(1))
	c.must(c.fr.WritePing(false, [8]byte{}))
	_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if err := c.drain(); !isTimeout(err) {
		t.Errorf("frozen: got %v, want nothing at all", err)
	}
	if c.ended(id) || c.pings > 0 {
		t.Errorf("frozen: got answer %+v, %d pings", c.answers[id], c.pings)
	}
	// What was held back comes later. crypto/tls survives a read timeout.
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	act(t, srv, apnstest.Action{Thaw: true})
	c.fr = http2.NewFramer(&c.out, c.conn)
	if got := c.answer(id).status; got != 200 {
		t.Errorf("thawed: got %d, want 200", got)
	}
	c.wait("ping", func() bool { return c.pings == 1 })
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// TestStopReading fills all buffers until a write blocks.
func TestStopReading(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	act(t, srv, apnstest.Action{StopReading: true})
	_ = c.conn.NetConn().SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	data := make([]byte, 1<<20)
	var err error
	for range 64 {
		if _, err = c.conn.Write(data); err != nil {
			break
		}
	}
	if !isTimeout(err) {
		t.Errorf("64 MB into a connection that is not read: got %v, want a timeout", err)
	}
}

func TestMute(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	act(t, srv, apnstest.Action{Mute: true})
	var ids []uint32
	for i := range 10 {
		ids = append(ids, c.push(tokenN(i)))
	}
	c.ping()
	if slices.ContainsFunc(ids, func(id uint32) bool { return c.ended(id) }) || srv.Stats().Accepted != 11 {
		t.Errorf("muted: got answers %v, %d accepted, want none of 11", c.order, srv.Stats().Accepted)
	}
	act(t, srv, apnstest.Action{Thaw: true})
	c.wait("answers", func() bool { return c.ended(ids...) })
}

func TestOtherActions(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	act(t, srv, apnstest.Action{Wedge: true})
	if got := c.answer(c.push(tokenN(1))).reason(); got != "ExpiredProviderToken" {
		t.Errorf("wedged: got %q, want ExpiredProviderToken", got)
	}
	unknown := c.unknown
	act(t, srv, apnstest.Action{Raw: []byte{0, 0, 1, 0xee, 0, 0, 0, 0, 0, 7}})
	c.wait("raw frame", func() bool { return c.unknown == unknown+1 })
	act(t, srv, apnstest.Action{Ping: true}) // our answer is read and ignored
	c.ping()
	if n, err := srv.Do(apnstest.Action{Ping: true}, 999); n != 0 || err != nil {
		t.Errorf("action on a connection that is not there: got %d, %v, want 0", n, err)
	}
	for _, a := range []apnstest.Action{
		{},
		{Freeze: true, Mute: true},
		{Close: "slam"},
		{GoAway: &apnstest.GoAway{Code: "NOPE"}},
		{GoAway: &apnstest.GoAway{Last: "first"}},
		{GoAway: &apnstest.GoAway{Then: "sing"}},
		{GoAway: &apnstest.GoAway{Back: -1}},
		{GoAway: &apnstest.GoAway{Reason: "x", Debug: "y"}},
		{Settings: &apnstest.Settings{MaxFrameSize: u32(1)}},
		{Settings: &apnstest.Settings{InitialWindowSize: u32(1 << 31)}},
		{Settings: &apnstest.Settings{HeaderTableSize: u32(1 << 31)}},
	} {
		if _, err := srv.Do(a); err == nil {
			t.Errorf("action %+v: got no error", a)
		}
	}
}

func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Connections: []apnstest.ConnectionFault{
		{Connection: 1, Refuse: true},
		{Connection: 2, StallHandshake: true},
		{Connection: 3, NoSettings: true},
		{Name: "short", Connection: 4, After: ms(30), Do: &apnstest.Action{GoAway: &apnstest.GoAway{Reason: "Shutdown"}}},
		{Every: 1, From: apnstest.Duration(time.Hour), Refuse: true},
	}}})
	if _, err := tryDial(t, srv, dialOptions{bare: true}); err == nil {
		t.Error("refused connection: got no error")
	}
	tcp, err := net.Dial("tcp", srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_ = tcp.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if err := tls.Client(tcp, &tls.Config{RootCAs: srv.CAPool(), ServerName: "localhost"}).Handshake(); !isTimeout(err) {
		t.Errorf("stalled handshake: got %v, want a timeout", err)
	}
	c := dial(t, srv, dialOptions{})
	_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if err := c.step(); !isTimeout(err) {
		t.Errorf("no SETTINGS: got %v, want a timeout", err)
	}
	start := time.Now()
	c = ready(t, srv)
	if err := c.drain(); !isEOF(err) || len(c.goAways) != 1 || time.Since(start) < 30*time.Millisecond {
		t.Errorf("GOAWAY after 30ms: got %v, %+v after %v", err, c.goAways, time.Since(start))
	}
	ready(t, srv)
	st := srv.Stats()
	if st.ConnectionsRefused != 1 || st.ConnectionsTotal != 2 {
		t.Errorf("stats: got %d refused, %d connected, want 1, 2", st.ConnectionsRefused, st.ConnectionsTotal)
	}
}

func TestReconnectGuard(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Reconnects: apnstest.ReconnectGuard{PerMinute: 3, Block: ms(200)}}})
	for range 3 {
		ready(t, srv)
	}
	for range 2 {
		if _, err := tryDial(t, srv, dialOptions{bare: true}); err == nil {
			t.Error("connect above the limit: got no error")
		}
	}
	waitFor(t, srv, "refusals are counted", func(st apnstest.Stats) bool { return st.ConnectionsRefused == 2 })
	if st := srv.Stats(); st.GuardBlocks != 1 || st.MaxConnectsPerMinute != 5 {
		t.Errorf("stats: got %d blocks, %d connects a minute, want 1, 5", st.GuardBlocks, st.MaxConnectsPerMinute)
	}
	deadline := time.Now().Add(patience)
	for {
		if _, err := tryDial(t, srv, dialOptions{bare: true}); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("still refused after the block is over: %v", err)
		}
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{IdleTimeout: ms(60)}})
	start := time.Now() // before anything that could begin the idle time
	c := ready(t, srv)
	if err := c.drain(); !isEOF(err) {
		t.Errorf("got %v, want the connection closed", err)
	}
	if len(c.goAways) != 1 || c.goAways[0].debug != `{"reason":"IdleTimeout"}` || time.Since(start) < 50*time.Millisecond {
		t.Errorf("got %+v after %v, want IdleTimeout after 60ms", c.goAways, time.Since(start))
	}
}

func TestSettingsChanges(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Streams: 10})
	c := ready(t, srv)
	setFaults(t, srv, apnstest.Faults{Latency: apnstest.Latency{Constant: ms(50)}})
	c.noAck = true
	act(t, srv, apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: u32(2)}})
	c.wait("lowered limit", func() bool { return c.settings[http2.SettingMaxConcurrentStreams] == 2 })
	for _, id := range c.burst(10) {
		if len(c.resets[id]) > 0 {
			t.Fatalf("before the acknowledgement: got resets %v, want the old limit", c.resets)
		}
	}
	c.must(c.fr.WriteSettingsAck())
	c.noAck = false
	refused := 0
	for _, id := range c.burst(10) {
		if len(c.resets[id]) > 0 {
			refused++
		}
	}
	if refused != 8 {
		t.Errorf("after the acknowledgement: got %d of 10 refused, want 8", refused)
	}
	// Strict: at once.
	setFaults(t, srv, apnstest.Faults{Latency: apnstest.Latency{Constant: ms(50)}, Streams: apnstest.StreamFaults{Strict: true}})
	act(t, srv, apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: u32(10)}})
	c.wait("raised limit", func() bool { return c.settings[http2.SettingMaxConcurrentStreams] == 10 })
	c.noAck = true
	act(t, srv, apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: u32(1)}})
	c.wait("limit of 1", func() bool { return c.settings[http2.SettingMaxConcurrentStreams] == 1 })
	refused = 0
	for _, id := range c.burst(5) {
		if len(c.resets[id]) > 0 {
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("strict, before the acknowledgement: got %d of 5 refused, want 4", refused)
	}
}

// TestNegativeWindow shrinks the window under a request whose body is on its way.
func TestNegativeWindow(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	id := c.next
	c.next += 2
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true}))
	c.must(c.fr.WriteData(id, false, make([]byte, 1000)))
	c.ping()
	c.noAck = true
	act(t, srv, apnstest.Action{Settings: &apnstest.Settings{InitialWindowSize: u32(100)}})
	c.wait("smaller window", func() bool { return c.settings[http2.SettingInitialWindowSize] == 100 })
	if len(c.updates[id]) > 0 {
		t.Errorf("before the acknowledgement: got WINDOW_UPDATE %v, want none", c.updates[id])
	}
	c.must(c.fr.WriteSettingsAck())
	c.ping()
	// The window was 100-1000: it is lifted to 100 again.
	if want := []uint32{1000}; !slices.Equal(c.updates[id], want) {
		t.Errorf("after the acknowledgement: got WINDOW_UPDATE %v, want %v", c.updates[id], want)
	}
	c.must(c.fr.WriteData(id, true, make([]byte, 100)))
	if got := c.answer(id).status; got != 200 {
		t.Errorf("got %d, want 200", got)
	}
	// More than the window is a stream error.
	id = c.send(c.fields(tokenN(1)), make([]byte, 101)) // both frames in one read
	c.wait("reset", func() bool { return len(c.resets[id]) > 0 })
	if got := c.resets[id][0]; got != http2.ErrCodeFlowControl {
		t.Errorf("101 bytes into a window of 100: got %v, want FLOW_CONTROL_ERROR", got)
	}
	c.ping()
	if got := srv.Stats().Pending; got != 0 {
		t.Errorf("after that: got %d pending, want 0", got)
	}
}

func TestHeaderTableChange(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Flow: apnstest.FlowFaults{TableSize: u32(0)}}})
	c := ready(t, srv) // its encoder follows SETTINGS
	c.burst(3)
	for _, size := range []uint32{8192, 300, 0, 4096} {
		act(t, srv, apnstest.Action{Settings: &apnstest.Settings{HeaderTableSize: &size}})
		c.wait("table size", func() bool { return c.settings[http2.SettingHeaderTableSize] == size })
		for _, id := range c.burst(20) {
			if got := c.answers[id].status; got != 200 {
				t.Fatalf("table of %d: got %d, want 200", size, got)
			}
		}
	}
	// A client that does not follow is cut off.
	act(t, srv, apnstest.Action{Settings: &apnstest.Settings{HeaderTableSize: u32(0)}})
	c.wait("table size", func() bool { return c.settings[http2.SettingHeaderTableSize] == 0 })
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: []byte{0x3f, 0xe1, 0x1f}, EndHeaders: true})) // 4096
	if err := c.drain(); !isEOF(err) || len(c.goAways) != 1 || c.goAways[0].code != http2.ErrCodeCompression {
		t.Errorf("table size above the limit: got %v, %+v, want COMPRESSION_ERROR", err, c.goAways)
	}
}

func TestFrameSizeChange(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	act(t, srv, apnstest.Action{Settings: &apnstest.Settings{MaxFrameSize: u32(200_000)}})
	c.wait("frame size", func() bool { return c.settings[http2.SettingMaxFrameSize] == 200_000 })
	id := c.next
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true, EndStream: false}))
	c.must(c.fr.WriteData(id, true, make([]byte, 60_000)))
	if got := c.answer(id).status; got != 413 {
		t.Errorf("body of 60000 bytes in one frame: got %d, want 413", got)
	}
}

func TestFlowFaults(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	setFaults(t, srv, apnstest.Faults{Flow: apnstest.FlowFaults{InitialWindow: u32(10), UpdateBytes: 3}})
	c := dial(t, srv, dialOptions{})
	c.ping()
	id := c.next
	c.next += 2
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true}))
	body, window := []byte(payload), 10
	for sent := 0; sent < len(body); {
		for _, n := range c.updates[id] {
			window += int(n)
			if n > 3 {
				t.Errorf("WINDOW_UPDATE of %d, want at most 3", n)
			}
		}
		delete(c.updates, id)
		if window == 0 {
			c.wait("window", func() bool { return len(c.updates[id]) > 0 })
			continue
		}
		n := min(window, len(body)-sent)
		c.must(c.fr.WriteData(id, sent+n == len(body), body[sent:sent+n]))
		sent, window = sent+n, window-n
	}
	if got := c.answer(id).status; got != 200 {
		t.Errorf("body in tiny windows: got %d, want 200", got)
	}

	setFaults(t, srv, apnstest.Faults{Flow: apnstest.FlowFaults{Withhold: true}})
	c = dial(t, srv, dialOptions{})
	for range 15 { // 15 * 4096 < 65535
		c.answer(c.send(c.fields(tokenN(1)), make([]byte, 4096)))
	}
	c.ping()
	if len(c.updates) > 0 {
		t.Errorf("withheld: got WINDOW_UPDATE %v", c.updates)
	}
}

func TestFlapping(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Streams: 50, Faults: apnstest.Faults{Streams: apnstest.StreamFaults{FlapEvery: ms(10), FlapTo: 3}}})
	c := ready(t, srv)
	for _, want := range []uint32{3, 50, 3, 50} {
		c.wait("limit", func() bool { return c.settings[http2.SettingMaxConcurrentStreams] == want })
	}
	setFaults(t, srv, apnstest.Faults{})
	c.wait("limit after the fault", func() bool { return c.settings[http2.SettingMaxConcurrentStreams] == 50 })
}

func TestErrorScore(t *testing.T) {
	t.Parallel()
	dead := time.Now()
	for mode, want := range map[string][]uint32{"one": {1, 1}, "halve": {50, 25}} {
		srv := newServer(t, apnstest.Config{Streams: 100, Faults: apnstest.Faults{Score: apnstest.ErrorScore{Mode: mode}}})
		if err := srv.SetDevice(tokenN(9), apnstest.Device{DeadSince: &dead}); err != nil {
			t.Fatal(err)
		}
		c := ready(t, srv)
		limit := func(what string, want uint32) {
			t.Helper()
			c.ping()
			if got := c.settings[http2.SettingMaxConcurrentStreams]; got != want {
				t.Errorf("%s, %s: got limit %d, want %d", mode, what, got, want)
			}
		}
		limit("at first", 100)
		c.answer(c.push(tokenN(9)))
		limit("after a 410", 100)
		c.answer(c.push("zz"))
		limit("after an error", want[0])
		c.answer(c.push("zz"))
		limit("after another", want[1])
		c.answer(c.push(tokenN(1)))
		limit("after a 200", 100)
	}
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Score: apnstest.ErrorScore{CloseAt: 7}}})
	c := ready(t, srv)
	c.answer(c.push("zz"))                      // 3
	c.answer(c.push(tokenN(1)))                 // 2
	c.answer(c.push(tokenN(1), "apns-id", "x")) // 3
	c.answer(c.push("zz"))                      // 6
	c.ping()
	if len(c.goAways) > 0 {
		t.Errorf("score of 6: got %+v, want no GOAWAY", c.goAways)
	}
	c.push(tokenN(1), "apns-id", "x") // 7
	if err := c.drain(); !isEOF(err) || len(c.goAways) != 1 || c.goAways[0].code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("score of 7: got %v, %+v, want GOAWAY", err, c.goAways)
	}
}

func TestResponseShapes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		shape apnstest.ResponseFaults
		ok    func(c *client, a *answer) bool
	}{
		{"continuation", apnstest.ResponseFaults{Continuation: true}, func(c *client, _ *answer) bool { return c.conts > 2 }},
		{"padding", apnstest.ResponseFaults{Padding: 255}, func(c *client, _ *answer) bool { return c.padded > 0 }},
		{"informational", apnstest.ResponseFaults{Informational: true}, func(_ *client, a *answer) bool { return slices.Equal(a.info, []int{103}) }},
		{"trailers", apnstest.ResponseFaults{Trailers: true}, func(_ *client, a *answer) bool { return a.trailer["apns-trailer"] == "1" }},
		{"split body", apnstest.ResponseFaults{SplitBody: true}, func(*client, *answer) bool { return true }},
		{"index", apnstest.ResponseFaults{Index: true}, func(*client, *answer) bool { return true }},
		{"unknown", apnstest.ResponseFaults{Unknown: true}, func(c *client, _ *answer) bool { return c.unknown > 0 }},
		{"early", apnstest.ResponseFaults{Early: true}, func(*client, *answer) bool { return true }},
		{"all", apnstest.ResponseFaults{
			Continuation: true, Padding: 3, Informational: true, Trailers: true, SplitBody: true, Index: true, Unknown: true,
		}, func(c *client, a *answer) bool {
			return c.conts > 2 && c.padded > 2 && len(a.info) == 1 && a.trailer != nil
		}},
	} {
		for _, env := range []apnstest.Environment{apnstest.Production, apnstest.Sandbox} {
			srv := newServer(t, apnstest.Config{Environment: env, Faults: apnstest.Faults{Responses: tt.shape}})
			c := ready(t, srv)
			for i := range 100 { // the table turns over
				id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
				good := c.answer(c.push(tokenN(i), "apns-id", id))
				bad := c.answer(c.push("zz", "apns-id", id))
				for _, a := range []*answer{good, bad} {
					if a.header["apns-id"] != id || !tt.ok(c, a) {
						t.Fatalf("%s: got %+v", tt.name, a)
					}
				}
				if good.status != 200 || len(good.body) > 0 || bad.status != 400 || bad.reason() != "BadDeviceToken" {
					t.Fatalf("%s: got %+v and %+v, want 200 and BadDeviceToken", tt.name, good, bad)
				}
			}
		}
	}
}

func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Responses: apnstest.ResponseFaults{Early: true}}})
	c := ready(t, srv)
	id := c.next
	c.next += 2
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true}))
	if got := c.answer(id).status; got != 200 { // before any of its body
		t.Errorf("got %d, want 200", got)
	}
	c.must(c.fr.WriteData(id, true, []byte(payload)))
	c.ping()
	if len(c.resets) > 0 || srv.Stats().Received != 2 {
		t.Errorf("the body that came later: got resets %v, %d received, want none and 2", c.resets, srv.Stats().Received)
	}
}

func TestFaultsAreChecked(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Faults: apnstest.Faults{Seed: 3}})
	answer := &apnstest.Answer{Status: 500}
	for want, f := range map[string]apnstest.Faults{
		"latency.constant":               {Latency: apnstest.Latency{Constant: -1}},
		"latency.tail_share":             {Latency: apnstest.Latency{TailShare: 2}},
		"latency.sigma":                  {Latency: apnstest.Latency{Sigma: -1}},
		"flip":                           {Flip: "coin"},
		"score.mode":                     {Score: apnstest.ErrorScore{Mode: "double"}},
		"responses.padding":              {Responses: apnstest.ResponseFaults{Padding: 256}},
		"flow.initial_window":            {Flow: apnstest.FlowFaults{InitialWindow: u32(1 << 31)}},
		"flow.table_size":                {Flow: apnstest.FlowFaults{TableSize: u32(1 << 31)}},
		"flow.update_bytes":              {Flow: apnstest.FlowFaults{UpdateBytes: -1}},
		"requests[0].match.token_prefix": request(apnstest.RequestFault{Match: apnstest.Match{TokenPrefix: "xyz"}, Answer: answer}),
		"requests[0].match.probability":  request(apnstest.RequestFault{Match: apnstest.Match{Probability: -1}, Answer: answer}),
		"requests[0].match: skip":        request(apnstest.RequestFault{Match: apnstest.Match{Skip: -1}, Answer: answer}),
		"requests[0]: says nothing":      request(apnstest.RequestFault{}),
		"requests[0]: at most one":       request(apnstest.RequestFault{Answer: answer, NeverAnswer: true}),
		"requests[0].answer.status":      request(apnstest.RequestFault{Answer: &apnstest.Answer{}}),
		"requests[0].answer.reason":      request(apnstest.RequestFault{Answer: &apnstest.Answer{Status: 200, Reason: "x"}}),
		"requests[0].reset.code":         request(apnstest.RequestFault{Reset: &apnstest.Reset{Code: "x"}}),
		"requests[0].reset.when":         request(apnstest.RequestFault{Reset: &apnstest.Reset{Code: "CANCEL", When: "never"}}),
		"requests[0].do: exactly one":    request(apnstest.RequestFault{Do: &apnstest.Action{}}),
		"connections[0]: says nothing":   {Connections: []apnstest.ConnectionFault{{}}},
		"connections[0].do":              {Connections: []apnstest.ConnectionFault{{Do: &apnstest.Action{}}}},
		"connections[0].probability":     {Connections: []apnstest.ConnectionFault{{Probability: 7, Refuse: true}}},
	} {
		if err := srv.SetFaults(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one about %q", err, want)
		}
	}
	if got := srv.Faults(); got.Seed != 3 {
		t.Errorf("faults after errors: got %+v, want the old ones", got)
	}
	if _, err := apnstest.New(apnstest.Config{Faults: apnstest.Faults{Flip: "coin"}}); err == nil {
		t.Error("config with bad faults: got no error")
	}
	// All problems at once.
	err := srv.SetFaults(apnstest.Faults{Flip: "coin", Score: apnstest.ErrorScore{Mode: "double"}})
	if err == nil || !strings.Contains(err.Error(), "flip") || !strings.Contains(err.Error(), "score.mode") {
		t.Errorf("two problems: got %v, want both named", err)
	}
}

// TestFaultsInJSON sends all fields there and back.
func TestFaultsInJSON(t *testing.T) {
	t.Parallel()
	want := `{"seed":1,"latency":{"constant":"20ms","tail_share":0.5},"requests":[{"name":"x","match":{"token_prefix":"ab","from":"1m0s"},` +
		`"delay":"1s","do":{"goaway":{"last":"zero","two_phase":"5ms"}}}],"connections":[{"every":2,"refuse":true}],` +
		`"flip":"topic","auth":{"clock_skew":"-1h0m0s"},"streams":{"flap_every":"10ms"},"flow":{"initial_window":0},` +
		`"responses":{"padding":3},"score":{"mode":"one"},"rate_limit":{"burst":1},"reconnects":{"per_minute":3},"idle_timeout":"1h0m0s"}`
	var f apnstest.Faults
	if err := json.Unmarshal([]byte(want), &f); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(f)
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}
