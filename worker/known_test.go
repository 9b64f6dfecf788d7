package worker_test

import (
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// JetStream's count of deliveries can go with its leader: a message that comes as
// if for the first time is known by its guard, and its progress is kept to. That
// holds with an id and without.
func TestSecondDeliveryThatJetStreamForgot(t *testing.T) {
	for _, id := range []string{"a", ""} {
		t.Run("id "+id, func(t *testing.T) {
			f := setup(t, nil)
			p := f.publish(job.Transactional, newJob(id, token(1), token(2)))
			key := store.JobKey{App: "shop", Lane: job.Transactional, ID: p.ID}
			// What a worker before has left behind.
			if _, err := f.set.Guard(f.ctx, []store.Claim{{App: "shop", Lane: job.Transactional, ID: p.ID, Sequence: p.Sequence}}); err != nil {
				t.Fatal(err)
			}
			mark := store.Marked{Hash: job.RecipientHash(token(1)), Recipient: job.Recipient{Result: job.Accepted}}
			if err := f.set.MarkSettled(f.ctx, []store.Mark{{Job: key, Recipients: []store.Marked{mark}}}); err != nil {
				t.Fatal(err)
			}
			f.start(options{})
			if counts := results(f.completed(p.ID)); counts["accepted"] != 2 {
				t.Errorf("outcomes: got %v, want 2 accepted", counts)
			}
			f.drained()
			sent := f.sender.got()
			if len(sent) != 1 || sent[0].DeviceToken != token(2) {
				t.Errorf("sent: got %d notifications, want one to the recipient that was left", len(sent))
			}
		})
	}
}

// A server that restarts may deliver at once what was handed back with a delay: it
// waits for the rest of it.
func TestDelayThatJetStreamForgot(t *testing.T) {
	f := setup(t, nil)
	p := f.publish(job.Transactional, newJob("a", token(1)))
	key := store.JobKey{App: "shop", Lane: job.Transactional, ID: p.ID}
	if _, err := f.set.Guard(f.ctx, []store.Claim{{App: "shop", Lane: job.Transactional, ID: p.ID, Sequence: p.Sequence}}); err != nil {
		t.Fatal(err)
	}
	due := time.Now().Add(2 * time.Second)
	if err := f.set.HandBack(f.ctx, key, store.HandBack{RetryAt: due, Attempts: 1}); err != nil {
		t.Fatal(err)
	}
	f.start(options{})
	f.completed(p.ID)
	f.sender.mu.Lock()
	defer f.sender.mu.Unlock()
	// A worker is never early by more than the interval at which it looks.
	if at := f.sender.at; at.Before(due.Add(-100 * time.Millisecond)) {
		t.Errorf("sent %s before it was due", due.Sub(at))
	}
}
