package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/stream"
)

// faults sets what the simulator does wrong; "{}" is nothing.
func (r *rig) faults(text string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, r.adminURL+"/faults", strings.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		r.t.Fatalf("set faults: %s", resp.Status)
	}
}

// jetStream connects to the rig's server.
func (r *rig) jetStream() (*nats.Conn, jetstream.JetStream) {
	r.t.Helper()
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return nc, js
}

// inStream waits until a stream holds n messages.
func (r *rig) inStream(js jetstream.JetStream, name string, n uint64) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d messages in %s", n, name), func() error {
		st, err := js.Stream(r.ctx, name)
		if err == nil && st.CachedInfo().State.Msgs != n {
			err = fmt.Errorf("%d messages", st.CachedInfo().State.Msgs)
		}
		return err
	})
}

// The life of dead letters, from the command line: a thousand jobs are at fault,
// the cause is mended, and each is sent once, at the rate that was asked for.
func TestDeadLetterLife(t *testing.T) {
	r := newRig(t)
	_, js := r.jetStream()
	w := r.worker("w1")
	r.want(0, []string{"dead-letter", "list"}, "no dead letters")
	r.want(0, []string{"dead-letter", "list", "-o", "json"}, "[]")
	r.want(0, []string{"dead-letter", "redrive", "--all"}, "nothing to redrive")

	r.faults(`{"requests":[{"answer":{"status":413,"reason":"PayloadTooLarge"}}]}`)
	nc, err := nats.Connect(r.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p, err := producer.New(r.ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	jobs := make([]*job.Job, n)
	tok := func(i int) device.Token { return device.TokenFromRaw(fmt.Sprintf("device-%024d!", i)) }
	for i := range jobs {
		jobs[i] = &job.Job{ID: fmt.Sprintf("d-%d", i), To: job.Recipients{Tokens: []device.Token{tok(i)}}, Notification: &job.Notification{Title: "Hello"}}
	}
	if _, err := p.EnqueueBatch(r.ctx, "shop", job.Bulk, jobs); err != nil {
		t.Fatal(err)
	}
	r.inStream(js, stream.Dead, n)
	if err := nc.Publish("push.jobs.shop.bulk", []byte(`{"to":{"tokens":["zz","`+tok(0).Hex()+`"]}}`)); err != nil {
		t.Fatal(err)
	}
	r.inStream(js, stream.Dead, n+1)

	// Looked at.
	r.want(0, []string{"dead-letter", "list", "--limit", "2"}, "NUMBER APP GIVEN UP", "PayloadTooLarge", "there are more")
	if out := r.want(0, []string{"dead-letter", "list", "--limit", "0"}); strings.Count(out, "PayloadTooLarge") != n {
		t.Errorf("list: got %d rows, want %d", strings.Count(out, "PayloadTooLarge"), n)
	}
	var listed []map[string]any
	if err := json.Unmarshal([]byte(r.want(0, []string{"dead-letter", "list", "--reason", "payloadtoo", "--limit", "0", "-o", "json"})), &listed); err != nil || len(listed) != n {
		t.Fatalf("list as JSON: got %d, %v, want %d", len(listed), err, n)
	}
	for key, want := range map[string]any{"app": "shop", "recipients": 1.0, "attempts": 1.0, "deliveries": 1.0, "subject": "push.jobs.shop.bulk"} {
		if listed[0][key] != want {
			t.Errorf("%s: got %v, want %v", key, listed[0][key], want)
		}
	}
	r.want(0, []string{"dead-letter", "list", "--older-than", "1h"}, "no dead letters")
	r.want(0, []string{"dead-letter", "list", "--campaign", "spring"}, "no dead letters")
	for _, output := range []string{"table", "json"} {
		for _, number := range []string{"1", fmt.Sprint(n + 1)} {
			shown := r.want(0, []string{"dead-letter", "show", number, "-o", output}, "push.jobs.shop.bulk", "Push-Reason")
			full := r.want(0, []string{"dead-letter", "show", number, "-o", output, "--full"})
			if long := regexp.MustCompile(`[0-9a-f]{50}`); long.MatchString(shown) || !long.MatchString(full) {
				t.Errorf("show %s as %s: want device tokens in full with --full only:\n%s\n%s", number, output, shown, full)
			}
		}
	}
	r.want(1, []string{"dead-letter", "show", "99999"}, "there is no dead letter 99999")

	// Nothing changes by accident.
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"redrive"}, 2, "say which"},
		{[]string{"purge"}, 2, "say which"},
		{[]string{"purge", "x"}, 2, "is no dead letter's number"},
		{[]string{"purge", "1", "--app", "shop"}, 2, "not both"},
		{[]string{"redrive", "--all", "--app", "shop"}, 2, "not both"},
		{[]string{"redrive", "--all", "--rate", "-1"}, 2, "--rate"},
		{[]string{"list", "--older-than", "1"}, 2, "--older-than"},
		{[]string{"list", "--older-than", "2h", "--newer-than", "1h"}, 2, "nothing between"},
		{[]string{"list", "--app", "*"}, 2, "--app"},
		{[]string{"list", "--limit", "-1"}, 2, "--limit"},
		{[]string{"list", "-o", "xml"}, 2, "--output"},
		{[]string{"redrive", "--all"}, 2, "give --yes"},
		{[]string{"purge", "--all"}, 2, "give --yes"},
		{[]string{"redrive", "99999", "--yes"}, 1, "no such dead letter"},
		{[]string{"redrive", "--reason", "payloadtoolarge", "--dry-run"}, 0, "1000 letters to redrive, in about 10s"},
		{[]string{"purge", "--all", "--dry-run"}, 0, "1001 letters to delete"},
	} {
		r.want(tc.code, append([]string{"dead-letter"}, tc.args...), tc.want)
	}
	r.inStream(js, stream.Dead, n+1)

	// Redriven.
	r.faults(`{}`)
	began := time.Now()
	r.want(0, []string{"dead-letter", "redrive", "--reason", "PayloadTooLarge", "--rate", "400", "--yes"}, "redrive: 1000 of 1000 letters, done", "redrove 1000 letters to 1000 recipients")
	if took := time.Since(began); took < 2400*time.Millisecond {
		t.Errorf("1000 letters at 400 a second: took %s, want 2.5 s at least", took)
	}
	r.inStream(js, stream.Jobs, 0)
	r.inStream(js, stream.Dead, 1)
	text, err := r.get(r.adminURL + "/ledger")
	if err != nil {
		t.Fatal(err)
	}
	var ledger []struct {
		DeviceToken string `json:"device_token"`
		APNsID      string `json:"apns_id"`
		Status      int    `json:"status"`
	}
	if err := json.Unmarshal(text, &ledger); err != nil {
		t.Fatal(err)
	}
	accepted := make(map[string]int)
	for _, e := range ledger {
		if e.Status == 200 {
			accepted[e.DeviceToken+" "+e.APNsID]++
		}
	}
	for i := range n {
		key := tok(i).Hex() + " " + job.APNsID("shop", fmt.Sprintf("d-%d", i), tok(i)).String()
		if accepted[key] != 1 {
			t.Errorf("token %d: accepted %d times with the job's apns-id, want once", i, accepted[key])
		}
	}
	if len(accepted) != n {
		t.Errorf("accepted: got %d kinds, want %d", len(accepted), n)
	}

	// What is still no job comes back, and is purged.
	r.want(0, []string{"dead-letter", "redrive", fmt.Sprint(n + 1), "--yes"}, "redrove 1 letter to 0 recipients")
	r.inStream(js, stream.Jobs, 0)
	r.inStream(js, stream.Dead, 1)
	r.want(0, []string{"dead-letter", "purge", "--reason", "to.tokens", "--yes"}, "purge: 1 of 1 letters, done", "deleted 1 letter")
	r.inStream(js, stream.Dead, 0)
	if err := r.stop(w); err != nil {
		t.Errorf("worker: %v", err)
	}
}

// Letters that cannot go back stay, and workers that would drop them are seen.
func TestDeadLettersThatStay(t *testing.T) {
	r := newRig(t)
	nc, js := r.jetStream()
	if _, err := stream.Open(r.ctx, nc, stream.Config{}); err != nil {
		t.Fatal(err)
	}
	put := func(app string, headers ...string) {
		t.Helper()
		msg := nats.NewMsg(stream.DeadSubject(app))
		msg.Data = []byte("{}")
		for i := 0; i < len(headers); i += 2 {
			msg.Header.Set(headers[i], headers[i+1])
		}
		if _, err := js.PublishMsg(r.ctx, msg); err != nil {
			t.Fatal(err)
		}
	}
	bulk := stream.JobsSubject("shop", job.Bulk)
	put("shop", stream.HeaderSubject, bulk, stream.HeaderReason, "large", stream.HeaderCut, "9 sha256:00")
	put("shop", stream.HeaderSubject, stream.DevicesSubject("shop"), stream.HeaderReason, "device")
	put("shop", stream.HeaderSubject, bulk, stream.HeaderReason, "late", stream.HeaderExpires, time.Now().Add(-time.Hour).Format(time.RFC3339Nano))
	put("ghost", stream.HeaderSubject, stream.JobsSubject("ghost", job.Bulk), stream.HeaderReason, "unknown app")
	hex := strings.Repeat("0a1b2c3d", 8)
	put("shop", stream.HeaderSubject, stream.DevicesSubject("shop"), stream.HeaderReason, strings.Repeat("why ", 10)+hex)
	put("shop", stream.HeaderSubject, bulk, stream.HeaderReason, "evil \x1b[2J "+strings.Repeat("x", 300))

	r.want(0, []string{"dead-letter", "redrive", "--all", "--dry-run"}, "no worker is running", "2 letters to redrive",
		"stays: its body was cut", "stays: it is a device change", "stays: the job's time is over")
	if out := r.want(0, []string{"dead-letter", "list"}); strings.Contains(out, "\x1b") || strings.Contains(out, strings.Repeat("x", 100)) {
		t.Errorf("list: got %q, want reasons that a terminal can show, shortened", out)
	}
	for _, args := range [][]string{{"list"}, {"list", "--output", "json"}, {"purge", "--all", "--dry-run"}} {
		if out := r.want(0, append([]string{"dead-letter"}, args...), "why 0a1b2c…"); strings.Contains(out, hex[:12]) {
			t.Errorf("%v: got %s, want the device token shortened", args, out)
		}
	}
	if out := r.want(0, []string{"dead-letter", "show", "6"}); strings.Contains(out, "\x1b") {
		t.Errorf("show: got %q, want no control characters", out)
	}

	workers, err := js.KeyValue(r.ctx, "pushfleet-workers")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := workers.Put(r.ctx, "old", []byte(`{"version":"v0.1.0","apps":["shop"]}`)); err != nil {
		t.Fatal(err)
	}
	r.want(0, []string{"dead-letter", "redrive", "--all", "--dry-run"}, "a worker of version v0.1.0 would drop it", "no worker knows app ghost", "1 letter to redrive")
	r.want(1, []string{"dead-letter", "redrive", "--all", "--yes"}, "redrove 1 letter", "5 letters cannot be redriven and stay")
	r.inStream(js, stream.Dead, 5)
	r.inStream(js, stream.Jobs, 1)

	// Older ones in one go, then by what they say.
	r.want(0, []string{"dead-letter", "purge", "3", "--yes"}, "deleted 1 letter")
	r.want(0, []string{"dead-letter", "purge", "--campaign", "spring", "--yes"}, "0 letters to delete")
	r.want(0, []string{"dead-letter", "purge", "--app", "shop", "--yes"}, "deleted 4 letters")
	r.inStream(js, stream.Dead, 0)
}

// Interrupted, redriving ends between two letters; killed, anywhere. Either way
// going on sends every letter once.
func TestRedriveIsInterrupted(t *testing.T) {
	r := newRig(t)
	nc, js := r.jetStream()
	if _, err := stream.Open(r.ctx, nc, stream.Config{}); err != nil {
		t.Fatal(err)
	}
	const n = 300
	for i := range n {
		tok := device.TokenFromRaw(fmt.Sprintf("device-%024d!", i))
		body, err := (&job.Job{ID: fmt.Sprintf("i-%d", i), To: job.Recipients{Tokens: []device.Token{tok}}, Notification: &job.Notification{Title: "x"}}).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		msg := nats.NewMsg(stream.DeadSubject("shop"))
		msg.Data = body
		msg.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("dead/%d/00", i))
		for name, value := range map[string]string{
			stream.HeaderSubject: "push.jobs.shop.bulk", stream.HeaderReason: "PayloadTooLarge", stream.HeaderRoot: fmt.Sprintf("i-%d", i), stream.HeaderRecipients: "1",
		} {
			msg.Header.Set(name, value)
		}
		if _, err := js.PublishMsg(r.ctx, msg); err != nil {
			t.Fatal(err)
		}
	}
	redrive := []string{"dead-letter", "redrive", "--all", "--rate", "100", "--yes", "-c", r.config}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		left := r.count(js, stream.Dead)
		p := r.start(nil, filepath.Join(r.bin, "pushfleet"), redrive...)
		r.until("some are redriven", func() error {
			if now := r.count(js, stream.Dead); now > left-20 {
				return fmt.Errorf("%d letters left", now)
			}
			return nil
		})
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		err := <-p.done
		p.done <- err // for the clean-up
		if signal == syscall.SIGINT {
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(p.out.String(), "interrupted: ") {
				t.Errorf("interrupted: got %v, %s", err, p.out)
			}
			// It says how far it came, and that is so.
			dead, jobs := r.count(js, stream.Dead), r.count(js, stream.Jobs)
			if dead+jobs != n || !strings.Contains(p.out.String(), fmt.Sprintf("redrove %d letters to %d recipients", jobs, jobs)) {
				t.Errorf("interrupted: got %d letters and %d jobs of %d, and it says %s", dead, jobs, n, p.out)
			}
		}
	}
	r.want(0, []string{"dead-letter", "redrive", "--all", "--rate", "0", "--yes"}, "redrove")
	r.inStream(js, stream.Dead, 0)
	r.inStream(js, stream.Jobs, n)
	r.worker("w1")
	r.inStream(js, stream.Jobs, 0)
	st, err := r.stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Accepted != n || st.Duplicates != 0 {
		t.Errorf("accepted: got %d, %d of them twice, want %d once each", st.Accepted, st.Duplicates, n)
	}
}

func (r *rig) count(js jetstream.JetStream, name string) uint64 {
	r.t.Helper()
	st, err := js.Stream(r.ctx, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}
