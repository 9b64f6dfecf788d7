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
	if _, ok := z.found.Load(name); ok {
		return true
	}
	if !zoneName(name) {
		return false
	}
	if _, err := time.LoadLocation(name); err != nil {
		return false
	}
	z.found.Store(strings.Clone(name), struct{}{})
	return true
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
