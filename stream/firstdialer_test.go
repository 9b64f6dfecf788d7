package stream_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/stream"
)

// Whoever waits for a first connection can be told to stop, also while a server takes
// connections and says nothing.
func TestConnectContextEnds(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	errTold := errors.New("told to stop")
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		conn, err := silent.Accept()
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		cancel(errTold)
	}()
	begun := time.Now()
	nc, err := stream.ConnectContext(ctx, stream.ConnectConfig{URL: "nats://" + silent.Addr().String(), Timeout: time.Minute}, zap.NewNop())
	<-taken
	if err == nil {
		nc.Close()
	}
	if !errors.Is(err, errTold) {
		t.Errorf("got %v, want why it ended: %v", err, errTold)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("took %s, want it at once", took)
	}
}

// A connection that was made outlives the context, and reconnects after it.
func TestConnectionOutlivesItsContext(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, strings.TrimPrefix(testenv.StartNATS(t, embedded.NATSConfig{NoJetStream: true}).URL(), "nats://"))
	ctx, cancel := context.WithCancel(t.Context())
	nc, err := stream.ConnectContext(ctx, stream.ConnectConfig{URL: "nats://" + proxy.Addr}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cancel()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Errorf("after the context: %v, want the connection to stand", err)
	}
	for nth := range uint64(2) {
		proxy.CutRequests(0)
		_ = nc.FlushTimeout(10 * time.Second) // the cut
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for begun := time.Now(); nc.Stats().Reconnects <= nth || nc.FlushTimeout(10*time.Second) != nil; <-tick.C {
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("after cut %d: got %d reconnects, want another", nth+1, nc.Stats().Reconnects)
			}
		}
	}
}

func TestPermanent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir, "server")
	certificate(t, dir, "other")
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("password.conf"), []byte("authorization {user: push, password: correct-horse}"))
	write(t, in("tls.conf"), []byte(`tls {cert_file: "`+in("server.pem")+`", key_file: "`+in("server-key.pem")+`"}`))
	start := func(cfg embedded.NATSConfig) string { return testenv.StartNATS(t, cfg).URL() }
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	secret, secure := start(embedded.NATSConfig{File: in("password.conf"), NoJetStream: true}), start(embedded.NATSConfig{File: in("tls.conf"), NoJetStream: true})
	for _, tt := range []struct {
		name string
		cfg  stream.ConnectConfig
		want bool
	}{
		{"nobody there", stream.ConnectConfig{URL: "nats://" + nobody.Addr().String()}, false},
		{"no such host", stream.ConnectConfig{URL: "nats://nats.invalid"}, false},
		{"no JetStream", stream.ConnectConfig{URL: start(embedded.NATSConfig{NoJetStream: true})}, false},
		{"no URL", stream.ConnectConfig{URL: "nats://%zz"}, true},
		{"no login", stream.ConnectConfig{URL: secret}, true},
		{"wrong login", stream.ConnectConfig{URL: secret, User: "push", Password: "battery-staple"}, true},
		{"no credentials file", stream.ConnectConfig{URL: secret, CredentialsFile: in("none.creds")}, true},
		{"no nkey", stream.ConnectConfig{URL: secret, NKeySeedFile: in("none.nk")}, true},
		{"not trusted", stream.ConnectConfig{URL: secure, CAFile: in("other.pem")}, true},
		{"no TLS there", stream.ConnectConfig{URL: secret, TLS: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nc, err := stream.Connect(tt.cfg, zap.NewNop())
			if err == nil {
				_, err = stream.Open(t.Context(), nc, stream.Config{})
				nc.Close()
			}
			if err == nil || stream.Permanent(err) != tt.want {
				t.Errorf("%v: got permanent %t, want %t", err, stream.Permanent(err), tt.want)
			}
		})
	}
	for _, err := range []error{stream.ErrTooOld, stream.ErrLimited, stream.ErrForeign} {
		if !stream.Permanent(err) {
			t.Errorf("%v: got not permanent", err)
		}
	}
	if stream.Permanent(stream.ErrNoJetStream) {
		t.Error("no JetStream: got permanent, want it to be what a cluster without a leader may look like")
	}
}
