package feedback

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// healBack is how far before the first outcome that is not acknowledged a
	// recorder goes back. choice: a replica that is further behind, or a file that
	// was synced longer ago, is broken; everysec means two seconds at most.
	healBack = time.Minute
	// healLook is how often a recorder looks whether Redis is still the same.
	healLook = time.Second
	// healLease is how long a recorder that heals may be silent before another one
	// takes over.
	healLease = 5 * time.Second
)

// healer makes good what Redis forgets when it starts anew or another takes its
// place: what was written last, and acknowledged in OUTCOMES. It reads the last
// minute of OUTCOMES again and applies it once more, which changes nothing where
// nothing was lost.
//
//	      another life                 all is applied again
//	whole ────────────► not healed ──────────────────────────► whole
//	                    redelivered messages wait
//
// How the hole is held: the life that was healed last is written in Redis itself,
// so a Redis that lost it, or that is another one, is not healed for anybody from
// its first answer on, before any recorder has noticed. Workers ask for it before
// and after they read progress, and read again unless it is healed and the same
// (worker.recall). One recorder is at it at a time, by a lease; the others go on
// with new outcomes, which is harmless: the effect does not depend on the order.
//
// A recorder that was cut off with the old master, and has applied to it what
// nobody heals any more, knows by its own memory: what it applied before it first saw
// the new one lies beyond what was healed. It then heals once more.
type healer struct {
	name    string // of this recorder in the lease
	life    string // of Redis, that it applies to; empty: it has not looked yet
	seen    string // life at its last look, healed or not
	applied uint64 // the last outcome that it applied
	before  uint64 // the last that it had applied when it first saw that life
	doubt   bool   // Redis has failed since it looked
	looked  time.Time
	failing bool // so that it is logged once
}

func newHealer() healer {
	return healer{name: strconv.FormatUint(rand.Uint64(), 36)} //nolint:gosec // no secret
}

var errLives = errors.New("another life began meanwhile")

// lookAfter heals Redis if that is needed and this recorder's turn.
func (r *Recorder) lookAfter(ctx context.Context) {
	h := &r.healer
	if !h.doubt && time.Since(h.looked) < healLook {
		return
	}
	h.looked, h.doubt = time.Now(), false
	try, cancel := context.WithTimeout(ctx, healLease)
	life, healed, err := r.cfg.Ledger.Healed(try)
	cancel()
	if err == nil && h.seen != life {
		h.seen, h.before = life, h.applied
	}
	if err == nil && (healed.Life != life || h.life != life && h.before > healed.Through) {
		err = r.heal(ctx, life, healed)
	} else if err == nil {
		h.life = life
	}
	switch {
	case err == nil:
		h.failing = false
	case ctx.Err() == nil && !h.failing:
		h.failing = true
		r.log.Warn("cannot make sure that redis has all outcomes, trying again", zap.Error(err))
	}
}

// heal applies again what the present life of Redis may lack, unless another
// recorder is at it.
func (r *Recorder) heal(ctx context.Context, life string, before store.Healed) error {
	ours, err := r.cfg.Ledger.ClaimHealing(ctx, life, r.healer.name, healLease)
	if err != nil || !ours {
		return err
	}
	if before.Life == life {
		// What this recorder has applied to an earlier life is missing in this one.
		if err := r.cfg.Ledger.Unheal(ctx); err != nil {
			return err
		}
	}
	began, count := time.Now(), 0
	through, err := r.cfg.Streams.ReplayOutcomes(ctx, healBack, func(messages []*stream.Message) error {
		ours, err := r.cfg.Ledger.ClaimHealing(ctx, life, r.healer.name, healLease)
		if err != nil {
			return err
		}
		if !ours {
			return errLease
		}
		count += len(messages)
		return r.apply(ctx, r.parse(messages), true)
	})
	if err != nil {
		if ctx.Err() != nil {
			r.leaveHealing(ctx, life)
		}
		return fmt.Errorf("apply outcomes again: %w", err)
	}
	now, _, err := r.cfg.Ledger.Healed(ctx)
	if err == nil && now != life {
		err = errLives
	}
	if err == nil {
		err = r.cfg.Ledger.SetHealed(ctx, store.Healed{Life: life, Through: through})
	}
	if err != nil {
		return err
	}
	r.healer.life = life
	r.heals.Inc()
	r.log.Info("redis is another one, or has started anew: outcomes were applied again",
		zap.Int("messages", count), zap.Uint64("through", through), zap.Duration("took", time.Since(began)), zap.String("healed_before", before.Life))
	return nil
}

// leaveHealing lets another recorder heal at once: this one is told to stop.
func (r *Recorder) leaveHealing(ctx context.Context, life string) {
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), healLook)
	defer cancel()
	if _, err := r.cfg.Ledger.ClaimHealing(leave, life, r.healer.name, 0); err != nil {
		r.log.Debug("cannot leave the healing of redis to another", zap.Error(err))
	}
}

var errLease = errors.New("another recorder has taken over")
