package apnstest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

const channelBody = `{"message-storage-policy":1,"push-type":"LiveActivity"}`

func manager(t *testing.T, cfg apnstest.Config) (*apnstest.Server, *client) {
	t.Helper()
	cfg.ManagementAddr = "127.0.0.1:0"
	srv := newServer(t, cfg)
	return srv, dial(t, srv, dialOptions{addr: strings.TrimPrefix(srv.ManagementURL(), "https://")})
}

// call sends a channel management request.
func (c *client) call(method, path, body string, over ...string) *answer {
	c.t.Helper()
	over = append([]string{":method", method, ":path", path, "apns-topic", "-", "apns-push-type", "-"}, over...)
	var b []byte
	if body != "" {
		b = []byte(body)
	}
	return c.answer(c.send(c.fields("", over...), b))
}

func TestChannelManagement(t *testing.T) {
	t.Parallel()
	_, c := manager(t, apnstest.Config{})
	const path = "/1/apps/" + bundle + "/channels"
	made := c.call("POST", path, channelBody, "apns-request-id", someID)
	id := made.header["apns-channel-id"]
	if made.status != 201 || id == "" || len(made.body) > 0 || made.header["apns-request-id"] != someID {
		t.Fatalf("create: got %+v, want 201 with a channel id", made)
	}
	second := c.call("POST", path, `{"push-type":"liveactivity","message-storage-policy":0}`).header["apns-channel-id"]
	read := c.call("GET", path, "", "apns-channel-id", id)
	if read.status != 200 || string(read.body) != channelBody {
		t.Errorf("read: got %d %s, want %s", read.status, read.body, channelBody)
	}
	var list struct{ Channels []string }
	all := c.call("GET", "/1/apps/"+bundle+"/all-channels", "")
	if err := json.Unmarshal(all.body, &list); err != nil || len(list.Channels) != 2 || !slices.Contains(list.Channels, second) {
		t.Errorf("list: got %d %s, %v, want both", all.status, all.body, err)
	}
	if got := c.call("DELETE", path, "", "apns-channel-id", id); got.status != 204 || len(got.body) > 0 {
		t.Errorf("delete: got %+v, want 204", got)
	}
	if got := c.call("GET", "/1/apps/com.example.other/all-channels", ""); string(got.body) != `{"channels":[]}` {
		t.Errorf("list of an app without any: got %s", got.body)
	}
	st := c.srv.Stats()
	if st.Accepted != 0 || st.Rejected != 0 || st.Statuses["201"] != 2 || st.Statuses["204"] != 1 || st.Statuses["200"] != 3 {
		t.Errorf("stats: got %+v, want neither accepted nor rejected", st)
	}
	if got := c.srv.Channels(bundle); len(got) != 1 || got[0] != (apnstest.Channel{ID: second, BundleID: bundle}) {
		t.Errorf("channels: got %+v, want the second", got)
	}
}

func TestChannelManagementErrors(t *testing.T) {
	t.Parallel()
	srv, c := manager(t, apnstest.Config{Topics: []string{bundle, "com.example.plain"}, NoBroadcast: []string{"com.example.plain"}})
	const path = "/1/apps/" + bundle + "/channels"
	for _, tt := range []struct {
		name, method, path, body string
		over                     []string
		status                   int
		reason                   string
	}{
		{"auth comes first", "PUT", "/", "", []string{"authorization", "-"}, 403, "MissingProviderToken"},
		{"path", "GET", "/1/apps/" + bundle, "", nil, 404, "BadPath"},
		{"device path", "POST", "/3/device/" + tokenN(1), payload, nil, 404, "BadPath"},
		{"method", "PUT", path, channelBody, nil, 405, "MethodNotAllowed"},
		{"method of the list", "POST", "/1/apps/" + bundle + "/all-channels", channelBody, nil, 405, "MethodNotAllowed"},
		{"suffix", "POST", "/1/apps/" + bundle + ".voip/channels", channelBody, nil, 400, "TopicDisallowed"},
		{"another app", "POST", "/1/apps/com.example.other/channels", channelBody, nil, 403, "TopicMismatch"},
		{"capability", "POST", "/1/apps/com.example.plain/channels", channelBody, nil, 400, "FeatureNotEnabled"},
		{"request id", "POST", path, channelBody, []string{"apns-request-id", "1"}, 400, "BadMessageId"},
		{"no body", "POST", path, "", nil, 400, "PayloadEmpty"},
		{"no JSON", "POST", path, "hello", nil, 400, "BadRequestPayload"},
		{"unknown key", "POST", path, `{"message-storage-policy":0,"push-type":"LiveActivity","x":1}`, nil, 400, "BadRequestParams"},
		{"no push type", "POST", path, `{"message-storage-policy":0}`, nil, 400, "MissingPushType"},
		{"push type", "POST", path, `{"message-storage-policy":0,"push-type":"alert"}`, nil, 400, "InvalidPushType"},
		{"no policy", "POST", path, `{"push-type":"LiveActivity"}`, nil, 400, "MissingChannelQueueSize"},
		{"policy", "POST", path, `{"message-storage-policy":2,"push-type":"LiveActivity"}`, nil, 400, "MissingChannelQueueSize"},
		{"too large", "POST", path, `{"x":"` + strings.Repeat("x", 6000) + `"}`, nil, 413, "PayloadTooLarge"},
		{"no channel", "GET", path, "", nil, 400, "MissingChannelId"},
		{"bad channel", "GET", path, "", []string{"apns-channel-id", "!"}, 400, "BadChannelId"},
		{"unknown channel", "DELETE", path, "", []string{"apns-channel-id", "AAAA"}, 400, "ChannelNotRegistered"},
	} {
		got := c.call(tt.method, tt.path, tt.body, tt.over...)
		if got.status != tt.status || got.reason() != tt.reason {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, got.status, got.reason(), tt.status, tt.reason)
		}
	}
	// Channels are managed there only.
	push := ready(t, srv)
	if got := push.call("GET", path, "").reason(); got != "MethodNotAllowed" {
		t.Errorf("management on the push address: got %q, want MethodNotAllowed", got)
	}
	if got := push.call("POST", path, channelBody).reason(); got != "BadPath" {
		t.Errorf("management on the push address: got %q, want BadPath", got)
	}
}

func TestTooManyChannels(t *testing.T) {
	t.Parallel()
	srv, c := manager(t, apnstest.Config{})
	for range 10_000 {
		if _, err := srv.AddChannel(bundle, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := srv.AddChannel(bundle, 0); err == nil {
		t.Error("channel 10001: got no error")
	}
	if got := c.call("POST", "/1/apps/"+bundle+"/channels", channelBody).reason(); got != "CannotCreateChannelConfig" {
		t.Errorf("channel 10001: got %q, want CannotCreateChannelConfig", got)
	}
	// The list is larger than any window: it takes WINDOW_UPDATEs.
	id := c.send(c.fields("", ":method", "GET", ":path", "/1/apps/"+bundle+"/all-channels", "apns-topic", "-", "apns-push-type", "-"), nil)
	c.ping()
	a := c.answers[id]
	if a == nil || a.ended || len(a.body) == 0 || len(a.body) > 65535 {
		t.Fatalf("list: got %+v, want what one window holds", a)
	}
	c.must(c.fr.WriteWindowUpdate(0, 1<<20))
	c.must(c.fr.WriteWindowUpdate(id, 1<<20))
	var list struct{ Channels []string }
	if err := json.Unmarshal(c.answer(id).body, &list); err != nil || len(list.Channels) != 10_000 {
		t.Errorf("list: got %d channels, %v, want 10000", len(list.Channels), err)
	}
	if _, err := srv.AddChannel("no bundle", 0); err == nil {
		t.Error("channel of rubbish: got no error")
	}
}

func TestBroadcast(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Topics: []string{bundle}})
	none, err := srv.AddChannel(bundle, 0)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := srv.AddChannel(bundle, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, srv, dialOptions{})
	for _, tt := range []struct {
		name   string
		over   []string
		body   string
		status int
		reason string
	}{
		{name: "good", status: 200},
		{name: "stored", over: []string{"apns-channel-id", stored.ID, "apns-expiration", "2000000000"}, status: 200},
		{name: "push type in another case", over: []string{"apns-push-type", "LiveActivity"}, status: 200},
		{name: "method", over: []string{":method", "GET"}, status: 405, reason: "MethodNotAllowed"},
		{name: "path", over: []string{":path", "/4/broadcasts/apps/"}, status: 404, reason: "BadPath"},
		{name: "no provider token", over: []string{"authorization", "-"}, status: 403, reason: "MissingProviderToken"},
		{name: "suffix", over: []string{":path", "/4/broadcasts/apps/" + bundle + ".push-type.liveactivity"}, status: 400, reason: "TopicDisallowed"},
		{name: "another app", over: []string{":path", "/4/broadcasts/apps/com.example.other"}, status: 403, reason: "TopicMismatch"},
		{name: "no channel", over: []string{"apns-channel-id", "-"}, status: 400, reason: "MissingChannelId"},
		{name: "bad channel", over: []string{"apns-channel-id", "!"}, status: 400, reason: "BadChannelId"},
		{name: "unknown channel", over: []string{"apns-channel-id", "AAAA"}, status: 400, reason: "ChannelNotRegistered"},
		{name: "no push type", over: []string{"apns-push-type", "-"}, status: 400, reason: "MissingPushType"},
		{name: "push type", over: []string{"apns-push-type", "alert"}, status: 400, reason: "InvalidPushType"},
		{name: "no expiration", over: []string{"apns-expiration", "-"}, status: 400, reason: "BadExpirationDate"},
		{name: "expiration without storage", over: []string{"apns-expiration", "2000000000"}, status: 400, reason: "BadExpirationDate"},
		{name: "no priority", over: []string{"apns-priority", "-"}, status: 400, reason: "BadPriority"},
		{name: "body of 5120", body: `{"x":"` + strings.Repeat("x", 5112) + `"}`, status: 200},
		{name: "body of 5121", body: `{"x":"` + strings.Repeat("x", 5113) + `"}`, status: 413, reason: "PayloadTooLarge"},
	} {
		over := append([]string{
			":path", "/4/broadcasts/apps/" + bundle, "apns-topic", "-", "apns-push-type", "liveactivity", "apns-channel-id", none.ID,
			"apns-expiration", "0", "apns-priority", "5", "apns-request-id", someID,
		}, tt.over...)
		body := tt.body
		if body == "" {
			body = payload
		}
		got := c.answer(c.send(c.fields("", over...), []byte(body)))
		if got.status != tt.status || got.reason() != tt.reason || got.header["apns-request-id"] != someID {
			t.Errorf("%s: got %+v, want %d %q", tt.name, got, tt.status, tt.reason)
		}
	}
	if got := c.settings[http2.SettingMaxConcurrentStreams]; got != 1000 {
		t.Errorf("stream limit: got %d, want 1000", got)
	}
	records := srv.Ledger(apnstest.Filter{})
	if len(records) == 0 || records[0].ChannelID != none.ID || records[0].Body != payload || records[0].APNsID != someID {
		t.Errorf("ledger: got %+v, want the broadcast", records[0])
	}
	// Faults are for broadcasts, too.
	setFaults(t, srv, request(apnstest.RequestFault{Answer: &apnstest.Answer{Status: 503, Reason: "Shutdown"}}))
	over := []string{
		":path", "/4/broadcasts/apps/" + bundle, "apns-push-type", "liveactivity", "apns-channel-id", none.ID, "apns-expiration", "0", "apns-priority", "5",
	}
	if got := c.answer(c.send(c.fields("", over...), []byte(payload))); got.status != 503 || got.reason() != "Shutdown" {
		t.Errorf("fault: got %+v, want 503", got)
	}
	cert, err := srv.ClientCertificate(apnstest.CertificateConfig{BundleID: "com.example.other"})
	if err != nil {
		t.Fatal(err)
	}
	setFaults(t, srv, apnstest.Faults{})
	c = dial(t, srv, dialOptions{cert: &cert})
	if got := c.answer(c.send(c.fields("", over...), []byte(payload))).reason(); got != "TopicMismatch" {
		t.Errorf("certificate of another app: got %q, want TopicMismatch", got)
	}
}
