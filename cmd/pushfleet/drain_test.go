package main_test

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/stream"
)

// load publishes jobs of a thousand devices each.
func (r *rig) load(nc *nats.Conn, lane job.Lane, jobs int) {
	r.t.Helper()
	p, err := producer.New(r.ctx, nc)
	if err != nil {
		r.t.Fatal(err)
	}
	const each = 1000
	var batch []*job.Job
	for n := range jobs {
		j := &job.Job{ID: fmt.Sprintf("load-%d", n), Notification: &job.Notification{Title: "Hello"}}
		for i := range each {
			j.To.Tokens = append(j.To.Tokens, device.TokenFromRaw(fmt.Sprintf("device-%024d!", n*each+i)))
		}
		batch = append(batch, j)
	}
	if _, err := p.EnqueueBatch(r.ctx, "shop", lane, batch); err != nil {
		r.t.Fatal(err)
	}
}

// A worker that is told to stop at full speed ends soon and cleanly; what it held
// is with another one at once, not after the ack wait, and nothing is sent twice.
func TestDrainAtFullSpeed(t *testing.T) {
	r := newRig(t, "--latency", "100ms", "--streams", "50")
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// Some 1000 a second: what is queued when it is told to stop would take ten.
	const jobs = 15
	first := r.workerWith("w1", "PUSHFLEET_WORKER_CONNECTIONS=2", "PUSHFLEET_WORKER_MAX_CONNECTIONS=2")
	r.load(nc, job.Bulk, jobs)
	r.until("full speed", func() error {
		st, err := r.stats()
		if err == nil && st.Accepted < 1000 {
			err = fmt.Errorf("accepted %d", st.Accepted)
		}
		return err
	})
	c, err := js.Consumer(r.ctx, stream.Jobs, stream.LaneDurable("shop", job.Bulk))
	if err != nil {
		t.Fatal(err)
	}
	held := c.CachedInfo().NumAckPending
	began := time.Now()
	if err := r.stop(first); err != nil {
		t.Errorf("worker: %v, want a clean end", err)
	}
	took := time.Since(began)
	t.Logf("held %d messages when told to stop, ended after %s", held, took)
	if held == 0 {
		t.Fatal("the worker held nothing: this test proves nothing")
	}
	// A pull that is out takes a second to end; so long answers are waited for, too.
	if took > 3*time.Second {
		t.Errorf("drain took %s, want no longer than a pull and the answers that were to come", took)
	}
	second := r.worker("w2")
	began = time.Now()
	r.until("the rest", func() error {
		st, err := r.stats()
		if err == nil && st.Accepted-st.Duplicates < jobs*1000 {
			err = fmt.Errorf("accepted %d, %d of them twice", st.Accepted, st.Duplicates)
		}
		return err
	})
	if took := time.Since(began); took > stream.BulkAckWait/2 {
		t.Errorf("the rest took %s, want less than an ack wait of %s", took, stream.BulkAckWait)
	}
	if err := r.stop(second); err != nil {
		t.Errorf("second worker: %v", err)
	}
	st, err := r.stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Duplicates != 0 {
		t.Errorf("duplicates: got %d, want none", st.Duplicates)
	}
}

// A second signal ends a worker at once.
func TestSecondSignalEnds(t *testing.T) {
	r := newRig(t, "--latency", "20s")
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	w := r.worker("w1")
	r.load(nc, job.Bulk, 1)
	r.until("something on its way", func() error {
		st, err := r.stats()
		if err == nil && st.Pending == 0 {
			err = fmt.Errorf("nothing is pending")
		}
		return err
	})
	// The second signal may only come when the first was taken: the log says so.
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.until("the drain", func() error {
		if !w.out.contains("worker drains") {
			return fmt.Errorf("the worker does not drain")
		}
		return nil
	})
	began := time.Now()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = <-w.done
	w.done <- err // for the clean-up
	if err == nil {
		t.Error("it ended well, want by the signal")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s to end after the second signal", took)
	}
}

// A worker that is told to stop while it waits for JetStream at its start ends well.
func TestStopWhileStarting(t *testing.T) {
	r := newRig(t)
	stuck, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	// A server that says hello and never answers anything.
	asked := make(chan struct{}, 16)
	go func() {
		for {
			conn, err := stuck.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "INFO {\"server_id\":\"x\",\"version\":\"2.15.2\",\"headers\":true,\"max_payload\":1048576}\r\n")
			go func() {
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					switch {
					case lines.Text() == "PING":
						fmt.Fprint(conn, "PONG\r\n")
					case strings.Contains(lines.Text(), "$JS.API.INFO"):
						asked <- struct{}{}
					}
				}
			}()
		}
	}()
	w := r.start([]string{"PUSHFLEET_NATS_URL=nats://" + stuck.Addr().String()}, filepath.Join(r.bin, "pushfleet"), "worker", "-c", r.config)
	<-asked
	if err := r.stop(w); err != nil {
		t.Errorf("worker: %v, want a clean end", err)
	}
}
