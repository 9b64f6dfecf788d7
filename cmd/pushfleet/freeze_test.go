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

// A worker is frozen while a campaign is paused, for longer than that may take and not
// for so long that its ranges are another's. When it thaws it sends nothing more.
func TestFrozenWorkerHearsOfAPause(t *testing.T) {
	r := newRig(t, "--latency", "100ms", "--streams", "10")
	const devices = 600
	r.must("device", "import", "--app", "shop", r.write("devices.ndjson", manyDevices(devices)))
	w := r.workerWith("w1", "PUSHFLEET_WORKER_CONNECTIONS=1", "PUSHFLEET_WORKER_MAX_CONNECTIONS=1")
	r.must("campaign", "create", "--app", "shop", "-f", r.write("c.yaml", `{"id":"c","audience":{"all":true},"notification":{"body":"b"}}`))
	accepted := func(n int64) func() error {
		return func() error {
			st, err := r.stats()
			if err == nil && st.Accepted-st.Duplicates < n {
				err = fmt.Errorf("accepted %d, %d of them twice", st.Accepted, st.Duplicates)
			}
			return err
		}
	}
	r.until("some of it", accepted(devices/4))
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.must("campaign", "pause", "--app", "shop", "c")
	<-time.After(2300 * time.Millisecond)
	before, err := r.stats()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second)
	after, err := r.stats()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Received - before.Received; n != 0 || before.Received >= devices {
		t.Errorf("sent since the worker thawed: got %d, after %d of %d, want none", n, before.Received, devices)
	}
	r.must("campaign", "resume", "--app", "shop", "c")
	r.until("all of it", accepted(devices))
	if st, err := r.stats(); err != nil || st.Duplicates != 0 {
		t.Errorf("duplicates: got %d, %v, want none", st.Duplicates, err)
	}
}
