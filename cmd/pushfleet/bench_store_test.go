package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestBenchStore(t *testing.T) {
	r := newAPIRig(t, "")
	client := redis.NewClient(&redis.Options{Addr: r.redisAddr})
	t.Cleanup(func() { _ = client.Close() })
	r.until("redis answers", func() error { return client.Ping(r.ctx).Err() })
	args := []string{"bench", "store", "--devices", "3000", "--rounds", "2", "--json", "--redis-url", "redis://" + r.redisAddr}

	bench := func() (string, error) {
		var errs bytes.Buffer
		cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), args...)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errs.String())
		}
		return string(out), err
	}

	// Somebody's Redis is not emptied.
	if err := client.Set(r.ctx, "mine", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if out, err := bench(); err == nil {
		t.Errorf("bench store on a database that is not empty: got %s, want an error", out)
	}
	if n, err := client.Del(r.ctx, "mine").Result(); err != nil || n != 1 {
		t.Fatalf("a key of somebody else after bench store: got %d, %v, want it untouched", n, err)
	}

	out, err := bench()
	if err != nil {
		t.Fatalf("bench store: %v\n%s", err, out)
	}
	var got map[string]any
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&got); err != nil {
		t.Fatalf("bench store printed %q: %v", out, err)
	}
	for _, name := range []string{
		"bytes_per_device", "set_bytes_per_device", "bytes_per_device_tags", "scan_ratio", "scans_per_second", "tag_scans_per_second",
		"registrations_per_second", "registrations_tags_per_second", "removals_per_second", "lookups_per_second",
	} {
		if v, ok := got[name].(float64); !ok || v <= 0 {
			t.Errorf("%s: got %v, want a figure", name, got[name])
		}
	}
	if n, err := client.DBSize(r.ctx).Result(); err != nil || n != 0 {
		t.Errorf("keys after bench store: got %d, %v, want none", n, err)
	}
}
