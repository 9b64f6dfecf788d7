package main_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

func (r *rig) stats() (st apnstest.Stats, err error) {
	text, err := r.get(r.adminURL + "/stats")
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(text, &st)
}

// A worker is killed in the middle of its work: another one sends the rest, and
// repeats no more than what was unanswered, or answered in the last 100 ms.
func TestKilledWorkerLosesNothing(t *testing.T) {
	r := newRig(t, "--latency", "30ms")
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	const jobs, each = 40, 1000
	victim := r.worker("w1")
	r.load(nc, job.Transactional, jobs)
	r.until("a quarter of it", func() error {
		st, err := r.stats()
		if err == nil && st.Accepted < jobs*each/4 {
			err = fmt.Errorf("accepted %d", st.Accepted)
		}
		return err
	})
	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	second := r.worker("w2")
	r.until("all of it", func() error {
		st, err := r.stats()
		if err == nil && st.Accepted-st.Duplicates < jobs*each {
			err = fmt.Errorf("accepted %d, %d of them twice", st.Accepted, st.Duplicates)
		}
		return err
	})
	took := time.Since(killed)
	if err := r.stop(second); err != nil {
		t.Errorf("second worker: %v", err)
	}
	st, err := r.stats()
	if err != nil {
		t.Fatal(err)
	}
	bound := st.AnswersLost + st.AnsweredLate
	t.Logf("accepted %d, duplicates %d, bound %d, recovered in %s", st.Accepted, st.Duplicates, bound, took)
	if st.Duplicates > bound {
		t.Errorf("duplicates: got %d, want at most %d", st.Duplicates, bound)
	}
	if lost := jobs*each - (st.Accepted - st.Duplicates); lost != 0 {
		t.Errorf("lost: %d", lost)
	}
}
