//go:build chaos && linux

package chaos_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/testenv"
)

// process is a program that can be killed, frozen and started again. What it
// prints is appended to a file of its name.
type process struct {
	name string
	log  string
	path string
	args []string
	env  []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{} // closed when cmd has ended
	err     error         // how it did; read after done
	started time.Time     // guarded by mu
	wanted  bool          // guarded by mu: it is to run
}

func newProcess(dir, name, path string, args ...string) *process {
	return &process{name: name, log: filepath.Join(dir, name+".log"), path: path, args: args}
}

// start starts the program; it must not be running.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, testenv.DiesWithParent()
	cmd.Dir, cmd.Env = filepath.Dir(p.log), append(os.Environ(), p.env...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done, p.started, p.wanted = cmd, done, time.Now(), true
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// unwant says that it is not to run any more.
func (p *process) unwant() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
}

// ranFor reports whether it ended though it is to run, and how long it ran.
func (p *process) ranFor() (ended bool, ran time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return p.wanted, time.Since(p.started)
	default:
		return false, 0
	}
}

// kill ends it at once and waits for it; one that has ended stays so.
func (p *process) kill() {
	p.unwant()
	if p.signal(syscall.SIGKILL) == nil || p.ended() != nil {
		<-p.ended()
	}
}

func (p *process) ended() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// stop asks it to stop and returns how it ended.
func (p *process) stop(patience time.Duration) error {
	p.unwant()
	if err := p.signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil // it has ended by itself, which is looked at elsewhere
	} else if err != nil {
		return err
	}
	select {
	case <-p.ended():
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("%s still runs %s after SIGTERM", p.name, patience)
	}
}

// binaries are what the suite runs.
type binaries struct{ dir string }

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// build builds a package of a module into the directory.
func (b binaries) build(t *testing.T, name, module, pkg string, flags ...string) string {
	t.Helper()
	args := append([]string{"build", "-o", b.path(name)}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return b.path(name)
}

// freePort returns a port that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// root is the module's root.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var errStillDown = errors.New("does not answer yet")
