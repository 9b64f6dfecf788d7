package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// all returns the entry of each key that matches, as it is or was since the call, those
// that say that a key was deleted too. A watch alone passes over what changes while it
// tells what there is, and so does [jetstream.KeyValue]'s Keys: it says that this was all
// before the newer entry has come (observed: nats.go 1.55). So the keys are counted, and
// what has not come is read.
func (b *bucket) all(ctx context.Context, keys string) ([]jetstream.KeyValueEntry, error) {
	newest, err := b.watched(ctx, keys)
	if err != nil {
		return nil, err
	}
	st, err := b.js.Stream(ctx, "KV_"+b.name)
	if err != nil {
		return nil, fmt.Errorf("ask for bucket %s: %w", b.name, err)
	}
	prefix := "$KV." + b.name + "."
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(prefix+keys))
	if err != nil {
		return nil, fmt.Errorf("count keys of bucket %s: %w", b.name, err)
	}
	for subject := range info.State.Subjects {
		key := strings.TrimPrefix(subject, prefix)
		if newest[key] != nil {
			continue
		}
		entry, err := b.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", key, err)
		}
		newest[key] = entry
	}
	return slices.Collect(maps.Values(newest)), nil
}

// watched returns what a watch of keys tells at first, by key.
func (b *bucket) watched(ctx context.Context, keys string) (map[string]jetstream.KeyValueEntry, error) {
	watch, err := b.Watch(ctx, keys)
	if err != nil {
		return nil, err
	}
	defer stopWatch(watch)
	newest := make(map[string]jetstream.KeyValueEntry)
	for {
		select {
		case entry, ok := <-watch.Updates():
			switch {
			case !ok && ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case !ok:
				return nil, errWatchEnded
			case entry == nil:
				return newest, nil
			}
			newest[entry.Key()] = entry
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
