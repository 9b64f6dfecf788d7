package store

import "time"

// AgeLayouts makes s read every layout again.
func (s *Store) AgeLayouts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for app, l := range s.layouts {
		l.readAt = l.readAt.Add(-time.Hour)
		s.layouts[app] = l
	}
}
