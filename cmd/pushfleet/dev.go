package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// devPorts are the usual ports, so that other programs find what they expect.
func devPorts() localPorts {
	return localPorts{nats: 4222, redis: 6379, sim: 2197, admin: 2198, ops: 9090}
}

func newDev(g *globals) *cobra.Command {
	var dir string
	ports := devPorts()
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process for development, and keep it running",
		Long: `dev runs JetStream, an in-memory token set, the APNs simulator and a worker in one
process, with an app called "demo", until you stop it. It writes a configuration
that the other commands take, and prints commands to try.

Device tokens live in memory and are gone when it stops.`,
		Example: "  pushfleet dev\n  pushfleet dev --dir /tmp/pushfleet --nats-port 14222",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDev(cmd.Context(), g, dir, ports, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "pushfleet-dev", "where configuration, keys and streams are kept")
	f.IntVar(&ports.nats, "nats-port", ports.nats, "port of NATS")
	f.IntVar(&ports.redis, "redis-port", ports.redis, "port of the in-memory token set")
	f.IntVar(&ports.sim, "sim-port", ports.sim, "port of the APNs simulator")
	f.IntVar(&ports.admin, "admin-port", ports.admin, "port of the simulator's admin interface")
	f.IntVar(&ports.ops, "ops-port", ports.ops, "port of /readyz and /metrics")
	return cmd
}

func runDev(ctx context.Context, g *globals, dir string, ports localPorts, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find directory: %w", err)
	}
	l, err := startLocal(dir, ports, apnstest.Config{})
	if err != nil {
		return err
	}
	err = runWorkerProcess(ctx, &globals{configPath: l.configPath, logLevel: g.logLevel, logFormat: g.logFormat}, func(ops net.Addr) {
		fmt.Fprintf(out, devText, l.nats.URL(), l.redis.Addr(), l.sim.URL(), l.admin, ops, l.configPath)
	})
	return errors.Join(err, l.stop())
}

const devText = `pushfleet runs, with the app "demo". Device tokens are in memory: they are gone when it stops.

  NATS        %[1]s
  token set   %[2]s
  APNs        %[3]s (the simulator; %[4]s/stats)
  worker      http://%[5]s/readyz and /metrics

Try, in another terminal:

  pushfleet device register -c %[6]s --app demo --user ada 8f3a55d1c7e04b2296aa31f0d2c4b5e68f3a55d1c7e04b2296aa31f0d2c4b5e6
  pushfleet send -c %[6]s --app demo --user ada --title Hello --body "from pushfleet"
  curl -s '%[4]s/ledger?limit=1'

or with the NATS command line:

  nats -s %[1]s sub 'push.outcomes.demo.>'
  nats -s %[1]s pub push.jobs.demo.transactional '{"to":{"users":["ada"]},"notification":{"title":"Hello"}}'

Stop with ctrl-c.
`
