package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// prefix begins the environment variables that are ours.
const prefix = "PUSHFLEET_"

// variable returns the environment variable of the key at path:
// apps.my-shop.credentials[1].key.path is
// PUSHFLEET_APPS_MY_SHOP_CREDENTIALS_1_KEY_PATH.
func variable(path string) string {
	return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_", "[", "_", "]", "").Replace(path))
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// others are variables that begin with our prefix and are not of the
// configuration: the path of its file, which API commands ask in its place, what tests
// read, and what Kubernetes sets for a Service that is named pushfleet, or
// pushfleet-something.
var others = regexp.MustCompile(`^PUSHFLEET_(CONFIG$|SERVER(_KEY|_KEY_FILE|_CA_FILE)?$|TEST_|(.*_)?SERVICE_HOST$|(.*_)?SERVICE_PORT(_.*)?$|(.*_)?PORT(_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)?$)`)

// environ is the part of the environment that is ours. It remembers which
// variables were asked for, and on behalf of which key.
type environ struct {
	values  map[string]string
	asked   map[string]string // variable -> path
	clashes []clash
}

// clash is one variable that two keys share.
type clash struct {
	variable string
	paths    [2]string
}

func newEnviron(all []string) *environ {
	e := &environ{values: make(map[string]string), asked: make(map[string]string)}
	for _, one := range all {
		name, value, _ := strings.Cut(one, "=")
		// Empty is unset: compose files and charts write `NAME: ${NAME:-}`.
		if strings.HasPrefix(name, prefix) && value != "" {
			e.values[name] = value
		}
	}
	return e
}

// lookup returns the value of the variable of the key at path.
func (e *environ) lookup(path string) (string, origin, bool) {
	name := variable(path)
	value, set := e.values[name]
	switch first, twice := e.asked[name]; {
	case !twice:
		e.asked[name] = path
	case set && first != path:
		e.clashes = append(e.clashes, clash{variable: name, paths: [2]string{first, path}})
	}
	return value, origin{variable: name}, set
}

// first returns the first variable that is set of those below the section at
// path, or "".
func (e *environ) first(s section, path string) string {
	for _, f := range s.fields() {
		p := join(path, f.key)
		if f.value.nested != nil {
			if name := e.first(f.value.nested(), p); name != "" {
				return name
			}
			continue
		}
		names := []string{p}
		if f.value.secret {
			names = append(names, p+"_file")
		}
		for _, one := range names {
			if _, o, set := e.lookup(one); set {
				return o.variable
			}
		}
	}
	return ""
}

// unused returns the variables that are set and that no key asked for, sorted.
func (e *environ) unused() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		if _, asked := e.asked[name]; !asked && !others.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

// known returns the variables that some key asked for, sorted.
func (e *environ) known() []string { return slices.Sorted(maps.Keys(e.asked)) }
