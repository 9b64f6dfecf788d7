package feedback

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
)

// sweepCycle is how long a sweep of all buckets of an app takes. choice: what a
// crash left half done is healed within the hour, and a look at a bucket is cheap.
const sweepCycle = time.Hour

// Swept sweeps buckets of a token set; see [store.Store].
type Swept interface {
	Buckets(ctx context.Context, app string) (int, error)
	Sweep(ctx context.Context, app string, n int) (store.Swept, error)
}

// Pruner removes device tokens of a bucket that were not registered for long;
// see [store.Store].
type Pruner interface {
	PruneBucket(ctx context.Context, app string, n int, unseenFor time.Duration) (store.Pruned, error)
}

// Sweeper finishes replacements of device tokens that were cut off, and forgets
// tombstones that are old enough, bucket by bucket; and it doubles the buckets of
// a token set that they have become too few for. Any number may run at once.
type Sweeper struct {
	set    Swept
	growth *growth
	what   atomic.Pointer[sweep]
	cycle  time.Duration
	log    *zap.Logger

	pruner Pruner                  // nil: nothing is pruned
	pruned map[string]store.Pruned // by app, in this cycle; of the run loop
}

// sweep is what is swept, and pruned after how long. It is not changed once made.
type sweep struct {
	apps       []string
	pruneAfter map[string]time.Duration
}

// NewSweeper returns a sweeper for apps; cycle is how long it takes for all
// buckets of one, 0: an hour. Without metrics, nil, it counts for nobody.
func NewSweeper(set interface {
	Swept
	Grown
}, apps []string, cycle time.Duration, metrics prometheus.Registerer, log *zap.Logger,
) *Sweeper {
	if cycle == 0 {
		cycle = sweepCycle
	}
	log = log.Named("sweeper")
	s := &Sweeper{set: set, growth: newGrowth(set, metrics, log), cycle: cycle, log: log}
	s.SetApps(apps, nil)
	return s
}

// PruneAfter has the sweeper also remove device tokens that were not registered
// for so long, by app; apps that are not in after keep theirs. It is to be called
// before Run.
func (s *Sweeper) PruneAfter(set Pruner, after map[string]time.Duration) {
	s.pruner, s.pruned = set, make(map[string]store.Pruned)
	s.SetApps(s.what.Load().apps, after)
}

// SetApps changes which apps are swept, and what is pruned, from now on. It is safe for
// concurrent use; neither argument may be changed any more.
func (s *Sweeper) SetApps(apps []string, pruneAfter map[string]time.Duration) {
	s.what.Store(&sweep{apps: apps, pruneAfter: pruneAfter})
}

// Run sweeps until ctx ends. It returns nil.
func (s *Sweeper) Run(ctx context.Context) error {
	var growing sync.WaitGroup
	growing.Go(func() { s.growth.run(ctx, func() []string { return s.what.Load().apps }) })
	defer growing.Wait()
	at := rand.Uint32() //nolint:gosec // so that workers that start together do not sweep together
	for ctx.Err() == nil {
		most := 1
		what := s.what.Load()
		for _, app := range what.apps {
			n, err := s.set.Buckets(ctx, app)
			if err != nil {
				s.say(ctx, app, err)
				continue
			}
			most = max(most, n)
			if _, err := s.set.Sweep(ctx, app, int(at)%n); err != nil {
				s.say(ctx, app, err)
			}
			if after := what.pruneAfter[app]; after > 0 && s.pruner != nil {
				s.prune(ctx, app, int(at)%n, after, int(at)%n == n-1)
			}
		}
		at++
		pause(ctx, s.cycle/time.Duration(most))
	}
	return nil
}

// prune prunes a bucket, and tells at the end of a cycle how many went.
func (s *Sweeper) prune(ctx context.Context, app string, n int, after time.Duration, last bool) {
	done, err := s.pruner.PruneBucket(ctx, app, n, after)
	if err != nil {
		s.say(ctx, app, err)
	}
	sum := s.pruned[app]
	sum.Removed += done.Removed
	sum.OverCap += done.OverCap
	s.pruned[app] = sum
	if !last || sum == (store.Pruned{}) {
		return
	}
	delete(s.pruned, app)
	s.log.Info("removed devices that were not registered for long", zap.String("app", app),
		zap.Int("removed", sum.Removed), zap.Int("left_for_later", sum.OverCap), zap.Duration("unseen_for", after))
}

// say tells of a bucket that could not be swept: its turn comes again.
func (s *Sweeper) say(ctx context.Context, app string, err error) {
	if ctx.Err() == nil {
		s.log.Warn("cannot sweep", zap.String("app", app), zap.Error(err))
	}
}
