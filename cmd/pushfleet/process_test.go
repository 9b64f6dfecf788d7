package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// binaries builds, once, what the tests run as processes of their own.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pushfleet-test-")
	if err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{"pushfleet": ".", "nats-server": "github.com/nats-io/nats-server/v2"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// rig is a fleet of separate processes on loopback.
type rig struct {
	t   *testing.T
	ctx context.Context
	bin string
	dir string

	natsURL, redisAddr, simURL, adminURL string
	config                               string

	nats *process // of newRig
}

// process is one of them.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan error
	err  error // how it ended, once the test is over
}

// output is what a process prints. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) contains(text string) bool { return strings.Contains(o.String(), text) }

// start starts a program with more environment than this process has.
func (r *rig) start(env []string, name string, args ...string) *process {
	r.t.Helper()
	p := &process{cmd: exec.Command(name, args...), out: new(output), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Dir, p.cmd.Env = r.dir, append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		r.t.Fatalf("start %s: %v", name, err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	r.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.err = <-p.done
		if r.t.Failed() {
			r.t.Logf("%s %s:\n%s", filepath.Base(name), strings.Join(args, " "), p.out)
		}
	})
	return p
}

// stop asks a process to stop and returns how it ended.
func (r *rig) stop(p *process) error {
	r.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err // for the clean-up
		return err
	case <-r.ctx.Done():
		r.t.Fatalf("did not stop:\n%s", p.out)
		return nil
	}
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// until polls another process: it has no event to wait for.
func (r *rig) until(what string, is func() error) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("waited for %s: %v", what, err)
		}
	}
}

func (r *rig) get(url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// newRig starts nats-server, redis-server and the simulator, with more flags.
func newRig(t *testing.T, simFlags ...string) *rig {
	t.Helper()
	t.Parallel()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("this test needs redis-server: apt-get install redis-server")
	}
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, bin: bin, dir: t.TempDir()}
	natsPort, redisPort, simPort, adminPort := freePort(t), freePort(t), freePort(t), freePort(t)
	r.natsURL, r.redisAddr = "nats://127.0.0.1:"+natsPort, "127.0.0.1:"+redisPort
	r.simURL, r.adminURL = "https://127.0.0.1:"+simPort, "http://127.0.0.1:"+adminPort
	r.nats = r.start(nil, filepath.Join(bin, "nats-server"), "-a", "127.0.0.1", "-p", natsPort, "-js", "-sd", filepath.Join(r.dir, "js"))
	r.start(nil, redis, "--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	r.start(nil, filepath.Join(bin, "pushfleet"), append([]string{
		"sim", "--listen", "127.0.0.1:" + simPort, "--admin", "127.0.0.1:" + adminPort, "--out", "sim", "--topic", "com.example.shop",
	}, simFlags...)...)
	for _, addr := range []string{"127.0.0.1:" + natsPort, r.redisAddr} {
		r.until(addr, func() error {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}
	r.until("the simulator", func() error { _, err := r.get(r.adminURL + "/stats"); return err })
	r.config = filepath.Join(r.dir, "pushfleet.yaml")
	text := fmt.Sprintf(`
nats: {url: "%s"}
redis: {addresses: ["%s"]}
apps:
  shop:
    bundle_id: com.example.shop
    key: {path: sim/AuthKey_SIM0000001.p8, key_id: SIM0000001, team_id: SIMTEAM001}
    endpoint: {url: "%s", ca_file: sim/ca.pem}
`, r.natsURL, r.redisAddr, r.simURL)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// worker starts a worker and waits until it is ready.
func (r *rig) worker(name string) *process {
	r.t.Helper()
	return r.workerWith(name)
}

// workerWith is worker, with settings from the environment.
func (r *rig) workerWith(name string, env ...string) *process {
	r.t.Helper()
	p, ops := r.workerStarts(name, env...)
	r.until("worker "+name, func() error { _, err := r.get(ops + "/readyz"); return err })
	return p
}

// workerStarts is workerWith without the waiting. ops is the URL of its probes.
func (r *rig) workerStarts(name string, env ...string) (p *process, ops string) {
	r.t.Helper()
	listen := "127.0.0.1:" + freePort(r.t)
	env = append(env, "PUSHFLEET_WORKER_NAME="+name, "PUSHFLEET_WORKER_LISTEN="+listen)
	return r.start(env, filepath.Join(r.bin, "pushfleet"), "worker", "-c", r.config), "http://" + listen
}

// cli runs a command and returns what it printed.
func (r *rig) cli(args ...string) (string, error) {
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append(args, "-c", r.config)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// publishPython publishes with a few lines of Python that speak the NATS
// protocol: what a producer in any language can do. It prints JetStream's answer.
const publishPython = `
import socket, sys
host, port, subject, body, msg_id = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].encode(), sys.argv[5]
s = socket.create_connection((host, port))
f = s.makefile("rb")
f.readline()
headers = ("NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % msg_id).encode()
s.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB reply 1\r\n')
s.sendall(("HPUB %s reply %d %d\r\n" % (subject, len(headers), len(headers) + len(body))).encode() + headers + body + b"\r\n")
while True:
    line = f.readline()
    if line.startswith(b"PING"):
        s.sendall(b"PONG\r\n")
    elif line.startswith(b"MSG"):
        print(f.readline().decode().strip())
        break
    elif not line or line.startswith(b"-ERR"):
        sys.exit("nats says: %r" % line)
`

// A job from another language, through four separate processes, arrives once
// and as it should.
func TestJobFromAnotherLanguage(t *testing.T) {
	r := newRig(t)
	workers := []*process{r.worker("w1"), r.worker("w2")}
	hex := strings.Repeat("0a1b2c3d", 8)
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	body := fmt.Sprintf(`{"id":"order-1","to":{"tokens":["%s"]},"notification":{"title":"Größe","body":"<b>&"},"data":{"order":4711},`+
		`"priority":5,"collapse_id":"order","expires_at":"%s"}`, strings.ToUpper(hex), expires.Format(time.RFC3339))
	_, natsPort, _ := net.SplitHostPort(strings.TrimPrefix(r.natsURL, "nats://"))
	for n := range 2 { // the second is dropped by its Nats-Msg-Id
		out, err := exec.CommandContext(r.ctx, "python3", "-c", publishPython, "127.0.0.1", natsPort,
			"push.jobs.shop.transactional", body, "shop/transactional/order-1").CombinedOutput()
		if err != nil || !strings.Contains(string(out), `"stream":"JOBS"`) || strings.Contains(string(out), "duplicate") != (n == 1) {
			t.Fatalf("publish %d: %v: %s", n, err, out)
		}
	}
	ledger := func() ([]map[string]any, error) {
		text, err := r.get(r.adminURL + "/ledger?token=" + hex)
		if err != nil {
			return nil, err
		}
		var list []map[string]any
		return list, json.Unmarshal(text, &list)
	}
	var got []map[string]any
	r.until("the notification", func() (err error) {
		if got, err = ledger(); err == nil && len(got) == 0 {
			err = fmt.Errorf("the ledger is empty")
		}
		return err
	})
	for _, w := range workers {
		if err := r.stop(w); err != nil {
			t.Errorf("worker: %v, want a clean end", err)
		}
	}
	got, err := ledger()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		t.Fatalf("ledger: got %d requests, want 1", len(got))
	}
	tok, err := device.ParseToken(hex)
	if err != nil {
		t.Fatal(err)
	}
	n := got[0]
	t.Logf("as the simulator received it: %v", n)
	for field, want := range map[string]string{
		"device_token": hex, "topic": "com.example.shop", "push_type": "alert", "priority": "5", "collapse_id": "order",
		"expiration": fmt.Sprint(expires.Unix()), "apns_id": job.APNsID("shop", "order-1", tok).String(), "status": "200",
		"body": `{"aps":{"alert":{"title":"Größe","body":"<b>&"}},"order":4711}`,
	} {
		value := n[field]
		if f, ok := value.(float64); ok {
			value = fmt.Sprintf("%.0f", f)
		}
		if fmt.Sprint(value) != want {
			t.Errorf("%s: got %v, want %s", field, value, want)
		}
	}
}

// The life of a device token, from the command line.
func TestDeviceLife(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	old, fresh := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	must := func(want string, args ...string) {
		t.Helper()
		if out, err := r.cli(args...); err != nil || !strings.Contains(out, want) {
			t.Fatalf("pushfleet %s: %v: %s; want %q", strings.Join(args, " "), err, out, want)
		}
	}
	must("generation 1", "device", "register", "--app", "shop", "--user", "ada", old)
	must("generation 1", "device", "register", "--app", "shop", "--user", "ada", "--previous", old, fresh)
	must("removed", "device", "show", "--app", "shop", old)
	must("live", "device", "show", "--app", "shop", "--user", "ada")
	must("is stored for 1 recipients", "send", "--app", "shop", "--user", "ada", "--title", "Hello", "--id", "one")
	r.until("the notification", func() error {
		text, err := r.get(r.adminURL + "/ledger?token=" + fresh)
		if err == nil && !bytes.Contains(text, []byte("Hello")) {
			err = fmt.Errorf("ledger: %s", text)
		}
		return err
	})
	must("published before", "send", "--app", "shop", "--user", "ada", "--title", "Hello", "--id", "one")

	// APNs calls it dead: it goes, and the next send says why nothing was sent.
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, r.adminURL+"/devices/"+fresh,
		strings.NewReader(fmt.Sprintf(`{"dead_since":%q}`, time.Now().Add(time.Minute).Format(time.RFC3339Nano))))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("set device: %s", resp.Status)
	}
	must("is stored", "send", "--app", "shop", "--user", "ada", "--title", "Hello again")
	r.until("the removal", func() error {
		out, err := r.cli("device", "show", "--app", "shop", fresh)
		if err == nil && !strings.Contains(out, "removed since") {
			err = fmt.Errorf("device: %s", out)
		}
		return err
	})
	must("Unregistered", "device", "show", "--app", "shop", fresh)
	must("generation 2", "device", "register", "--app", "shop", "--user", "ada", fresh)
	must("live", "device", "show", "--app", "shop", fresh)
	must("removed", "device", "remove", "--app", "shop", fresh)
}

// Wrong uses end with 2, failures with 1, and both say what to do.
func TestExitCodes(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"no-such-command"}, 2, "unknown command"},
		{[]string{"send", "--title", "x"}, 2, "app"},
		{[]string{"send", "--app", "shp", "--user", "a", "--title", "x"}, 2, "configured: shop"},
		{[]string{"send", "--app", "shop", "--token", "abc", "--title", "x"}, 2, "odd"},
		{[]string{"send", "--app", "shop", "--title", "x"}, 1, "to"},
		{[]string{"demo", "--devices", "0"}, 2, "--devices"},
		{[]string{"device", "show", "--app", "shop", "abcd"}, 1, "not known"},
		{[]string{"config", "check"}, 0, "configuration is good: 1 apps (shop)"},
		{[]string{"schema", "job"}, 0, "$schema"},
		{[]string{"schema", "cat"}, 2, "invalid argument"},
		{[]string{"version"}, 0, "pushfleet"},
		{[]string{"probe", r.adminURL + "/nowhere"}, 1, "404"},
	} {
		out, err := r.cli(tc.args...)
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("pushfleet %s: exit %d, %q; want exit %d and %q", strings.Join(tc.args, " "), code, out, tc.code, tc.want)
		}
	}
}

// A worker that starts on a configuration or a server that cannot work says why.
func TestWorkerRefusesToStart(t *testing.T) {
	r := newRig(t)
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(r.ctx, jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"push.jobs.*.*"}, Retention: jetstream.WorkQueuePolicy, MaxMsgs: 10}); err != nil {
		t.Fatal(err)
	}
	out, err := r.cli("worker")
	if err == nil || !strings.Contains(out, "max_msgs=10") {
		t.Errorf("limited JOBS: got %v, %s, want it refused with the limit", err, out)
	}
}
