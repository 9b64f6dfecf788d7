package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	main "github.com/pushfleet/pushfleet/cmd/pushfleet"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// found is a finding as the doctor prints it.
type found struct{ State, Name, Found, Remedy string }

// doctor runs the doctor with more environment, and returns its exit code and what it
// found.
func (r *rig) doctor(env []string, args ...string) (int, []found) {
	r.t.Helper()
	if !slices.Contains(args, "-c") {
		args = append(args, "-c", r.config)
	}
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"doctor", "--output", "json"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		r.t.Fatal(err)
	}
	if code == 2 {
		return code, nil
	}
	var list []found
	if err := json.Unmarshal(out, &list); err != nil {
		r.t.Fatalf("doctor: %v: %s%s", err, out, errs.String())
	}
	return code, list
}

// certificate writes a client certificate of its own that ends at a time, and its key.
func (r *rig) certificate(name string, ends time.Time) {
	r.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Apple Push Services: com.example.shop"},
		NotBefore: ends.AddDate(-1, 0, 0), NotAfter: ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
}

// The doctor finds a healthy fleet healthy, and each thing that is wrong, with what to
// do about it, while everything else is still looked at.
func TestDoctor(t *testing.T) {
	r := newRig(t, "--unknown", "reject")
	r.configSet(t, "appendonly", "yes")
	r.configSet(t, "maxmemory", "1gb")

	// Before anything has run, nothing has failed.
	if code, list := r.doctor(nil); code != 0 || !has(list, found{"warning", "streams", "none yet", "Start a worker"}) {
		t.Fatalf("before the first start: got exit %d, %+v", code, list)
	}
	r.worker("w1")
	healthy := func() {
		t.Helper()
		code, list := r.doctor(nil)
		if code != 0 || len(list) < 20 || slices.ContainsFunc(list, func(f found) bool { return f.State != "ok" }) {
			t.Fatalf("healthy fleet: got exit %d, %+v", code, list)
		}
	}
	healthy()

	nc, err := stream.Connect(stream.ConnectConfig{URL: r.natsURL}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	streams, err := stream.Open(r.ctx, nc, stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// edit changes a stream, and returns what changes it back.
	edit := func(name string, change func(*jetstream.StreamConfig, jetstream.StreamState)) func() {
		st, err := js.Stream(r.ctx, name)
		must(err)
		before := st.CachedInfo().Config
		after := before
		change(&after, st.CachedInfo().State)
		_, err = js.UpdateStream(r.ctx, after)
		must(err)
		return func() { _, err := js.UpdateStream(r.ctx, before); must(err) }
	}
	set := func(name, value, before string) func() func() {
		return func() func() {
			r.configSet(t, name, value)
			return func() { r.configSet(t, name, before) }
		}
	}
	client := redis.NewClient(&redis.Options{Addr: r.redisAddr})
	defer client.Close()
	lane := stream.LaneDurable("shop", job.Bulk)

	for _, tc := range []struct {
		name  string
		wreck func() (mend func())
		code  int
		want  found
	}{
		{"redis evicts", set("maxmemory-policy", "allkeys-lru", "noeviction"), 1, found{"failed", "redis eviction", "allkeys-lru", "noeviction"}},
		{"redis listpack", set("hash-max-listpack-entries", "64", "512"), 0, found{"warning", "redis listpack", "is 64", "512"}},
		{"redis full", set("maxmemory", "100kb", "1gb"), 1, found{"failed", "redis memory", "out of memory", "maxmemory"}},
		{"redis nearly full", func() func() {
			text, err := client.Info(r.ctx, "memory").Result()
			must(err)
			var used int
			for line := range strings.Lines(text) {
				_, _ = fmt.Sscanf(line, "used_memory:%d", &used)
			}
			return set("maxmemory", fmt.Sprint(used+used/8), "1gb")()
		}, 0, found{"warning", "redis memory", "it uses", "prune"}},
		{"redis without limit", set("maxmemory", "0", "1gb"), 0, found{"warning", "redis memory", "maxmemory is not set", "70 %"}},
		{"redis not on disk", set("appendonly", "no", "yes"), 1, found{"failed", "redis persistence", "every device token", "appendonly yes"}},
		{"redis with snapshots", func() func() {
			r.configSet(t, "save", "3600 1")
			mend := set("appendonly", "no", "yes")()
			return func() { mend(); r.configSet(t, "save", "") }
		}, 0, found{"warning", "redis persistence", "3600 1", "appendonly yes"}},
		{"JOBS forgets", func() func() {
			return edit("JOBS", func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxAge = time.Hour })
		}, 1, found{"failed", "stream JOBS", "max_age=1h", "Take the limit away"}},
		{"OUTCOMES discards", func() func() {
			return edit("OUTCOMES", func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.Discard = jetstream.DiscardOld })
		}, 0, found{"warning", "stream OUTCOMES", "discard=old", "discard=new"}},
		{"DEVICES forgets", func() func() {
			return edit("DEVICES", func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxAge = time.Hour })
		}, 0, found{"warning", "stream DEVICES", "max_age=1h", "no max_age"}},
		{"DEAD without limit", func() func() {
			return edit("DEAD", func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxBytes = -1 })
		}, 0, found{"warning", "stream DEAD", "max_bytes", "Set max_bytes"}},
		{"a subject is missing", func() func() {
			return edit("JOBS", func(c *jetstream.StreamConfig, _ jetstream.StreamState) {
				c.Subjects = []string{"push.jobs.*.*", "push.ranges.*.*"}
			})
		}, 0, found{"warning", "stream JOBS", "subjects", "it extends JOBS"}},
		{"a fuse has tripped", func() func() {
			f, err := streams.SetFuse(r.ctx, stream.Fuse{App: "shop", Environment: device.Production, Tripped: true, TrippedAt: time.Now(), Rejected: 200, Sent: 210})
			must(err)
			return func() { f.Tripped = false; _, err := streams.SetFuse(r.ctx, f); must(err) }
		}, 1, found{"failed", "fuse of shop, production", "200 of 210", "fuse reset --app shop --environment production"}},
		{"a lane is paused", func() func() {
			_, err := js.PauseConsumer(r.ctx, "JOBS", lane, time.Now().Add(time.Hour))
			must(err)
			return func() { _, err := js.ResumeConsumer(r.ctx, "JOBS", lane); must(err) }
		}, 1, found{"failed", "lane bulk of shop", "paused", lane}},
		{"a lane is limited", func() func() {
			c, err := js.Consumer(r.ctx, "JOBS", lane)
			must(err)
			before := c.CachedInfo().Config
			after := before
			after.MaxAckPending = 100
			_, err = js.UpdateConsumer(r.ctx, "JOBS", after)
			must(err)
			return func() { _, err := js.UpdateConsumer(r.ctx, "JOBS", before); must(err) }
		}, 0, found{"warning", "lane bulk of shop", "max_ack_pending 100", lane}},
		{"dead letters", func() func() {
			_, err := js.Publish(r.ctx, stream.DeadSubject("shop"), make([]byte, 4096))
			must(err)
			return func() {}
		}, 0, found{"warning", "dead letters of shop", "1", "dead-letter list --app shop"}},
		{"a stream is nearly full", func() func() {
			return edit("DEAD", func(c *jetstream.StreamConfig, st jetstream.StreamState) { c.MaxBytes = int64(st.Bytes + st.Bytes/8) })
		}, 0, found{"warning", "stream DEAD", "nearly full", "before it is full"}},
		{"a stream is full", func() func() {
			return edit("DEAD", func(c *jetstream.StreamConfig, st jetstream.StreamState) { c.MaxBytes = int64(st.Bytes) })
		}, 1, found{"failed", "stream DEAD", "no room", "raise max_bytes of DEAD"}},
		{"the dead letter goes", func() func() {
			st, err := js.Stream(r.ctx, "DEAD")
			must(err)
			must(st.Purge(r.ctx))
			return func() {}
		}, 0, found{"ok", "dead letters of shop", "none", ""}},
		{"the stand-in takes everything", func() func() {
			r.sim(http.MethodPut, "/devices/"+strings.Repeat("00", 32), `{}`)
			return func() { r.sim(http.MethodDelete, "/devices/"+strings.Repeat("00", 32), "") }
		}, 0, found{"warning", "apns of shop, production", "cannot exist", "--unknown reject"}},
	} {
		mend := tc.wreck()
		code, list := r.doctor(nil)
		if code != tc.code || !has(list, tc.want) {
			t.Errorf("%s: got exit %d, %+v; want exit %d and %+v", tc.name, code, list, tc.code, tc.want)
		}
		mend()
	}
	healthy()

	// A stream that is gone, while the others are there.
	must(js.DeleteStream(r.ctx, "DEAD"))
	if code, list := r.doctor(nil, "--skip", "apns,redis"); code != 1 || !has(list, found{"failed", "stream DEAD", "missing", "Restart a worker"}) {
		t.Errorf("without DEAD: got exit %d, %+v", code, list)
	}
}

// sim asks the simulator's admin interface for something.
func (r *rig) sim(method, path, body string) {
	r.t.Helper()
	if status, text := r.http(http.DefaultClient, method, r.adminURL+path, "", body); status/100 != 2 {
		r.t.Fatalf("simulator: %d %s", status, text)
	}
}

// has reports whether a list has a finding with that state and name, and with those
// texts in it.
func has(list []found, want found) bool {
	return slices.ContainsFunc(list, func(f found) bool {
		return f.State == want.State && f.Name == want.Name && strings.Contains(f.Found, want.Found) && strings.Contains(f.Remedy, want.Remedy)
	})
}

// What is wrong with how the fleet is reached, and with what apps prove themselves by,
// is found too, and hides nothing else.
func TestDoctorOfAnotherConfiguration(t *testing.T) {
	r := newRig(t, "--unknown", "reject")
	r.configSet(t, "appendonly", "yes")
	r.configSet(t, "maxmemory", "1gb")
	port := freePort(t)
	r.start(nil, filepath.Join(r.bin, "nats-server"), "-a", "127.0.0.1", "-p", port) // no -js
	r.until("nats-server", func() error {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r.write("other.p8", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	r.certificate("expired.pem", time.Now().Add(-24*time.Hour))
	r.certificate("ending.pem", time.Now().Add(10*24*time.Hour+time.Hour))
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, text2 string) string { return strings.Replace(string(text), old, text2, 1) }
	const goodKey = "key: {path: sim/AuthKey_SIM0000001.p8, key_id: SIM0000001, team_id: SIMTEAM001}"

	redisOK := found{"ok", "redis eviction", "", ""}
	natsOK := found{"ok", "nats", "", ""}
	apnsOK := found{"ok", "apns of shop, production", "the endpoint accepts key SIM0000001", ""}
	for _, tc := range []struct {
		name   string
		config string // empty: the rig's
		env    []string
		want   []found
	}{
		{"no JetStream", "", []string{"PUSHFLEET_NATS_URL=nats://127.0.0.1:" + port}, []found{{"failed", "nats", "no JetStream", "-js"}, redisOK, apnsOK}},
		{"no NATS", "", []string{"PUSHFLEET_NATS_URL=nats://127.0.0.1:1"}, []found{{"failed", "nats", "connect to nats", "Start nats-server"}, redisOK, apnsOK}},
		{"no Redis", "", []string{"PUSHFLEET_REDIS_ADDRESSES=127.0.0.1:1"}, []found{{"failed", "redis", "refused", "Start redis-server"}, natsOK, apnsOK}},
		{"wrong key", with("sim/AuthKey_SIM0000001.p8", "other.p8"), nil, []found{
			{"ok", "credential 1 of shop", "key SIM0000001", ""},
			{"failed", "apns of shop, production", "403 InvalidProviderToken", "key_id and team_id"},
			redisOK, natsOK,
		}},
		{"wrong team", with("team_id: SIMTEAM001", "team_id: SIMTEAM002"), nil, []found{{"failed", "apns of shop, production", "403 InvalidProviderToken", "key_id and team_id"}}},
		{"wrong topic", with("com.example.shop", "com.example.shp"), nil, []found{{"failed", "apns of shop, production", "400 TopicDisallowed", "bundle_id"}}},
		{"no key file", with("sim/AuthKey_SIM0000001.p8", "nowhere.p8"), nil, []found{
			{"failed", "configuration", "nowhere.p8", "Mend it"}, {"failed", "credential 1 of shop", "nowhere.p8", "Put the file there"}, redisOK, natsOK,
		}},
		{"expired certificate", with(goodKey, "certificate: {path: expired.pem}"), nil, []found{
			{"failed", "credential 1 of shop", "expired at", "Renew"}, {"failed", "apns of shop, production", "BadCertificate", "Renew"},
		}},
		{"certificate that ends soon", with(goodKey, "certificate: {path: ending.pem}"), nil, []found{{"warning", "credential 1 of shop", "expires in 10 days", "Renew"}}},
		{"endpoint of nobody", with(r.simURL, "https://127.0.0.1:1"), nil, []found{{"failed", "apns of shop, production", "refused", "endpoint.url"}, redisOK, natsOK}},
		{"not of this version", with("bundle_id", "bundel_id"), nil, []found{{"failed", "configuration", "unknown key", "Mend it"}, {"failed", "configuration", "bundle_id: ", "Mend it"}}},
	} {
		args := []string{}
		if tc.config != "" {
			args = append(args, "-c", r.write("wrong.yaml", tc.config))
		}
		code, list := r.doctor(tc.env, args...)
		for _, want := range tc.want {
			if !has(list, want) {
				t.Errorf("%s: got %+v, want %+v", tc.name, list, want)
			}
		}
		if wrong := slices.ContainsFunc(tc.want, func(f found) bool { return f.State == "failed" }); wrong && code != 1 {
			t.Errorf("%s: got exit %d, want 1", tc.name, code)
		}
	}

	// Jobs of an app that no living worker sends for, and the replicas that there are.
	r.worker("w1")
	r.config = r.write("two.yaml", string(text)+"  news:\n    bundle_id: com.example.shop\n    "+goodKey+"\n    endpoint: {url: \""+r.simURL+"\", ca_file: sim/ca.pem}\n")
	if out, err := r.cli("send", "--app", "news", "--token", strings.Repeat("0a", 32), "--title", "x"); err != nil {
		t.Fatalf("send: %v: %s", err, out)
	}
	code, list := r.doctor([]string{"PUSHFLEET_NATS_REPLICAS=3"}, "--app", "news", "--skip", "redis")
	for _, want := range []found{
		{"failed", "lane transactional of news", "1 jobs wait", "Start a worker that has the app"},
		{"warning", "stream JOBS", "nats.replicas is 3", "--replicas"},
		{"ok", "apns of news, production", "", ""},
	} {
		if !has(list, want) {
			t.Errorf("news: got %+v, want %+v", list, want)
		}
	}
	if code != 1 || slices.ContainsFunc(list, func(f found) bool { return strings.Contains(f.Name, "redis") || strings.Contains(f.Name, "shop") }) {
		t.Errorf("news: got exit %d, %+v, want 1 and neither Redis nor shop", code, list)
	}
	for _, args := range [][]string{{"--skip", "apn"}, {"--app", "nobody"}, {"--output", "xml"}, {"more"}} {
		if code, _ := r.doctor(nil, args...); code != 2 {
			t.Errorf("doctor %v: got exit %d, want 2", args, code)
		}
	}
}

// Workers and API say what the doctor says, if they are asked, and are ready or not
// all the same.
func TestVerboseReadiness(t *testing.T) {
	r := newRig(t)
	r.configSet(t, "appendonly", "yes")
	for _, role := range []string{"worker", "api"} {
		addr := "127.0.0.1:" + freePort(t)
		r.start([]string{"PUSHFLEET_" + strings.ToUpper(role) + "_LISTEN=" + addr}, filepath.Join(r.bin, "pushfleet"), role, "-c", r.config)
		r.until(role, func() error {
			text, err := r.get("http://" + addr + "/readyz?verbose")
			if err == nil && !(strings.Contains(string(text), "ok       stream JOBS") && strings.Contains(string(text), "maxmemory is not set")) {
				err = fmt.Errorf("it says %s", text)
			}
			return err
		})
		if text, err := r.get("http://" + addr + "/readyz"); err != nil || strings.Contains(string(text), "stream JOBS") {
			t.Errorf("%s, not verbose: got %s, %v", role, text, err)
		}
		r.configSet(t, "maxmemory-policy", "allkeys-lru")
		r.until("the "+role+" to see it", func() error {
			status, text := r.http(http.DefaultClient, http.MethodGet, "http://"+addr+"/readyz?verbose", "", "")
			if status != http.StatusServiceUnavailable || !strings.Contains(text, "FAILED   redis eviction") || !strings.Contains(text, "-> CONFIG SET") {
				return fmt.Errorf("got %d %s", status, text)
			}
			return nil
		})
		r.configSet(t, "maxmemory-policy", "noeviction")
	}
}

func TestDoctorOnClocks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tc := range []struct {
		ahead       time.Duration
		state, text string
	}{
		{0, "ok", "within"},
		{-1900 * time.Millisecond, "ok", "within"},
		{3 * time.Second, "warning", "3s ahead of"},
		{-3 * time.Second, "warning", "3s behind"},
		{-2 * time.Minute, "failed", "2m0s behind"},
		{time.Hour, "failed", "1h0m0s ahead of"},
	} {
		if state, text := main.JudgeClock(now.Add(tc.ahead), now); state != tc.state || !strings.Contains(text, tc.text) {
			t.Errorf("%s ahead: got %s, %s; want %s, %s", tc.ahead, state, text, tc.state, tc.text)
		}
	}
}

// Every answer that APNs may give to the doctor is good, or has a remedy.
func TestDoctorOnAnswers(t *testing.T) {
	t.Parallel()
	rejected := func(status int, reason apns.Reason) apns.Response {
		return apns.Response{Status: status, Reason: reason}
	}
	for _, reason := range apns.Reasons() {
		state, text, remedy := main.JudgeAnswer(rejected(http.StatusBadRequest, reason), false, false)
		if good := reason == apns.BadDeviceToken; good != (state == "ok") || good != (remedy == "") || !good && !strings.Contains(text, string(reason)) {
			t.Errorf("%s: got %s, %s, %s", reason, state, text, remedy)
		}
	}
	for _, tc := range []struct {
		name           string
		r              apns.Response
		standIn, spare bool
		state, remedy  string
	}{
		{"key of the other environment", rejected(403, apns.BadEnvironmentKeyInToken), false, false, "failed", "other environment"},
		{"in an environment that may not be used", rejected(403, apns.BadEnvironmentKeyInToken), false, true, "warning", "credentials[n].environment"},
		{"revoked key", rejected(403, apns.Forbidden), false, true, "failed", "not revoked"},
		{"a clock that is wrong", rejected(403, apns.ExpiredProviderToken), false, false, "failed", "NTP"},
		{"Apple accepts it", apns.Response{Status: 200}, false, false, "failed", "DNS"},
		{"a stand-in accepts it", apns.Response{Status: 200}, true, false, "warning", "--unknown reject"},
		{"out of order", rejected(503, apns.ServiceUnavailable), false, false, "warning", "Try again"},
		{"the route is stopped", apns.Response{Err: fmt.Errorf("%w: %w", apns.ErrNotSent, &apns.RouteError{Reason: apns.BadCertificateEnvironment})}, false, false, "failed", "other environment"},
		{"no answer", apns.Response{Err: errors.New("no connection to APNs")}, false, false, "failed", "port 443"},
		{"unknown reason", rejected(400, "Whatever"), false, false, "failed", "BadDeviceToken"},
	} {
		if state, text, remedy := main.JudgeAnswer(tc.r, tc.standIn, tc.spare); state != tc.state || !strings.Contains(remedy, tc.remedy) {
			t.Errorf("%s: got %s, %s, %s; want %s, %s", tc.name, state, text, remedy, tc.state, tc.remedy)
		}
	}
}
