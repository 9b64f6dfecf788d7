//go:build chaos && linux

package chaos_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// mutant is a worker with a promise taken out, which the suite must find out.
type mutant struct {
	name, file, old, new string
	finds                []string // any of these violations
}

// mutants are found out by faults.
var mutants = []mutant{
	{
		name: "acknowledges early", file: "worker/intake.go",
		old: "		m := decode(l, in)\n", new: "		m := decode(l, in)\n		_ = in.Ack()\n",
		finds: []string{"lost: no outcome"},
	},
	{
		name: "forgets progress", file: "worker/process.go",
		old: "		m.progress = progress[i]\n", new: "		m.progress = store.Progress{Attempts: progress[i].Attempts}\n",
		finds: []string{"more duplicates than the bound"},
	},
	{
		name: "ignores the time of a 410", file: "store/apply.go",
		old: "		return v.Timestamp\n", new: "		return v.Timestamp + 1000*time.Hour.Milliseconds()\n",
		finds: []string{"token set: removed without cause"},
	},
	{
		name: "ignores a pause", file: "worker/campaign.go",
		old:   "	r.status.Store(&st)\n	r.pace.set(st.Rate)\n",
		new:   "	if st.State == campaign.Paused {\n		return\n	}\n	r.status.Store(&st)\n	r.pace.set(st.Rate)\n",
		finds: []string{"campaign: sent while it was halted"},
	},
	{
		name: "forgets the progress of ranges", file: "worker/process.go",
		old:   "		m.progress = progress[i]\n",
		new:   "		if m.progress = progress[i]; m.rng != nil {\n			m.progress = store.Progress{Attempts: progress[i].Attempts}\n		}\n",
		finds: []string{"campaign: sent again, and no fault explains it"},
	},
	{
		name: "strikes off what the webhook refused", file: "feedback/hook.go",
		old: "		err = m.Nak(h.delay(f))\n", new: "		err = m.Ack()\n",
		finds: []string{"webhook: an outcome was never taken"},
	},
}

// TestMutants runs fleets that break a promise: each must be found out.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			p := plan{seed: 1, during: time.Minute, count: 100_000, servers: 1, expectFailure: true}
			v := run(t, p, m.build(t, workers))
			report(t, p, v)
			m.judge(t, v)
		})
	}
}

// scaleMutants are found out by workers that come and go.
var scaleMutants = []mutant{
	{
		name: "keeps what it is told to leave", file: "worker/settle.go",
		old: "	if m.ours(time.Now()) {\n		w.nak(m.in, delay)\n", new: "	if m.ours(time.Now()) && !w.draining.Load() {\n		w.nak(m.in, delay)\n",
		finds: []string{"pause", "the campaign fell behind"},
	},
	{
		name: "forgets progress", file: "worker/process.go",
		old: "		m.progress = progress[i]\n", new: "		m.progress = store.Progress{Attempts: progress[i].Attempts}\n",
		finds: []string{"duplicates without a fault"},
	},
}

// TestMutantsOfScale scales fleets that break a promise: each must be found out.
func TestMutantsOfScale(t *testing.T) {
	for _, m := range scaleMutants {
		t.Run(m.name, func(t *testing.T) {
			p := scaling{seed: 1, workers: []int{4, 2, 4, 2}, each: 6 * time.Second, devices: 60_000, rate: 2000, urgent: 200}
			v, measured := scale(t, p, t.TempDir(), m.build(t, 4))
			reportScale(p, v, measured)
			m.judge(t, v)
		})
	}
}

// build builds so many workers, and all that they need.
func (m *mutant) build(t *testing.T, n int) programs {
	t.Helper()
	b := binaries{t.TempDir()}
	p := programs{
		nats:      b.build(t, "nats-server", root(t), "github.com/nats-io/nats-server/v2"),
		pushfleet: b.build(t, "mutant", root(t), "./cmd/pushfleet", "-overlay", overlay(t, m.file, m.old, m.new)),
	}
	p.workers = slices.Repeat([]string{p.pushfleet}, n)
	return p
}

func (m *mutant) judge(t *testing.T, v *verdict) {
	t.Helper()
	found := false
	for _, kind := range m.finds {
		found = found || v.counted[kind] > 0
	}
	if !found {
		t.Errorf("%s: found %v, want one of %q", m.name, v.counted, m.finds)
	}
}

// overlay has the compiler see a file with one line changed, and returns what to
// tell it.
func overlay(t *testing.T, file, was, is string) string {
	t.Helper()
	path := filepath.Join(root(t), file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), was); n != 1 {
		t.Fatalf("%s has %d times %q, want it once", file, n, was)
	}
	dir := t.TempDir()
	changed, table := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), was, is, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(table, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return table
}
