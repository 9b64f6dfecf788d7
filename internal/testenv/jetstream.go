package testenv

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/stream"
)

// JetStream is a real server in this process that belongs to one test.
type JetStream struct {
	*stream.Streams
	NC     *nats.Conn
	Server *embedded.NATS
}

// StartNATS starts a NATS server for one test; cfg.StoreDir is filled in.
func StartNATS(t testing.TB, cfg embedded.NATSConfig) *embedded.NATS {
	t.Helper()
	cfg.StoreDir = t.TempDir()
	server, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// NewJetStream starts a server with pushfleet's streams for one test.
func NewJetStream(t testing.TB) *JetStream {
	t.Helper()
	return NewJetStreamOf(t, embedded.NATSConfig{}, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30})
}

// NewJetStreamOf is [NewJetStream] with streams, or a server, of another size.
func NewJetStreamOf(t testing.TB, cfg embedded.NATSConfig, of stream.Config) *JetStream {
	t.Helper()
	server := StartNATS(t, cfg)
	nc := Connect(t, server.URL())
	streams, err := stream.Open(context.Background(), nc, of)
	if err != nil {
		t.Fatal(err)
	}
	return &JetStream{Streams: streams, NC: nc, Server: server}
}

// Connect connects to a NATS server for the time of a test.
func Connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := stream.Connect(stream.ConnectConfig{URL: url, Name: t.Name()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
