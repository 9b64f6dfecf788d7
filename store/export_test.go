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
