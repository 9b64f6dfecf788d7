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

func TestBenchCampaign(t *testing.T) {
	r := newAPIRig(t, "")
	bench := func(args ...string) (out, errs string, code int) {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"bench", "campaign"}, args...)...)
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
		{"unknown part", []string{"--only", "cpu,speed"}, 2, "--only"},
		{"no devices", []string{"--devices", "0"}, 2, "--devices"},
	} {
		if _, errs, code := bench(tc.args...); code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("%s: got exit %d and %q, want exit %d and %q", tc.name, code, errs, tc.code, tc.want)
		}
	}

	out, errs, code := bench("--nats-server", filepath.Join(r.bin, "nats-server"), "--json", "--rounds", "1", "--n", "20000", "--apns2-n", "1000",
		"--devices", "30000", "--pairs", "1", "--transactional", "1s", "--pauses", "1", "--expand-devices", "1000000")
	if code != 0 {
		t.Fatalf("bench campaign: exit %d: %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("bench campaign printed %q: %v", out, err)
	}
	for _, name := range []string{
		"cpu_ratio_apns2", "rendered_cpu_ratio_apns2", "devices", "seconds", "sent_seconds", "worker_rss_mb", "nats_rss_mb", "redis_rss_mb",
		"transactional_p99_ratio", "transactional_unpaced_p99_ms", "first_send_seconds", "queue_mb",
	} {
		if v, ok := got[name].(float64); !ok || v <= 0 {
			t.Errorf("%s: got %v, want a figure", name, got[name])
		}
	}
	// Nothing may come after the acknowledgement: then it is 0.
	if v, ok := got["pause_max_ms"].(float64); !ok || v < 0 || v > 5000 {
		t.Errorf("pause_max_ms: got %v, want a figure", got["pause_max_ms"])
	}
	if got["expand_ranges"] != 1024.0 {
		t.Errorf("expand_ranges: got %v, want 1024, one of each bucket of 977 devices", got["expand_ranges"])
	}
}
