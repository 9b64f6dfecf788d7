package main_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestBenchFairness(t *testing.T) {
	r := newAPIRig(t, "") // for its binaries; the benchmark starts its own servers
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), "bench", "fairness", "--rounds", "1", "--n", "2000", "--backlog", "200", "--json")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bench fairness: %v\n%s", err, out)
	}
	var got struct {
		Alone      float64 `json:"alone_per_second"`
		Neighbours []struct {
			Kind  string
			Ratio float64
			P99   float64 `json:"p99_ms"`
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("bench fairness printed %q: %v", out, err)
	}
	if got.Alone <= 0 || len(got.Neighbours) != 5 {
		t.Fatalf("got %+v, want a rate and five neighbours", got)
	}
	for _, n := range got.Neighbours {
		if n.Kind == "" || n.Ratio <= 0 || n.P99 <= 0 {
			t.Errorf("neighbour: got %+v, want figures", n)
		}
	}
}
