package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// requireRedis is the variable that makes a missing redis-server a failure, for
// machines that are meant to have one.
const requireRedis = "PUSHFLEET_TEST_REQUIRE_REDIS"

// redisDatabases is how many tests of one binary can have a Redis at once.
const redisDatabases = 256

// RedisDB is an empty Redis database that belongs to one test.
type RedisDB struct {
	*redis.Client

	// Addr is host:port and DB the database's number, for whoever must connect
	// from another process.
	Addr string
	DB   int
	// Real reports whether a Redis or Valkey server is behind it; otherwise it is
	// miniredis, in process.
	Real bool
}

// URL returns the database as a redis:// URL.
func (r *RedisDB) URL() string { return fmt.Sprintf("redis://%s/%d", r.Addr, r.DB) }

// Redis returns an empty database of a real server where redis-server or
// valkey-server is on PATH, and of miniredis elsewhere; it prints which it was.
// With PUSHFLEET_TEST_REQUIRE_REDIS=1 in the environment a missing server fails
// the test.
//
// All tests of a binary share one server, each in a database of its own, so
// that they may run in parallel; it stops with the last test that uses it (see
// [HoldRedis]).
func Redis(t testing.TB) *RedisDB {
	t.Helper()
	bin, ok := redisBinary(t)
	if !ok {
		return Miniredis(t)
	}
	server, db := shared.take(t, bin)
	client := redis.NewClient(&redis.Options{Addr: server.addr, DB: db})
	if err := client.FlushDB(context.Background()).Err(); err != nil {
		t.Fatalf("flush redis database %d: %v", db, err)
	}
	t.Cleanup(func() {
		_ = client.FlushDB(context.Background()).Err()
		_ = client.Close()
		shared.give(db)
	})
	return &RedisDB{Client: client, Addr: server.addr, DB: db, Real: true}
}

// Miniredis returns an empty miniredis of its own, with a client.
func Miniredis(t testing.TB) *RedisDB {
	t.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		t.Fatalf("start miniredis: %v", err)
	}
	// Its scripts are slow, and with the race detector on a busy machine slower still.
	const patience = time.Minute
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: patience})
	t.Cleanup(func() {
		_ = client.Close()
		server.Close()
	})
	return &RedisDB{Client: client, Addr: server.Addr()}
}

// RedisServer is a Redis server that belongs to one test, which may stop, kill
// and restart it. What it held is gone after a restart, unless its arguments have
// it keep that: see [AppendOnly].
type RedisServer struct {
	Addr string // host:port, the same after a restart

	bin  string
	args []string
	proc *redisProcess
}

// StartRedis starts a Redis server for this test alone, with further arguments
// as redis-server takes them. It stops with the test. Where there is none on
// PATH, ok is false.
func StartRedis(t testing.TB, args ...string) (server *RedisServer, ok bool) {
	t.Helper()
	bin, ok := redisBinary(t)
	if !ok {
		return nil, false
	}
	proc, err := startRedis(bin, "", args)
	if err != nil {
		t.Fatal(err)
	}
	server = &RedisServer{Addr: proc.addr, bin: bin, args: args, proc: proc}
	t.Cleanup(server.Kill)
	return server, true
}

// Kill ends the server at once, as kill -9 does, and waits for it. A second
// call does nothing.
func (r *RedisServer) Kill() {
	if r.proc != nil {
		r.proc.kill()
		r.proc = nil
	}
}

// Freeze stops the server without ending it, as SIGSTOP does: it takes
// connections and answers nothing, until it is thawed.
func (r *RedisServer) Freeze(t testing.TB) { r.signal(t, syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (r *RedisServer) Thaw(t testing.TB) { r.signal(t, syscall.SIGCONT) }

func (r *RedisServer) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := r.proc.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal redis: %v", err)
	}
}

// AppendOnly returns the arguments of a server that keeps what it holds in an
// append-only file in dir, which fsync (always, everysec, no) says when to write.
func AppendOnly(dir, fsync string) []string {
	return []string{"--dir", dir, "--appendonly", "yes", "--appendfsync", fsync}
}

// ReplicaOf returns the arguments of a server that is a replica of another.
func ReplicaOf(t testing.TB, master *RedisServer) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--replicaof", host, port}
}

// StartSentinel starts a Redis Sentinel that watches a master under a name, and
// alone decides that another is to take its place when it has not answered for
// half a second. It returns the sentinel's address; it ends with the test. Where
// there is no redis-server on PATH, ok is false.
func StartSentinel(t testing.TB, name string, master *RedisServer) (addr string, ok bool) {
	t.Helper()
	bin, ok := redisBinary(t)
	if !ok {
		return "", false
	}
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	// It writes down what it learns.
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor %s %s %s 1\nsentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 3000\n",
		name, host, port, name, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, err = freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	host, port, err = net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := runRedis(addr, t.TempDir(), "Sentinel ID is", bin, file, "--sentinel", "--bind", host, "--port", port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proc.kill)
	return addr, true
}

// Restart kills the server and starts it again on the same address.
func (r *RedisServer) Restart(t testing.TB) {
	t.Helper()
	r.Kill()
	proc, err := startRedis(r.bin, r.Addr, r.args)
	if err != nil {
		t.Fatal(err)
	}
	r.proc = proc
}

// RedisDialing is the function in which a go-redis client that was closed while
// its server was away still sleeps, for a second at most. Tests that stop servers
// have goleak pass over it:
//
//	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testenv.RedisDialing))
const RedisDialing = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"

// HoldRedis wraps m, so that the server that [Redis] shares among the tests of
// a binary is kept until all of them have run, rather than until none uses it:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(testenv.HoldRedis(m)) }
func HoldRedis(m interface{ Run() int }) interface{ Run() int } { return held{m} }

type held struct{ m interface{ Run() int } }

// silent is where go-redis's own log goes.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func (h held) Run() int {
	// Each refused connection would be a line; what matters comes back as an error.
	redis.SetLogger(silent{})
	shared.hold(1)
	defer shared.hold(-1)
	return h.m.Run()
}

// redisBinary returns the server to use, and says once which it is.
func redisBinary(t testing.TB) (string, bool) {
	t.Helper()
	for _, name := range []string{"redis-server", "valkey-server"} {
		if bin, err := exec.LookPath(name); err == nil {
			sayRedis("redis in these tests: " + bin)
			return bin, true
		}
	}
	if os.Getenv(requireRedis) == "1" {
		t.Fatalf("neither redis-server nor valkey-server is on PATH, and %s is 1", requireRedis)
	}
	sayRedis("redis in these tests: miniredis (neither redis-server nor valkey-server is on PATH)")
	return "", false
}

func sayRedis(text string) {
	shared.said.Do(func() { fmt.Fprintln(os.Stderr, text) })
}

// shared is the one thing that the tests of a binary share.
var shared = sharedRedis{used: make(map[int]bool)}

type sharedRedis struct {
	said sync.Once

	mu   sync.Mutex // guards what follows
	proc *redisProcess
	refs int
	used map[int]bool // databases
}

// take returns the running server, started if need be, and a free database.
func (s *sharedRedis) take(t testing.TB, bin string) (*redisProcess, int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		proc, err := startRedis(bin, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.proc = proc
	}
	for db := range redisDatabases {
		if !s.used[db] {
			s.used[db] = true
			s.refs++
			return s.proc, db
		}
	}
	t.Fatalf("all %d redis databases of this test binary are taken", redisDatabases)
	return nil, 0
}

func (s *sharedRedis) give(db int) {
	s.mu.Lock()
	delete(s.used, db)
	s.mu.Unlock()
	s.hold(-1)
}

// hold adds n to the users of the server and stops it when there is none left.
func (s *sharedRedis) hold(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs += n; s.refs == 0 && s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
}

// redisProcess is a running server.
type redisProcess struct {
	addr string
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and its output is read
}

// startRedis starts a server that keeps nothing on disk, and waits until it
// takes connections. addr "" is a free port on the loopback interface.
func startRedis(bin, addr string, args []string) (*redisProcess, error) {
	// Between finding a free port and binding it, another process may take it.
	const tries = 5
	var err error
	for range tries {
		at := addr
		if at == "" {
			if at, err = freeAddr(); err != nil {
				return nil, err
			}
		}
		var proc *redisProcess
		if proc, err = tryRedis(bin, at, args); err == nil {
			return proc, nil
		}
	}
	return nil, err
}

func tryRedis(bin, addr string, args []string) (*redisProcess, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("start redis on %s: %w", addr, err)
	}
	dir, err := os.MkdirTemp("", "pushfleet-redis-")
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	// redis and valkey log this when they listen.
	return runRedis(addr, dir, "eady to accept connections", bin, append([]string{
		"--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--databases", strconv.Itoa(redisDatabases),
	}, args...)...)
}

// runRedis starts a server that is ready when it has logged a text, and that has
// dir to itself.
func runRedis(addr, dir, text, bin string, args ...string) (*redisProcess, error) {
	cmd := exec.Command(bin, args...)
	cmd.SysProcAttr = DiesWithParent()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	proc := &redisProcess{addr: addr, dir: dir, cmd: cmd, done: make(chan struct{})}
	ready := make(chan bool, 1)
	go func() {
		defer close(proc.done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			// They go on logging: it must be read to the end, or the server would block
			// on a full pipe.
			if strings.Contains(lines.Text(), text) {
				select {
				case ready <- true:
				default:
				}
			}
		}
		select {
		case ready <- false:
		default:
		}
		_ = cmd.Wait()
	}()
	const patience = 20 * time.Second
	select {
	case ok := <-ready:
		if ok {
			return proc, nil
		}
		err = errors.New("it ended at once")
	case <-time.After(patience):
		err = fmt.Errorf("not ready after %s", patience)
	}
	proc.kill()
	return nil, fmt.Errorf("start redis on %s: %w", addr, err)
}

func (p *redisProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = os.RemoveAll(p.dir)
}

// freeAddr returns a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
