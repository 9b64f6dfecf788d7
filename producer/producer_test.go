package producer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newJob(id string) *job.Job {
	return &job.Job{ID: id, To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "Hello"}}
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p, err := producer.New(t.Context(), js.NC)
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Enqueue(t.Context(), "shop", job.Transactional, newJob("a"))
	if err != nil || first.ID != "a" || first.Duplicate || first.Sequence == 0 {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := p.Enqueue(t.Context(), "shop", job.Transactional, newJob("a")); err != nil || !again.Duplicate {
		t.Errorf("again: got %+v, %v, want a duplicate", again, err)
	}
}

func TestEnqueueBatch(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	var jobs []*job.Job
	for n := range 500 {
		jobs = append(jobs, newJob(fmt.Sprintf("j-%d", n)))
	}
	jobs[7] = &job.Job{ID: "bad"}
	receipts, err := p.EnqueueBatch(t.Context(), "shop", job.Bulk, jobs)
	var invalid *job.Invalid
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "job 7:") {
		t.Errorf("error: got %v, want job 7's", err)
	}
	for i, r := range receipts {
		if stored := r.Sequence > 0; stored != (i != 7) || (stored && r.ID != jobs[i].ID) {
			t.Errorf("receipt %d: got %+v", i, r)
		}
	}
}
