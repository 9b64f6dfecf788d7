package main_test

import (
	"context"
	"testing"
	"time"
)

// The operator's first hour goes as its page says, command by command.
func TestFirstHour(t *testing.T) {
	t.Parallel()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, bin: bin, dir: t.TempDir()}
	var ports []string
	for _, port := range []string{"4222", "6379", "2197", "2198", "8080", "9090"} {
		ports = append(ports, ":"+port, ":"+freePort(t))
	}
	for i := 0; i < 4; i += 2 { // those that flags give without a colon
		for _, flag := range []string{"-p ", "--port "} {
			ports = append(ports, flag+ports[i][1:], flag+ports[i+1][1:])
		}
	}
	w := r.newWalk("first-hour.md", bin, ports...)
	for _, name := range w.names {
		w.run(name)
	}
	if len(w.names) < 10 {
		t.Errorf("got blocks %q, want all of the hour", w.names)
	}
}
