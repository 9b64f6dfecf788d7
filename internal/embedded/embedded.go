// Package embedded runs what pushfleet needs around it inside one process: a
// real JetStream server, and an in-memory stand-in for Redis. It is for demo,
// dev and tests; workers and producers never start it.
package embedded

import (
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// NATS is a NATS server with JetStream in this process.
type NATS struct{ server *server.Server }

// NATSConfig says how to start one.
type NATSConfig struct {
	StoreDir string // required: where streams are kept
	Port     int    // on loopback; 0: any free one
	// MaxStore bounds the file store in bytes; 0: the server's default.
	MaxStore int64
	// MaxPayload bounds a message in bytes; 0: the server's default of 1 MiB.
	MaxPayload int32
	// File is a configuration file of nats-server, for tests of what it says: users,
	// permissions, TLS. The other settings go first.
	File string
	// NoJetStream leaves JetStream out, for tests of what is said then.
	NoJetStream bool
}

const startTimeout = 10 * time.Second

// StartNATS starts a server on loopback; the caller stops it.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	if cfg.StoreDir == "" {
		return nil, errors.New("embedded nats: a store directory is needed")
	}
	port := cfg.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	opts := new(server.Options)
	if cfg.File != "" {
		var err error
		if opts, err = server.ProcessConfigFile(cfg.File); err != nil {
			return nil, fmt.Errorf("read embedded nats's configuration: %w", err)
		}
	}
	opts.ServerName, opts.Host, opts.Port = "pushfleet", "127.0.0.1", port
	opts.JetStream, opts.StoreDir, opts.JetStreamMaxStore = !cfg.NoJetStream, cfg.StoreDir, cfg.MaxStore
	opts.MaxPayload, opts.NoSigs, opts.NoLog = cfg.MaxPayload, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make embedded nats: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded nats is not ready after %s", startTimeout)
	}
	return &NATS{s}, nil
}

// URL returns where clients connect.
func (n *NATS) URL() string { return n.server.ClientURL() }

// Stop stops the server and waits until it has stopped.
func (n *NATS) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// Redis is an in-memory stand-in for Redis: device tokens live as long as the
// process.
type Redis struct{ mini *miniredis.Miniredis }

// StartRedis starts one on loopback; port 0 is any free one. The caller stops it.
func StartRedis(port int) (*Redis, error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		return nil, fmt.Errorf("start in-memory redis: %w", err)
	}
	return &Redis{m}, nil
}

// Addr returns where clients connect.
func (r *Redis) Addr() string { return r.mini.Addr() }

// Stop stops it.
func (r *Redis) Stop() { r.mini.Close() }
