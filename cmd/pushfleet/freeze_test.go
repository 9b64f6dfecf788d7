package main_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// A worker is frozen beyond its ack wait, with thousands of notifications that wait
// for a stream, while another one sends them. When it thaws it drops them: what was
// on its way when it froze may be repeated, and nothing else.
func TestFrozenWorkerDropsWhatItHolds(t *testing.T) {
	const streams, connections = 50, 2
	r := newRig(t, "--latency", "100ms", "--streams", fmt.Sprint(streams))
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	const jobs, each = 6, 1000
	frozen := r.workerWith("w1", fmt.Sprintf("PUSHFLEET_WORKER_CONNECTIONS=%d", connections), fmt.Sprintf("PUSHFLEET_WORKER_MAX_CONNECTIONS=%d", connections))
	r.load(nc, job.Transactional, jobs)
	accepted := func(n int64) func() error {
		return func() error {
			st, err := r.stats()
			if err == nil && st.Accepted-st.Duplicates < n {
				err = fmt.Errorf("accepted %d, %d of them twice", st.Accepted, st.Duplicates)
			}
			return err
		}
	}
	r.until("some of it", accepted(each))
	if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	second := r.worker("w2")
	r.until("all of it", accepted(jobs*each))
	if took := time.Since(began); took < stream.TransactionalAckWait/2 {
		t.Fatalf("all was accepted after %s: nothing was held when the worker froze", took)
	}
	if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*process{frozen, second} {
		if err := r.stop(w); err != nil {
			t.Errorf("worker: %v, want a clean end", err)
		}
	}
	st, err := r.stats()
	if err != nil {
		t.Fatal(err)
	}
	// Open when it froze, and as many that were answered in the 100 ms before.
	const bound = 2 * streams * connections
	t.Logf("duplicates %d, bound %d", st.Duplicates, bound)
	if st.Duplicates > bound {
		t.Errorf("duplicates: got %d, want at most %d", st.Duplicates, bound)
	}
}
