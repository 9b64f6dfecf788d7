package feedback_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// failingOver is a ledger whose life another recorder heals.
type failingOver struct {
	*store.Store

	mu       sync.Mutex
	life     string       // guarded by mu
	healed   store.Healed // guarded by mu
	looks    int          // guarded by mu: at what is set now
	unhealed bool         // guarded by mu
}

func (l *failingOver) set(life string, healed store.Healed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life, l.healed, l.looks = life, healed, 0
}

func (l *failingOver) Healed(context.Context) (string, store.Healed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	return l.life, l.healed, nil
}

// ClaimHealing is refused while the other one heals.
func (l *failingOver) ClaimHealing(context.Context, string, string, time.Duration) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.healed.Life == l.life, nil
}

func (l *failingOver) Unheal(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unhealed = true
	return nil
}

// looked waits until a recorder has looked so often at what is set now.
func (l *failingOver) looked(h *healing, times int) {
	h.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		n := l.looks
		l.mu.Unlock()
		if n >= times {
			return
		}
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("looks: got %d, want %d", n, times)
		}
	}
}

// What a recorder applies to a new master while another one heals that needs no
// healing, though it is newer than what was healed.
func TestOneRecorderHeals(t *testing.T) {
	t.Parallel()
	h := newHealing(t, testenv.Redis(t).Client)
	ledger := &failingOver{Store: h.set}
	ledger.set("old", store.Healed{Life: "old"})
	run(t, feedback.NewRecorder(feedback.RecorderConfig{Streams: h.js.Streams, TokenSet: h.set, Ledger: ledger, Logger: zaptest.NewLogger(t)}).Run)
	ledger.looked(h, 1)
	h.tell(outcome("to the old one", 0, 1))
	h.recorded()
	ledger.set("new", store.Healed{Life: "old"})
	ledger.looked(h, 1)
	h.tell(outcome("to the new one", 1, 2))
	h.recorded()
	ledger.set("new", store.Healed{Life: "new", Through: 1}) // what the old one got is in it
	ledger.looked(h, 2)
	ledger.mu.Lock()
	defer ledger.mu.Unlock()
	if ledger.unhealed {
		t.Error("it heals again what was applied to the new one")
	}
}

// stuck is a ledger that settles nothing.
type stuck struct {
	*store.Store
	asked chan struct{}
}

func (s stuck) Settle(ctx context.Context, _ []store.Settlement) ([]store.Settled, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// A recorder that is told to stop while it heals leaves that to another at once.
func TestHealingIsLeftToAnother(t *testing.T) {
	t.Parallel()
	h := newHealing(t, testenv.Redis(t).Client)
	stop := h.record()
	h.healed()
	h.tellAll()
	stop()
	if err := h.set.Unheal(h.ctx); err != nil {
		t.Fatal(err)
	}
	life, _, err := h.set.Healed(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	ledger := stuck{h.set, make(chan struct{}, 1)}
	stop = run(t, feedback.NewRecorder(feedback.RecorderConfig{Streams: h.js.Streams, TokenSet: h.set, Ledger: ledger, Logger: zaptest.NewLogger(t)}).Run)
	select {
	case <-ledger.asked:
	case <-h.ctx.Done():
		t.Fatal("it heals nothing")
	}
	if ours, err := h.set.ClaimHealing(h.ctx, life, "another", time.Minute); ours || err != nil {
		t.Fatalf("claim while it heals: got %t, %v, want it refused", ours, err)
	}
	begun := time.Now()
	stop()
	for {
		ours, err := h.set.ClaimHealing(h.ctx, life, "another", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if ours {
			break
		}
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("another could heal %s after it was told to stop, want it at once and not after its lease of 5 s", took)
	}
}
