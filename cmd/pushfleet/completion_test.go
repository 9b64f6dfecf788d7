package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	r := newRig(t)
	complete := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"__complete"}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"shop\n:4\n", []string{"send", "-c", r.config, "--app", ""}},
		{"shop\n:4\n", []string{"device", "show", "-c", r.config, "--app", ""}},
		{":4\n", []string{"send", "-c", "nowhere.yaml", "--app", ""}},
		{"transactional\nbulk\n:4\n", []string{"send", "--lane", ""}},
		{"table\njson\n:4\n", []string{"key", "list", "--output", ""}},
	} {
		if got := complete(tt.args...); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.args, got, tt.want)
		}
	}
	if out, err := r.cli("completion", "bash"); err != nil || !strings.Contains(out, "__start_pushfleet") {
		t.Errorf("completion bash: got %v, %.100s", err, out)
	}
}
