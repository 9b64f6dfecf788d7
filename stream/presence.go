package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// presenceTTL is how long a worker counts as alive after its last word.
const presenceTTL = 30 * time.Second

// Presence is what a worker tells the others about itself.
type Presence struct {
	// Name is the worker's; of one that does not say it, what [SubjectToken] made of it.
	Name    string   `json:"name,omitempty"`
	Version string   `json:"version"`
	Apps    []string `json:"apps"`
	// Redriven says that the worker tells a redriven job from the one that it
	// continues: older ones drop it as a duplicate.
	Redriven bool `json:"redriven,omitempty"`
	// Counts are what became of notifications since the worker started, by app.
	Counts map[string]Counts `json:"counts,omitempty"`
}

// Counts are notifications by what became of them.
type Counts struct {
	Accepted int64 `json:"accepted,omitempty"`
	Failed   int64 `json:"failed,omitempty"` // rejected, given up, or without an answer
}

// Announce says that a worker is alive; it is forgotten after 30 s.
func (s *Streams) Announce(ctx context.Context, worker string, p Presence) error {
	p.Name = worker
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode presence: %w", err)
	}
	_, err = s.presence.Put(ctx, SubjectToken(worker), body)
	if errors.Is(err, ErrNoStream) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		// It is in memory, and goes with its server.
		if _, err := s.ensurePresence(ctx); err != nil {
			return err
		}
		_, err = s.presence.Put(ctx, SubjectToken(worker), body)
	}
	if err != nil {
		return fmt.Errorf("announce worker: %w", err)
	}
	return nil
}

func (s *Streams) ensurePresence(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: presenceBucket, Description: "pushfleet workers and their apps",
		TTL: presenceTTL, Storage: jetstream.MemoryStorage, Replicas: s.replicas,
	})
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", presenceBucket, err)
	}
	return kv, nil
}

// Leave withdraws what [Streams.Announce] said.
func (s *Streams) Leave(ctx context.Context, worker string) error {
	if err := s.presence.Delete(ctx, SubjectToken(worker)); err != nil {
		return fmt.Errorf("withdraw worker: %w", err)
	}
	return nil
}

// Present returns what all living workers have announced.
func (s *Streams) Present(ctx context.Context) ([]Presence, error) {
	entries, err := s.presence.all(ctx, "*")
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	var present []Presence
	for _, entry := range entries {
		if entry.Operation() != jetstream.KeyValuePut {
			continue
		}
		var p Presence
		if err := json.Unmarshal(entry.Value(), &p); err != nil {
			return nil, fmt.Errorf("read worker %s: %w", entry.Key(), err)
		}
		p.Name = cmp.Or(p.Name, entry.Key())
		present = append(present, p)
	}
	slices.SortFunc(present, func(a, b Presence) int { return strings.Compare(a.Name, b.Name) })
	return present, nil
}
