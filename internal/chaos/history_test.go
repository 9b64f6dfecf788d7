//go:build chaos && linux

package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// history is what was done to a fleet, in order. It is written to a file, which
// is kept with everything else when the run fails.
type history struct {
	mu     sync.Mutex
	file   *os.File // guarded by mu
	faults []*fault // guarded by mu
}

// fault is one thing that was done.
type fault struct {
	kind   string
	worker int // index, or all
	from   time.Time
	to     time.Time // zero while it lasts
	note   string
}

// all stands for every worker.
const all = -1

func newHistory(t *testing.T, dir string) *history {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "history.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return &history{file: file}
}

func (h *history) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(h.file, "%s %s\n", time.Now().UTC().Format("15:04:05.000000"), fmt.Sprintf(format, args...))
}

// begin writes down a fault that begins now.
func (h *history) begin(kind string, worker int, note string) *fault {
	f := &fault{kind: kind, worker: worker, from: time.Now(), note: note}
	h.mu.Lock()
	h.faults = append(h.faults, f)
	h.mu.Unlock()
	h.say("%s worker=%d %s", kind, worker, note)
	return f
}

// end writes down that it is over.
func (h *history) end(f *fault) {
	h.mu.Lock()
	f.to = time.Now()
	h.mu.Unlock()
	h.say("%s worker=%d is over after %s", f.kind, f.worker, f.to.Sub(f.from).Round(time.Millisecond))
}

// list returns copies of all faults; what lasts still ends now.
func (h *history) list() []fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]fault, len(h.faults))
	for i, f := range h.faults {
		out[i] = *f
		if f.to.IsZero() {
			out[i].to = time.Now()
		}
	}
	return out
}
