package worker_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// forgetful is a Redis whose life ends while progress is read: what is read is
// gone, and comes back when the new life is healed.
type forgetful struct {
	*store.Store
	mu    sync.Mutex
	reads int // guarded by mu
	asked int // guarded by mu, since the first read
}

func (s *forgetful) Progress(ctx context.Context, keys []store.JobKey) ([]store.Progress, error) {
	s.mu.Lock()
	s.reads++
	healed := s.reads > 1 && s.asked > 3
	s.mu.Unlock()
	if !healed {
		return make([]store.Progress, len(keys)), nil
	}
	return s.Store.Progress(ctx, keys)
}

func (s *forgetful) Healed(context.Context) (string, store.Healed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads == 0 {
		return "a", store.Healed{Life: "a"}, nil
	}
	if s.asked++; s.asked <= 3 {
		return "b", store.Healed{Life: "a"}, nil
	}
	return "b", store.Healed{Life: "b"}, nil
}

// A redelivered message whose progress went with a fail-over waits until the
// recorders have made that good, and is not sent again to those that had it.
func TestProgressIsNotReadFromAHole(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	f := setup(t, func(n *apns.Notification) apns.Response {
		mu.Lock()
		defer mu.Unlock()
		if n.DeviceToken != token(5) {
			return accept(n)
		}
		if tries++; tries == 1 {
			return apns.Response{Err: errors.New("connection lost")}
		}
		return accept(n)
	})
	set := &forgetful{Store: f.set}
	f.start(options{progress: set})
	f.publish(job.Transactional, newJob("m", tokens(0, 10)...))
	f.completed("m")
	f.drained()
	sent := make(map[int]int)
	for _, n := range f.sender.got() {
		for i := range 10 {
			if n.DeviceToken == token(i) {
				sent[i]++
			}
		}
	}
	for i := range 10 {
		want := 1
		if i == 5 {
			want = 2
		}
		if sent[i] != want {
			t.Errorf("sent to device %d: got %d, want %d", i, sent[i], want)
		}
	}
}
