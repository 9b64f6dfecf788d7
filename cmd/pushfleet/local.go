package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/internal/embedded"
)

// demoApp is the app that demo and dev send for.
const (
	demoApp    = "demo"
	demoBundle = "com.example.demo"
)

// localPorts are where the parts of a local fleet listen; 0 is any free port.
type localPorts struct{ nats, redis, sim, admin, ops, api int }

// local is everything around a worker, in this process: JetStream, a stand-in
// for Redis, and the APNs simulator with its admin interface.
type local struct {
	nats  *embedded.NATS
	redis *embedded.Redis
	sim   *apnstest.Server
	admin string // URL of the simulator's admin interface

	configPath string
	stopAdmin  context.CancelFunc
	adminDone  errgroup.Group
}

// startLocal starts the parts and writes, into dir, a configuration that any
// pushfleet command can use with them.
func startLocal(dir string, ports localPorts, sim apnstest.Config) (*local, error) {
	l := &local{stopAdmin: func() {}}
	if err := l.start(dir, ports, sim); err != nil {
		return nil, errors.Join(err, l.stop())
	}
	return l, nil
}

func (l *local) start(dir string, ports localPorts, sim apnstest.Config) (err error) {
	if l.nats, err = embedded.StartNATS(embedded.NATSConfig{StoreDir: filepath.Join(dir, "jetstream"), Port: ports.nats}); err != nil {
		return err
	}
	if l.redis, err = embedded.StartRedis(ports.redis); err != nil {
		return err
	}
	sim.Addr, sim.Dir, sim.Topics = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.sim)), dir, []string{demoBundle}
	if l.sim, err = apnstest.New(sim); err != nil {
		return fmt.Errorf("start simulator: %w", err)
	}
	if err := l.serveAdmin(ports.admin); err != nil {
		return err
	}
	l.configPath = filepath.Join(dir, "pushfleet.yaml")
	key := "AuthKey_" + l.sim.KeyID() + ".p8"
	text := fmt.Sprintf(`# Written by pushfleet: everything below runs in one process on this machine.
nats:
  url: %s
redis:
  addresses: ["%s"]
api:
  listen: 127.0.0.1:%d
worker:
  name: local
  listen: 127.0.0.1:%d
apps:
  %s:
    bundle_id: %s
    key: {path: %s, key_id: %s, team_id: %s}
    endpoint: {url: "%s", ca_file: ca.pem}
`, l.nats.URL(), l.redis.Addr(), ports.api, ports.ops, demoApp, demoBundle, key, l.sim.KeyID(), l.sim.TeamID(), l.sim.URL())
	if err := os.WriteFile(l.configPath, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// addWebhook adds a webhook to the configuration; with an empty URL it does nothing.
func (l *local) addWebhook(url string) error {
	if url == "" {
		return nil
	}
	f, err := os.OpenFile(l.configPath, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = fmt.Fprintf(f, "    webhook: {url: %q, secrets: %s, allow_private: true}\n", url, devSecret)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// openGorush opens gorush's door in the configuration, to whoever reaches it: callers of
// gorush bring no key.
func (l *local) openGorush(key string) error {
	text, err := os.ReadFile(l.configPath)
	if err == nil {
		door := fmt.Sprintf("api:\n  gorush: {enabled: true, app: %s, api_key: %s}\n", demoApp, key)
		err = os.WriteFile(l.configPath, []byte(strings.Replace(string(text), "api:\n", door, 1)), 0o600) //nolint:gosec // in the directory that the caller chose
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (l *local) serveAdmin(port int) error {
	ctx, cancel := context.WithCancel(context.Background())
	l.stopAdmin = cancel
	listening := make(chan net.Addr, 1)
	failed := make(chan error, 1)
	l.adminDone.Go(func() error {
		err := serve(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), l.sim.Admin(), func(a net.Addr) { listening <- a })
		failed <- err
		return err
	})
	select {
	case a := <-listening:
		l.admin = "http://" + a.String()
		return nil
	case err := <-failed:
		return fmt.Errorf("simulator's admin interface: %w", err)
	}
}

// config reads what startLocal wrote, as a worker in another process would.
func (l *local) config() (*config.Config, error) {
	cfg, err := config.Load(l.configPath, nil)
	if err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	return cfg, nil
}

// stop stops everything; what was not started is passed over.
func (l *local) stop() error {
	l.stopAdmin()
	err := l.adminDone.Wait()
	if l.sim != nil {
		err = errors.Join(err, l.sim.Close())
	}
	if l.redis != nil {
		l.redis.Stop()
	}
	if l.nats != nil {
		l.nats.Stop()
	}
	return err
}
