package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// preludes are the files that are put before a script. They take about a
// microsecond of every run, so each script has only those that it uses.
func preludes(name string) []string {
	switch name {
	case "apply", "import", "register", "replace":
		return []string{"fence", "bytes", "clock", "record"}
	case "fuse_release", "settle":
		return []string{"fence", "bytes", "record"}
	case "index", "leave_index", "unindex":
		return []string{"fence", "bytes", "slots"}
	case "drop", "erase", "leave", "swap", "take":
		return []string{"fence"}
	case "caps":
		return []string{"bytes", "clock"}
	case "fuse_again", "fuse_count", "removals":
		return []string{"clock"}
	case "progress_part":
		return []string{"clock", "totals"}
	case "progress_hold":
		return []string{"totals"}
	default:
		return nil
	}
}

// script is one that Redis knows by its hash, once it has been given the text.
type script struct{ hash, text string }

// loadScripts reads every file in lua by its name without the ending.
func loadScripts() map[string]script {
	entries, err := luaFiles.ReadDir("lua")
	if err != nil {
		panic(fmt.Sprintf("store: read embedded scripts: %v", err))
	}
	scripts := make(map[string]script)
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".lua")
		var text strings.Builder
		for _, p := range preludes(name) {
			text.WriteString(luaSource(p))
		}
		text.WriteString(luaSource(name))
		scripts[name] = script{hash: redis.NewScript(text.String()).Hash(), text: text.String()}
	}
	return scripts
}

func luaSource(name string) string {
	text, err := luaFiles.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(fmt.Sprintf("store: read embedded script: %v", err))
	}
	return string(text)
}

// call is one run of a script. Its keys must share a hash tag.
type call struct {
	keys []string
	args []any

	reply any // set if err is nil
	err   error
}

// run runs the named script once for each call, in one pipeline. Calls on one
// hash tag run in order. It returns the first error, after having run them all:
// each call has its own.
//
// A server that does not know the script (it was restarted, or is a new node)
// gets it in a second pipeline, and what a server cannot take just now comes again
// ([Store.send]), which is why a script may run after a later call's, or twice.
func (s *Store) run(ctx context.Context, name string, calls []call) error {
	sc, ok := s.scripts[name]
	if !ok {
		panic("store: no script " + name)
	}
	all := make([]*call, len(calls))
	for i := range calls {
		all[i] = &calls[i]
	}
	s.pipeline(ctx, all, "evalsha", sc.hash)
	var again []*call
	for _, c := range all {
		if c.err != nil && isNoScript(c.err) {
			again = append(again, c)
		}
	}
	if len(again) > 0 {
		s.pipeline(ctx, again, "eval", sc.text)
	}
	for _, c := range all {
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// pipeline runs a script, named by its hash or given by its text, as command
// says.
//
// As in [Store.readRecords], the arguments of all calls lie in one slice, and keys
// are pointers to strings.
func (s *Store) pipeline(ctx context.Context, calls []*call, command, script string) {
	cmds := make([]*redis.Cmd, len(calls))
	queue := make([]redis.Cmder, len(calls))
	size := 0
	for _, c := range calls {
		size += 3 + len(c.keys) + len(c.args)
	}
	all := make([]any, 0, size)
	for i, c := range calls {
		start := len(all)
		all = append(all, command, &script, len(c.keys))
		for k := range c.keys {
			all = append(all, &c.keys[k])
		}
		all = append(all, c.args...)
		cmds[i] = redis.NewCmd(ctx, all[start:len(all):len(all)]...)
		queue[i] = onceScript{cmds[i]}
	}
	err := s.send(ctx, queue)
	for i, c := range calls {
		c.reply, c.err = cmds[i].Result()
		// A pipeline that was never sent says so only once.
		if c.err == nil && c.reply == nil {
			c.err = err
		}
		if c.err == nil && c.reply == nil {
			c.err = errNoReply
		}
	}
}

func isNoScript(err error) bool { return redis.HasErrorPrefix(err, "NOSCRIPT") }

var (
	errNoReply = errors.New("redis gave no reply")
	errReply   = errors.New("redis gave a reply of another form than the script's")
)

// ints reads a reply of n integers.
func (c *call) ints(n int) ([]int64, error) {
	if c.err != nil {
		return nil, c.err
	}
	list, ok := c.reply.([]any)
	if !ok || len(list) != n {
		return nil, errReply
	}
	out := make([]int64, n)
	for i, v := range list {
		if out[i], ok = v.(int64); !ok {
			return nil, errReply
		}
	}
	return out, nil
}

// sum adds up replies of one integer, as far as there are any. It returns the
// first error.
func sum(calls []call) (total int, err error) {
	for i := range calls {
		n, ok := calls[i].reply.(int64)
		switch {
		case calls[i].err == nil && ok:
			total += int(n)
		case err != nil:
		case calls[i].err != nil:
			err = calls[i].err
		default:
			err = errReply
		}
	}
	return total, err
}

// list reads a reply of n values.
func (c *call) list(n int) ([]any, error) {
	if c.err != nil {
		return nil, c.err
	}
	list, ok := c.reply.([]any)
	if !ok || len(list) != n {
		return nil, errReply
	}
	return list, nil
}
