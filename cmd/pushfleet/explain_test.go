package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dead makes APNs call a device token dead from now on.
func (r *rig) dead(hex string) {
	r.t.Helper()
	body := fmt.Sprintf(`{"dead_since":%q}`, time.Now().Add(time.Minute).Format(time.RFC3339Nano))
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, r.adminURL+"/devices/"+hex, strings.NewReader(body))
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

// explain is a command that explains to shop's user or other flags.
func explain(args ...string) []string { return append([]string{"explain", "--app", "shop"}, args...) }

// What became of each device of a campaign, and why.
func TestExplainCampaign(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	var file strings.Builder
	for i, line := range []string{
		`"user":"ada","install_id":"i-1","tags":["deals"],"attributes":{"name":"Ada"}`,
		`"user":"ada","tags":["deals","muted"],"attributes":{"name":"Ada"}`,
		`"user":"dan","tags":["deals"],"attributes":{"name":"Dan"}`,
		`"user":"bob","tags":["deals"]`,
		`"user":"gus","attributes":{"name":"Gus"}`,
	} {
		fmt.Fprintf(&file, `{"token":%q,%s}`+"\n", strings.Repeat(fmt.Sprintf("%02x", 0xa0+i), 32), line)
	}
	r.must("device", "import", "--app", "shop", r.write("devices.ndjson", file.String()))
	dead, unknown := strings.Repeat("a2", 32), strings.Repeat("b1", 32)
	r.dead(dead)
	r.must("campaign", "create", "-f", r.write("spring.json",
		`{"id":"spring","audience":{"tags":{"any":["deals"],"none":["muted"]}},"notification":{"body":"Hi {{attributes.name}}"}}`))
	r.must("campaign", "show", "spring", "--watch")
	r.must("device", "register", "--app", "shop", "--user", "late", "--tag", "deals", strings.Repeat("b0", 32))

	for _, tt := range []struct {
		name string // of what it is about
		args []string
		want []string
	}{
		{"got it", []string{"--install", "i-1"}, []string{
			"campaign spring: done, started 2", ", ended 2", "device a0a0a0… of user ada: accepted by APNs 2", "sent by worker w1",
		}},
		{"each device of a user", []string{"--user", "ada"}, []string{
			"device a0a0a0… of user ada: accepted by APNs", "device a1a1a1… of user ada: not in the audience: the audience leaves out tag muted, which the device has",
		}},
		{"rejected", []string{"--token", dead}, []string{
			"device " + dead, "rejected by APNs", "sent by worker w1: Unregistered (410), the device token is dead since 2",
		}},
		{"skipped", []string{"--user", "bob"}, []string{"of user bob: skipped 2", "by worker w1: no value for attributes.name"}},
		{"outside", []string{"--user", "gus"}, []string{"of user gus: not in the audience: the audience asks for tag deals, which the device does not have"}},
		{"too late", []string{"--user", "late"}, []string{"not in the audience when its range was read, though it is now: first registered 2"}},
		{"not registered", []string{"--token", unknown}, []string{"device " + unknown + ": not in the audience: it is not registered"}},
		{"no device", []string{"--user", "nobody"}, []string{"user nobody: has no device that is registered now"}},
	} {
		r.want(0, explain(append([]string{"--campaign", "spring"}, tt.args...)...), tt.want...)
	}

	// The same for programs, without the device token that was not given.
	var told struct {
		State   string
		Devices []struct {
			Token, User, Verdict string
			Range                *int
			Outcomes             []struct {
				Worker, Result, Reason string
				Status                 int
				DeadSince              *time.Time `json:"dead_since"`
			}
		}
	}
	out := r.must(explain("--campaign", "spring", "--user", "bob", "--output", "json")...)
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		t.Fatalf("json: %v: %s", err, out)
	}
	if told.State != "done" || len(told.Devices) != 1 || told.Devices[0].Verdict != "skipped" || told.Devices[0].Token != "a3a3a3…" || told.Devices[0].Range == nil ||
		len(told.Devices[0].Outcomes) != 1 || told.Devices[0].Outcomes[0].Reason != "no value for attributes.name" {
		t.Errorf("json: got %s, want bob's device skipped, and why", out)
	}

	// Before its time.
	r.must("campaign", "create", "-f", r.write("later.json", `{"id":"later","audience":{"all":true},"notification":{"body":"b"},"start_at":"2199-01-01T00:00:00Z","control_group":{"percent":99.99}}`))
	r.want(0, explain("--campaign", "later", "--user", "gus"), "campaign later: scheduled, to start 2199-01-01 00:00:00", "of user gus: will be skipped: control group")
	r.must("campaign", "create", "-f", r.write("wait.json", `{"id":"wait","audience":{"all":true},"notification":{"body":"b"},"start_at":"2199-01-01T00:00:00Z"}`))
	r.want(0, explain("--campaign", "wait", "--user", "gus"), "of user gus: waits until 2199-01-01 00:00:00 +0000 UTC, when the campaign starts")
	r.must("campaign", "pause", "wait")
	r.want(0, explain("--campaign", "wait", "--user", "gus"), "campaign wait: paused", "of user gus: waits: the campaign is paused")
	r.must("campaign", "create", "-f", r.write("weekly.json", `{"id":"weekly","audience":{"all":true},"notification":{"body":"b"},"recurrence":{"cron":"0 9 * * MON"}}`))
	r.want(1, explain("--campaign", "weekly", "--user", "gus"), "campaign weekly recurs and has had no run yet: the next one is 2")
}

// Recipients of a file may be in any of its ranges, and have no place outside.
func TestExplainFile(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	r.must("device", "register", "--app", "shop", "--user", "ada", strings.Repeat("a0", 32))
	r.must("device", "register", "--app", "shop", "--user", "bob", strings.Repeat("a1", 32))
	r.must("campaign", "create", "-f", r.write("file.json", `{"id":"file","recipients":{},"notification":{"body":"Hi {{user}}"}}`),
		"--recipients", r.write("people.csv", "user\nada\nnobody\n"))
	r.must("campaign", "show", "file", "--watch")
	r.want(0, explain("--campaign", "file", "--user", "ada"), "campaign file: done", "device a0a0a0… of user ada: accepted by APNs")
	r.want(0, explain("--campaign", "file", "--user", "nobody"), "user nobody: skipped 2", "by worker w1: no device")
	r.want(0, explain("--campaign", "file", "--user", "bob"), "of user bob: not one of the recipients of the file")
}

func TestExplainJob(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	r.must("device", "register", "--app", "shop", "--user", "ada", strings.Repeat("a0", 32))
	r.must("device", "register", "--app", "shop", "--user", "bob", strings.Repeat("a1", 32))
	r.must("send", "--app", "shop", "--user", "ada", "--user", "nobody", "--title", "Hello", "--id", "one")
	r.until("the job to be complete", func() error {
		out, err := r.cli(explain("--job", "one", "--user", "ada")...)
		if err == nil && !strings.Contains(out, "complete, with 2 recipients") {
			err = fmt.Errorf("explain: %s", out)
		}
		return err
	})
	r.want(0, explain("--job", "one", "--user", "ada"), "job one (transactional): complete, with 2 recipients", "device a0a0a0… of user ada: accepted by APNs 2", "sent by worker w1")
	r.want(0, explain("--job", "one", "--user", "nobody"), "user nobody: skipped 2", "by worker w1: no device")
	r.want(0, explain("--job", "one", "--user", "bob"), "of user bob: nothing is told of it since 2", "the job is complete without it, or its outcome is older")
	r.want(0, explain("--job", "one", "--lane", "bulk", "--user", "ada"), "job one (bulk): no progress is known")
	r.want(0, explain("--job", "two", "--token", strings.Repeat("a0", 32), "--output", "json"), `"state": "unknown"`, `"verdict": "nothing told"`)

	for _, tt := range []struct {
		code int
		args []string
		want string
	}{
		{1, explain("--campaign", "none", "--user", "ada"), "no such campaign"},
		{2, []string{"explain", "--campaign", "x", "--user", "ada"}, "app"},
		{2, []string{"explain", "--app", "shp", "--campaign", "x", "--user", "ada"}, "configured: shop"},
		{2, explain("--user", "ada"), "campaign job"},
		{2, explain("--campaign", "x", "--job", "y", "--user", "ada"), "campaign job"},
		{2, explain("--campaign", "x"), "user install token"},
		{2, explain("--campaign", "x", "--user", "ada", "--install", "i"), "install user"},
		{2, explain("--campaign", "x", "--user", ""), "must not be empty"},
		{2, explain("--campaign", "x", "--token", "abc"), "--token"},
		{2, explain("--job", "x", "--user", "ada", "--since", "0s"), "--since"},
		{2, explain("--job", "x", "--user", "ada", "--lane", "slow"), "--lane"},
		{2, explain("--job", "x", "--user", "ada", "--output", "table"), "--output"},
	} {
		r.want(tt.code, tt.args, tt.want)
	}
}
