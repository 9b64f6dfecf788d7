package campaign

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pushfleet/pushfleet/device"
)

// matcher says whether a device belongs to an audience. What its record says comes
// first: it is at hand, and leaves out the most.
type matcher struct {
	kind          device.Kind
	file          bool // the recipients are named: their record only has to allow it
	environment   device.Environment
	after, before int64 // milliseconds since the epoch; 0: open
	details       bool  // anything below is set

	anyTag, allTags, noTag []string
	locales                []string // folded
	zones                  map[string]bool
	attributes             []attribute
	version                VersionRange
}

type attribute struct {
	name   string
	values []string
}

func newMatcher(c *Campaign) matcher {
	a := &c.Audience
	m := matcher{
		kind: c.Content.Kind(), file: c.Recipients != nil, environment: a.Environment,
		anyTag: a.Tags.Any, allTags: a.Tags.All, noTag: a.Tags.None, version: a.AppVersion,
	}
	if !a.RegisteredAfter.IsZero() {
		m.after = a.RegisteredAfter.UnixMilli()
	}
	if !a.RegisteredBefore.IsZero() {
		m.before = a.RegisteredBefore.UnixMilli()
	}
	for _, tag := range a.Locales {
		m.locales = append(m.locales, foldLocale(tag))
	}
	for _, name := range a.Timezones {
		if m.zones == nil {
			m.zones = make(map[string]bool)
		}
		m.zones[name] = true
	}
	for name, values := range a.Attributes {
		m.attributes = append(m.attributes, attribute{name, values})
	}
	m.details = len(m.anyTag)+len(m.allTags)+len(m.noTag)+len(m.locales)+len(m.zones)+len(m.attributes) > 0 || m.version != VersionRange{}
	return m
}

func (m *matcher) matches(d *device.Device) bool {
	r := &d.Record
	switch {
	case !r.Usable():
		return false
	case m.file:
		return r.Generation == 0 || r.Kind == m.kind
	case r.Kind != m.kind,
		m.environment != device.EnvironmentUnset && r.Environment != m.environment,
		m.after != 0 && r.RegisteredAt < m.after,
		m.before != 0 && r.RegisteredAt >= m.before:
		return false
	}
	return !m.details || m.matchesDetails(d)
}

func (m *matcher) matchesDetails(d *device.Device) bool {
	has := func(tag string) bool { return slices.Contains(d.Tags, tag) }
	if len(m.anyTag) > 0 && !slices.ContainsFunc(m.anyTag, has) {
		return false
	}
	for _, tag := range m.allTags {
		if !has(tag) {
			return false
		}
	}
	if slices.ContainsFunc(m.noTag, has) {
		return false
	}
	if len(m.locales) > 0 && !m.speaks(d.Locale) {
		return false
	}
	if len(m.zones) > 0 && !m.zones[d.Timezone] {
		return false
	}
	for i := range m.attributes {
		a := &m.attributes[i]
		if !slices.Contains(a.values, d.Attributes[a.name]) { // none of them is empty
			return false
		}
	}
	return m.version == VersionRange{} || m.version.holds(d.AppVersion)
}

// speaks reports whether a locale is one of the audience's, or more exact.
func (m *matcher) speaks(locale string) bool {
	var buf [device.MaxWordBytes]byte
	folded := appendFolded(buf[:0], locale)
	for _, tag := range m.locales {
		if len(folded) >= len(tag) && string(folded[:len(tag)]) == tag && (len(folded) == len(tag) || folded[len(tag)] == '-') {
			return true
		}
	}
	return false
}

// foldLocale brings a locale into the form in which it is compared.
func foldLocale(s string) string { return string(appendFolded(nil, s)) }

// appendFolded appends a locale in lower case, with hyphens, and without what may
// follow it: a character set (de_AT.UTF-8), or the keywords of an ICU identifier
// (de_AT@currency=EUR), which iOS uses.
func appendFolded(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		case c == '_':
			dst = append(dst, '-')
		case c == '.' || c == '@':
			return dst
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// holds reports whether a version lies in the range. One that does not begin with
// a number does not.
func (v VersionRange) holds(version string) bool {
	if version == "" || version[0] < '0' || version[0] > '9' {
		return false
	}
	return (v.Min == "" || compareVersions(version, v.Min) >= 0) && (v.Max == "" || compareVersions(version, v.Max) <= 0)
}

// compareVersions compares the numbers between dots. Numbers that are missing are
// 0, and what follows the digits of one (2.1-beta, 2.1 (77)) ends the version.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a = nextNumber(a)
		y, b = nextNumber(b)
		// Without leading zeros, the longer number is the larger one.
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}

// nextNumber returns the digits at the beginning, without leading zeros, and what
// comes after the dot that follows them.
func nextNumber(s string) (number, rest string) {
	end := 0
	for end < len(s) && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	if end > 0 && end < len(s) && s[end] == '.' {
		rest = s[end+1:]
	}
	return strings.TrimLeft(s[:end], "0"), rest
}
