package testenv_test

import (
	"io"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/internal/testenv"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testenv.HoldRedis(m))
}

func TestRedisIsEachTestsOwn(t *testing.T) {
	t.Parallel()
	for _, open := range map[string]func(testing.TB) *testenv.RedisDB{
		"Redis": testenv.Redis, "Miniredis": testenv.Miniredis,
	} {
		one, two := open(t), open(t)
		if err := one.Set(t.Context(), "key", "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if n, err := two.Exists(t.Context(), "key").Result(); err != nil || n != 0 {
			t.Errorf("another test's key: got %d, %v, want none", n, err)
		}
		opts, err := redis.ParseURL(one.URL())
		if err != nil {
			t.Fatal(err)
		}
		client := redis.NewClient(opts)
		if got, err := client.Get(t.Context(), "key").Result(); err != nil || got != "value" {
			t.Errorf("key by URL: got %q, %v, want value", got, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRedisIsFlushedAfterTheTest(t *testing.T) {
	t.Parallel()
	var db *testenv.RedisDB
	t.Run("first", func(t *testing.T) {
		db = testenv.Redis(t)
		if err := db.Set(t.Context(), "key", "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
	})
	if !db.Real {
		return // it went with the test
	}
	client := redis.NewClient(&redis.Options{Addr: db.Addr, DB: db.DB})
	defer client.Close()
	if n, err := client.Exists(t.Context(), "key").Result(); err != nil || n != 0 {
		t.Errorf("key after its test: got %d, %v, want none", n, err)
	}
}

func TestStartRedis(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t, "--maxmemory-policy", "allkeys-lru")
	if !ok {
		t.Log("no redis-server on PATH")
		return
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
	defer client.Close()
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := client.ConfigGet(t.Context(), "maxmemory-policy").Val()["maxmemory-policy"]; got != "allkeys-lru" {
		t.Errorf("maxmemory-policy: got %q, want what was asked for", got)
	}
	addr := server.Addr
	server.Kill()
	server.Kill()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("ping of a killed server: got no error")
	}
	server.Restart(t)
	if server.Addr != addr {
		t.Errorf("address after a restart: got %s, want %s", server.Addr, addr)
	}
	again := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer again.Close()
	if n, err := again.Exists(t.Context(), "key").Result(); err != nil || n != 0 {
		t.Errorf("key after a restart: got %d, %v, want none", n, err)
	}
}

func TestAppendOnlyIsKept(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t, testenv.AppendOnly(t.TempDir(), "always")...)
	if !ok {
		t.Log("no redis-server on PATH")
		return
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Restart(t)
	if got, err := client.Get(t.Context(), "key").Result(); err != nil || got != "value" {
		t.Errorf("key after a restart: got %q, %v, want value", got, err)
	}
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	server := testenv.Miniredis(t)
	proxy := testenv.StartProxy(t, server.Addr)
	open := func() net.Conn {
		c, err := net.Dial("tcp", proxy.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ask := func(c net.Conn) string {
		_, _ = io.WriteString(c, "*1\r\n$4\r\nPING\r\n")
		answer := make([]byte, len("+PONG\r\n"))
		n, _ := io.ReadFull(c, answer)
		return string(answer[:n])
	}
	first, second := open(), open()
	for _, c := range []net.Conn{first, second} {
		if got := ask(c); got != "+PONG\r\n" {
			t.Fatalf("passed on: got %q", got)
		}
	}
	proxy.CutReplies(3)
	if got := ask(first); got != "+PO" {
		t.Errorf("cut after three bytes: got %q, want +PO", got)
	}
	if got := ask(second); got != "" {
		t.Errorf("another connection: got %q, want it cut too", got)
	}
	third := open()
	if got := ask(third); got != "+PONG\r\n" {
		t.Errorf("a new connection: got %q, want it passed on", got)
	}
	proxy.CutRequests(2)
	if got := ask(third); got != "" || proxy.Cuts() != 2 {
		t.Errorf("request cut after two bytes: got %q, %d cuts, want no answer and 2", got, proxy.Cuts())
	}
	proxy.Refuse(true)
	if got := ask(open()); got != "" {
		t.Errorf("refused: got %q", got)
	}
	proxy.Refuse(false)
	if got := ask(open()); got != "+PONG\r\n" {
		t.Errorf("no longer refused: got %q", got)
	}
}
