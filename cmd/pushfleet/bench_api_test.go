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

func TestBenchNotifications(t *testing.T) {
	r := newAPIRig(t, "")
	bench := func(args ...string) (out, errs string, code int) {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"bench", "api"}, args...)...)
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
	natsServer := filepath.Join(r.bin, "nats-server")
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no server", []string{"--notifications", "--nats-server", filepath.Join(r.dir, "nowhere")}, 1, "go build -o bin/nats-server"},
		{"a batch", []string{"--notifications", "--batch", "10"}, 2, "no batch"},
		{"steps of registrations", []string{"--step"}, 2, "--step"},
	} {
		if _, errs, code := bench(tc.args...); code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("%s: got exit %d and %q, want exit %d and %q", tc.name, code, errs, tc.code, tc.want)
		}
	}
	out, errs, code := bench("--notifications", "--nats-server", natsServer, "--json", "--duration", "1s", "--rate", "100", "--connections", "4")
	if code != 0 {
		t.Fatalf("bench api --notifications: exit %d: %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("printed %q: %v", out, err)
	}
	for _, name := range []string{"notifications_per_second", "p50_ms", "p99_ms", "p999_ms", "requests", "api_cpu_us", "stored"} {
		if v, ok := got[name].(float64); !ok || v <= 0 {
			t.Errorf("%s: got %v, want a figure", name, got[name])
		}
	}
	if got["verified"] != true || got["refused"] != 0.0 {
		t.Errorf("got %s, want it verified and nothing refused", out)
	}
}
