package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// benchBreaks is the 99th percentile at which a rate counts as too high.
	benchBreaks = 100 // ms
	// benchFirst is the rate that --step begins with, and benchSteps the most steps.
	benchFirst = 1000
	benchSteps = 30
)

// benchNotificationsResult is what bench api --notifications measures. With steps, of
// the last one that held.
type benchNotificationsResult struct {
	PerSecond   float64             `json:"notifications_per_second"`
	P50         float64             `json:"p50_ms"`
	P99         float64             `json:"p99_ms"`
	P999        float64             `json:"p999_ms"`
	Max         float64             `json:"max_ms"`
	Requests    int64               `json:"requests"`
	Refused     int64               `json:"refused"`    // answered with something else than 202
	APICPU      float64             `json:"api_cpu_us"` // per request
	NATSCPU     float64             `json:"nats_cpu_us"`
	LoadCPU     float64             `json:"load_cpu_us"`
	Stored      uint64              `json:"stored"`   // in JOBS, of all steps and warm-ups
	Verified    bool                `json:"verified"` // as many as were answered 202
	Rate        int                 `json:"rate"`     // that was asked for; 0: as many as it takes
	Steps       []benchNotification `json:"steps,omitempty"`
	Seconds     float64             `json:"seconds"`
	Connections int                 `json:"connections"`
	Cores       int                 `json:"cores"`
}

// benchNotification is one step.
type benchNotification struct {
	Rate      int     `json:"rate"`
	PerSecond float64 `json:"notifications_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
	Requests  int64   `json:"requests"`
	Refused   int64   `json:"refused"`
	APICPU    float64 `json:"api_cpu_us"`
	NATSCPU   float64 `json:"nats_cpu_us"`
	LoadCPU   float64 `json:"load_cpu_us"`
	Held      bool    `json:"held"`
}

func (r *benchNotificationsResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, "%.0f notifications/s over HTTP for %.0f s on %d cores, %d connections, one in a request\n", r.PerSecond, r.Seconds, r.Cores, r.Connections)
	fmt.Fprintf(out, "a request   p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.1f ms\n", r.P50, r.P99, r.P999, r.Max)
	fmt.Fprintf(out, "CPU         api %.1f us, nats-server %.1f us, load %.1f us a request\n", r.APICPU, r.NATSCPU, r.LoadCPU)
	fmt.Fprintf(out, "answers     %d, of which %d not 202; %d jobs in JOBS, as many as were answered 202: %v\n", r.Requests, r.Refused, r.Stored, r.Verified)
	return nil
}

func benchNotifications(ctx context.Context, f benchAPIFlags, talk io.Writer) (r *benchNotificationsResult, err error) {
	if f.connections < 1 || f.rate < 0 || f.duration < time.Second || f.batch != 1 {
		return nil, usagef("needs a connection, a second, no negative rate, and no batch")
	}
	dir, err := os.MkdirTemp("", "pushfleet-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	fleet := &benchFleet{dir: dir, core: -1, others: -1}
	if err := fleet.start(ctx, f.natsServer, f.devices); err != nil {
		return nil, errors.Join(err, fleet.stop())
	}
	defer func() { err = errors.Join(err, fleet.stop()) }()
	key, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeSend}, AllApps: true}, time.Now())
	if err != nil {
		return nil, err
	}
	if err := fleet.set.CreateAPIKey(ctx, record); err != nil {
		return nil, err
	}
	apiAddr, _, err := twoAddresses(ctx)
	if err != nil {
		return nil, err
	}
	door, err := startBenchAPI(ctx, dir, fleet.natsURL, fleet.redisAddr, apiAddr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, door.stop()) }()
	b := &notificationsBench{flags: f, addr: apiAddr, key: key, pids: [3]int{door.cmd.Process.Pid, fleet.nats.cmd.Process.Pid, os.Getpid()}}
	r = &benchNotificationsResult{Seconds: f.duration.Seconds(), Connections: f.connections, Cores: runtime.NumCPU()}
	if err := b.run(ctx, r, talk); err != nil {
		return nil, err
	}
	st, err := fleet.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", stream.Jobs, err)
	}
	r.Stored = st.CachedInfo().State.Msgs
	if r.Verified = r.Stored == uint64(b.answered); !r.Verified {
		return nil, fmt.Errorf("%d jobs are in JOBS, and %d were answered 202", r.Stored, b.answered)
	}
	return r, nil
}

// notificationsBench hands in notifications, one step after the other.
type notificationsBench struct {
	flags benchAPIFlags
	addr  string
	key   string
	pids  [3]int // API, nats-server, this

	sent, answered int64 // so far
}

func (b *notificationsBench) run(ctx context.Context, r *benchNotificationsResult, talk io.Writer) error {
	if !b.flags.step {
		s, err := b.step(ctx, b.flags.rate)
		r.take(&s)
		return err
	}
	for rate := max(b.flags.rate, 1); len(r.Steps) < benchSteps; rate += max(1, rate/4) {
		if b.flags.rate == 0 && len(r.Steps) == 0 {
			rate = benchFirst
		}
		s, err := b.step(ctx, rate)
		if err != nil {
			return err
		}
		if !b.flags.json {
			fmt.Fprintf(talk, "%6d/s: p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, %d refused, api %.1f us\n", rate, s.P50, s.P99, s.P999, s.Refused, s.APICPU)
		}
		r.Steps = append(r.Steps, s)
		if !s.Held {
			break
		}
		r.take(&s)
	}
	return nil
}

func (r *benchNotificationsResult) take(s *benchNotification) {
	r.Rate, r.PerSecond, r.P50, r.P99, r.P999, r.Max = s.Rate, s.PerSecond, s.P50, s.P99, s.P999, s.Max
	r.Requests, r.Refused, r.APICPU, r.NATSCPU, r.LoadCPU = s.Requests, s.Refused, s.APICPU, s.NATSCPU, s.LoadCPU
}

// step sends at one rate for the duration.
func (b *notificationsBench) step(ctx context.Context, rate int) (s benchNotification, err error) {
	f := b.flags
	f.rate = rate
	l := &apiLoad{flags: f, addr: b.addr, key: b.key, ok: http.StatusAccepted}
	l.request = l.notification
	l.next.Store(b.sent)
	var before, after [3]float64
	if err := l.run(ctx, func() error { return cpuOf(b.pids, &before) }); err != nil {
		return s, err
	}
	if err := cpuOf(b.pids, &after); err != nil {
		return s, err
	}
	b.sent, b.answered = l.next.Load(), b.answered+l.answered.Load()
	var n int
	s.P50, s.P99, s.P999, s.Max, n = l.latencies()
	s.Rate, s.Requests, s.Refused, s.PerSecond = rate, int64(n), l.refused.Load(), float64(n)/f.duration.Seconds()
	for i, us := range []*float64{&s.APICPU, &s.NATSCPU, &s.LoadCPU} {
		*us = (after[i] - before[i]) * 1e6 / float64(max(1, n))
	}
	s.Held = s.P99 <= benchBreaks && s.Refused == 0
	return s, nil
}

// notification appends the nth job.
func (l *apiLoad) notification(dst []byte, n int64) []byte {
	body := append([]byte(nil), `{"id":"order-`...)
	body = append(strconv.AppendInt(body, n, 10), `","to":{"tokens":["`...)
	body = append(l.device(body, n), `"]},"notification":{"title":"Your order is on its way","body":"Order 4711 was shipped and will be with you on Friday",`+
		`"badge":1,"sound":"default","thread_id":"orders"},"data":{"order":4711,"url":"https://example.com/orders/4711"}}`...)
	return l.finish(append(dst, "POST /v1/apps/"+benchApp+"/notifications"...), body)
}
