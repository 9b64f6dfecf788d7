package apnstest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// bad makes a request fail one check. They are in the order of the checks, so
// that a request which fails several must be answered with the first.
type bad struct {
	name   string
	over   []string // header fields, as client.fields takes them
	dup    []string // header fields to be sent in addition
	token  string
	body   []byte
	status int
	reason string
}

func bads(srv *apnstest.Server) []bad {
	return []bad{
		{name: "method", over: []string{":method", "PUT"}, status: 405, reason: "MethodNotAllowed"},
		{name: "path", over: []string{":path", "/3/devices/00"}, status: 404, reason: "BadPath"},
		{name: "duplicate", dup: []string{"apns-topic", bundle}, status: 400, reason: "DuplicateHeaders"},
		{name: "no provider token", over: []string{"authorization", "-"}, status: 403, reason: "MissingProviderToken"},
		{name: "apns-id", over: []string{"apns-id", "1"}, status: 400, reason: "BadMessageId"},
		{name: "expiration", over: []string{"apns-expiration", "-1"}, status: 400, reason: "BadExpirationDate"},
		{name: "priority", over: []string{"apns-priority", "7"}, status: 400, reason: "BadPriority"},
		{name: "collapse id", over: []string{"apns-collapse-id", strings.Repeat("x", 65)}, status: 400, reason: "BadCollapseId"},
		{name: "push type", over: []string{"apns-push-type", "shout"}, status: 400, reason: "InvalidPushType"},
		{name: "topic", over: []string{"apns-topic", "-"}, status: 400, reason: "MissingTopic"},
		{name: "body", body: []byte{}, status: 400, reason: "PayloadEmpty"},
		{name: "device token", token: "zz", status: 400, reason: "BadDeviceToken"},
	}
}

// apply adds what b does to a request.
func (b *bad) apply(token, over *[]string, dup *[]string, body *[]byte) {
	if b.token != "" {
		*token = []string{b.token}
	}
	*over = append(*over, b.over...)
	*dup = append(*dup, b.dup...)
	if b.body != nil {
		*body = b.body
	}
}

// TestChecksInOrder sends each pair of faults in one request: the earlier check
// must answer.
func TestChecksInOrder(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	list := bads(srv)
	for i := range list {
		for k := i; k < len(list); k++ {
			token, over, dup, body := []string{tokenN(1)}, []string(nil), []string(nil), []byte(payload)
			// The earlier one last: it wins where both change the same field.
			list[k].apply(&token, &over, &dup, &body)
			list[i].apply(&token, &over, &dup, &body)
			fields := c.fields(token[0], over...)
			for n := 0; n+1 < len(dup); n += 2 {
				fields = append(fields, hpack.HeaderField{Name: dup[n], Value: dup[n+1]}, hpack.HeaderField{Name: dup[n], Value: dup[n+1]})
			}
			got := c.answer(c.send(fields, body))
			if got.status != list[i].status || got.reason() != list[i].reason {
				t.Errorf("%s and %s: got %d %s, want %d %s", list[i].name, list[k].name,
					got.status, got.reason(), list[i].status, list[i].reason)
			}
		}
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Topics: []string{bundle, "com.example.other.voip"}})
	c := ready(t, srv)
	big := func(n int) []byte { return []byte(`{"aps":"` + strings.Repeat("x", n-10) + `"}`) }
	long := strings.Repeat("ab", 100)
	for _, tt := range []struct {
		name   string
		token  string // default tokenN(1)
		over   []string
		extra  []hpack.HeaderField
		body   []byte // default payload
		noBody bool
		status int
		reason string
	}{
		{name: "good", status: 200},
		{name: "GET", over: []string{":method", "GET"}, noBody: true, status: 405, reason: "MethodNotAllowed"},
		{name: "HEAD anywhere", over: []string{":method", "HEAD", ":path", "/"}, noBody: true, status: 405, reason: "MethodNotAllowed"},
		{name: "root", over: []string{":path", "/"}, status: 404, reason: "BadPath"},
		{name: "no device token", over: []string{":path", "/3/device/"}, status: 400, reason: "MissingDeviceToken"},
		{name: "no device token, no slash", over: []string{":path", "/3/device"}, status: 400, reason: "MissingDeviceToken"},
		{name: "old path", over: []string{":path", "/2/device/00"}, status: 404, reason: "BadPath"},
		{name: "path goes on", token: "00/11", status: 404, reason: "BadPath"},
		{name: "unknown apns header once", over: []string{"apns-foo", "1"}, status: 200},
		{
			name: "unknown apns header twice", extra: []hpack.HeaderField{{Name: "apns-foo", Value: "1"}, {Name: "apns-foo", Value: "2"}},
			status: 400, reason: "DuplicateHeaders",
		},
		{
			name: "other header twice", extra: []hpack.HeaderField{{Name: "x-foo", Value: "1"}, {Name: "x-foo", Value: "2"}},
			status: 200,
		},
		{
			name: "content-encoding twice", extra: []hpack.HeaderField{{Name: "content-encoding", Value: "identity"}, {Name: "content-encoding", Value: "identity"}},
			status: 200,
		},
		{
			name: "authorization twice", extra: []hpack.HeaderField{{Name: "authorization", Value: "bearer x"}},
			status: 400, reason: "DuplicateHeaders",
		},
		{name: "basic", over: []string{"authorization", "basic eHg="}, status: 403, reason: "MissingProviderToken"},
		{name: "bearer in upper case", over: []string{"authorization", "Bearer " + c.jwt}, status: 200},
		{name: "apns-id in upper case", over: []string{"apns-id", strings.ToUpper(someID)}, status: 200},
		{name: "apns-id without hyphens", over: []string{"apns-id", strings.ReplaceAll(someID, "-", "")}, status: 400, reason: "BadMessageId"},
		{name: "apns-id with a wrong digit", over: []string{"apns-id", "g" + someID[1:]}, status: 400, reason: "BadMessageId"},
		{name: "apns-id empty", over: []string{"apns-id", ""}, status: 400, reason: "BadMessageId"},
		{name: "expiration 0", over: []string{"apns-expiration", "0"}, status: 200},
		{name: "expiration past", over: []string{"apns-expiration", "300"}, status: 200},
		{name: "expiration empty", over: []string{"apns-expiration", ""}, status: 400, reason: "BadExpirationDate"},
		{name: "expiration a fraction", over: []string{"apns-expiration", "1.5"}, status: 400, reason: "BadExpirationDate"},
		{name: "priority 1", over: []string{"apns-priority", "1"}, status: 200},
		{name: "priority 5", over: []string{"apns-priority", "5"}, status: 200},
		{name: "priority 10", over: []string{"apns-priority", "10"}, status: 200},
		{name: "priority 010", over: []string{"apns-priority", "010"}, status: 400, reason: "BadPriority"},
		{name: "background 10", over: []string{"apns-push-type", "background", "apns-priority", "10"}, status: 400, reason: "BadPriority"},
		{name: "background 5", over: []string{"apns-push-type", "background", "apns-priority", "5"}, status: 200},
		{
			name: "live activity 1", over: []string{"apns-push-type", "liveactivity", "apns-priority", "1", "apns-topic", bundle + ".push-type.liveactivity"},
			status: 400, reason: "BadPriority",
		},
		{name: "collapse id of 64", over: []string{"apns-collapse-id", strings.Repeat("x", 64)}, status: 200},
		{name: "collapse id of 63 characters, 65 bytes", over: []string{"apns-collapse-id", strings.Repeat("x", 61) + "éé"}, status: 400, reason: "BadCollapseId"},
		{name: "no push type", over: []string{"apns-push-type", "-"}, status: 200},
		{name: "push type in upper case", over: []string{"apns-push-type", "Alert"}, status: 400, reason: "InvalidPushType"},
		{name: "topic empty", over: []string{"apns-topic", ""}, status: 400, reason: "MissingTopic"},
		{name: "topic malformed", over: []string{"apns-topic", "com example"}, status: 400, reason: "BadTopic"},
		{name: "topic of another app", over: []string{"apns-topic", "com.example.thing"}, status: 400, reason: "TopicDisallowed"},
		{name: "voip", over: []string{"apns-push-type", "voip", "apns-topic", bundle + ".voip"}, status: 200},
		{name: "voip without suffix", over: []string{"apns-push-type", "voip"}, status: 400, reason: "BadTopic"},
		{name: "alert with suffix", over: []string{"apns-topic", bundle + ".voip"}, status: 400, reason: "BadTopic"},
		{name: "suffix without push type", over: []string{"apns-push-type", "-", "apns-topic", bundle + ".complication"}, status: 200},
		{name: "bundle id that ends like a suffix", over: []string{"apns-topic", "com.example.other.voip"}, status: 200},
		{name: "controls", over: []string{"apns-push-type", "controls", "apns-topic", bundle + ".push-type.controls"}, status: 200},
		{name: "fileprovider", over: []string{"apns-push-type", "fileprovider", "apns-topic", bundle + ".pushkit.fileprovider"}, status: 200},
		{name: "location", over: []string{"apns-push-type", "location", "apns-topic", bundle + ".location-query"}, status: 200},
		{name: "pushtotalk", over: []string{"apns-push-type", "pushtotalk", "apns-topic", bundle + ".voip-ptt"}, status: 200},
		{name: "widgets", over: []string{"apns-push-type", "widgets", "apns-topic", bundle + ".push-type.widgets"}, status: 200},
		{name: "no body", noBody: true, status: 400, reason: "PayloadEmpty"},
		{name: "compressed", over: []string{"content-encoding", "gzip"}, status: 400, reason: "PayloadEmpty"},
		{name: "not compressed", over: []string{"content-encoding", "identity"}, status: 200},
		{name: "body of 4096", body: big(4096), status: 200},
		{name: "body of 4097", body: big(4097), status: 413, reason: "PayloadTooLarge"},
		{name: "voip body of 5120", over: []string{"apns-push-type", "voip", "apns-topic", bundle + ".voip"}, body: big(5120), status: 200},
		{name: "voip body of 5121", over: []string{"apns-push-type", "voip", "apns-topic", bundle + ".voip"}, body: big(5121), status: 413, reason: "PayloadTooLarge"},
		{name: "body of no JSON", body: []byte("hello"), status: 200},
		{name: "token in upper case", token: strings.ToUpper(tokenN(1)), status: 200},
		{name: "token of 2 digits", token: "ab", status: 200},
		{name: "token of 200 digits", token: long, status: 200},
		{name: "token of 202 digits", token: long + "ab", status: 400, reason: "BadDeviceToken"},
		{name: "token of 3 digits", token: "abc", status: 400, reason: "BadDeviceToken"},
		{name: "token with a query", token: tokenN(1) + "?x=1", status: 400, reason: "BadDeviceToken"},
	} {
		token, body := tt.token, tt.body
		if token == "" {
			token = tokenN(1)
		}
		if body == nil && !tt.noBody {
			body = []byte(payload)
		}
		got := c.answer(c.send(append(c.fields(token, tt.over...), tt.extra...), body))
		isHead := slices.Contains(tt.over, "HEAD") // its answer has no body
		if got.status != tt.status || got.reason() != tt.reason && !isHead || isHead && len(got.body) > 0 {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, got.status, got.reason(), tt.status, tt.reason)
		}
		wantType := ""
		if tt.reason != "" {
			wantType = "application/json"
		}
		if got.header["content-type"] != wantType {
			t.Errorf("%s: got content-type %q, want %q", tt.name, got.header["content-type"], wantType)
		}
		if strings.Contains(string(got.body), "timestamp") {
			t.Errorf("%s: got body %s, want no timestamp", tt.name, got.body)
		}
	}
}

func TestAnswerID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, sent string
		lower      bool
		want       func(string) bool
	}{
		{"echo", someID, false, func(s string) bool { return s == someID }},
		{"echo of upper case", strings.ToUpper(someID), false, func(s string) bool { return s == strings.ToUpper(someID) }},
		{"made up", "-", false, func(s string) bool { return len(s) == 36 && s == strings.ToUpper(s) && strings.Count(s, "-") == 4 }},
		{"made up in lower case", "-", true, func(s string) bool { return len(s) == 36 && s == strings.ToLower(s) }},
		{"not a UUID", "hello", false, func(s string) bool { return len(s) == 36 && s == strings.ToUpper(s) }},
	} {
		c := dial(t, newServer(t, apnstest.Config{LowerCaseIDs: tt.lower}), dialOptions{})
		if got := c.answer(c.push(tokenN(1), "apns-id", tt.sent)).header["apns-id"]; !tt.want(got) {
			t.Errorf("%s: got apns-id %q", tt.name, got)
		}
	}
}

func TestUniqueIDOnSandboxOnly(t *testing.T) {
	t.Parallel()
	for _, env := range []apnstest.Environment{apnstest.Production, apnstest.Sandbox} {
		c := dial(t, newServer(t, apnstest.Config{Environment: env}), dialOptions{})
		seen := make(map[string]bool)
		for i, over := range [][]string{{"apns-topic", ""}, nil, nil, {"apns-topic", ""}, nil} {
			got := c.answer(c.push(tokenN(i), over...))
			unique := got.header["apns-unique-id"]
			if want := env == apnstest.Sandbox && got.status == 200; (unique != "") != want {
				t.Errorf("%s: got apns-unique-id %q with status %d, want one: %v", env, unique, got.status, want)
			}
			if unique != "" && seen[unique] {
				t.Errorf("%s: got apns-unique-id %q twice", env, unique)
			}
			seen[unique] = true
			if got.header["apns-id"] == "" {
				t.Errorf("%s: got no apns-id with status %d", env, got.status)
			}
		}
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	dead := time.UnixMilli(1_700_000_000_123)
	now := time.Now()
	ago, ahead := now.Add(-time.Minute), now.Add(time.Hour)
	srv := newServer(t, apnstest.Config{Environment: apnstest.Sandbox, Now: func() time.Time { return now }})
	c := ready(t, srv)
	for i, tt := range []struct {
		name   string
		dev    apnstest.Device
		over   []string
		status int
		body   string
		fate   apnstest.Fate
	}{
		{name: "healthy", status: 200},
		{name: "bad", dev: apnstest.Device{Bad: true}, status: 400, body: `{"reason":"BadDeviceToken"}`, fate: apnstest.Bad},
		{name: "other environment", dev: apnstest.Device{Environment: apnstest.Production}, status: 400, body: `{"reason":"BadDeviceToken"}`, fate: apnstest.Bad},
		{name: "same environment", dev: apnstest.Device{Environment: apnstest.Sandbox}, status: 200},
		{name: "other topic", dev: apnstest.Device{Topic: "com.example.other"}, status: 400, body: `{"reason":"DeviceTokenNotForTopic"}`},
		{name: "same bundle id", dev: apnstest.Device{Topic: bundle}, over: []string{"apns-push-type", "voip", "apns-topic", bundle + ".voip"}, status: 200},
		{name: "whole topic, bundle id used", dev: apnstest.Device{Topic: bundle + ".voip"}, status: 400, body: `{"reason":"DeviceTokenNotForTopic"}`},
		{name: "dead", dev: apnstest.Device{DeadSince: &dead}, status: 410, body: `{"reason":"Unregistered","timestamp":1700000000123}`, fate: apnstest.Dead},
		{name: "expired", dev: apnstest.Device{DeadSince: &dead, DeadReason: "ExpiredToken"}, status: 410, body: `{"reason":"ExpiredToken","timestamp":1700000000123}`, fate: apnstest.Dead},
		{name: "dead, not yet told", dev: apnstest.Device{DeadSince: &dead, SilentUntil: &ahead}, status: 200},
		{name: "dead, told by now", dev: apnstest.Device{DeadSince: &dead, SilentUntil: &ago}, status: 410, body: `{"reason":"Unregistered","timestamp":1700000000123}`, fate: apnstest.Dead},
		{name: "answer", dev: apnstest.Device{Answer: &apnstest.Answer{Status: 500, Reason: "InternalServerError"}}, status: 500, body: `{"reason":"InternalServerError"}`},
		{name: "odd answer", dev: apnstest.Device{Answer: &apnstest.Answer{Status: 418, Reason: `Te"a`}}, status: 418, body: `{"reason":"Te\"a"}`},
		{name: "answer 410", dev: apnstest.Device{Answer: &apnstest.Answer{Status: 410, Reason: "Unregistered", Timestamp: 5}}, status: 410, body: `{"reason":"Unregistered","timestamp":5}`},
	} {
		if err := srv.SetDevice(tokenN(i), tt.dev); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := c.answer(c.push(tokenN(i), tt.over...))
		if got.status != tt.status || string(got.body) != tt.body {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.body)
		}
		if fate := srv.Fate(tokenN(i)); fate != tt.fate {
			t.Errorf("%s: got fate %v, want %v", tt.name, fate, tt.fate)
		}
		if dev, ok := srv.Device(strings.ToUpper(tokenN(i))); !ok || dev != tt.dev {
			t.Errorf("%s: got device %+v, %v, want what was set", tt.name, dev, ok)
		}
		srv.DeleteDevice(tokenN(i))
		if got := c.answer(c.push(tokenN(i))); got.status != 200 {
			t.Errorf("%s: got %d after the device was deleted, want 200", tt.name, got.status)
		}
	}
	for _, token := range []string{"", "abc", "xy", strings.Repeat("ab", 101)} {
		if err := srv.SetDevice(token, apnstest.Device{}); err == nil {
			t.Errorf("set device with token of %d characters: got no error", len(token))
		}
	}
	if err := srv.SetDevice("ab", apnstest.Device{Environment: "staging"}); err == nil {
		t.Error("set device of environment staging: got no error")
	}
}

func TestUnknownDevices(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Unknown: apnstest.Reject})
	if err := srv.SetDevice(tokenN(1), apnstest.Device{}); err != nil {
		t.Fatal(err)
	}
	c := dial(t, srv, dialOptions{})
	for i, want := range []int{400, 200} {
		if got := c.answer(c.push(tokenN(i))); got.status != want {
			t.Errorf("token %d: got %d, want %d", i, got.status, want)
		}
	}
}

// TestShares checks that every token is answered as its fate says, and that the
// shares are about what was asked for.
func TestShares(t *testing.T) {
	t.Parallel()
	past := time.UnixMilli(1_600_000_000_000)
	srv := newServer(t, apnstest.Config{DeadShare: 0.2, BadShare: 0.1, WrongTopicShare: 0.1, DeadTimestamp: past, Ledger: apnstest.LedgerHash})
	c := ready(t, srv)
	srv.Reset()
	want := map[apnstest.Fate]string{
		apnstest.Healthy: "", apnstest.Bad: "BadDeviceToken", apnstest.WrongTopic: "DeviceTokenNotForTopic", apnstest.Dead: "Unregistered",
	}
	count := make(map[apnstest.Fate]int)
	const n = 1000
	for i, id := range c.burst(n) {
		fate := srv.Fate(tokenN(i))
		count[fate]++
		got := c.answers[id]
		if got.reason() != want[fate] {
			t.Fatalf("token %d: got %d %q, want %q", i, got.status, got.reason(), want[fate])
		}
		if fate == apnstest.Dead && string(got.body) != `{"reason":"Unregistered","timestamp":1600000000000}` {
			t.Fatalf("token %d: got %s, want the configured timestamp", i, got.body)
		}
	}
	for fate, share := range map[apnstest.Fate]float64{apnstest.Dead: 0.2, apnstest.Bad: 0.1, apnstest.WrongTopic: 0.1} {
		if got := float64(count[fate]) / n; got < share*0.7 || got > share*1.3 {
			t.Errorf("share of %v: got %v, want about %v", fate, got, share)
		}
	}
	st := srv.Stats()
	if st.Received != n || st.Accepted != int64(count[apnstest.Healthy]) || st.Reasons["Unregistered"] != int64(count[apnstest.Dead]) {
		t.Errorf("stats: got %+v, want %d received, %d accepted, %d unregistered", st, n, count[apnstest.Healthy], count[apnstest.Dead])
	}
}
