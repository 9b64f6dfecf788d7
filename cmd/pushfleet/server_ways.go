package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// way is how a command reaches the fleet.
type way int

const (
	wayNone     way = iota // it reaches none
	wayStraight            // by NATS and Redis only
	wayEither              // by them, or through the API
)

// waysOf is a line of the table of ways.
type waysOf struct {
	commands []string // each with those below it
	way      way
	why      string // it does not go through the API
}

// ways is how each command reaches the fleet. A test holds every command to be in it.
func ways() []waysOf {
	const (
		part  = "it is a part of the fleet"
		whole = "it goes over the whole token set, for which the API has no door"
		own   = "it has a fleet of its own"
		none  = "it needs none"
	)
	return []waysOf{
		{[]string{"send", "explain", "device register", "device show", "device remove", "campaign", "fuse", "dead-letter", "key", "fleet"}, wayEither, ""},
		{[]string{"worker", "api"}, wayStraight, part},
		{[]string{"device export", "device restore", "device prune"}, wayStraight, whole},
		{
			[]string{"device import"},
			wayStraight,
			"it keeps the times of registration that a file has, which the API takes as of now; POST /v1/apps/{app}/devices registers up to 1000",
		},
		{[]string{"doctor"}, wayStraight, "it looks at NATS, Redis and APNs themselves; /readyz?verbose of the API says what that sees of them"},
		{[]string{"demo", "dev", "sim", "bench"}, wayNone, own},
		{[]string{"probe", "schema", "config", "version", "completion", "help"}, wayNone, none},
	}
}

// wayOf says how a command reaches the fleet, and if not through the API, why. ok: it is
// in the table.
func wayOf(cmd *cobra.Command) (line waysOf, ok bool) {
	name := commandName(cmd)
	for _, line := range ways() {
		for _, has := range line.commands {
			if name == has || strings.HasPrefix(name, has+" ") {
				return line, true
			}
		}
	}
	return waysOf{way: wayNone, why: "it needs none"}, false // the shell's completion, which finds its way itself
}

// commandName is a command's name with those above it, but for the program's.
func commandName(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}
