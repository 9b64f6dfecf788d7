package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// bucket is a key-value bucket. One that [Open] has not made exist is looked for when
// it is first used.
type bucket struct {
	js   jetstream.JetStream
	name string

	mu sync.Mutex
	kv jetstream.KeyValue // guarded by mu: nil until it is found
}

// open returns the bucket, or [ErrNoStream].
func (b *bucket) open(ctx context.Context) (jetstream.KeyValue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kv != nil {
		return b.kv, nil
	}
	kv, err := b.js.KeyValue(ctx, b.name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("%w: there is no bucket %s; start a worker first", ErrNoStream, b.name)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", b.name, err)
	}
	b.kv = kv
	return kv, nil
}

// The methods below are those of [jetstream.KeyValue], with its errors and those of open.

func (b *bucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return kv.Get(ctx, key)
}

func (b *bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	return kv.Put(ctx, key, value)
}

func (b *bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	return kv.Create(ctx, key, value)
}

func (b *bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	return kv.Update(ctx, key, value, revision)
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	kv, err := b.open(ctx)
	if err != nil {
		return err
	}
	return kv.Delete(ctx, key)
}

func (b *bucket) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	kv, err := b.open(ctx)
	if err != nil {
		return err
	}
	return kv.Purge(ctx, key, opts...)
}

func (b *bucket) Keys(ctx context.Context) ([]string, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return kv.Keys(ctx)
}

func (b *bucket) Watch(ctx context.Context, keys string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return kv.Watch(ctx, keys, opts...)
}

func (b *bucket) History(ctx context.Context, key string, opts ...jetstream.WatchOpt) ([]jetstream.KeyValueEntry, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return kv.History(ctx, key, opts...)
}
