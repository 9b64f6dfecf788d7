package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who changes something at the command line leaves one line on standard error, done or
// not, whatever the log's level; who reads, tries or mistypes leaves none.
func TestAuditOfCommands(t *testing.T) {
	r := newRig(t)
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	// The level does not silence it.
	if err := os.WriteFile(r.config, append(text, "log: {level: error, format: json}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"spring.yaml":  "id: spring\naudience: {all: true}\nnotification: {title: t}\nstart_at: 2100-01-01T00:00:00Z\n",
		"shop.ndjson":  `{"token":"` + strings.Repeat("0a", 32) + `"}` + "\n",
		"broken.yaml":  "id: [\n",
		"another.yaml": "id: spring\naudience: {all: true}\nnotification: {title: another}\n",
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(r.dir, name) }
	key := r.key("--app", "shop", "--scope", "send")
	for _, tt := range []struct {
		args                 string
		what, object, result string
		more                 map[string]any
	}{
		{"key create --app shop --scope send,read --name backend", "key.create", "?", "done", map[string]any{"name": "backend", "scopes": []any{"send", "read"}, "apps": []any{"shop"}}},
		{"key create --app nosuch --scope send", "", "", "", nil}, // a wrong use
		{"key list", "", "", "", nil},
		{"key revoke " + key, "key.revoke", key[3:19], "done", nil},
		{"key revoke nosuch", "key.revoke", "nosuch", "failed", nil},
		{"campaign create -f " + in("spring.yaml"), "campaign.create", "spring", "done", map[string]any{"app": "shop"}},
		{"campaign create -f " + in("another.yaml"), "campaign.create", "spring", "failed", nil},
		{"campaign create -f " + in("spring.yaml") + " --dry-run", "", "", "", nil},
		{"campaign pause spring", "campaign.pause", "spring", "done", map[string]any{"app": "shop"}},
		{"campaign resume spring", "campaign.resume", "spring", "done", nil},
		{"campaign pace spring 7", "campaign.pace", "spring", "done", map[string]any{"rate": 7.0}},
		{"campaign show spring", "", "", "", nil},
		{"campaign cancel spring --yes", "campaign.cancel", "spring", "done", nil},
		{"campaign resume spring", "campaign.resume", "spring", "failed", nil},
		{"campaign delete nosuch --yes", "campaign.delete", "nosuch", "failed", nil},
		{"fuse reset --app shop", "fuse.reset", "production", "failed", map[string]any{"app": "shop"}},
		{"dead-letter redrive --app shop --reason gone --older-than 1h --yes", "dead-letter.redrive", "reason=gone older-than=1h", "done", map[string]any{"app": "shop"}},
		{"dead-letter purge 17 18 --yes", "dead-letter.purge", "17 18", "failed", nil},
		{"dead-letter purge --all --dry-run", "", "", "", nil},
		{"device import --app shop " + in("shop.ndjson"), "device.import", in("shop.ndjson"), "done", map[string]any{"app": "shop"}},
		{"device prune --app shop --unseen-for 270d --yes", "device.prune", "unseen-for=270d", "done", nil},
		{"device restore --app shop --since 3h --reason pruned,deleted --yes", "device.restore", "since=3h reason=pruned,deleted", "done", nil},
		{"device restore --app shop", "", "", "", nil},
	} {
		out, _ := r.cli(strings.Fields(tt.args)...)
		var lines []map[string]any
		for line := range strings.Lines(out) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && entry["logger"] == "audit" {
				lines = append(lines, entry)
			}
		}
		if tt.what == "" {
			if len(lines) != 0 {
				t.Errorf("%s: got %v, want no line", tt.args, lines)
			}
			continue
		}
		if len(lines) != 1 {
			t.Errorf("%s: got %d lines in %s, want one", tt.args, len(lines), out)
			continue
		}
		got := lines[0]
		if got["msg"] != tt.what || got["result"] != tt.result || tt.object != "?" && got["object"] != tt.object || got["object"] == "" || !strings.Contains(got["who"].(string), "@") {
			t.Errorf("%s: got %v, want %s of %s, %s, and who", tt.args, got, tt.what, tt.object, tt.result)
		}
		if (got["error"] != nil) != (tt.result == "failed") {
			t.Errorf("%s: got the error %v", tt.args, got["error"])
		}
		for name, want := range tt.more {
			if a, b := got[name], want; !same(a, b) {
				t.Errorf("%s: got %s %v, want %v", tt.args, name, a, b)
			}
		}
		entry, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(entry), key[20:]) || strings.Contains(string(entry), strings.Repeat("0a", 32)) {
			t.Errorf("%s: got a secret or a device token in %s, want none", tt.args, entry)
		}
	}
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
