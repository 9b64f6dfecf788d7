package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command is in the table of ways, and nothing else is; those that do not go through
// the API refuse --server and say why.
func TestEveryCommandHasAWay(t *testing.T) {
	t.Parallel()
	var unused []string
	for _, line := range ways() {
		unused = append(unused, line.commands...)
		if (line.why == "") != (line.way == wayEither) {
			t.Errorf("%v: got the reason %q, want one unless they go either way", line.commands, line.why)
		}
	}
	root := newRoot()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	n := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		name := commandName(cmd)
		unused = slices.DeleteFunc(unused, func(has string) bool { return has == name })
		if !cmd.Runnable() || cmd == root {
			return
		}
		n++
		line, ok := wayOf(cmd)
		if !ok {
			t.Errorf("%s: is in no line of the table of ways", name)
		}
		if err := cmd.ParseFlags([]string{"--server", "https://push.example.com"}); err != nil && !strings.HasPrefix(name, "help") && !cmd.DisableFlagParsing {
			t.Errorf("%s: --server: %v", name, err)
			return
		}
		err := root.PersistentPreRunE(cmd, nil)
		var usage *usageError
		switch {
		case line.way == wayEither && err != nil:
			t.Errorf("%s: got %v, want it to go through the API", name, err)
		case line.way != wayEither && (!errors.As(err, &usage) || !strings.Contains(err.Error(), line.why) || !strings.Contains(err.Error(), name)):
			t.Errorf("%s: got %v, want --server refused, and why", name, err)
		}
	}
	walk(root)
	if n < 40 {
		t.Errorf("got %d commands: these are not all", n)
	}
	if len(unused) > 0 {
		t.Errorf("the table of ways has %q, which are no commands", unused)
	}
}
