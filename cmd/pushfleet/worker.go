package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

func newWorker(g *globals) *cobra.Command {
	var cpuProfile string
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Take jobs, send them to APNs, record what became of them",
		Long: `worker takes jobs of all configured apps from JetStream, sends them to APNs, and
records what became of them. Start as many as you like: they share the work.

One that starts before its NATS servers do, or while they elect a leader, tries again
for worker.start_timeout. It is not ready meanwhile, and /readyz says why.

SIGTERM stops it: answers of what is on its way to APNs are waited for, up to
worker.drain_timeout, and the rest goes back to JetStream at once. A second signal
ends it there and then; nothing is lost.

Apps, their credentials and other settings of theirs can be changed while it runs: it
reads the configuration again when its files change, and at SIGHUP. One that cannot be
used is refused whole. pushfleet config check looks at it before.

It serves /livez, /readyz and /metrics on worker.listen; /readyz?verbose has what
pushfleet doctor finds, but for APNs.`,
		Example: "  pushfleet worker --config pushfleet.yaml\n  pkill -HUP -f 'pushfleet worker'\n  pushfleet worker -c pushfleet.yaml --log-format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			profiles := senderFlags{cpuProfile: cpuProfile}
			stop, err := profiles.startProfiles()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(workerGCPercent)
			}
			err = runWorkerProcess(cmd.Context(), g, nil)
			if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil // told to stop before it had started
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cpuProfile, "cpuprofile", "", "write a CPU profile of all that the process does")
	_ = cmd.Flags().MarkHidden("cpuprofile") // it exists
	return cmd
}

// workerGCPercent is how much a worker's heap grows between collections. A worker
// allocates hundreds of megabytes a second at full speed and keeps a few tens: at
// Go's default of 100 collecting takes a seventh of its CPU.
//
// choice: between CPU and memory, which bench jobs measured as 176 MB at 300 and
// 120 MB at 150. GOGC in the environment goes first.
const workerGCPercent = 150

// runWorkerProcess is all of a worker process. serving, if not nil, is told
// where the probes are, once JetStream is reached.
func runWorkerProcess(ctx context.Context, g *globals, serving func(net.Addr)) error {
	source, cfg, err := g.source()
	if err != nil {
		return err
	}
	log, err := logger(cfg.Log)
	if err != nil {
		return err
	}
	defer log.Sync() //nolint:errcheck // a terminal cannot be synced
	if cfg.Worker.Name == "" {
		if cfg.Worker.Name, err = os.Hostname(); err != nil {
			return fmt.Errorf("worker.name: not set, and the host has no name: %w", err)
		}
	}
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	reg := newRegistry()
	watch := newRedisWatch(set, log, reg)
	spans, err := startTraces(ctx, cfg.Telemetry, os.Getenv, cfg.Worker.Name, log)
	if err != nil {
		return err
	}
	defer spans.stop()
	var state workerState
	ready := func(ctx context.Context) error { return errors.Join(state.ready(ctx), watch.ready(ctx)) }
	follow := newReloader(reloaderConfig{
		source: source, first: cfg, log: log, reg: reg,
		own:  []string{"nats", "redis", "worker", "log", "telemetry", "apps"},
		live: []string{"apps", "worker.connections", "worker.max_connections", "worker.request_timeout", "worker.max_in_flight"},
	})
	checks := follow.checks(func(d *doctor) check { return d.running(state.queue, set) })
	// The probes answer from before JetStream is reached until the worker has drained.
	probes, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	listens := make(chan net.Addr, 1)
	var g2 errgroup.Group
	work, stopWork := context.WithCancelCause(ctx)
	defer stopWork(nil)
	g2.Go(func() error {
		err := serve(probes, cfg.Worker.Listen, newOps(reg, ready, checks, state.notes, watch.notes), func(a net.Addr) {
			log.Info("serves /livez, /readyz and /metrics", zap.Stringer("address", a))
			listens <- a
		})
		stopWork(err)
		return err
	})
	g2.Go(func() error {
		watch.run(probes)
		return nil
	})
	g2.Go(func() error {
		defer stopProbes()
		nc, streams, err := awaitNATS(work, cfg, "worker "+cfg.Worker.Name, log, state.failed)
		if err != nil {
			return err
		}
		defer func() {
			// Acknowledgements are written without waiting.
			_ = nc.FlushTimeout(2 * time.Second) // else they come again, and are known
			nc.Close()
		}()
		f, err := newFleet(cfg, streams, set, spans.tracer("worker"), log, reg)
		if err != nil {
			return err
		}
		state.reached(streams, f)
		// What has changed since the start is seen at its first look.
		follow.prepare = f.prepare
		following, stopFollowing := context.WithCancel(work)
		var follower sync.WaitGroup
		follower.Go(func() { follow.run(following) })
		defer follower.Wait()
		defer stopFollowing()
		if serving != nil {
			select {
			case a := <-listens:
				serving(a)
			case <-work.Done():
			}
		}
		return f.run(work)
	})
	return g2.Wait()
}
