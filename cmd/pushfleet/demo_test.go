package main_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"
)

// The demo sends a campaign, and its two books agree.
func TestDemo(t *testing.T) {
	t.Parallel()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r := &rig{t: t, ctx: ctx, bin: bin, dir: t.TempDir()} // the demo brings the rest
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "demo", "--devices", "3000", "--json")
	select {
	case err := <-p.done:
		p.done <- err // for the clean-up
		if err != nil {
			t.Fatalf("demo: got %v, %s, want a clean end", err, p.out)
		}
	case <-r.ctx.Done():
		t.Fatalf("demo did not end:\n%s", p.out)
	}
	var got struct {
		Devices, Accepted, Removed, Quarantined, Failed, Duplicates int
		PerSecond                                                   float64 `json:"per_second"`
		P50Ms                                                       int64   `json:"p50_ms"`
		P99Ms                                                       int64   `json:"p99_ms"`
		Differences                                                 []string
	}
	if err := json.Unmarshal([]byte(p.out.String()), &got); err != nil {
		t.Fatalf("demo --json: %v: %s", err, p.out)
	}
	if got.Devices != 3000 || got.Accepted+got.Removed+got.Quarantined != 3000 || got.Failed != 0 || got.Duplicates != 0 ||
		got.Removed == 0 || got.Differences == nil || len(got.Differences) > 0 {
		t.Errorf("got %+v, want each of 3000 devices accepted, removed or quarantined, once, and no differences", got)
	}
	if got.PerSecond <= 0 || got.P50Ms <= 0 || got.P99Ms < got.P50Ms {
		t.Errorf("got %.0f/s, p50 %d ms, p99 %d ms, want times from the campaign's start", got.PerSecond, got.P50Ms, got.P99Ms)
	}
}
