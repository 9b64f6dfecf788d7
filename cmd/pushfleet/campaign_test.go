package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// must runs a command that has to succeed.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, err := r.cli(args...)
	if err != nil {
		r.t.Fatalf("pushfleet %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// has fails unless a text has all of some parts.
func (r *rig) has(what, text string, parts ...string) {
	r.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			r.t.Errorf("%s: got\n%s\nwant %q in it", what, text, part)
		}
	}
}

// A campaign from the command line: tried, created, paused, resumed, done; one to a
// file with bad lines; one that is cancelled; and what is refused.
func TestCampaignCommands(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	var devices strings.Builder
	const n = 3000
	for i := range n {
		fmt.Fprintf(&devices, `{"token":"%064x","user":"u%d","locale":%q,"attributes":{"name":"N%d"}}`+"\n", 1<<40+i, i, []string{"de-AT", "en"}[i%2], i)
	}
	r.must("device", "import", "--app", "shop", r.write("devices.ndjson", devices.String()))

	spring := r.write("spring.yaml", `
id: spring
audience: {all: true}
notification: {title: "Hello {{attributes.name|friend}}"}
localizations:
  de: {title: "Servus {{attributes.name|du}}"}
rate: 500
`)
	r.has("dry run", r.must("campaign", "create", "--app", "shop", "-f", spring, "--dry-run"),
		"matched               3000", "sent to at the start  3000", "Servus N", "Hello N", "of 4096 bytes")
	if out := r.must("campaign", "list"); !strings.Contains(out, "no campaigns") {
		t.Errorf("list after a dry run: got %s, want none", out)
	}
	r.has("create", r.must("campaign", "create", "-f", spring), "campaign spring of shop is created")
	r.has("create again", r.must("campaign", "create", "-f", spring), "is there already")
	r.has("pause", r.must("campaign", "pause", "spring"), "is paused")
	r.has("show", r.must("campaign", "show", "spring"), "paused", "500 notifications per second")
	r.has("pace", r.must("campaign", "pace", "spring", "0"), "as fast as it goes")
	r.has("pace", r.must("campaign", "pace", "spring", "50"), "50 notifications per second") // it lasts a minute
	r.has("resume", r.must("campaign", "resume", "spring"), "is running")
	r.watched()
	r.has("watch", r.must("campaign", "show", "spring", "--watch"), "done: 3000 settled\n", "remaining    0")
	var shown struct {
		State  string
		Counts struct {
			Matched int
			Results map[string]int
		}
	}
	out := r.must("campaign", "show", "spring", "--output", "json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		t.Fatalf("show: %v: %s", err, out)
	}
	sum := 0
	for _, of := range shown.Counts.Results {
		sum += of
	}
	if shown.State != "done" || shown.Counts.Matched != n || sum != n {
		t.Errorf("show: got %+v, want %d matched, and as many results", shown, n)
	}

	vouchers := r.write("vouchers.json", `{"id":"vouchers","recipients":{"variables":["code"]},"notification":{"title":"Voucher {{code}}"}}`)
	people := r.write("people.csv", "user,code\nu1,A\nu2,B\n,\nnobody,C\nu1,D\n")
	report := filepath.Join(r.dir, "bad.csv")
	reported := func(want string) {
		t.Helper()
		if bad, err := os.ReadFile(report); err != nil || string(bad) != want {
			t.Errorf("report: got %q, %v, want %q", bad, err, want)
		}
		_ = os.Remove(report)
	}
	const bad = "line,reason\n4,\"has neither token nor user\"\n6,\"names the same recipient as a line before\"\n"
	r.want(0, []string{"campaign", "create", "-f", vouchers, "--recipients", people, "--report", report, "--dry-run"},
		"3 lines can be used; 2 lines cannot be used: see "+report, "device tokens 0 users 3 bad lines 2", `"title":"Voucher A"`, "of 4096 bytes")
	reported(bad)
	r.want(1, []string{"campaign", "show", "vouchers"}, "no such campaign")
	r.has("file", r.must("campaign", "create", "-f", vouchers, "--recipients", people, "--report", report), "3 recipients are handed in; 2 lines cannot be used: see "+report)
	reported(bad)
	r.want(2, []string{"campaign", "create", "-f", vouchers, "--recipients", people, "--report", people}, "must not be "+people)
	r.want(2, []string{"campaign", "create", "-f", vouchers, "--recipients", people, "--report", vouchers}, "must not be "+vouchers)
	if text, err := os.ReadFile(people); err != nil || !strings.HasPrefix(string(text), "user,code\n") {
		t.Errorf("the file of recipients: got %q, %v, want it untouched", text, err)
	}
	lines := r.write("people.ndjson", `{"user":"u1","variables":{"code":"\""}}`+"\n"+`{"user":"u2","=cmd|' \"x":1}`+"\n")
	r.has("lines of JSON", r.must("campaign", "create", "-f", vouchers, "--recipients", lines, "--report", report, "--dry-run", "--output", "json"),
		`"users": 1`, `"bad": 1`, `"payload": "{\"aps\":{\"alert\":{\"title\":\"Voucher \\\"\"}}}"`)
	reported("line,reason\n2,\"'=cmd|' \"\"x: is no known member\"\n")
	r.has("file", r.must("campaign", "show", "vouchers", "--watch"), "done: ", "skipped: no device  1")

	later := r.write("later.json", `{"id":"later","audience":{"all":true},"notification":{"title":"Later"},"start_at":"2199-01-01T00:00:00Z"}`)
	r.must("campaign", "create", "-f", later)
	r.want(2, []string{"campaign", "cancel", "later"}, "no terminal to ask at: give --yes")
	r.has("nothing is done unasked", r.must("campaign", "show", "later"), "scheduled")
	r.has("cancel", r.must("campaign", "cancel", "later", "--yes"), "is cancelled")
	r.must("campaign", "cancel", "later") // again: there is nothing to ask
	r.want(1, []string{"campaign", "delete", "later", "--yes"}, "not closed yet")
	r.until("a campaign to be closed", func() error {
		out, err := r.cli("campaign", "delete", "vouchers")
		if err == nil || !strings.Contains(out, "no terminal to ask at") {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
	r.has("delete", r.must("campaign", "delete", "vouchers", "--yes"), "is deleted")
	r.want(1, []string{"campaign", "delete", "vouchers", "--yes"}, "no such campaign")
	r.want(1, []string{"campaign", "create", "-f", vouchers, "--recipients", people}, "free 90 days after")
	r.want(1, []string{"campaign", "cancel", "spring", "--yes"}, "which is done")
	r.has("list", r.must("campaign", "list"), "spring", "cancelled")

	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"campaign", "create", "-f", r.write("bad.json", `{"id":"x","audience":{"all":true},"notification":{"title":"{{nam}}"},"rate":0}`)}, "unknown variable nam"},
		{[]string{"campaign", "create", "-f", r.write("old.json", `{"id":"x","audience":{"all":true},"notification":{"title":"t"},"start_at":"2020-01-01T00:00:00Z"}`)}, "start_at"},
		{[]string{"campaign", "create", "-f", r.write("other.json", `{"id":"spring","audience":{"all":true},"notification":{"title":"t"}}`)}, "another campaign with this id"},
		{[]string{"campaign", "create", "-f", vouchers}, "--recipients"},
		{[]string{"campaign", "create", "-f", vouchers, "--dry-run"}, "--recipients"},
		{[]string{"campaign", "create", "-f", later, "--recipients", people}, "has an audience"},
		{[]string{"campaign", "create"}, "-f"},
		{[]string{"campaign", "resume", "later"}, "which is cancelled"},
		{[]string{"campaign", "show", "nothere"}, "no such campaign"},
		{[]string{"campaign", "pace", "spring", "fast"}, "RATE"},
		{[]string{"campaign", "create", "-f", r.write("bad.yaml", "id: x\naudience:\n  all: yes\nnotification:\n  titel: t\nrate: 010\n")}, "bad.yaml:6:7: rate: must be a decimal number"},
		{[]string{"campaign", "create", "-f", r.write("worse.yaml", "id: x\naudience:\n  all: yes\nnotification:\n  titel: t\nrate: 0\n")}, "worse.yaml:3:8: audience.all: must be"},
		{[]string{"campaign", "create", "-f", filepath.Join(r.dir, "worse.yaml")}, "worse.yaml:5:10: notification.titel: "},
		{[]string{"campaign", "create", "-f", filepath.Join(r.dir, "worse.yaml")}, "worse.yaml:6:7: rate: "},
		{[]string{"campaign", "create", "-f", r.write("past.yaml", "id: x\naudience: {all: true}\nnotification: {title: t}\nstart_at: 2020-01-01T00:00:00Z\n")}, "past.yaml:4:11: start_at: must not be in the past"},
		{[]string{"campaign", "create", "-f", r.write("long.yaml", "id: x\n"+strings.Repeat("# long\n", 200_000))}, "has more than 1048576 bytes"},
	} {
		out, err := r.cli(tt.args...)
		if err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("pushfleet %s: got %v, %s, want an error with %q", strings.Join(tt.args, " "), err, out, tt.want)
		}
	}
}

// An app that nobody knows is refused at once, by whichever command.
func TestCampaignOfUnknownApp(t *testing.T) {
	r := newRig(t)
	spring := r.write("spring.json", `{"id":"spring","audience":{"all":true},"notification":{"title":"Hello"}}`)
	commands := [][]string{
		{"create", "-f", spring},
		{"create", "-f", spring, "--dry-run"},
		{"list"},
		{"show", "x"},
		{"pause", "x"},
		{"resume", "x"},
		{"pace", "x", "5"},
		{"cancel", "x", "--yes"},
		{"delete", "x", "--yes"},
	}
	for _, args := range commands {
		r.want(2, append([]string{"campaign", "--app", "shp"}, args...), `"shp" is not configured; configured: shop`)
	}

	// Without apps in the configuration, the workers know.
	bare := *r
	bare.config = r.write("bare.yaml", fmt.Sprintf("nats: {url: %q}\nredis: {addresses: [%q]}\n", r.natsURL, r.redisAddr))
	bare.want(2, []string{"campaign", "list"}, "must be given where no app is configured")
	bare.want(0, []string{"campaign", "list", "--app", "shp"}, "no campaigns") // nobody runs who would know
	r.worker("w1")
	for _, args := range commands {
		bare.want(2, append([]string{"campaign", "--app", "shp"}, args...), `no worker knows "shp"; they know: shop`)
	}
	bare.want(0, []string{"campaign", "list", "--app", "shop"}, "no campaigns")
}

// watched follows the campaign spring, which runs, to its end, and leaves it before
// that once.
func (r *rig) watched() {
	r.t.Helper()
	leaves := r.start(nil, filepath.Join(r.bin, "pushfleet"), "campaign", "show", "spring", "--watch", "-c", r.config)
	r.until("the first line", func() error {
		if !leaves.out.contains("running: ") {
			return errors.New(leaves.out.String())
		}
		return nil
	})
	if err := leaves.cmd.Process.Signal(os.Interrupt); err != nil {
		r.t.Fatal(err)
	}
	select {
	case err := <-leaves.done:
		leaves.done <- err // for the clean-up
		if err != nil {
			r.t.Errorf("interrupted: got %v, want that it leaves:\n%s", err, leaves.out)
		}
	case <-r.ctx.Done():
		r.t.Fatal("interrupted: it does not leave")
	}
	r.has("left", leaves.out.String(), "goes on")

	follows := r.start(nil, filepath.Join(r.bin, "pushfleet"), "campaign", "show", "spring", "--watch", "--output", "json", "-c", r.config)
	r.until("a speed", func() error {
		if !follows.out.contains(`"per_second"`) {
			return errors.New(follows.out.String())
		}
		return nil
	})
	r.must("campaign", "pace", "spring", "0")
	select {
	case err := <-follows.done:
		follows.done <- err // for the clean-up
		if err != nil {
			r.t.Errorf("watch: got %v, want it to end with the campaign:\n%s", err, follows.out)
		}
	case <-r.ctx.Done():
		r.t.Fatal("watch: it does not end")
	}
	out := follows.out.String()
	type look struct {
		State       string
		SecondsLeft *int64 `json:"seconds_left"`
		Counts      struct{ Results map[string]int }
	}
	var looks []look
	left := false
	for line := range strings.Lines(out) {
		var one look
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			r.t.Fatalf("watch: line %q: %v", line, err)
		}
		looks = append(looks, one)
		left = left || one.SecondsLeft != nil
	}
	last := looks[len(looks)-1]
	if !left || last.State != "done" || last.Counts.Results["accepted"] != 3000 {
		r.t.Errorf("watch: got the last look %+v, time left %t, want it followed to its end:\n%s", last, left, out)
	}
}
