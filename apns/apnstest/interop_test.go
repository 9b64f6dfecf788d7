//go:build interop

// These tests need curl, h2load and node: go test -tags interop.

package apnstest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// run runs a program and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	dir := t.TempDir()
	if err := srv.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	call := func(args ...string) string {
		return run(t, "curl", append([]string{
			"--silent", "--show-error", "--include", "--http2", "--cacert", filepath.Join(dir, "ca.pem"),
			"--header", "authorization: bearer " + srv.ProviderToken(time.Now()),
			"--header", "apns-topic: " + bundle,
		}, args...)...)
	}
	got := call("--header", "apns-push-type: alert", "--header", "apns-id: "+someID, "--data", payload, srv.URL()+"/3/device/"+tokenN(1))
	if !strings.HasPrefix(got, "HTTP/2 200") || !strings.Contains(got, "apns-id: "+someID) {
		t.Errorf("good request: got %s", got)
	}
	got = call("--data", payload, srv.URL()+"/3/device/zz")
	if !strings.HasPrefix(got, "HTTP/2 400") || !strings.HasSuffix(got, `{"reason":"BadDeviceToken"}`) {
		t.Errorf("bad device token: got %s", got)
	}
	if got = call("--head", srv.URL()); !strings.HasPrefix(got, "HTTP/2 405") {
		t.Errorf("HEAD: got %s", got)
	}
	file := filepath.Join(dir, "large")
	if err := os.WriteFile(file, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if got = call("--data-binary", "@"+file, srv.URL()+"/3/device/"+tokenN(1)); !strings.HasPrefix(got, "HTTP/2 413") {
		t.Errorf("large body: got %s", got)
	}
	// HTTP/1.1 is no answer at all.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "curl", "--silent", "--http1.1", "--cacert", filepath.Join(dir, "ca.pem"), srv.URL()).CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Errorf("HTTP/1.1: got %q, %v, want nothing", out, err)
	}
}

// TestH2load sends 100,000 requests and prints what each cost the whole test
// process, clients not included.
func TestH2load(t *testing.T) {
	const n = 100_000
	srv := newServer(t, apnstest.Config{Ledger: apnstest.LedgerHash, BadShare: 0.01})
	dir := t.TempDir()
	body := filepath.Join(dir, "body")
	if err := os.WriteFile(body, []byte(payload), 0o600); err != nil {
		t.Fatal(err)
	}
	var uris strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&uris, "%s/3/device/%s\n", srv.URL(), tokenN(i))
	}
	list := filepath.Join(dir, "uris")
	if err := os.WriteFile(list, []byte(uris.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, "h2load", "-n", fmt.Sprint(n), "-c", "4", "-m", "500", "-i", list, "-d", body,
		"-H", "authorization: bearer "+srv.ProviderToken(time.Now()), "-H", "apns-topic: "+bundle, "-H", "apns-push-type: alert")
	st := srv.Stats()
	// It sends a hundred requests before it has read SETTINGS; what is refused then
	// it counts as an error.
	if st.Received+st.RefusedStreams != n || st.Answered != st.Received || st.ConnectionsTotal != 4 {
		t.Errorf("got %+v\n%s", st, out)
	}
	m := regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, (\d+) 4xx, 0 5xx`).FindStringSubmatch(out)
	if m == nil || m[1] != fmt.Sprint(st.Accepted) || m[2] != fmt.Sprint(st.Rejected) {
		t.Errorf("got %v, want %d and %d\n%s", m, st.Accepted, st.Rejected, out)
	}
}

const nodeScript = `
const http2 = require('http2'), fs = require('fs');
const [url, ca, jwt, n] = process.argv.slice(1);
const session = http2.connect(url, {ca: fs.readFileSync(ca)});
const results = {};
let goaway = null;
session.on('goaway', (code, last, data) => { goaway = {code, last, data: data ? data.toString() : ''}; });
function send(i) {
  return new Promise((resolve) => {
    const req = session.request({':method': 'POST', ':path': '/3/device/' + i.toString(16).padStart(64, '0'),
      authorization: 'bearer ' + jwt, 'apns-topic': 'com.example.app', 'apns-push-type': 'alert'});
    let status = 0, body = '';
    req.on('response', (h) => { status = h[':status']; });
    req.on('data', (d) => { body += d; });
    req.on('error', (e) => { status = e.code; });
    req.on('close', () => { const key = status + ' ' + body; results[key] = (results[key] || 0) + 1; resolve(); });
    req.end('{"aps":{"alert":"hello"}}');
  });
}
(async () => {
  await send(0);
  const all = [];
  for (let i = 1; i < n; i++) all.push(send(i));
  await Promise.all(all);
  await new Promise((r) => session.ping(() => r()));
  console.log(JSON.stringify({results, streams: session.remoteSettings.maxConcurrentStreams, goaway}));
  session.close();
})();
`

func TestNode(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{BadShare: 0.1, Environment: apnstest.Sandbox})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, srv.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	bad := 0
	for i := range n {
		if srv.Fate(tokenN(i)) == apnstest.Bad {
			bad++
		}
	}
	out := run(t, "node", "-e", nodeScript, srv.URL(), ca, srv.ProviderToken(time.Now()), fmt.Sprint(n))
	var got struct {
		Results map[string]int
		Streams int
		Goaway  any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got.Results["200 "] != n-bad || got.Results[`400 {"reason":"BadDeviceToken"}`] != bad || got.Streams != 1000 || got.Goaway != nil {
		t.Errorf("got %s, want %d good, %d bad", out, n-bad, bad)
	}
	// All shapes of answers, as another implementation reads them.
	setFaults(t, srv, apnstest.Faults{Responses: apnstest.ResponseFaults{
		Continuation: true, Padding: 9, Informational: true, Trailers: true, SplitBody: true, Index: true, Unknown: true,
	}})
	out = run(t, "node", "-e", nodeScript, srv.URL(), ca, srv.ProviderToken(time.Now()), fmt.Sprint(n))
	got.Results = nil
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Results["200 "] != n-bad || got.Results[`400 {"reason":"BadDeviceToken"}`] != bad {
		t.Errorf("unusual answers: got %s, %v, want %d good, %d bad", out, err, n-bad, bad)
	}
}
