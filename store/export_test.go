package store

import (
	"context"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// AgeLayouts makes s read every layout, and the growth of every tag, again.
func (s *Store) AgeLayouts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for app, l := range s.layouts {
		l.readAt = l.readAt.Add(-time.Hour)
		s.layouts[app] = l
	}
	for id, g := range s.growthsKnown {
		g.readAt = g.readAt.Add(-time.Hour)
		s.growthsKnown[id] = g
	}
}

// LimitTags makes tags grow when a bucket has more device tokens than that.
func (s *Store) LimitTags(n int) { s.tagEntries = n }

// SplitTag splits the next bucket of a tag, if it is half full.
func (s *Store) SplitTag(ctx context.Context, app, tag string) error {
	_, err := s.split(ctx, tagID{app, device.KeyOf(tag)})
	return err
}

// EachField reads a reply to HGETALL.
var EachField = eachField

// GrowthKey is where the growth of an app's tags is.
var GrowthKey = growthKey

// BucketKey is the key of where t belongs if app has so many buckets.
func BucketKey(app string, buckets int, t device.Token, kind byte) string {
	l := &layout{app: app, buckets: uint32(buckets)}
	return l.key(l.bucketOf(t), kind)
}

// SlotsKey is the key of where the slots of k belong in an index, u or i.
func SlotsKey(app string, buckets int, ix byte, k device.Key) (slots, long string) {
	l := &layout{app: app, buckets: uint32(buckets)}
	return l.slotKeys(index(ix), l.slotBucket(k))
}

// ScriptNames are the files in lua.
func (s *Store) ScriptNames() (names []string) {
	for name := range s.scripts {
		names = append(names, name)
	}
	return names
}

// RunScript runs one script.
func (s *Store) RunScript(ctx context.Context, name string, keys []string, args ...any) error {
	return s.client.Eval(ctx, s.scripts[name].text, keys, args...).Err()
}
