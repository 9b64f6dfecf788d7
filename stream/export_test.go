package stream

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// CheckVersion is the check of a server's version, for tests of versions that
// cannot be run here.
var CheckVersion = checkVersion

// StoredDirect and StoredAtLeader read one message in either way.
func (s *Streams) StoredDirect(ctx context.Context, name string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	return s.byName[name].GetMsg(ctx, sequence)
}

// StoredAtLeader is the other way.
func (s *Streams) StoredAtLeader(ctx context.Context, name string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	return s.storedAtLeader(ctx, name, sequence)
}

// StartPublish begins the span of a publish, for a count of its allocations.
var StartPublish = startPublish
