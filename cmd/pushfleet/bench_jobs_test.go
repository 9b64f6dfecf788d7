package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchJobs(t *testing.T) {
	r := newAPIRig(t, "")
	bench := func(args ...string) (out, errs string, code int) {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"bench", "jobs"}, args...)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return stdout.String(), stderr.String(), code
	}

	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no server", []string{"--nats-server", filepath.Join(r.dir, "nowhere")}, 1, "go build -o bin/nats-server"},
		{"half a job", []string{"--n", "150"}, 2, "--n"},
		{"more jobs than devices", []string{"--n", "100", "--singles", "101"}, 2, "--singles"},
	} {
		if _, errs, code := bench(tc.args...); code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("%s: got exit %d and %q, want exit %d and %q", tc.name, code, errs, tc.code, tc.want)
		}
	}

	out, errs, code := bench("--nats-server", filepath.Join(r.bin, "nats-server"), "--json",
		"--rounds", "1", "--n", "20000", "--singles", "3000", "--apns2-n", "1000")
	if code != 0 {
		t.Fatalf("bench jobs: exit %d: %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("bench jobs printed %q: %v", out, err)
	}
	for _, name := range []string{
		"json100_cpu_ratio_apns2", "single_cpu_ratio", "json100_cpu_per_100k", "single_cpu_per_100k",
		"json100_per_second", "single_per_second", "worker_max_rss_mb",
	} {
		if v, ok := got[name].(float64); !ok || v <= 0 {
			t.Errorf("%s: got %v, want a figure", name, got[name])
		}
	}
	if got["verified"] != true {
		t.Errorf("verified: got %v, want true", got["verified"])
	}
}
