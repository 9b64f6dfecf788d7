package stream_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/stream"
)

// A server that cannot give the bucket of workers' presence, as while it waits for
// others of its cluster, keeps nobody from working. Once it can, workers announce
// themselves.
func TestOpenWithoutPresence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	write(t, file, []byte(`authorization {users: [
		{user: all, password: a}
		{user: some, password: s, permissions: {publish: {deny: ["$JS.API.STREAM.CREATE.KV_pushfleet-workers", "$JS.API.STREAM.UPDATE.KV_pushfleet-workers"]}}}
	]}`))
	server := testenv.StartNATS(t, embedded.NATSConfig{File: file})
	connect := func(user, password string) *nats.Conn {
		t.Helper()
		nc, err := stream.Connect(stream.ConnectConfig{URL: server.URL(), User: user, Password: password}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	without, err := stream.Open(t.Context(), connect("some", "s"), stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30})
	if err != nil {
		t.Fatalf("Open: %v, want it without presence", err)
	}
	if err := without.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v, want it to work", err)
	}
	with, err := stream.Attach(connect("all", "a"))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []*stream.Streams{with, without} { // the first makes it exist
		if err := s.Announce(t.Context(), fmt.Sprint("w", i), stream.Presence{Version: "test", Apps: []string{"shop"}}); err != nil {
			t.Errorf("Announce: %v", err)
		}
	}
	if got, err := without.Present(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("Present: got %+v, %v, want both workers", got, err)
	}
}
