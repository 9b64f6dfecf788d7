package config

import (
	"maps"
	"slices"
	"strings"
)

// scope is what a section's check may ask about the section that was just read,
// and where it puts its complaints.
type scope struct {
	d       *decoder
	path    string
	self    origin
	origins map[string]origin // of every key that is given
	broken  map[string]bool   // keys with a problem already
	items   map[string][]origin
	named   map[string]map[string]origin
}

// present reports whether the section itself or any of its keys is given.
func (s *scope) present() bool { return s.self.node != nil || len(s.origins) > 0 }

// given reports whether the key has a value, right or wrong, that is not the
// default.
func (s *scope) given(key string) bool {
	_, ok := s.origins[key]
	return ok
}

// bad reports whether a problem with the key, or below it, was reported already.
func (s *scope) bad(key string) bool { return s.broken[key] }

// report complains about a key of the section; with an empty key about the
// section itself.
func (s *scope) report(key, format string, args ...any) {
	if key == "" {
		s.d.report(s.self, s.path, format, args...)
		return
	}
	o, ok := s.origins[key]
	if !ok {
		o = s.self
	}
	s.d.report(o, join(s.path, key), format, args...)
}

// reportBelow complains about a key further down, by its path from the top.
func (s *scope) reportBelow(path, format string, args ...any) {
	s.d.report(s.d.places[path], path, format, args...)
}

// reportItem complains about one entry of a list of sections.
func (s *scope) reportItem(key string, i int, format string, args ...any) {
	s.d.report(s.items[key][i], join(s.path, key)+index(i), format, args...)
}

// children returns the names in a mapping of sections, sorted.
func (s *scope) children(key string) []string { return slices.Sorted(maps.Keys(s.named[key])) }

// reportChild complains about the name of a section in a mapping.
func (s *scope) reportChild(key, name, format string, args ...any) {
	s.d.report(origin{node: s.named[key][name].key}, join(s.path, key)+"."+shown(name), format, args...)
}

func (s *scope) which(keys []string) []string {
	var given []string
	for _, key := range keys {
		if s.given(key) {
			given = append(given, key)
		}
	}
	return given
}

// atMostOne complains if more than one of the keys is given.
func (s *scope) atMostOne(keys ...string) {
	if given := s.which(keys); len(given) > 1 {
		s.report(given[1], "at most one of %s may be given, got %s", orList(keys), strings.Join(given, " and "))
	}
}

// exactlyOne complains if none or more than one of the keys is given.
func (s *scope) exactlyOne(keys ...string) {
	switch given := s.which(keys); {
	case len(given) == 0:
		s.report("", "needs one of %s", orList(keys))
	case len(given) > 1:
		s.report(given[1], "exactly one of %s must be given, got %s", orList(keys), strings.Join(given, " and "))
	}
}

// together complains if one of the two keys is given without the other.
func (s *scope) together(a, b string) {
	switch {
	case s.given(a) && !s.given(b):
		s.report(a, "needs %s too", join(s.path, b))
	case s.given(b) && !s.given(a):
		s.report(b, "needs %s too", join(s.path, a))
	}
}

func orList(keys []string) string {
	last := len(keys) - 1
	return strings.Join(keys[:last], ", ") + " and " + keys[last]
}
