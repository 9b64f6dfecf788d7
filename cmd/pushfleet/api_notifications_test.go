package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// status is what the API says of a job, as a client reads it.
type status struct {
	State      string         `json:"state"`
	RetryAt    *time.Time     `json:"retry_at"`
	Counts     map[string]int `json:"counts"`
	Recipients []struct {
		Token, Result, Reason string
		Status                int
		APNsID                string `json:"apns_id"`
	} `json:"recipients"`
	Latency map[string]int64 `json:"latency"`
}

func (s *status) String() string {
	text := s.State
	for _, r := range s.Recipients {
		text += fmt.Sprintf(" %.2s=%s", r.Token, r.Result)
	}
	return text
}

// A job over HTTP, through a worker, APNs and a recorder, and its status at each turn.
func TestNotificationsOverHTTP(t *testing.T) {
	r := newRig(t)
	addr := "127.0.0.1:" + freePort(t)
	base := "http://" + addr
	r.start([]string{"PUSHFLEET_API_LISTEN=" + addr}, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error {
		text, err := r.get(base + "/readyz")
		if err == nil && strings.Contains(string(text), "JetStream") {
			err = fmt.Errorf("/readyz: %s", text)
		}
		return err
	})
	key := r.key("--app", "shop", "--scope", "send", "--scope", "read")
	send := func(query, body string) string {
		t.Helper()
		code, text := r.http(http.DefaultClient, http.MethodPost, base+"/v1/apps/shop/notifications"+query, key, body)
		var in struct {
			StatusURL string `json:"status_url"`
		}
		if err := json.Unmarshal([]byte(text), &in); code != http.StatusAccepted || err != nil || in.StatusURL == "" {
			t.Fatalf("send: got %d %s, want 202 and where to ask", code, text)
		}
		return base + in.StatusURL
	}
	ask := func(url string) (s status) {
		t.Helper()
		code, text := r.http(http.DefaultClient, http.MethodGet, url, key, "")
		if err := json.Unmarshal([]byte(text), &s); code != http.StatusOK || err != nil {
			t.Fatalf("status: got %d %s, want 200", code, text)
		}
		return s
	}
	until := func(url, want string) (s status) {
		t.Helper()
		r.until(want, func() error {
			if s = ask(url); s.String() != want {
				return fmt.Errorf("got %s", &s)
			}
			return nil
		})
		return s
	}
	tokens := func(first ...string) (list []string) {
		for _, text := range first {
			list = append(list, `"`+text+strings.Repeat("1c", 31)+`"`)
		}
		return list
	}
	// One is dead, and one gets too many.
	for url, body := range map[string]string{
		"/devices/dd" + strings.Repeat("1c", 31): `{"dead_since":"2026-01-02T03:04:05Z"}`,
		"/faults":                                `{"requests":[{"match":{"token_prefix":"bb"},"answer":{"status":429,"reason":"TooManyRequests"}}]}`,
	} {
		if code, text := r.http(http.DefaultClient, http.MethodPut, r.adminURL+url, "", body); code/100 != 2 {
			t.Fatalf("%s: %d %s", url, code, text)
		}
	}

	done := send("", `{"id":"order/1","to":{"tokens":[`+strings.Join(tokens("aa", "dd"), ",")+`]},"notification":{"title":"t"}}`)
	nameless := send("?lane=bulk", `{"to":{"tokens":[`+strings.Join(tokens("aa", "bb"), ",")+`]},"notification":{"title":"t"}}`)
	until(done, "queued aa=waiting dd=waiting")
	until(nameless, "queued aa=waiting bb=waiting")

	r.worker("w1")
	got := until(done, "done aa=accepted dd=rejected")
	tok, err := device.ParseToken("aa" + strings.Repeat("1c", 31))
	if err != nil {
		t.Fatal(err)
	}
	if want := job.APNsID("shop", "order/1", tok).String(); got.Recipients[0].APNsID != want || got.Recipients[1].Reason != "Unregistered" || got.Recipients[1].Status != 410 {
		t.Errorf("done: got %+v, want apns-id %s and a 410", got.Recipients, want)
	}
	if len(got.Latency) != 3 || got.Latency["queued_ms"] < 1 {
		t.Errorf("latency: got %v, want how long it was in the queue, waited, and took", got.Latency)
	}
	// It is found by its id alone by now.
	until(strings.SplitN(done, "?", 2)[0], "done aa=accepted dd=rejected")
	got = until(nameless, "retrying aa=accepted bb=retrying")
	if got.RetryAt == nil || !got.RetryAt.After(time.Now()) || got.Counts["accepted"] != 1 {
		t.Errorf("retrying: got %+v, want a time and one accepted", got)
	}

	// Once JetStream is gone that is said at once.
	if err := r.nats.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.until("the loss of the connection", func() error {
		text, err := r.get(base + "/readyz")
		if err == nil && !strings.Contains(string(text), "no connection to JetStream") {
			err = fmt.Errorf("/readyz: %s", text)
		}
		return err
	})
	start := time.Now()
	code, text := r.http(http.DefaultClient, http.MethodPost, base+"/v1/apps/shop/notifications", key, `{"to":{"users":["ada"]},"notification":{"title":"t"}}`)
	if took := time.Since(start); code != http.StatusServiceUnavailable || took > 5*time.Second {
		t.Errorf("without JetStream: got %d %s after %s, want 503 at once", code, text, took)
	}
}

// Without JetStream what needs it is refused at once, and devices are served.
func TestAPIWithoutJetStream(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+"}\nnats: {url: nats://127.0.0.1:1}")
	base := "http://" + addr
	r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error { _, err := r.get(base + "/readyz"); return err })
	key := r.key("--app", "shop", "--scope", "admin")
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{http.MethodPost, "/v1/apps/shop/notifications", `{"id":"a","to":{"users":["ada"]},"notification":{"title":"t"}}`, 503, `"unavailable"`},
		{http.MethodPost, "/v1/apps/shop/notifications", `{"id":"a"}`, 422, `"invalid"`},
		{http.MethodGet, "/v1/apps/shop/notifications/seq-1", "", 503, `"unavailable"`},
		{http.MethodGet, "/v1/apps/shop/notifications/a", "", 404, `"unknown_notification"`},
		{http.MethodPut, "/v1/apps/shop/devices/" + strings.Repeat("0a", 32), "", 200, `"created":true`},
		{http.MethodGet, "/readyz", "", 200, "notifications and campaigns: there is no connection to JetStream"},
	} {
		start := time.Now()
		status, body := r.http(http.DefaultClient, step.method, base+step.path, key, step.body)
		if took := time.Since(start); status != step.status || !strings.Contains(body, step.want) || took > 5*time.Second {
			t.Errorf("%s %s: got %d %s after %s, want %d %s at once", step.method, step.path, status, body, took, step.status, step.want)
		}
	}
}

// What dev prints to be tried works as it is printed.
func TestDev(t *testing.T) {
	r := newAPIRig(t, "")
	dir := filepath.Join(r.dir, "dev")
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "dev", "--dir", dir, "--nats-port", "0", "--redis-port", "0",
		"--sim-port", "0", "--admin-port", "0", "--ops-port", "0", "--api-port", "0")
	r.until("what there is", func() error {
		if !p.out.contains("Stop with ctrl-c") {
			return fmt.Errorf("got %s", p.out)
		}
		return nil
	})
	var tried []string
	for line := range strings.Lines(p.out.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl -X P") || strings.HasPrefix(line, "curl -H") || strings.HasPrefix(line, "export ") {
			tried = append(tried, line)
		}
	}
	if len(tried) != 5 {
		t.Fatalf("got %d commands in %s, want the key, register, send, status and gorush's", len(tried), p.out)
	}
	run := func(line string) string {
		t.Helper()
		out, err := exec.CommandContext(r.ctx, "sh", "-c", tried[0]+"\n"+strings.Replace(line, "curl ", "curl -sS ", 1)).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
	if got := run(tried[1]); !strings.Contains(got, `"created":true`) {
		t.Errorf("register: got %s, want it created", got)
	}
	r.until("the job in the queue", func() error { // JetStream may be a moment behind
		if got := run(tried[2]); !strings.Contains(got, `"id":"hello"`) {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
	r.until("the notification", func() error {
		if got := run(tried[3]); !strings.Contains(got, `"counts":{"accepted":1}`) {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
	if got := run(tried[4]); got != `{"success":"ok","counts":1,"logs":[]}`+"\n" {
		t.Errorf("gorush: got %s, want it taken", got)
	}
	if got := r.documentedProgram(p.out.String()); got != "order-4713-shipped accepted by APNs: true <nil>\n" {
		t.Errorf("the program of docs/producer.md: got %s, want it accepted", got)
	}
	if err := r.stop(p); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
}

// documentedProgram runs the program of docs/producer.md, which must not need what a
// producer has no use for, on the NATS server that dev names.
func (r *rig) documentedProgram(dev string) string {
	r.t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "producer.md"))
	if err != nil {
		r.t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```go\n")
	program, _, _ = strings.Cut(program, "```\n")
	url := regexp.MustCompile(`nats://[0-9.:]+`)
	program = url.ReplaceAllString(program, url.FindString(dev))
	file, overlay := r.write("main.go", program), filepath.Join(r.dir, "overlay.json")
	// In the module, without being in its tree.
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace":{%q:%q}}`, filepath.Join(root, "documented", "main.go"), file), 0o600); err != nil {
		r.t.Fatal(err)
	}
	tool := func(args ...string) string {
		cmd := exec.CommandContext(r.ctx, "go", args...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			r.t.Fatalf("go %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for dep := range strings.Lines(tool("list", "-overlay", overlay, "-deps", "./documented")) {
		if strings.Contains(dep, "redis") || strings.Contains(dep, "apns") || strings.Contains(dep, "nats-server") {
			r.t.Errorf("it needs %swant neither Redis, APNs nor a server", dep)
		}
	}
	return tool("run", "-overlay", overlay, "./documented")
}
