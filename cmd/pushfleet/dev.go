package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// devPorts are the usual ports, so that other programs find what they expect.
func devPorts() localPorts {
	return localPorts{nats: 4222, redis: 6379, sim: 2197, admin: 2198, ops: 9090, api: 8080}
}

func newDev(g *globals) *cobra.Command {
	var dir, webhook string
	ports := devPorts()
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process for development, and keep it running",
		Long: `dev runs JetStream, an in-memory token set, the APNs simulator, a worker and the HTTP
API in one process, with an app called "demo", until you stop it. It writes a configuration
that the other commands take, and prints commands to try. POSTs to the webhook are signed with
` + devSecret + `.

Device tokens and API keys live in memory and are gone when it stops.`,
		Example: "  pushfleet dev\n  pushfleet dev --dir /tmp/pushfleet --nats-port 14222",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDev(cmd.Context(), g, dir, webhook, ports, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "pushfleet-dev", "where configuration, keys and streams are kept")
	f.StringVar(&webhook, "webhook", "", "URL that is told what became of notifications, such as http://127.0.0.1:8090/")
	f.IntVar(&ports.nats, "nats-port", ports.nats, "port of NATS")
	f.IntVar(&ports.redis, "redis-port", ports.redis, "port of the in-memory token set")
	f.IntVar(&ports.sim, "sim-port", ports.sim, "port of the APNs simulator")
	f.IntVar(&ports.admin, "admin-port", ports.admin, "port of the simulator's admin interface")
	f.IntVar(&ports.ops, "ops-port", ports.ops, "port of the worker's /readyz and /metrics")
	f.IntVar(&ports.api, "api-port", ports.api, "port of the HTTP API")
	return cmd
}

func runDev(ctx context.Context, g *globals, dir, webhook string, ports localPorts, out io.Writer) error {
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
	if err = l.addWebhook(webhook); err == nil {
		err = l.serveDev(ctx, g, out)
	}
	return errors.Join(err, l.stop())
}

// serveDev runs a worker and the HTTP API until ctx ends or one of them does, and says
// what there is once both serve.
func (l *local) serveDev(ctx context.Context, g *globals, out io.Writer) error {
	key, err := l.createKey(ctx, api.KeyConfig{Name: "dev", Scopes: []api.Scope{api.ScopeAdmin}, AllApps: true})
	if err != nil {
		return err
	}
	door, err := l.createKey(ctx, api.KeyConfig{Name: "gorush's callers", Scopes: []api.Scope{api.ScopeSend}, Apps: []string{demoApp}})
	if err != nil {
		return err
	}
	if err := l.openGorush(door); err != nil {
		return err
	}
	own := &globals{configPath: l.configPath, logLevel: g.logLevel, logFormat: g.logFormat}
	work, ctx := errgroup.WithContext(ctx)
	ops, served := make(chan net.Addr, 1), make(chan net.Addr, 1)
	// What ends without an error was told to; the other one was, too.
	work.Go(func() error { return runWorkerProcess(ctx, own, func(a net.Addr) { ops <- a }) })
	work.Go(func() error { return runAPIProcess(ctx, own, func(a net.Addr) { served <- a }) })
	work.Go(func() error {
		var at [2]net.Addr
		for i, c := range []chan net.Addr{ops, served} {
			select {
			case at[i] = <-c:
			case <-ctx.Done():
				return nil
			}
		}
		fmt.Fprintf(out, devText, l.nats.URL(), l.redis.Addr(), l.sim.URL(), l.admin, at[0], l.configPath, at[1], key)
		return nil
	})
	return work.Wait()
}

// createKey makes an API key.
func (l *local) createKey(ctx context.Context, of api.KeyConfig) (string, error) {
	cfg, err := l.config()
	if err != nil {
		return "", err
	}
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return "", err
	}
	defer client.Close()
	text, record, err := api.NewKey(of, time.Now())
	if err != nil {
		return "", fmt.Errorf("make API key: %w", err)
	}
	return text, set.CreateAPIKey(ctx, record)
}

// devSecret signs what dev tells a webhook. Everybody knows it.
const devSecret = "whsec_cHVzaGZsZWV0IGRldjogbm90IGEgc2VjcmV0" //nolint:gosec // it says so

const devText = `pushfleet runs, with the app "demo". Device tokens and API keys are in memory: they are gone when it stops.

  dashboard   http://%[7]s/
  HTTP API    http://%[7]s/openapi.json
  API key     %[8]s
  NATS        %[1]s
  token set   %[2]s
  APNs        %[3]s (the simulator; %[4]s/stats)
  worker      http://%[5]s/readyz and /metrics

Try, in another terminal:

  export KEY=%[8]s
  curl -X PUT -H "Authorization: Bearer $KEY" http://%[7]s/v1/apps/demo/devices/8f3a55d1c7e04b2296aa31f0d2c4b5e68f3a55d1c7e04b2296aa31f0d2c4b5e6 -d '{"user":"ada"}'
  curl -H "Authorization: Bearer $KEY" http://%[7]s/v1/apps/demo/notifications -d '{"id":"hello","to":{"users":["ada"]},"notification":{"title":"Hello"}}'
  curl -H "Authorization: Bearer $KEY" http://%[7]s/v1/apps/demo/notifications/hello

or with the command line:

  pushfleet device register -c %[6]s --app demo --user ada 8f3a55d1c7e04b2296aa31f0d2c4b5e68f3a55d1c7e04b2296aa31f0d2c4b5e6
  pushfleet send -c %[6]s --app demo --user ada --title Hello --body "from pushfleet"
  curl -s '%[4]s/ledger?limit=1'

or with the NATS command line:

  nats -s %[1]s sub 'push.outcomes.demo.>'
  nats -s %[1]s pub -J push.jobs.demo.transactional '{"to":{"users":["ada"]},"notification":{"title":"Hello"}}'
  nats -s %[1]s stream info JOBS

or as gorush's callers do:

  curl -X POST http://%[7]s/api/push -d '{"notifications":[{"tokens":["8f3a55d1c7e04b2296aa31f0d2c4b5e68f3a55d1c7e04b2296aa31f0d2c4b5e6"],"platform":1,"message":"Hello World iOS!"}]}'

Stop with ctrl-c.
`
