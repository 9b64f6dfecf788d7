package store_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// says is an error of Redis.
type says string

func (s says) Error() string { return string(s) }
func (says) RedisError()     {}

// refuser is a client hook that keeps some commands from pipelines of scripts, and
// gives them an error instead.
type refuser struct {
	mu    sync.Mutex
	err   error
	first int // pipelines in which some are kept back
	every int // one in so many of their commands, from the first on
	sizes []int
}

func (*refuser) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*refuser) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (r *refuser) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "evalsha" && cmds[0].Name() != "eval" {
			return next(ctx, cmds)
		}
		r.mu.Lock()
		r.sizes = append(r.sizes, len(cmds))
		keep := len(r.sizes) <= r.first
		r.mu.Unlock()
		var pass []redis.Cmder
		for i, cmd := range cmds {
			if keep && i%r.every == 0 {
				cmd.SetErr(r.err)
				continue
			}
			pass = append(pass, cmd)
		}
		var err error
		if len(pass) > 0 {
			err = next(ctx, pass)
		}
		if keep {
			return r.err
		}
		return err
	}
}

// Only what a Redis did not take is sent again, and what it did take is not done
// twice.
func TestHalfOfAPipeline(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1000))) // scripts are known
		for i, err := range []error{
			says("TRYAGAIN Multiple keys request during rehashing of slot"), says("CLUSTERDOWN The cluster is down"),
			says("LOADING Redis is loading the dataset in memory"), says("READONLY You can't write against a read only replica."),
			says("MASTERDOWN Link with MASTER is down"), says("MOVED 1 127.0.0.1:1"), says("ASK 1 127.0.0.1:1"), io.EOF,
		} {
			r := &refuser{err: err, first: 3, every: 2}
			other := f.beside(t)
			other.client.AddHook(r)
			var regs []device.Registration
			for n := range 100 { // in all four buckets
				regs = append(regs, registration(token(100*i+n)))
			}
			got, err := other.RegisterMany(t.Context(), app, regs)
			if err != nil {
				t.Errorf("%v: got %v, want it made whole", r.err, err)
				continue
			}
			for _, one := range got {
				if one.Generation != 1 || !one.New {
					t.Fatalf("%v: got %+v, want it registered once", r.err, one)
				}
			}
			if want := []int{4, 2, 1, 1}; len(r.sizes) != len(want) || r.sizes[1] != want[1] || r.sizes[3] != want[3] {
				t.Errorf("%v: got pipelines of %v, want %v", r.err, r.sizes, want)
			}
		}
	})
}

// What does not pass is told at once, and what does not pass in time is told
// then.
func TestWhatDoesNotPass(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1000)))
		for _, tt := range []struct {
			err   error
			again bool
		}{
			{says("OOM command not allowed when used memory > 'maxmemory'."), false},
			{says("BUSY Redis is busy running a script."), false},
			{says("MISCONF Errors writing to the AOF file"), false},
			{context.DeadlineExceeded, false},
			{says("TRYAGAIN Multiple keys request during rehashing of slot"), true},
		} {
			r := &refuser{err: tt.err, first: 1 << 30, every: 1}
			other := f.beside(t)
			other.client.AddHook(r)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := other.Register(ctx, app, registration(token(1)))
			cancel()
			if !errors.Is(err, tt.err) {
				t.Errorf("%v: got %v, want the cause", tt.err, err)
			}
			if again := len(r.sizes) > 1; again != tt.again {
				t.Errorf("%v: got %d pipelines, want more than one: %t", tt.err, len(r.sizes), tt.again)
			}
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// The layout of an app is written only where it is missing.
func TestLayoutIsReadFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		other := f.beside(t)
		writes := 0
		other.client.AddHook(pipelineHook(func(cmds []redis.Cmder) {
			for _, cmd := range cmds {
				if cmd.Name() == "hsetnx" {
					writes++
				}
			}
		}))
		if n, err := other.Buckets(t.Context(), app); err != nil || n != 4 || writes != 0 {
			t.Errorf("an app that is there: got %d buckets, %v, %d writes, want 4 and none", n, err, writes)
		}
		if n, err := other.Buckets(t.Context(), "new"); err != nil || n != 4 || writes != 2 {
			t.Errorf("an app that is not: got %d buckets, %v, %d writes, want 4 and 2", n, err, writes)
		}
	})
}

// pipelineHook is called for each pipeline.
type pipelineHook func(cmds []redis.Cmder)

func (pipelineHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (pipelineHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h pipelineHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h(cmds)
		return next(ctx, cmds)
	}
}

// A server that is a member of a cluster is no server of its own.
func TestCheckOfAMember(t *testing.T) {
	t.Parallel()
	f, _, ok := onServer(t, &redis.Options{}, "--cluster-enabled", "yes", "--cluster-port", freePort(t))
	if !ok {
		return
	}
	if err := f.Check(t.Context()); !errors.Is(err, store.ErrMember) {
		t.Errorf("Check: got %v, want %v", err, store.ErrMember)
	}
}
