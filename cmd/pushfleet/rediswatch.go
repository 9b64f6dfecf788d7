package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
)

const (
	// redisWatchEvery is how often a process looks at Redis, and redisWatchFor how
	// long it waits for it.
	redisWatchEvery = 15 * time.Second
	redisWatchFor   = 2 * time.Second
)

// redisProblems are the values of a label.
var redisProblems = []struct {
	err  error // nil: any other
	name string
}{
	{store.ErrEvicts, "evicts"},
	{store.ErrVersion, "too_old"},
	{store.ErrReplica, "replica"},
	{store.ErrMember, "cluster_member"},
	{store.ErrFull, "out_of_memory"},
	{store.ErrDisk, "disk"},
	{store.ErrListpack, "hash_tables"},
	{nil, "unreachable"},
}

// redisWatch looks at Redis when it is asked whether the process is ready, and
// now and then besides: what was right at the start may be set otherwise later.
// It is safe for concurrent use.
//
// choice: a Redis that is out of memory, or of disk, does not make a process unready. All of
// them would be at once, with nobody left to answer what only reads, and to tell
// callers to come again; it is a note, a metric and a log line instead.
type redisWatch struct {
	problems func(context.Context) []store.Problem
	log      *zap.Logger
	gauge    *prometheus.GaugeVec

	mu   sync.Mutex
	last []store.Problem // guarded by mu
	said string          // guarded by mu: what of it was logged
}

// newRedisWatch returns the watch of a process, and has the Redis client's own
// log, which is one for all clients, go to log.
func newRedisWatch(set *store.Store, log *zap.Logger, reg prometheus.Registerer) *redisWatch {
	redis.SetLogger(redisLog{log.Named("redis").WithOptions(zap.WithCaller(false)).Sugar()})
	w := &redisWatch{
		problems: set.Problems, log: log.Named("redis"),
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_redis_problem",
			Help: "1 while Redis is not as the token set needs it, by what is wrong. Only out_of_memory, disk and hash_tables leave the process ready.",
		}, []string{"problem"}),
	}
	for _, p := range redisProblems {
		w.gauge.WithLabelValues(p.name).Set(0)
	}
	reg.MustRegister(w.gauge)
	return w
}

// redisLog takes what the Redis client logs by itself: connections that could not
// be made and masters that change. Callers are told by errors of all that matters.
type redisLog struct{ log *zap.SugaredLogger }

// Printf implements the client's logger.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Debugf(format, args...)
}

// run looks at Redis until ctx ends.
func (w *redisWatch) run(ctx context.Context) {
	tick := time.NewTicker(redisWatchEvery)
	defer tick.Stop()
	for {
		_ = w.ready(ctx) // it is logged
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ready looks at Redis, and returns what is wrong with it that the process must
// not work with.
func (w *redisWatch) ready(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, redisWatchFor)
	defer cancel()
	found := w.problems(try)
	if ctx.Err() != nil {
		return fmt.Errorf("look at redis: %w", ctx.Err())
	}
	var errs []error
	wrong := make(map[string]float64)
	for _, p := range found {
		wrong[redisProblem(p.Err)] = 1
		if !p.Bearable() {
			errs = append(errs, p)
		}
	}
	for _, p := range redisProblems {
		w.gauge.WithLabelValues(p.name).Set(wrong[p.name])
	}
	w.note(found, wrong)
	return errors.Join(errs...)
}

func redisProblem(err error) string {
	for _, p := range redisProblems {
		if p.err == nil || errors.Is(err, p.err) {
			return p.name
		}
	}
	return ""
}

// note remembers what was found, and logs it if something else is wrong than
// before.
func (w *redisWatch) note(found []store.Problem, wrong map[string]float64) {
	var errs []error
	for _, p := range found {
		errs = append(errs, p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = found
	before := w.said
	if w.said = fmt.Sprint(wrong); w.said == before || before == "" && len(found) == 0 {
		return
	}
	if len(found) == 0 {
		w.log.Info("redis is as it should be again")
		return
	}
	w.log.Warn("redis is not as it should be", zap.Error(errors.Join(errs...)))
}

// notes are lines about what the process works with all the same.
func (w *redisWatch) notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, p := range w.last {
		if p.Bearable() {
			lines = append(lines, p.Error())
		}
	}
	return lines
}
