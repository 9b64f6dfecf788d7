package main_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	main "github.com/pushfleet/pushfleet/cmd/pushfleet"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// How long a start is patient, and with what.
func TestPatiently(t *testing.T) {
	t.Parallel()
	errElects := errors.New("no leader")
	tooOld := fmt.Errorf("open: %w", stream.ErrTooOld)
	for _, tt := range []struct {
		name     string
		patience time.Duration
		stop     time.Duration     // when the caller stops; 0: never
		try      func(n int) error // the nth, from 1
		tries    int               // that there are
		took     time.Duration     // from the first to the end
		want     error             // nil: it succeeds
		text     string            // of the error
	}{
		{"at once", time.Minute, 0, func(int) error { return nil }, 1, 0, nil, ""},
		{"in the end", time.Minute, 0, func(n int) error {
			if n < 4 {
				return errElects
			}
			return nil
		}, 4, 1750 * time.Millisecond, nil, ""}, // 250 ms, 500 ms, 1 s
		{"never", 30 * time.Second, 0, func(int) error { return errElects }, 11, 30 * time.Second, errElects, "tried for 30s (worker.start_timeout): no leader"},
		{"one try", 0, 0, func(int) error { return errElects }, 1, 0, errElects, "no leader"},
		{"waiting does not help", time.Minute, 0, func(int) error { return tooOld }, 1, 0, stream.ErrTooOld, tooOld.Error()},
		{"told to stop", time.Hour, 2 * time.Second, func(int) error { return errElects }, 4, 2 * time.Second, context.Canceled, "context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.stop > 0 {
					time.AfterFunc(tt.stop, cancel)
				}
				tries, told := 0, 0
				begun := time.Now()
				err := main.Patiently(ctx, tt.patience, func(context.Context) error {
					tries++
					return tt.try(tries)
				}, func(error, time.Duration) { told++ })
				if took := time.Since(begun); tries != tt.tries || took != tt.took {
					t.Errorf("got %d tries in %s, want %d in %s", tries, took, tt.tries, tt.took)
				}
				if !errors.Is(err, tt.want) || tt.want != nil && err.Error() != tt.text {
					t.Errorf("got %v, want %v, as %q", err, tt.want, tt.text)
				}
				if told > tries || told < tries-1 {
					t.Errorf("told of %d of %d tries", told, tries)
				}
			})
		})
	}
}

// A worker that starts before nats-server waits for it, says so, and then works. One
// that is told to stop meanwhile ends at once, also where something answers connections
// and says nothing.
func TestWorkerStartsBeforeNATS(t *testing.T) {
	r := newRig(t)
	if err := r.nats.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.nats.done <- <-r.nats.done // it has ended
	early, ops := r.workerStarts("early")
	r.until("a worker that is not ready and says why", func() error {
		_, err := r.get(ops + "/readyz")
		if err == nil {
			t.Fatal("readyz: got it ready without a nats-server")
		}
		if !strings.Contains(err.Error(), "has not reached JetStream yet: connect to nats") {
			return err
		}
		return nil
	})
	if _, err := r.get(ops + "/livez"); err != nil {
		t.Errorf("livez: %v, want it alive while it waits", err)
	}
	if !early.out.contains("JetStream cannot be reached, trying again") {
		t.Error("log: got nothing about the wait")
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	stuck, _ := r.workerStarts("stuck", "PUSHFLEET_NATS_URL=nats://"+silent.Addr().String(), "PUSHFLEET_NATS_CONNECT_TIMEOUT=1m")
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	refused, _ := r.workerStarts("refused")
	for _, p := range []*process{stuck, refused} {
		r.until("a log line", func() error {
			if !p.out.contains("serves /livez") {
				return errors.New("none yet")
			}
			return nil
		})
		begun := time.Now()
		if err := r.stop(p); err != nil {
			t.Errorf("told to stop before it had started: %v, want a clean end", err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("told to stop before it had started: took %s, want it at once", took)
		}
	}

	args := r.nats.cmd.Args
	r.start(nil, args[0], args[1:]...)
	r.until("a worker that is ready", func() error {
		_, err := r.get(ops + "/readyz")
		return err
	})
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r.load(nc, job.Transactional, 1)
	r.until("its work", func() error {
		st, err := r.stats()
		if err == nil && st.Accepted < 1000 {
			err = fmt.Errorf("accepted %d", st.Accepted)
		}
		return err
	})
	if err := r.stop(early); err != nil {
		t.Errorf("worker: %v, want a clean end", err)
	}
}

// A worker whose patience is over ends with what was wrong, and one whom waiting does
// not help at once.
func TestWorkerGivesUpStarting(t *testing.T) {
	r := newRig(t)
	nowhere := "127.0.0.1:" + freePort(t)
	r.write("locked.conf", "listen: "+nowhere+"\nauthorization: {user: a, password: b}\n")
	for _, tt := range []struct {
		name, url, want string
		patience        string
	}{
		{"nobody there", "nats://127.0.0.1:" + freePort(t), "tried for 1s (worker.start_timeout): connect to nats at nats://127.0.0.1:", "1s"},
		{"wrong password", "nats://" + nowhere, "nats: Authorization Violation", "1h"},
	} {
		if tt.name == "wrong password" {
			r.start(nil, filepath.Join(r.bin, "nats-server"), "-c", "locked.conf")
			r.until("nats-server", func() error {
				c, err := net.Dial("tcp", nowhere)
				if err == nil {
					_ = c.Close()
				}
				return err
			})
		}
		p, _ := r.workerStarts("w", "PUSHFLEET_NATS_URL="+tt.url, "PUSHFLEET_NATS_USER=a", "PUSHFLEET_NATS_PASSWORD=c", "PUSHFLEET_WORKER_START_TIMEOUT="+tt.patience)
		select {
		case err := <-p.done:
			p.done <- err
			if err == nil {
				t.Errorf("%s: got a clean end, want a failure", tt.name)
			}
		case <-r.ctx.Done():
			_ = p.cmd.Process.Signal(syscall.SIGQUIT)
			t.Fatalf("%s: still runs", tt.name)
		}
		if !strings.Contains(strings.ToLower(p.out.String()), strings.ToLower(tt.want)) {
			t.Errorf("%s: got %q, want %q in it", tt.name, p.out.String(), tt.want)
		}
	}
}
