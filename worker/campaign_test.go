package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// sendsCampaigns lets a worker take campaigns.
func (f *fixture) sendsCampaigns(c *worker.Config) { c.Campaigns = f.set }

// registerMany registers n devices that differ as with says.
func (f *fixture) registerMany(n int, with func(i int, r *device.Registration)) {
	f.t.Helper()
	for batch := range slices.Chunk(tokens(0, n), 1000) {
		regs := make([]device.Registration, len(batch))
		for i, t := range batch {
			regs[i] = device.Registration{Token: t, Environment: device.Production}
			if with != nil {
				with(i, &regs[i])
			}
		}
		done, err := f.set.RegisterMany(f.ctx, "shop", regs)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, d := range done {
			if d.Err != nil {
				f.t.Fatal(d.Err)
			}
		}
	}
}

// create creates a campaign from JSON.
func (f *fixture) create(definition string) campaign.Status {
	f.t.Helper()
	return f.createAt(definition, time.Now())
}

// createAt creates a campaign as it was created at a time, which is its start if it
// names none.
func (f *fixture) createAt(definition string, at time.Time) campaign.Status {
	f.t.Helper()
	c, err := campaign.Parse([]byte(definition))
	if err != nil {
		f.t.Fatal(err)
	}
	st, _, err := f.js.NewCampaign(f.ctx, "shop", c, at)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

// reaches waits until a campaign is in a state.
func (f *fixture) reaches(id string, want campaign.State) campaign.Status {
	f.t.Helper()
	var st campaign.Status
	f.eventually(fmt.Sprintf("campaign %s to be %s", id, want), func() (string, bool) {
		var err error
		if st, err = f.js.Campaign(f.ctx, "shop", id); err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%+v", st), st.State == want
	})
	return st
}

func (f *fixture) totals(st campaign.Status) store.Totals {
	f.t.Helper()
	totals, err := f.set.CampaignTotals(f.ctx, "shop", st.ID, st.Ranges)
	if err != nil {
		f.t.Fatal(err)
	}
	return totals
}

// times counts how often each device token was sent to.
func times(sent []apns.Notification) map[device.Token]int {
	n := make(map[device.Token]int)
	for i := range sent {
		n[sent[i].DeviceToken]++
	}
	return n
}

func wantCounts(t *testing.T, got store.Totals, want map[string]int64) {
	t.Helper()
	sum := int64(0)
	for label, n := range got.Counts {
		sum += n
		if want[label] != n {
			t.Errorf("counts: got %d %s, want %d", n, label, want[label])
		}
	}
	for label, n := range want {
		if got.Counts[label] != n {
			t.Errorf("counts: got %d %s, want %d", got.Counts[label], label, n)
		}
	}
	if sum != got.Matched {
		t.Errorf("counts: got %d in all, want as many as matched, %d", sum, got.Matched)
	}
}

func TestCampaignToAll(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(7) {
			return apns.Response{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour).UnixMilli()}
		}
		return accept(n)
	})
	f.registerMany(3000, nil)
	f.start(options{change: f.sendsCampaigns})
	f.start(options{name: "w2", change: f.sendsCampaigns})
	f.create(`{"id":"all","audience":{"all":true},"notification":{"title":"Hello"},"collapse_id":"c"}`)
	st := f.reaches("all", campaign.Done)
	sent := f.sender.got()
	for to, n := range times(sent) {
		if n != 1 {
			t.Errorf("device %v: got %d notifications, want 1", to, n)
		}
	}
	if len(sent) != 3000 || string(sent[0].Payload) != `{"aps":{"alert":{"title":"Hello"}}}` || sent[0].CollapseID != "c" {
		t.Errorf("got %d notifications, the first with %s and collapse id %q", len(sent), sent[0].Payload, sent[0].CollapseID)
	}
	totals := f.totals(st)
	wantCounts(t, totals, map[string]int64{"accepted": 2999, "rejected:Unregistered": 1})
	if totals.Devices != 3000 || st.Devices != 3000 || totals.Ranges != int64(st.Ranges) || totals.Duplicates != 0 {
		t.Errorf("got %+v of %+v, want 3000 devices, all ranges, no duplicates", totals, st)
	}
	d, ok, err := f.set.Device(f.ctx, "shop", token(7))
	if err != nil || !ok || d.Record.State != device.Removed {
		t.Errorf("the dead device: got %v, %v, %v, want it removed", d.Record.State, ok, err)
	}
	f.drained()
	closed := func() (string, bool) {
		st, err := f.js.Campaign(f.ctx, "shop", "all")
		return fmt.Sprintf("%+v %v", st, err), err == nil && st.Closed
	}
	f.eventually("the campaign to be closed", closed)
}

func TestCampaignToAFewByTag(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(5000, func(i int, r *device.Registration) {
		if i%100 == 0 {
			r.Tags = []string{"gold"}
		}
		if i%100 == 50 {
			r.Tags = []string{"silver", "gold"}
		}
	})
	f.start(options{change: f.sendsCampaigns})
	f.create(`{"id":"few","audience":{"tags":{"any":["gold","silver"]}},"notification":{"title":"Hello"}}`)
	st := f.reaches("few", campaign.Done)
	if len(st.Tags) == 0 || st.Devices >= 1000 {
		t.Errorf("got %d devices by tags %q, want that only those of the tags were read", st.Devices, st.Tags)
	}
	wantCounts(t, f.totals(st), map[string]int64{"accepted": 100})
	if n := len(times(f.sender.got())); n != 100 {
		t.Errorf("got %d devices, want 100", n)
	}
}

func TestCampaignRendersForEach(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(30, func(i int, r *device.Registration) {
		r.Locale = []string{"de-AT", "fr", "en"}[i%3]
		if i < 20 {
			r.Attributes = map[string]string{"name": fmt.Sprintf("N\"%d", i)}
		}
	})
	f.start(options{change: f.sendsCampaigns})
	f.create(`{"id":"r","audience":{"all":true},"notification":{"title":"Hi {{attributes.name}}"},"localizations":{"de":{"title":"Servus {{attributes.name|du}}"}}}`)
	st := f.reaches("r", campaign.Done)
	for _, n := range f.sender.got() {
		d, _, err := f.set.Device(f.ctx, "shop", n.DeviceToken)
		if err != nil {
			t.Fatal(err)
		}
		want := "Hi " + d.Attributes["name"]
		if d.Locale == "de-AT" {
			want = "Servus " + d.Attributes["name"]
			if d.Attributes["name"] == "" {
				want = "Servus du"
			}
		}
		var got struct {
			APS struct{ Alert struct{ Title string } }
		}
		if err := json.Unmarshal(n.Payload, &got); err != nil || got.APS.Alert.Title != want {
			t.Errorf("got %s (%v), want the title %q", n.Payload, err, want)
		}
	}
	// Seven of those without a name are not German.
	totals := f.totals(st)
	if got := totals.Counts["skipped:no value for attributes.name"]; got == 0 || got+totals.Counts["accepted"] != 30 {
		t.Errorf("got %v, want some skipped and the rest accepted", totals.Counts)
	}
}

func TestPausedCampaignSendsTheRestOnce(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(4000, nil)
	f.start(options{change: f.sendsCampaigns})
	f.start(options{name: "w2", change: f.sendsCampaigns})
	f.create(`{"id":"p","audience":{"all":true},"notification":{"title":"Hello"},"rate":1000}`)
	f.eventually("the campaign to be under way", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n >= 500
	})
	paused := time.Now()
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "p", func(s *campaign.Status) error { return s.Pause(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	// The rate lets some 100 through until both workers have heard of it.
	f.sender.quiet(f, 2*time.Second)
	if last := f.sender.last(); last.Sub(paused) > 2*time.Second {
		t.Errorf("the last notification came %s after the pause, want at most 2 s", last.Sub(paused))
	}
	before := len(f.sender.got())
	if before >= 4000 {
		t.Fatalf("got %d notifications before the pause: too late to see anything", before)
	}
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "p", func(s *campaign.Status) error {
		s.Rate = 0
		return s.Resume(time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	st := f.reaches("p", campaign.Done)
	for to, n := range times(f.sender.got()) {
		if n != 1 {
			t.Errorf("device %v: got %d notifications, want 1", to, n)
		}
	}
	wantCounts(t, f.totals(st), map[string]int64{"accepted": 4000})
}

// last is when the last notification came.
func (s *sender) last() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// quiet waits until nothing has been sent for d.
func (s *sender) quiet(f *fixture, d time.Duration) {
	f.t.Helper()
	f.eventually("nothing more to be sent", func() (string, bool) {
		since := time.Since(s.last())
		return since.String(), since >= d
	})
}

func TestCancelledCampaignAddsUp(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(4000, nil)
	f.start(options{change: f.sendsCampaigns})
	f.create(`{"id":"x","audience":{"all":true},"notification":{"title":"Hello"},"rate":1000}`)
	f.eventually("the campaign to be under way", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n >= 500
	})
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "x", func(s *campaign.Status) error { return s.Cancel(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	f.sender.quiet(f, time.Second)
	f.drained()
	st := f.reaches("x", campaign.Cancelled)
	var totals store.Totals
	f.eventually("the counts to be those of the sender", func() (string, bool) {
		totals = f.totals(st)
		return fmt.Sprintf("%+v", totals), totals.Counts["accepted"] == int64(len(f.sender.got()))
	})
	rest := st.Devices - totals.Counts["accepted"] - totals.Counts["skipped:cancelled"]
	if rest < 0 || totals.Counts["accepted"] >= 4000 || totals.Duplicates != 0 {
		t.Errorf("got %+v of %d devices, want a part of them", totals, st.Devices)
	}
}

func TestCampaignWaitsForQuietHours(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(10, func(i int, r *device.Registration) {
		r.Timezone = "Etc/GMT"
		if i >= 5 {
			r.Timezone = "Etc/GMT-12" // twelve hours ahead
		}
	})
	now := time.Now().UTC()
	f.start(options{change: f.sendsCampaigns})
	f.create(fmt.Sprintf(`{"id":"q","audience":{"all":true},"notification":{"title":"Hello"},"quiet_hours":{"from":%q,"to":%q,"action":"defer"}}`,
		now.Add(-time.Hour).Format("15:04"), now.Add(time.Hour).Format("15:04")))
	f.eventually("those that are awake to be sent to", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n == 5
	})
	for _, n := range f.sender.got() {
		if d, _, _ := f.set.Device(f.ctx, "shop", n.DeviceToken); d.Timezone != "Etc/GMT-12" {
			t.Errorf("sent to a device in %s, want only those that are awake", d.Timezone)
		}
	}
	st, err := f.js.Campaign(f.ctx, "shop", "q")
	if err != nil || st.State != campaign.Running {
		t.Errorf("got %v, %v, want it to run until the others wake up", st.State, err)
	}
}

// A fleet that was down when a campaign was to start does not move the local times and
// the expiry that its author had in mind.
func TestCampaignThatStartsLateKeepsItsTimes(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(10, func(_ int, r *device.Registration) { r.Timezone = "Etc/GMT" })
	now := time.Now().UTC()
	planned := now.Add(-2 * time.Hour)
	f.createAt(fmt.Sprintf(`{"id":"nine","audience":{"all":true},"notification":{"title":"Hello"},"local_time":%q,"past_local_time":"skip"}`,
		now.Add(-time.Hour).Format("15:04")), planned)
	f.createAt(`{"id":"old","audience":{"all":true},"notification":{"title":"Hello"},"ttl":"1h"}`, planned)
	f.start(options{change: f.sendsCampaigns})
	for id, want := range map[string]map[string]int64{"nine": {"accepted": 10}, "old": {"expired": 10}} {
		wantCounts(t, f.totals(f.reaches(id, campaign.Done)), want)
	}
}

// The devices of ranges that were published twice may have been counted differently; in
// the end the count is that of what was read.
func TestDoneCampaignCountsTheDevicesThatWereRead(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(500, nil)
	f.start(options{change: f.sendsCampaigns})
	f.create(`{"id":"c","audience":{"all":true},"notification":{"title":"Hello"},"rate":100}`)
	f.eventually("the campaign to be divided", func() (string, bool) {
		st, err := f.js.Campaign(f.ctx, "shop", "c")
		return fmt.Sprint(st.State, err), st.Expanded
	})
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "c", func(s *campaign.Status) error {
		s.Devices += 4
		return s.SetRate(0)
	}); err != nil {
		t.Fatal(err)
	}
	st := f.reaches("c", campaign.Done)
	if totals := f.totals(st); st.Devices != 500 || totals.Devices != 500 {
		t.Errorf("got %d devices, and %d of them read, want 500", st.Devices, totals.Devices)
	}
}

func TestRunThatIsTooLateIsLeftOut(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(10, nil)
	// Due an hour ago, which nobody wants in the middle of the night; and five minutes ago.
	now := time.Now().UTC()
	for id, ago := range map[string]time.Duration{"late": time.Hour, "due": 5 * time.Minute} {
		due := now.Add(-ago)
		f.createAt(fmt.Sprintf(`{"id":%q,"audience":{"all":true},"notification":{"title":"Hello"},"ttl":"12h","recurrence":{"cron":"%d %d * * *"}}`,
			id, due.Minute(), due.Hour()), due.Add(-2*time.Minute))
	}
	f.start(options{change: f.sendsCampaigns})
	f.eventually("both to have a next run", func() (string, bool) {
		var text []string
		all := true
		for _, id := range []string{"late", "due"} {
			st, err := f.js.Campaign(f.ctx, "shop", id)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, id+" "+st.StartAt.String())
			all = all && st.StartAt.After(now)
		}
		return strings.Join(text, ", "), all
	})
	list, err := f.js.Campaigns(f.ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	var runs []string
	for _, st := range list {
		if st.Parent != "" {
			runs = append(runs, st.Parent)
		}
	}
	if fmt.Sprint(runs) != "[due]" {
		t.Errorf("got runs of %v, want one of due", runs)
	}
}

func TestCampaignSparesUsers(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(20, func(i int, r *device.Registration) { r.User = fmt.Sprint("u", i/2) })
	f.start(options{change: f.sendsCampaigns})
	for i, want := range []map[string]int64{{"accepted": 20}, {"skipped:frequency cap": 20}} {
		id := fmt.Sprint("c", i)
		f.create(fmt.Sprintf(`{"id":%q,"audience":{"all":true},"notification":{"title":"Hello"},"frequency_cap":{"max":1,"per":"24h"}}`, id))
		wantCounts(t, f.totals(f.reaches(id, campaign.Done)), want)
	}
}

func TestRequestedCampaigns(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(10, nil)
	f.start(options{change: f.sendsCampaigns})
	for _, body := range []string{
		`{"id":"good","audience":{"all":true},"notification":{"title":"Hello"}}`,
		`{"id":"bad","audience":{"all":true},"notification":{"title":"{{nobody}}"}}`,
	} {
		if _, err := f.js.NC.Request("push.campaigns.shop", []byte(body), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f.reaches("good", campaign.Done)
	letter := f.dead("shop", 1)[0]
	if reason := letter.Headers().Get("Push-Reason"); !strings.Contains(reason, "nobody") {
		t.Errorf("got the reason %q, want that the variable is unknown", reason)
	}
}

// createForFile creates a campaign to these recipients of a file, in one range.
func (f *fixture) createForFile(definition string, recipients ...campaign.Recipient) campaign.Status {
	f.t.Helper()
	st := f.create(definition)
	r := campaign.Range{Campaign: st.ID, Devices: len(recipients), Recipients: recipients}
	if err := f.js.PublishRanges(f.ctx, "shop", []campaign.Range{r}); err != nil {
		f.t.Fatal(err)
	}
	st, err := f.js.ChangeCampaign(f.ctx, "shop", st.ID, func(s *campaign.Status) error {
		return errors.Join(s.Load(1, int64(len(recipients)), "d"), s.Loaded(time.Now()))
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

// bodies returns what each device token got, as the body of an alert.
func (f *fixture) bodies() map[device.Token]string {
	f.t.Helper()
	got := make(map[device.Token]string)
	for _, n := range f.sender.got() {
		var p struct {
			APS struct{ Alert struct{ Body string } }
		}
		if err := json.Unmarshal(n.Payload, &p); err != nil {
			f.t.Fatalf("payload %s: %v", n.Payload, err)
		}
		got[n.DeviceToken] += p.APS.Alert.Body
	}
	return got
}

// Whoever a file names gets what the file says, once: user is the file's, and not
// whom a device token is registered for.
func TestCampaignToAFile(t *testing.T) {
	f := setup(t, nil)
	for i, user := range []string{"ada", "ada", "bob", "eve", ""} {
		f.register(device.Registration{Token: token(i), User: user})
	}
	f.start(options{change: f.sendsCampaigns})
	vars := func(code string) map[string]string { return map[string]string{"code": code} }
	st := f.createForFile(`{"id":"file","recipients":{"variables":["code"]},"notification":{"body":"{{user|-}} {{code}};"}}`,
		campaign.Recipient{User: "ada", Variables: vars("A")},           // two devices
		campaign.Recipient{Token: token(2).Hex(), Variables: vars("B")}, // bob's
		campaign.Recipient{User: "bob", Variables: vars("C")},           // named by his device token already
		campaign.Recipient{User: "eve"},                                 // no code
		campaign.Recipient{Token: token(4).Hex(), Variables: vars("D")}, // nobody's
		campaign.Recipient{Token: token(5).Hex(), Variables: vars("E")}, // not registered
		campaign.Recipient{User: "nobody", Variables: vars("F")},        // no device
		campaign.Recipient{User: "ada", Variables: vars("G")},           // again
		campaign.Recipient{Token: token(5).Hex(), Variables: vars("again")},
		campaign.Recipient{User: "nobody", Variables: vars("again")},
	)
	f.reaches("file", campaign.Done)
	want := map[device.Token]string{
		token(0): "ada A;", token(1): "ada A;", token(2): "- B;", token(4): "- D;", token(5): "- E;",
	}
	if got := f.bodies(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	totals := f.totals(st)
	wantCounts(t, totals, map[string]int64{"accepted": 5, "skipped:no value for code": 1, "skipped:no device": 1})
	if totals.Duplicates != 0 {
		t.Errorf("got %d duplicates, want none", totals.Duplicates)
	}
	told := f.outcomes(func(all []job.JobOutcome) bool { return len(all) > 0 && all[len(all)-1].Complete })
	if total := told[len(told)-1].Total; total != 7 {
		t.Errorf("outcome: got a total of %d, want all 7", total)
	}
}

// What has ended goes after 30 days.
func TestStewardDeletesOldCampaigns(t *testing.T) {
	f := setup(t, nil)
	now := time.Now().Add(24 * time.Hour)
	create := func(id string, age time.Duration, closed bool) {
		t.Helper()
		if _, _, err := f.js.CreateCampaign(f.ctx, campaign.Status{
			App: "shop", ID: id, State: campaign.Done, Definition: []byte("{}"), EndedAt: now.Add(-age), Closed: closed,
		}); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(id string) {
		t.Helper()
		f.eventually(id+" to be deleted", func() (string, bool) {
			_, err := f.js.Campaign(f.ctx, "shop", id)
			return fmt.Sprint(err), errors.Is(err, stream.ErrNoCampaign)
		})
	}
	const day = 24 * time.Hour
	create("young", 30*day-time.Hour, true)
	create("old", 30*day+time.Hour, true)
	create("open", 30*day+time.Hour, false) // to be closed first
	f.start(options{change: func(c *worker.Config) {
		f.sendsCampaigns(c)
		c.Now = func() time.Time { return now }
	}})
	gone("old")
	gone("open")
	create("later", 30*day+time.Hour, true)
	gone("later") // by then young was looked at again
	if _, err := f.js.Campaign(f.ctx, "shop", "young"); err != nil {
		t.Errorf("the one of less than 30 days: got %v, want it to be there", err)
	}
}

// movingDevices is where a device goes to another user just before it is described.
type movingDevices struct {
	worker.Campaigns
	move func()
}

func (m *movingDevices) Describe(ctx context.Context, app string, entries []store.Entry, dst []device.Device) ([]device.Device, int, error) {
	m.move()
	return m.Campaigns.Describe(ctx, app, entries, dst)
}

// What a file has for a user does not reach whoever has the device by then.
func TestCampaignToAFileIsForItsUsers(t *testing.T) {
	f := setup(t, nil)
	f.register(device.Registration{Token: token(0), User: "ada"})
	f.register(device.Registration{Token: token(1), User: "ada"})
	f.register(device.Registration{Token: token(2), User: "bob"})
	move := sync.OnceFunc(func() {
		f.register(device.Registration{Token: token(1), User: "eve"})
		f.register(device.Registration{Token: token(2), User: "eve"})
	})
	f.start(options{change: func(c *worker.Config) { c.Campaigns = &movingDevices{f.set, move} }})
	st := f.createForFile(`{"id":"file","recipients":{},"notification":{"body":"for {{user}}"}}`, campaign.Recipient{User: "ada"}, campaign.Recipient{User: "bob"})
	f.reaches("file", campaign.Done)
	if got, want := f.bodies(), map[device.Token]string{token(0): "for ada"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	wantCounts(t, f.totals(st), map[string]int64{"accepted": 1, "skipped:no device": 1})
}
