package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nats-io/nats.go/jetstream"
)

// The numbers of the fleet are those of the API, and change without a reload.
func TestFleet(t *testing.T) {
	f := setup(t)
	tokens := f.devices(t, "f1ee7000", 1201, nil)
	f.must(t, http.MethodDelete, "/v1/apps/demo/devices/"+tokens[1200], nil, nil)
	// An API counts device tokens once a minute: a new one has these.
	f.api.stop()
	if err := f.startAPI(); err != nil {
		t.Fatal(err)
	}
	p := open(t, f, f.admin, "#/fleet")
	p.until("the worker", `document.querySelector("[data-tile=Workers] .value").innerText === "1"`)
	cell := func(table, column string) string {
		return fmt.Sprintf(`(() => {
			const table = document.querySelector('[aria-label=%q] table');
			const n = [...table.querySelectorAll("thead th")].findIndex((th) => th.innerText.trim() === %q);
			return table.querySelector("tbody tr").children[n].firstChild.textContent;
		})()`, table, column)
	}
	// What is sent is seen.
	accepted := eval[string](p, cell("Workers", "Accepted"))
	for i := range 3 {
		f.must(t, http.MethodPost, "/v1/apps/demo/notifications", map[string]any{
			"to": map[string]any{"tokens": tokens[400*i : 400*(i+1)]}, "notification": map[string]any{"title": "x"},
		}, nil)
	}
	p.until("a rate", `/^[1-9]/.test(document.querySelector("[data-tile=Rate] .value").innerText)`)
	p.until("a p99", `/ms|s$/.test(document.querySelector("[data-tile=p99] .value").innerText)`)
	p.until("more accepted than "+accepted, fmt.Sprintf(`%s !== %q`, cell("Workers", "Accepted"), accepted))
	// Once it is quiet, they are the same.
	type overview struct {
		Workers []struct {
			Apps map[string]struct{ Accepted, Rejected, Failed, Connections int64 }
		}
		Apps map[string]struct {
			Devices struct{ Active, Quarantined, Removed int64 }
		}
	}
	err := until("the page and the API to say the same", func() error {
		var o overview
		if err := f.ask(http.MethodGet, "/v1/fleet", nil, &o); err != nil {
			return err
		}
		if len(o.Workers) != 1 {
			return fmt.Errorf("got %d workers, want 1", len(o.Workers))
		}
		w, d := o.Workers[0].Apps["demo"], o.Apps["demo"].Devices
		if d.Active < 1200 || w.Accepted < 1200 {
			return fmt.Errorf("got %d devices, %d accepted, want 1200 at least", d.Active, w.Accepted)
		}
		for _, c := range []struct {
			table, column string
			want          int64
		}{
			{"Workers", "Accepted", w.Accepted},
			{"Workers", "Rejected", w.Rejected},
			{"Workers", "Failed", w.Failed},
			{"Device tokens", "Active", d.Active},
			{"Device tokens", "Quarantined", d.Quarantined},
			{"Device tokens", "Removed", d.Removed},
		} {
			if got := eval[string](p, cell(c.table, c.column)); got != thousands(c.want) {
				return fmt.Errorf("%s, %s: got %s, want %s", c.table, c.column, got, thousands(c.want))
			}
		}
		if got := eval[string](p, `document.querySelector("[data-tile=Connections] .value").innerText`); got != fmt.Sprint(w.Connections) {
			return fmt.Errorf("connections: got %s, want %d", got, w.Connections)
		}
		return nil
	})
	if err != nil {
		p.fail("%v", err)
	}
	p.until("lines of the last minutes", `document.querySelectorAll("svg.spark path.line").length === 3`)
	p.until("a reason of a removal", `document.querySelector("[data-app=demo] .reasons li")?.innerText.includes("100 %")`)
}

// thousands is a number as the page writes it.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

type campaignState struct {
	State  string
	Rate   int
	Counts struct{ Devices int64 }
}

// campaign asks the API for one.
func (f *fleet) campaign(t *testing.T, id string) campaignState {
	t.Helper()
	var c campaignState
	f.must(t, http.MethodGet, "/v1/apps/demo/campaigns/"+id, nil, &c)
	return c
}

// A campaign's bar moves by events. Pausing pauses, pacing paces, cancelling asks first.
func TestCampaign(t *testing.T) {
	f := setup(t)
	f.devices(t, "ca3b0000", 20_000, nil) // twenty ranges: the counts grow by those
	p := open(t, f, f.admin, "#/campaigns?state=running")
	p.sees("No campaign is like that")
	f.must(t, http.MethodPost, "/v1/apps/demo/campaigns", map[string]any{
		"id": "spring sale/1", "audience": map[string]any{"all": true}, "notification": map[string]any{"title": "Spring"}, "rate": 800,
	}, nil)
	const row = `document.querySelector('tr[data-campaign="spring sale/1"]')`
	const escaped = "spring%20sale%2F1"
	now := row + `?.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow")`
	p.until("the campaign in the list, by an event", row)
	p.until("its bar", fmt.Sprintf(`Number(%s) > 0`, now))
	first := eval[string](p, now)
	p.until("its bar to move", fmt.Sprintf(`Number(%s) > %s`, now, first))
	p.mu.Lock()
	if p.loads != 1 {
		t.Errorf("the page was loaded %d times, want once", p.loads)
	}
	p.mu.Unlock()

	// Pause.
	p.goTo("#/campaigns")
	p.click(button("Pause spring sale/1"))
	p.until("the page to say so", row+`.querySelector(".badge").innerText === "paused"`)
	c := f.campaign(t, escaped)
	if c.State != "paused" {
		t.Fatalf("the API says %s, want paused", c.State)
	}
	// Two seconds are what a pause may take; then nothing is counted any more.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var settled int64
	for began := time.Now(); time.Since(began) < 6*time.Second; <-tick.C {
		got := f.campaign(t, escaped).Counts.Devices
		if time.Since(began) < 3*time.Second {
			settled = got
		} else if got != settled {
			t.Fatalf("paused: got %d devices, want %d still", got, settled)
		}
	}
	if settled == 0 || settled >= 20_000 {
		t.Fatalf("paused: got %d devices, want some of them", settled)
	}

	// Pace: Escape leaves it, and a number that is none is not sent.
	p.click(button("Pace… spring sale/1"))
	p.until("the dialog", `document.querySelector("dialog[open] input")`)
	p.do(chromedp.KeyEvent(kb.Escape))
	p.until("no dialog", `!document.querySelector("dialog")`)
	p.click(button("Pace… spring sale/1"))
	p.until("the dialog", `document.querySelector("dialog[open] input")`)
	p.fill("dialog input", "-5")
	p.click(button("Change the pace"))
	p.until("the input to be refused", `document.querySelector("dialog[open] input:invalid")`)
	p.fill("dialog input", "1000")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("no dialog", `!document.querySelector("dialog")`)
	if c := f.campaign(t, escaped); c.Rate != 1000 || c.State != "paused" {
		t.Errorf("paced: got %d, %s, want 1000, paused", c.Rate, c.State)
	}
	p.until("the pace in the list", row+`.innerText.includes("1,000/s")`)

	// Resume, on its own page; what somebody else does is seen there too.
	p.click(`tr[data-campaign="spring sale/1"] a`)
	p.until("the campaign's page", `document.querySelector("h1").innerText.startsWith("spring sale/1")`)
	p.click(button("Resume spring sale/1"))
	p.until("it to run", `document.querySelector("h1 .badge").innerText === "running"`)
	f.must(t, http.MethodPost, "/v1/apps/demo/campaigns/"+escaped+"/pause", nil, nil)
	p.until("the pause of somebody else", `document.querySelector("h1 .badge").innerText === "paused"`)
	p.do(chromedp.NavigateBack())
	p.until("the list again", row)

	// Cancel asks.
	p.click(button("Cancel… spring sale/1"))
	p.until("the question", `document.querySelector("dialog[open]")?.innerText.includes("cannot be resumed")`)
	p.click(button("Keep it as it is"))
	p.until("no dialog", `!document.querySelector("dialog")`)
	if c := f.campaign(t, escaped); c.State != "paused" {
		t.Fatalf("after keeping it: got %s, want paused", c.State)
	}
	p.click(button("Cancel… spring sale/1"))
	p.click(button("Cancel the campaign"))
	p.until("it to be cancelled", row+`.querySelector(".badge").innerText === "cancelled"`)
	if c := f.campaign(t, escaped); c.State != "cancelled" {
		t.Errorf("the API says %s, want cancelled", c.State)
	}
	p.until("no buttons any more", row+`.querySelector("button") === null`)
	// What the API refuses is said where it was asked.
	f.must(t, http.MethodPost, "/v1/apps/demo/campaigns", map[string]any{
		"id": "gone", "audience": map[string]any{"all": true}, "notification": map[string]any{"title": "x"}, "start_at": "2100-01-01T00:00:00Z",
	}, nil)
	p.until("another campaign", `document.querySelector("tr[data-campaign=gone] button")`)
	p.goTo("#/campaigns/demo/nosuch")
	p.sees("the app has no campaign with this id")
}

// Dead letters are filtered, shown, redriven and purged.
func TestDeadLetters(t *testing.T) {
	f := setup(t)
	tokens := f.devices(t, "dead0000", 4, nil)
	f.faults(t, map[string]any{"requests": []any{map[string]any{
		"match": map[string]any{"token_prefix": "dead0000"}, "answer": map[string]any{"status": 413, "reason": "PayloadTooLarge"},
	}}})
	defer f.faults(t, nil)
	for i, token := range tokens {
		f.must(t, http.MethodPost, "/v1/apps/demo/notifications", map[string]any{
			"id": fmt.Sprintf("dead-%d", i), "to": map[string]any{"tokens": []string{token}}, "notification": map[string]any{"title": "x"},
		}, nil)
	}
	if _, err := f.jetStream(t).Publish(context.Background(), "push.jobs.demo.transactional", []byte(`{"no job`)); err != nil {
		t.Fatal(err)
	}
	letters := func(query string) int {
		t.Helper()
		var list struct {
			Letters []json.RawMessage `json:"dead_letters"`
		}
		f.must(t, http.MethodGet, "/v1/apps/demo/dead-letters?"+query, nil, &list)
		return len(list.Letters)
	}
	if err := until("five dead letters", func() error {
		if n := letters(""); n != 5 {
			return fmt.Errorf("got %d", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p := open(t, f, f.admin, "#/dead-letters")
	p.until("all of them", `document.querySelectorAll("tr[data-letter]").length === 5`)
	p.fill("input[name=reason]", "payloadtoolarge")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("those that match", `document.querySelectorAll("tr[data-letter]").length === 4 && location.hash.includes("reason=payloadtoolarge")`)
	p.fill("input[name=job]", "dead-2")
	p.click(button("Filter"))
	p.until("one job's", `document.querySelectorAll("tr[data-letter]").length === 1`)
	p.do(chromedp.Reload())
	p.until("the same after a reload", `document.querySelectorAll("tr[data-letter]").length === 1 && document.querySelector("input[name=job]").value === "dead-2"`)

	// Shown without whole device tokens, and as text.
	p.click(`tr[data-letter] button`)
	p.until("the letter", `document.querySelector("dialog.sheet[open]")?.innerText.includes("PayloadTooLarge") && document.querySelector("dialog.sheet pre[aria-label=Body]").innerText.includes("dead00…")`)
	if eval[bool](p, fmt.Sprintf(`document.body.innerText.includes(%q)`, tokens[2])) {
		t.Error("a dead letter shows a whole device token")
	}
	p.do(chromedp.KeyEvent(kb.Escape))
	p.until("no dialog", `!document.querySelector("dialog")`)

	// Redrive one, with the cause mended: it is sent.
	f.faults(t, nil)
	p.click(`tr[data-letter] input[type=checkbox]`)
	p.click(button("Redrive 1…"))
	p.until("the question", `document.querySelector("dialog[open]")?.innerText.includes("Redrive 1 dead letter?")`)
	if n := letters("job=dead-2"); n != 1 {
		t.Fatalf("before the answer: got %d letters of the job, want 1", n)
	}
	p.click(`//dialog` + button("Redrive"))
	p.sees("1 dead letter redriven.")
	p.sees("No dead letter is like that")
	if err := until("it to be sent", func() error {
		var sent []json.RawMessage
		if err := f.request(f.sim+"/ledger?token="+tokens[2], http.MethodGet, "", nil, &sent); err != nil {
			return err
		}
		if n := letters("job=dead-2"); n != 0 || !strings.Contains(fmt.Sprintf("%s", sent), `"status":200`) {
			return fmt.Errorf("got %d letters, and at APNs %s", n, sent)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	// Purge all that match, which takes nothing else.
	p.goTo("#/dead-letters?reason=PayloadTooLarge")
	p.until("those that are left", `document.querySelectorAll("tr[data-letter]").length === 3`)
	p.click(button("Purge all that match…"))
	p.until("the question", `document.querySelector("dialog[open]")?.innerText.includes("Purge 3 dead letters?")`)
	p.click(`//dialog` + button("Purge"))
	p.sees("3 dead letters purged.")
	if all, left := letters(""), letters("reason=PayloadTooLarge"); all != 1 || left != 0 {
		t.Errorf("got %d letters, %d of the reason, want the one of another reason", all, left)
	}
	// What cannot be redriven is said to stay.
	p.goTo("#/dead-letters")
	p.until("the one that is left", `document.querySelectorAll("tr[data-letter]").length === 1`)
	p.click(button("Purge all that match…"))
	p.click(`//dialog` + button("Purge"))
	p.sees("Nothing was given up for demo")
}

// "Why did it not arrive?": a job, a user, a device token, and both.
func TestLookUp(t *testing.T) {
	f := setup(t)
	tokens := f.devices(t, "100c0000", 2, func(i int) string { return []string{"ada/lovelace", "grace"}[i] })
	f.faults(t, map[string]any{"requests": []any{map[string]any{
		"match": map[string]any{"token_prefix": tokens[1]}, "answer": map[string]any{"status": 410, "reason": "Unregistered", "timestamp": time.Now().Add(time.Hour).UnixMilli()},
	}}})
	defer f.faults(t, nil)
	f.must(t, http.MethodPost, "/v1/apps/demo/notifications", map[string]any{
		"id": "look-1", "to": map[string]any{"users": []string{"ada/lovelace", "grace", "nobody"}}, "notification": map[string]any{"title": "x"},
	}, nil)
	if err := until("the job to be done", func() error {
		var j struct{ State string }
		if err := f.ask(http.MethodGet, "/v1/apps/demo/notifications/look-1", nil, &j); err != nil {
			return err
		}
		if j.State != "done" {
			return errors.New(j.State)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p := open(t, f, f.admin, "#/look-up")

	// A job.
	p.fill("input[name=id]", "look-1")
	p.click(button("Look up"))
	p.until("its recipients", `document.querySelector('[aria-label=Recipients]')?.querySelectorAll("tbody tr").length === 3`)
	text := eval[string](p, `document.querySelector('[aria-label=Recipients]').innerText`)
	for _, want := range []string{"accepted", "rejected", "Unregistered", "100c00…", "user nobody"} {
		if !strings.Contains(text, want) {
			t.Errorf("recipients: got %s, want %s in it", text, want)
		}
	}
	if strings.Contains(text, tokens[0]) {
		t.Error("the recipients of a job show whole device tokens")
	}

	// A user, and a device token that is no user's any more, and why.
	p.fill("input[name=name]", "ada/lovelace")
	p.click(button("Look up"))
	p.until("why", `document.querySelector(".verdict")?.innerText.includes("accepted by APNs")`)
	p.do(chromedp.SetValue(chromedp.CSS("select[name=who]"), "token"))
	p.fill("input[name=name]", tokens[1])
	p.click(button("Look up"))
	p.until("why not", `document.querySelector(".verdict")?.innerText.includes("Unregistered")`)
	p.do(chromedp.SetValue(chromedp.CSS("select[name=who]"), "user"))
	p.fill("input[name=id]", "")
	p.fill("input[name=name]", "ada/lovelace")
	p.click(button("Look up"))
	p.until("the user's devices", `document.querySelector("h2")?.innerText === "Devices of ada/lovelace" && document.querySelector(".card .badge").innerText === "live"`)
	p.do(chromedp.Reload())
	p.until("the same after a reload", `document.querySelector("h2")?.innerText === "Devices of ada/lovelace"`)
	p.fill("input[name=name]", "nobody")
	p.click(button("Look up"))
	p.sees("nobody has no device")

	// A device token: whole, since it was asked for, and not in the URL; a reload keeps it.
	p.do(chromedp.SetValue(chromedp.CSS("select[name=who]"), "token"))
	p.fill("input[name=name]", strings.ToUpper(tokens[1]))
	p.click(button("Look up"))
	p.until("the device", fmt.Sprintf(`document.querySelector("code.whole")?.innerText === %q && document.querySelector(".card .badge").innerText === "removed"`, tokens[1]))
	if hash := eval[string](p, `location.href`); strings.Contains(strings.ToLower(hash), tokens[1]) {
		t.Errorf("the URL has the device token: %s", hash)
	}
	p.do(chromedp.Reload())
	p.until("the same after a reload", `document.querySelector("code.whole")`)
	p.fill("input[name=name]", "zz")
	p.click(button("Look up"))
	p.sees("device token holds something other than hex digits")
	p.fill("input[name=id]", "nosuch")
	p.fill("input[name=name]", "")
	p.click(button("Look up"))
	p.sees("Nothing is known of a job with this id")
}

// A tripped fuse is seen in every view, and reset after a question.
func TestFuse(t *testing.T) {
	f := setup(t)
	kv, err := f.jetStream(t).KeyValue(context.Background(), "pushfleet")
	if err != nil {
		t.Fatal(err)
	}
	// As the recorder writes it: 200 of 210 devices that worked are too many to reject.
	trip := func() {
		t.Helper()
		entry, err := kv.Get(context.Background(), "fuse.demo.production")
		fuse := map[string]any{}
		if err == nil {
			err = json.Unmarshal(entry.Value(), &fuse)
		} else if errors.Is(err, jetstream.ErrKeyNotFound) {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]any{"tripped": true, "tripped_at": time.Now(), "tripped_by": "local", "rejected": 200, "sent": 210, "undone": true} {
			fuse[name] = v
		}
		text, err := json.Marshal(fuse)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(context.Background(), "fuse.demo.production", text); err != nil {
			t.Fatal(err)
		}
	}
	trip()
	reader := open(t, f, f.key(t, "read"), "#/fleet")
	reader.until("the fuse", `document.querySelector("[data-fuse=demo] .badge")?.innerText === "tripped"`)
	reader.sees("it needs the scope admin")
	p := open(t, f, f.admin, "#/look-up")
	p.until("the banner", `document.querySelector(".banner.fuse")?.innerText.includes("nothing is sent for demo (production)")`)
	p.click(`.banner.fuse a`)
	p.sees("200 rejected of 210 sent")
	p.click(button("Reset the fuse of demo, production"))
	p.until("the question", `document.querySelector("dialog[open]")?.innerText.includes("Once the cause is mended")`)
	p.click(button("Reset the fuse"))
	p.until("it to be closed", `document.querySelector("[data-fuse=demo] .badge").innerText === "closed" && !document.querySelector(".banner.fuse")`)
	var list struct {
		Fuses []struct {
			Tripped bool
			ResetBy string `json:"reset_by"`
		}
	}
	f.must(t, http.MethodGet, "/v1/apps/demo/fuses", nil, &list)
	if len(list.Fuses) != 1 || list.Fuses[0].Tripped || !strings.Contains(list.Fuses[0].ResetBy, strings.Split(f.admin, "_")[1]) {
		t.Errorf("the API says %+v, want it reset by the key", list.Fuses)
	}
	reader.until("others to see it", `document.querySelector("[data-fuse=demo] .badge").innerText === "closed"`)
}
