package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ends asserts how a command ends: with an exit code, and having printed.
func (r *rig) ends(code int, want string, stdin string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append(args, "-c", r.config)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	got := cmd.ProcessState.ExitCode()
	if got != code || !strings.Contains(string(out), want) {
		r.t.Errorf("pushfleet %s: exit %d, %v: %s; want exit %d and %q", strings.Join(args, " "), got, err, out, code, want)
	}
	return string(out)
}

// dies tells the simulator that a device token is dead.
func (r *rig) dies(token string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, r.adminURL+"/devices/"+token,
		strings.NewReader(fmt.Sprintf(`{"dead_since":%q}`, time.Now().Add(time.Minute).Format(time.RFC3339Nano))))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		r.t.Fatalf("set device: %s", resp.Status)
	}
}

func TestSendWaits(t *testing.T) {
	r := newRig(t)
	good, dead := strings.Repeat("0a", 32), strings.Repeat("0d", 32)
	r.ends(1, "start a worker first", "", "send", "--app", "shop", "--token", good, "--title", "x")
	r.worker("w1")
	r.dies(dead)

	out := r.ends(0, "accepted", "", "send", "--app", "shop", "--token", good, "--title", "x", "--id", "one", "--wait")
	if strings.Contains(out, good) {
		t.Errorf("got a whole device token: %s", out)
	}
	// That of a job that was published before is what became of the first.
	r.ends(0, "accepted", "", "send", "--app", "shop", "--token", good, "--title", "x", "--id", "one", "--wait")
	r.ends(1, "Unregistered", "", "send", "--app", "shop", "--token", good, "--token", dead, "--title", "x", "--wait")
	later := r.write("later.json", fmt.Sprintf(`{"to":{"users":["ada"]},"notification":{"title":"x"},"send_after":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)))
	r.ends(1, "0 recipients are settled: 300ms are over", "", "send", "--app", "shop", "--lane", "bulk", "--file", later, "--wait", "--timeout", "300ms")
}

func TestSendWaitsAsJSON(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	good := strings.Repeat("0a", 32)
	out := r.ends(1, "", "", "send", "--app", "shop", "--user", "nobody", "--title", "x", "--wait", "--output", "json")
	var got struct {
		ID         string
		Sequence   uint64
		Complete   bool
		Recipients []struct{ Token, User, Result, Reason string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || !got.Complete || len(got.Recipients) != 1 || got.Recipients[0].User != "nobody" || got.Recipients[0].Result != "skipped" {
		t.Errorf("got %s, %v, want nobody skipped", out, err)
	}
	out = r.ends(0, "", "", "send", "--app", "shop", "--token", good, "--title", "x", "--wait", "-o", "json")
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Sequence == 0 || got.Recipients[0].Token != good || got.Recipients[0].Result != "accepted" {
		t.Errorf("got %s, %v, want it accepted", out, err)
	}
}

func TestSendManyJobs(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	var lines bytes.Buffer
	for n := range 2500 { // more than a batch
		fmt.Fprintf(&lines, `{"id":"n-%d","to":{"tokens":["%064x"]},"notification":{"title":"x"}}`+"\n", n, n+1)
		if n == 1 {
			lines.WriteString("\n{\"id\":\"bad\"}\nno JSON\n")
		}
	}
	many := r.write("many.ndjson", lines.String())
	out := r.ends(1, "2500 jobs are stored, 0 were published before, 2 are not stored", "", "send", "--app", "shop", "--lane", "bulk", "--file", many, "--wait", "--output", "json")
	for _, want := range []string{`{"line":4,`, `{"line":5,`} {
		if !strings.Contains(out, want) {
			t.Errorf("got no %q", want)
		}
	}
	if n := strings.Count(out, `"result":"accepted"`); n != 2500 {
		t.Errorf("got %d accepted, want 2500", n)
	}
	r.ends(1, "line 4: ", "", "send", "--app", "shop", "--lane", "bulk", "--file", many)
	r.ends(0, "2 jobs are stored", `{"to":{"users":["a"]},"notification":{"title":"x"}}`+"\n"+`{"to":{"users":["b"]},"notification":{"title":"x"}}`, "send", "--app", "shop", "-")
	// One job may take as many lines as it likes, and be the only line.
	r.ends(0, "is stored for 1 recipients", "{\n\"to\":{\"users\":[\"a\"]},\n\n\"notification\":{\"title\":\"x\"}}\n", "send", "--app", "shop", "-")
	r.ends(0, "is stored for 1 recipients", `{"to":{"users":["a"]},"notification":{"title":"x"}}`, "send", "--app", "shop", "--file", "-")
	r.ends(1, "there is none", "\n\n", "send", "--app", "shop", "-")
	r.ends(1, "more than", strings.Repeat("x", 5<<20), "send", "--app", "shop", "-")
	r.ends(2, "standard input", "", "send", "--app", "shop", "job.json")
	r.ends(2, "--timeout", "", "send", "--app", "shop", "--user", "a", "--timeout", "0s")
	r.ends(2, "table or json", "", "send", "--app", "shop", "--user", "a", "--output", "yaml")
}
