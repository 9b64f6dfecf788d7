package store_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// A server tells how it is set up, and its clock.
func TestServers(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t, append(testenv.AppendOnly(t.TempDir(), "no"), "--maxmemory", "64mb", "--save", "900 1")...)
	if !ok {
		t.Skip("needs redis-server")
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = client.Close() })
	set := store.New(client, store.Config{})
	list, err := set.Servers(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("got %+v, %v, want one server", list, err)
	}
	s := list[0]
	if !s.AppendOnly || s.Snapshots != "900 1" || s.Hidden || s.MaxBytes != 64<<20 || s.UsedBytes <= 0 || s.MachineBytes <= s.MaxBytes || s.Version == "" || s.Cluster {
		t.Errorf("got %+v", s)
	}
	if off := s.Clock.Sub(s.Asked).Abs(); off > time.Second {
		t.Errorf("its clock is %s from ours on one machine", off)
	}
	server.Kill()
	if list, err := set.Servers(t.Context()); err == nil {
		t.Errorf("a dead server told %+v", list)
	}
}
