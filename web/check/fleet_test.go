package check_test

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
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience is with whatever must happen in another process, on a machine that has other
// things to do.
const patience = time.Minute

// fleet is `pushfleet dev`, with an API in a process of its own beside it: one that can be
// stopped without the token set and its keys being gone.
type fleet struct {
	dir, bin, config string
	nats, sim        string // URLs
	url              string // of the API, and its page
	admin            string // a key for everything
	api              *process
	dev              *process
}

// theFleet is shared by all tests: they run one after another, each with names of its own.
var theFleet = sync.OnceValues(startFleet)

func TestMain(m *testing.M) {
	code := m.Run()
	if f, err := theFleet(); err == nil {
		f.stop()
	}
	if b, err := theBrowser(); err == nil {
		b.stop()
	}
	os.Exit(code)
}

func setup(t *testing.T) *fleet {
	t.Helper()
	f, err := theFleet()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func startFleet() (_ *fleet, err error) {
	f := &fleet{}
	if f.dir, err = os.MkdirTemp("", "pushfleet-page-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	f.bin = filepath.Join(f.dir, "pushfleet")
	build := exec.Command("go", "build", "-o", f.bin, "./cmd/pushfleet")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build pushfleet: %w\n%s", err, out)
	}
	args := []string{"dev", "--dir", f.dir}
	ports := make(map[string]string)
	for _, name := range []string{"nats", "redis", "sim", "admin", "ops", "api"} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		ports[name] = port
		args = append(args, "--"+name+"-port", port)
	}
	f.config = filepath.Join(f.dir, "pushfleet.yaml")
	f.nats, f.sim = "nats://127.0.0.1:"+ports["nats"], "http://127.0.0.1:"+ports["admin"]
	if f.dev, err = startProcess(f.bin, args, nil); err != nil {
		return nil, err
	}
	key := regexp.MustCompile(`API key +(pf_\S+)`)
	err = until("dev to serve", func() error {
		m := key.FindStringSubmatch(f.dev.output())
		if m == nil {
			return errors.New(f.dev.output())
		}
		f.admin = m[1]
		return nil
	})
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	f.url = "http://127.0.0.1:" + port
	return f, f.startAPI()
}

// startAPI starts the API, also again, at the same address.
func (f *fleet) startAPI() (err error) {
	f.api, err = startProcess(f.bin, []string{"api", "-c", f.config}, []string{
		"PUSHFLEET_API_LISTEN=" + strings.TrimPrefix(f.url, "http://"),
		"PUSHFLEET_API_RATE_LIMIT=0", // the tests register many devices at once
	})
	if err != nil {
		return err
	}
	return until("the API to be ready", func() error {
		resp, err := http.Get(f.url + "/readyz")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, f.api.output())
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (f *fleet) stop() {
	for _, p := range []*process{f.api, f.dev} {
		if p != nil {
			p.stop()
		}
	}
	os.RemoveAll(f.dir)
}

// ask asks the API; what it answers is read into answer, if that is not nil.
func (f *fleet) ask(method, path string, body, answer any) error {
	return f.request(f.url+path, method, f.admin, body, answer)
}

func (f *fleet) must(t *testing.T, method, path string, body, answer any) {
	t.Helper()
	if err := f.ask(method, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// faults makes the simulator behave in another way; nil: as it should.
func (f *fleet) faults(t *testing.T, faults any) {
	t.Helper()
	if faults == nil {
		faults = map[string]any{}
	}
	if err := f.request(f.sim+"/faults", http.MethodPut, "", faults, nil); err != nil {
		t.Fatal(err)
	}
}

func (f *fleet) request(url, method, key string, body, answer any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, got)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}

// key makes an API key for the app demo.
func (f *fleet) key(t *testing.T, scopes ...string) string {
	t.Helper()
	args := []string{"key", "create", "-c", f.config, "--app", "demo"}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	var stderr strings.Builder
	cmd := exec.Command(f.bin, args...)
	cmd.Env, cmd.Stderr = environment(), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("create key: %v: %s", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// devices registers devices whose tokens begin with a prefix of eight digits.
func (f *fleet) devices(t *testing.T, prefix string, n int, user func(i int) string) []string {
	t.Helper()
	tokens := make([]string, n)
	var batch []map[string]any
	for i := range tokens {
		tokens[i] = fmt.Sprintf("%s%056x", prefix, i)
		d := map[string]any{"token": tokens[i]}
		if user != nil {
			d["user"] = user(i)
		}
		if batch = append(batch, d); len(batch) == 1000 || i == n-1 {
			// What was answered with 503 is to be repeated.
			if err := until("devices to be registered", func() error {
				return f.ask(http.MethodPost, "/v1/apps/demo/devices", map[string]any{"devices": batch}, nil)
			}); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	return tokens
}

// jetStream connects to the fleet's.
func (f *fleet) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(f.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// process is one of pushfleet's.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func startProcess(bin string, args, environ []string) (*process, error) {
	p := &process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Env = append(environment(), environ...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // told to
	}()
	return p, nil
}

// environment is this process's, without what is for tests: pushfleet would take it for
// its configuration.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PUSHFLEET_") })
}

// Write implements [io.Writer] for what the process says.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// until waits for what happens in another process.
func until(what string, happened func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := happened()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s: %w", patience, what, err)
		}
	}
}

// command runs a command of pushfleet.
func (f *fleet) command(args ...string) (string, error) {
	cmd := exec.Command(f.bin, args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
