package device

import (
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the same zones on every machine, with or without its own
)

// Zones knows the time zones of the IANA database. The zero value is ready, and
// safe for concurrent use.
//
// Looking a zone up may read files, so those that were found are remembered:
// there are some 600.
type Zones struct{ found sync.Map }

// Known reports whether name is a time zone of the IANA database.
func (z *Zones) Known(name string) bool {
	_, ok := z.Location(name)
	return ok
}

// Location returns the time zone of that name of the IANA database; false: there
// is none.
func (z *Zones) Location(name string) (*time.Location, bool) {
	if found, ok := z.found.Load(name); ok {
		loc, ok := found.(*time.Location)
		return loc, ok
	}
	if !zoneName(name) {
		return nil, false
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, false
	}
	z.found.Store(strings.Clone(name), loc)
	return loc, true
}

// zoneName reports whether name has the form of a zone's. What else lies in the
// directory of zones of a machine is refused: other machines may not have it.
func zoneName(name string) bool {
	switch first, _, _ := strings.Cut(name, "/"); first {
	case "Local", "localtime", "posixrules", "Factory", "posix", "right":
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || strings.IndexByte("_+-/", c) >= 0):
		default:
			return false
		}
	}
	return name != "" && !strings.HasSuffix(name, "/") && !strings.Contains(name, "//")
}
