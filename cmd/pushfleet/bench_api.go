package main

import (
	"bufio"
	"bytes"
	"cmp"
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
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/store"
)

// benchAPIFlags are the flags of bench api.
type benchAPIFlags struct {
	duration    time.Duration
	connections int
	rate        int
	devices     int
	batch       int
	plain       bool
	json        bool

	notifications bool
	step          bool
	natsServer    string
}

func newBenchAPI() *cobra.Command {
	var f benchAPIFlags
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Registrations, or notifications, over HTTP",
		Long: `api registers devices over HTTP, one with each request or --batch of them, on
connections that stay open. redis-server, "pushfleet api" and the load are three processes on this
machine, and share its cores.

Without --rate each connection sends the next request when it has the answer to the
one before. With it requests are due at fixed times, and latency counts from when a
request was due, so that a pause of the server shows in all that it held up.

With --notifications jobs of one device token are handed in instead, each with an id of
its own, to a nats-server that is another process on this machine. No worker takes them.
Afterwards JOBS must have exactly as many as were answered 202. --step raises the rate
by a quarter after each --duration, from --rate on (1000), until the 99th percentile is above
100 ms or a request is refused; the figures are those of the last step before.`,
		Example: "  pushfleet bench api\n  pushfleet bench api --rate 10000 --json\n  pushfleet bench api --notifications --rate 5000 --nats-server bin/nats-server",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.notifications {
				r, err := benchNotifications(cmd.Context(), f, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				return r.print(cmd.OutOrStdout(), f.json)
			}
			if f.step || f.natsServer != "" {
				return usagef("--step, --nats-server: are for --notifications")
			}
			r, err := benchAPI(cmd.Context(), f)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), f.json)
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.duration, "duration", time.Minute, "how long to register, after a second to warm up")
	fl.IntVar(&f.connections, "connections", 128, "connections")
	fl.IntVar(&f.rate, "rate", 0, "requests a second; 0: as many as it takes")
	fl.IntVar(&f.devices, "devices", 200_000, "device tokens, registered in turn and then again")
	fl.IntVar(&f.batch, "batch", 1, "devices in a request, up to 1000; 1: PUT")
	fl.BoolVar(&f.plain, "plain", false, "device tokens alone, without user, install and details")
	fl.BoolVar(&f.notifications, "notifications", false, "hand in notifications instead")
	fl.BoolVar(&f.step, "step", false, "with --notifications: raise the rate until it breaks")
	fl.StringVar(&f.natsServer, "nats-server", "", "with --notifications: the nats-server program (default: the one on PATH)")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// benchAPIResult is what bench api measures.
type benchAPIResult struct {
	PerSecond   float64 `json:"registrations_per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	P999        float64 `json:"p999_ms"`
	Max         float64 `json:"max_ms"`
	Requests    int64   `json:"requests"`
	Refused     int64   `json:"refused"` // requests answered with something else than 200
	Known       int64   `json:"devices_in_set"`
	APICPU      float64 `json:"api_cpu_us"` // per registration
	RedisCPU    float64 `json:"redis_cpu_us"`
	LoadCPU     float64 `json:"load_cpu_us"`
	Seconds     float64 `json:"seconds"`
	Rate        int     `json:"rate"`
	Connections int     `json:"connections"`
	Batch       int     `json:"batch"`
	Plain       bool    `json:"plain"`
	Cores       int     `json:"cores"`
}

func (r *benchAPIResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, "%.0f registrations/s over HTTP for %.0f s on %d cores, %d connections, %d in a request\n",
		r.PerSecond, r.Seconds, r.Cores, r.Connections, r.Batch)
	fmt.Fprintf(out, "a request   p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.1f ms\n", r.P50, r.P99, r.P999, r.Max)
	fmt.Fprintf(out, "CPU         api %.1f us, redis %.1f us, load %.1f us a registration\n", r.APICPU, r.RedisCPU, r.LoadCPU)
	fmt.Fprintf(out, "answers     %d, of which %d not 200; %d devices in the token set\n", r.Requests, r.Refused, r.Known)
	return nil
}

// benchApp is the app that bench api registers for.
const benchApp = "bench"

func benchAPI(ctx context.Context, f benchAPIFlags) (r *benchAPIResult, err error) {
	if f.connections < 1 || f.devices < 1 || f.rate < 0 || f.duration < time.Second || f.batch < 1 || f.batch > api.MaxBatch {
		return nil, usagef("needs a connection, a device, a second, no negative rate, and a batch of 1 to %d", api.MaxBatch)
	}
	dir, err := os.MkdirTemp("", "pushfleet-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	redisAddr, apiAddr, err := twoAddresses(ctx)
	if err != nil {
		return nil, err
	}
	server, err := startBenchRedis(ctx, dir, redisAddr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	set := store.New(client, store.Config{Buckets: bucketsFor(f.devices)})
	if err := waitFor(ctx, func() error { return client.Ping(ctx).Err() }); err != nil {
		return nil, fmt.Errorf("wait for redis-server: %w", err)
	}
	if _, err := set.Buckets(ctx, benchApp); err != nil { // the bucket count is written down
		return nil, err
	}
	key, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeDevices}, AllApps: true}, time.Now())
	if err != nil {
		return nil, err
	}
	if err := set.CreateAPIKey(ctx, record); err != nil {
		return nil, err
	}
	door, err := startBenchAPI(ctx, dir, "", redisAddr, apiAddr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, door.stop()) }()

	l := &apiLoad{flags: f, addr: apiAddr, key: key, ok: http.StatusOK}
	l.request = l.registration
	var before, after [3]float64
	pids := [3]int{door.cmd.Process.Pid, server.cmd.Process.Pid, os.Getpid()}
	if err := l.run(ctx, func() error { return cpuOf(pids, &before) }); err != nil {
		return nil, err
	}
	if err := cpuOf(pids, &after); err != nil {
		return nil, err
	}
	r = l.result()
	for i, us := range []*float64{&r.APICPU, &r.RedisCPU, &r.LoadCPU} {
		*us = (after[i] - before[i]) * 1e6 / float64(max(1, r.Requests*int64(f.batch)))
	}
	r.Known, err = set.Count(ctx, benchApp)
	return r, err
}

// bucketsFor is a bucket count that leaves about 100 devices in each.
func bucketsFor(devices int) int {
	n := store.DefaultBuckets
	for n*100 < devices && n < 1<<24 {
		n *= 2
	}
	return n
}

func cpuOf(pids [3]int, seconds *[3]float64) (err error) {
	for i, pid := range pids {
		if seconds[i], err = procCPU(pid); err != nil {
			return err
		}
	}
	return nil
}

// twoAddresses are two that nobody listens on.
func twoAddresses(ctx context.Context) (one, other string, err error) {
	var lc net.ListenConfig
	a, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer a.Close()
	b, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer b.Close()
	return a.Addr().String(), b.Addr().String(), nil
}

func startBenchRedis(ctx context.Context, dir, addr string) (*benchProcess, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("this benchmark needs redis-server (apt-get install redis-server)")
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	return startPinned(ctx, -1, bin, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no", "--loglevel", "warning")
}

// startBenchAPI starts "pushfleet api" and waits until it serves. Without a natsURL
// JetStream is not waited for.
func startBenchAPI(ctx context.Context, dir, natsURL, redisAddr, apiAddr string) (*benchProcess, error) {
	path := filepath.Join(dir, "pushfleet.yaml")
	// The key of the app is not read.
	text := fmt.Sprintf(`nats: {url: "%s"}
redis: {addresses: ["%s"]}
api: {listen: "%s", rate_limit: 0}
log: {level: warn}
apps:
  %s: {bundle_id: com.example.bench, key: {path: pushfleet.yaml, key_id: BENCH00000, team_id: BENCH00000}}
`, cmp.Or(natsURL, "nats://127.0.0.1:4222"), redisAddr, apiAddr, benchApp)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p, err := startPinned(ctx, -1, self, "api", "-c", path)
	if err != nil {
		return nil, err
	}
	err = waitFor(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+apiAddr+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return err
		case resp.StatusCode != http.StatusOK, natsURL != "" && bytes.Contains(text, []byte("JetStream")):
			return errors.New(resp.Status + ": " + string(text))
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for pushfleet api: %w", err), p.stop())
	}
	return p, nil
}

// waitFor asks another process until it answers, for 10 seconds.
func waitFor(ctx context.Context, is func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := is()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// apiLoad sends requests over HTTP. It speaks HTTP/1.1 by itself: net/http's
// client would take as much of the machine as what is measured.
type apiLoad struct {
	flags benchAPIFlags
	addr  string
	key   string

	request func(dst []byte, n int64) []byte // appends the nth request
	ok      int                              // status that it should be answered with

	answered atomic.Int64 // with that, also in the warm-up
	next     atomic.Int64 // number of the next request
	begin    time.Time    // of what is measured
	end      time.Time
	refused  atomic.Int64
	lateness [][]uint32 // microseconds, by connection
}

// run calls began when the warm-up is over.
func (l *apiLoad) run(ctx context.Context, began func() error) error {
	start := time.Now()
	l.begin = start.Add(time.Second)
	l.end = l.begin.Add(l.flags.duration)
	l.lateness = make([][]uint32, l.flags.connections)
	g, ctx := errgroup.WithContext(ctx)
	for n := range l.flags.connections {
		g.Go(func() error { return l.connection(ctx, n, start) })
	}
	g.Go(func() error {
		select {
		case <-time.After(time.Until(l.begin)):
			return began()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return g.Wait()
}

func (l *apiLoad) connection(ctx context.Context, n int, start time.Time) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := bufio.NewReaderSize(conn, 4<<10)
	var out []byte
	interval := time.Duration(0)
	due := start
	if l.flags.rate > 0 {
		interval = time.Duration(l.flags.connections) * time.Second / time.Duration(l.flags.rate)
		due = due.Add(interval * time.Duration(n) / time.Duration(l.flags.connections))
	}
	for {
		if interval > 0 {
			time.Sleep(time.Until(due))
		} else {
			due = time.Now()
		}
		if !due.Before(l.end) {
			return nil
		}
		out = l.request(out[:0], l.next.Add(1)-1)
		if _, err := conn.Write(out); err != nil {
			return fmt.Errorf("send request: %w", err)
		}
		status, err := readAnswer(in)
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if status == l.ok {
			l.answered.Add(1)
		}
		if now := time.Now(); !due.Before(l.begin) {
			l.lateness[n] = append(l.lateness[n], uint32(min(now.Sub(due).Microseconds(), 1<<31)))
			if status != l.ok {
				l.refused.Add(1)
			}
		}
		due = due.Add(interval)
	}
}

// registration appends the nth registration.
func (l *apiLoad) registration(dst []byte, n int64) []byte {
	var body []byte
	if l.flags.batch == 1 {
		dst = l.device(append(dst, "PUT /v1/apps/"+benchApp+"/devices/"...), n)
		if !l.flags.plain {
			body = append(l.details(append(body, '{'), n), '}')
		}
	} else {
		dst = append(dst, "POST /v1/apps/"+benchApp+"/devices"...)
		body = append(body, `{"devices":[`...)
		for i := range int64(l.flags.batch) {
			if i > 0 {
				body = append(body, ',')
			}
			at := n*int64(l.flags.batch) + i
			body = append(l.device(append(body, `{"token":"`...), at), '"')
			if !l.flags.plain {
				body = l.details(append(body, ','), at)
			}
			body = append(body, '}')
		}
		body = append(body, "]}"...)
	}
	return l.finish(dst, body)
}

// finish appends what follows the method and the path of a request.
func (l *apiLoad) finish(dst, body []byte) []byte {
	dst = append(dst, " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer "...)
	dst = append(dst, l.key...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	return append(append(dst, "\r\n\r\n"...), body...)
}

// device appends the nth device token: 32 bytes that look like one.
func (l *apiLoad) device(dst []byte, n int64) []byte {
	x := uint64(n % int64(l.flags.devices))
	for range 4 {
		x = x*0x9e3779b97f4a7c15 + 0x632be59bd9b4e019
		y := (x ^ x>>31) * 0xbf58476d1ce4e5b9
		dst = appendHex(dst, y^y>>29)
	}
	return dst
}

func (l *apiLoad) details(dst []byte, n int64) []byte {
	n %= int64(l.flags.devices)
	return fmt.Appendf(dst,
		`"user":"user-%d","install_id":"install-%d","locale":"de-AT","timezone":"Europe/Vienna","app_version":"4.2.0","tags":["beta","vip"]`, n, n)
}

func appendHex(dst []byte, v uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[v>>shift&0xf])
	}
	return dst
}

// readAnswer reads one answer and returns its status.
func readAnswer(in *bufio.Reader) (status int, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			if len(line) < len("HTTP/1.1 200") {
				return 0, errors.New("not an HTTP answer")
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, errors.New("not an HTTP answer")
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, errors.New("not an HTTP answer")
			}
		}
	}
	_, err = in.Discard(length)
	return status, err
}

// latencies are of all requests that count, in milliseconds, and how many those are.
func (l *apiLoad) latencies() (p50, p99, p999, most float64, n int) {
	all := slices.Concat(l.lateness...)
	slices.Sort(all)
	at := func(share float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[min(len(all)-1, int(share*float64(len(all))))]) / 1000
	}
	return at(0.5), at(0.99), at(0.999), at(1), len(all)
}

func (l *apiLoad) result() *benchAPIResult {
	r := &benchAPIResult{
		Refused: l.refused.Load(), Seconds: l.flags.duration.Seconds(),
		Rate: l.flags.rate, Connections: l.flags.connections, Batch: l.flags.batch, Plain: l.flags.plain, Cores: runtime.NumCPU(),
	}
	var n int
	r.P50, r.P99, r.P999, r.Max, n = l.latencies()
	r.PerSecond, r.Requests = float64(n*l.flags.batch)/l.flags.duration.Seconds(), int64(n)
	return r
}
