package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command says what it does in a line, and each that does something how it is
// called.
func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	n := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		n++
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: got %q, want what it does, in a few words", path, cmd.Short)
		}
		if !cmd.HasSubCommands() && !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: got the example %q, want one with it", path, cmd.Example)
		}
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s has no word of explanation", path, f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	if n < 40 {
		t.Errorf("got %d commands: these are not all", n)
	}
}

// Lists are printed as a table or as JSON, by a flag of one name, and nothing else is
// taken for either.
func TestOutputsAreAlike(t *testing.T) {
	t.Parallel()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		f := cmd.Flags().Lookup("output")
		if cmd.Name() == "list" && f == nil {
			t.Errorf("%s has no --output", cmd.CommandPath())
		}
		if f != nil && cmd.Name() != "export" { // which writes a file of that name
			choices := strings.Split(f.Usage, " or ")
			if f.Shorthand != "o" || len(choices) != 2 || choices[1] != "json" || f.DefValue != choices[0] {
				t.Errorf("%s: got --output %q, by default %q", cmd.CommandPath(), f.Usage, f.DefValue)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}
