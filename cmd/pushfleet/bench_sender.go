package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/sideshow/apns2"
	apns2token "github.com/sideshow/apns2/token"
	"github.com/spf13/cobra"
	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// senderFlags describe one run of one sender.
type senderFlags struct {
	kind, url, dir string
	n, from        int
	connections    int
	batch, calls   int // engine: notifications a call, calls at a time
	goroutines     int // apns2
	cpuProfile     string
	memProfile     string
}

// senderResult is what a sender measured of itself.
type senderResult struct {
	Seconds     float64       `json:"seconds"`
	CPUSeconds  float64       `json:"cpu_seconds"` // of this process, user and system
	Mallocs     uint64        `json:"mallocs"`
	MaxRSSBytes int64         `json:"max_rss_bytes"`
	Accepted    int64         `json:"accepted"`
	Sums        apnstest.Sums `json:"sums"` // of what was to be sent
}

const (
	benchTopic = "com.example.bench"
	// benchBody is the payload of a usual notification.
	benchBody = `{"aps":{"alert":{"title":"Your order is on its way","body":"Order 4711 was shipped and will be with you on Friday"},"badge":1,"sound":"default","thread-id":"orders"},"order":4711,"url":"https://example.com/orders/4711"}`
)

func newBenchSender() *cobra.Command {
	var f senderFlags
	cmd := &cobra.Command{
		Use:    "sender",
		Short:  "One sender of a benchmark, in a process of its own",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := runSender(cmd.Context(), f)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "kind", "engine", "engine or apns2")
	fl.StringVar(&f.url, "url", "", "simulator")
	fl.StringVar(&f.dir, "dir", "", "simulator's files")
	fl.IntVar(&f.n, "n", 100_000, "notifications")
	fl.IntVar(&f.from, "from", 0, "number of the first device token")
	fl.IntVar(&f.connections, "connections", 1, "connections")
	fl.IntVar(&f.batch, "batch", 1000, "notifications a call")
	fl.IntVar(&f.calls, "calls", 4, "calls at a time")
	fl.IntVar(&f.goroutines, "goroutines", 500, "goroutines of apns2")
	fl.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the measured part")
	fl.StringVar(&f.memProfile, "memprofile", "", "write a profile of every allocation")
	return cmd
}

// pusher sends n notifications, from the given number on, and returns how many
// were accepted.
type pusher func(ctx context.Context, from, n int) (accepted int64, err error)

func runSender(ctx context.Context, f senderFlags) (*senderResult, error) {
	id, err := apnstest.LoadIdentity(f.dir)
	if err != nil {
		return nil, fmt.Errorf("read simulator's files: %w", err)
	}
	var push pusher
	var stop func() error
	switch f.kind {
	case "engine":
		push, stop, err = enginePusher(f, id)
	case "apns2":
		push, stop, err = apns2Pusher(f, id)
	default:
		return nil, usagef("--kind: must be engine or apns2, got %q", f.kind)
	}
	if err != nil {
		return nil, err
	}
	// Connections and provider token are there before the clock starts.
	const warm = 2000
	if _, err := push(ctx, f.from, warm); err != nil {
		return nil, errors.Join(err, stop())
	}
	stopProfile, err := f.startProfiles()
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, began := cpuSeconds(), time.Now()
	accepted, err := push(ctx, f.from+warm, f.n)
	r := &senderResult{Seconds: time.Since(began).Seconds(), CPUSeconds: cpuSeconds() - cpu, Accepted: accepted}
	runtime.ReadMemStats(&after)
	r.Mallocs = after.Mallocs - before.Mallocs
	r.MaxRSSBytes = maxRSS()
	err = errors.Join(err, stopProfile())
	if err = errors.Join(err, stop()); err != nil {
		return nil, err
	}
	for i := range f.n + warm {
		r.Sums.Add(&apnstest.Notification{
			DeviceToken: []byte(benchToken(f.from + i).Raw()), APNsID: benchID(f.from + i), Topic: benchTopic, PushType: string(job.PushAlert),
			Priority: 10, Expiration: -1, Body: []byte(benchBody),
		})
	}
	return r, nil
}

// startProfiles starts what profiles were asked for.
func (f *senderFlags) startProfiles() (stop func() error, err error) {
	var cpu *os.File
	if f.cpuProfile != "" {
		if cpu, err = os.Create(f.cpuProfile); err != nil {
			return nil, fmt.Errorf("write profile: %w", err)
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, fmt.Errorf("start profile: %w", err)
		}
	}
	if f.memProfile != "" {
		runtime.MemProfileRate = 1
	}
	return func() error {
		var errs []error
		if cpu != nil {
			pprof.StopCPUProfile()
			errs = append(errs, cpu.Close())
		}
		if f.memProfile != "" {
			mem, err := os.Create(f.memProfile)
			if err != nil {
				return fmt.Errorf("write profile: %w", err)
			}
			errs = append(errs, pprof.Lookup("allocs").WriteTo(mem, 0), mem.Close())
		}
		return errors.Join(errs...)
	}, nil
}

// benchToken returns the n-th device token.
func benchToken(n int) device.Token {
	return device.TokenFromRaw(string(appendToken(nil, n)))
}

const benchTokenBytes = 32

func appendToken(dst []byte, n int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	for i := range 3 {
		dst = binary.BigEndian.AppendUint64(dst, (uint64(n)+1)*0x9e3779b97f4a7c15<<i)
	}
	return dst
}

// benchTokens fills in the device tokens and ids of a batch. The tokens share
// one string, as those of a decoded job do.
func benchTokens(batch []apns.Notification, from int, buf []byte) []byte {
	buf = buf[:0]
	for i := range batch {
		buf = appendToken(buf, from+i)
	}
	all := string(buf)
	for i := range batch {
		batch[i].DeviceToken = device.TokenFromRaw(all[i*benchTokenBytes : (i+1)*benchTokenBytes])
		batch[i].APNsID = benchID(from + i)
	}
	return buf
}

// benchID returns the apns-id for the n-th device token.
func benchID(n int) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	id[6], id[8] = 0x80, 0x80
	return id
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail with these arguments
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func maxRSS() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Maxrss * maxRSSUnit
}

// enginePusher sends in batches, a few calls at a time, as the worker does.
func enginePusher(f senderFlags, id *apnstest.Identity) (pusher, func() error, error) {
	cred, err := apns.LoadKey(apns.KeyConfig{Path: filepath.Join(f.dir, "AuthKey_"+id.Key.ID+".p8"), KeyID: id.Key.ID, TeamID: id.Key.TeamID})
	if err != nil {
		return nil, nil, err
	}
	client, err := apns.New(apns.ClientConfig{
		Credential: cred, URL: f.url, RootCAs: id.CAPool(), Connections: f.connections, MaxConnections: f.connections, MaxStreams: 1000,
	})
	if err != nil {
		return nil, nil, err
	}
	body := []byte(benchBody)
	push := func(ctx context.Context, from, n int) (int64, error) {
		var accepted atomic.Int64
		var failed atomic.Pointer[error]
		var next atomic.Int64
		var wg sync.WaitGroup
		for range f.calls {
			wg.Go(func() {
				batch := make([]apns.Notification, f.batch)
				for i := range batch {
					batch[i] = apns.Notification{Topic: benchTopic, PushType: job.PushAlert, Priority: 10, Expiration: -1, Payload: body}
				}
				var buf []byte
				for {
					at := int(next.Add(int64(f.batch))) - f.batch
					if at >= n {
						return
					}
					batch := batch[:min(f.batch, n-at)]
					buf = benchTokens(batch, from+at, buf)
					client.Send(ctx, job.Bulk, batch, func(_ int, r apns.Response) {
						switch {
						case r.Err != nil:
							err := r.Err // a copy, so that r itself stays off the heap
							failed.CompareAndSwap(nil, &err)
						case r.Status == 200:
							accepted.Add(1)
						}
					})
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			return accepted.Load(), fmt.Errorf("send: %w", *err)
		}
		return accepted.Load(), nil
	}
	return push, client.Close, nil
}

// newAPNs2Client returns apns2's client for the simulator, with its defaults.
func newAPNs2Client(url string, id *apnstest.Identity) (*apns2.Client, error) {
	client := apns2.NewTokenClient(&apns2token.Token{AuthKey: id.Key.Private, KeyID: id.Key.ID, TeamID: id.Key.TeamID})
	client.Host = url
	transport, ok := client.HTTPClient.Transport.(*http2.Transport) //nolint:staticcheck // it is apns2's
	if !ok {
		return nil, errors.New("apns2 has another transport than expected")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: id.CAPool(), MinVersion: tls.VersionTLS12} //nolint:staticcheck // as above
	return client, nil
}

// apns2Pusher sends as apns2's users do: one client, many goroutines.
func apns2Pusher(f senderFlags, id *apnstest.Identity) (pusher, func() error, error) {
	client, err := newAPNs2Client(f.url, id)
	if err != nil {
		return nil, nil, err
	}
	body := []byte(benchBody)
	push := func(ctx context.Context, from, n int) (int64, error) {
		var accepted, next atomic.Int64
		var failed atomic.Pointer[error]
		one := func(i int) {
			resp, err := client.PushWithContext(ctx, &apns2.Notification{
				DeviceToken: benchToken(from + i).Hex(), ApnsID: benchID(from + i).String(), Topic: benchTopic,
				PushType: apns2.PushTypeAlert, Priority: apns2.PriorityHigh, Payload: body,
			})
			switch {
			case err != nil:
				failed.CompareAndSwap(nil, &err)
			case resp.StatusCode == http.StatusOK:
				accepted.Add(1)
			}
		}
		// The first alone: APNs allows one stream until it has seen a provider token.
		one(0)
		next.Store(1)
		var wg sync.WaitGroup
		for range f.goroutines {
			wg.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					one(i)
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			return accepted.Load(), fmt.Errorf("send: %w", *err)
		}
		return accepted.Load(), nil
	}
	return push, func() error { client.CloseIdleConnections(); return nil }, nil
}
