package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// app returns an app that is sent to by s.
func app(name string, s worker.Sender) *worker.App {
	return &worker.App{
		Name: name, BundleID: "com.example." + name, Environment: device.Production,
		Routes: []*worker.Route{{Environment: device.Production, Sender: s}},
	}
}

// apply applies apps in the background; the channel gets what it returned.
func (f *fixture) apply(w *running, apps ...*worker.App) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.Apply(f.ctx, apps) }()
	return done
}

// applied applies apps and waits until that is done.
func (f *fixture) applied(w *running, apps ...*worker.App) {
	f.t.Helper()
	if err := w.Apply(f.ctx, apps); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) publishFor(app, id string, to ...device.Token) {
	f.t.Helper()
	if _, err := f.js.PublishJob(f.ctx, app, job.Transactional, newJob(id, to...)); err != nil {
		f.t.Fatal(err)
	}
}

// waiting returns how many jobs of an app are in JOBS.
func (f *fixture) waiting(app string) int {
	f.t.Helper()
	subjects, err := f.js.JobSubjects(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	n := 0
	for _, s := range subjects {
		if s.App == app {
			n += int(s.Messages)
		}
	}
	return n
}

// sends waits until s was given n notifications.
func (f *fixture) sends(s *sender, n int) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("%d notifications", n), func() (string, bool) {
		got := len(s.got())
		return fmt.Sprint(got), got == n
	})
}

// present returns the apps that the fleet knows.
func (f *fixture) present() []string {
	f.t.Helper()
	present, err := f.js.Present(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	var apps []string
	for _, p := range present {
		apps = append(apps, p.Apps...)
	}
	slices.Sort(apps)
	return apps
}

// Apps come and go while the worker runs: jobs that waited for one are sent as soon as
// it is there, and stay where they are once it is gone.
func TestAppsComeAndGo(t *testing.T) {
	f := setup(t, nil)
	reg := prometheus.NewRegistry()
	w := f.start(options{change: func(c *worker.Config) {
		c.Metrics = reg
		c.StrayInterval, c.StrayAfter = time.Hour, time.Hour // only Apply announces
	}})
	shop, news := f.apps[0], newSender(nil)
	f.publishFor("news", "early", token(1))
	f.publishFor("shop", "first", token(1))
	f.sends(f.sender, 1)

	f.applied(w, shop, app("news", news))
	f.sends(news, 1)
	f.eventually("the fleet knows both", func() (string, bool) {
		got := strings.Join(f.present(), " ")
		return got, got == "news shop"
	})
	f.drained()
	if got := series(t, reg, "news"); got == 0 {
		t.Error("metrics: got none of news, want some")
	}

	f.applied(w, shop)
	if got := series(t, reg, "news"); got != 0 {
		t.Errorf("metrics: got %d series of news, want 0", got)
	}
	f.eventually("the fleet knows one", func() (string, bool) {
		got := strings.Join(f.present(), " ")
		return got, got == "shop"
	})
	f.publishFor("news", "late", token(2))
	f.publishFor("shop", "second", token(2))
	f.sends(f.sender, 2)
	if got := f.waiting("news"); got != 1 || len(news.got()) != 1 {
		t.Errorf("news: got %d jobs waiting and %d sent, want 1 and 1", got, len(news.got()))
	}
	if err := w.Ready(); err != nil {
		t.Errorf("ready: got %v", err)
	}

	f.applied(w, shop, app("news", news))
	f.sends(news, 2)
	f.drained()
}

// series counts what a registry has of an app.
func series(t *testing.T, reg *prometheus.Registry, app string) (n int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "app" && l.GetValue() == app {
					n++
				}
			}
		}
	}
	return n
}

// held is a sender that answers when it is told to.
func held() (s *sender, answer func()) {
	gate := make(chan struct{})
	s = newSender(func(n *apns.Notification) apns.Response {
		<-gate
		return accept(n)
	})
	return s, func() { close(gate) }
}

// What an app's former connections have is answered there, while what comes from then
// on goes out by the new ones; only then are the former ones free to be closed.
func TestAppIsReplacedWhileItSends(t *testing.T) {
	f := setup(t, nil)
	former, answer := held()
	f.apps = []*worker.App{app("shop", former)}
	w := f.start(options{})
	f.publishFor("shop", "before", tokens(0, 3)...)
	f.sends(former, 3)
	next := newSender(nil)
	done := f.apply(w, app("shop", next))
	f.eventually("the new connections are used", func() (string, bool) {
		f.publishFor("shop", fmt.Sprintf("after-%d", time.Now().UnixNano()), token(9))
		got := len(next.got())
		return fmt.Sprint(got), got > 0
	})
	select {
	case err := <-done:
		t.Fatalf("apply: returned %v while the former connections are used", err)
	default:
	}
	answer()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := results(f.completed("before"))["accepted"]; got != 3 {
		t.Errorf("before: got %d accepted, want 3", got)
	}
	f.drained()
	if got := len(former.got()); got != 3 {
		t.Errorf("former connections: got %d, want 3: nothing after the change", got)
	}
}

// takesNothing is a sender whose connections take nothing.
type takesNothing struct{ got chan int }

func (u takesNothing) Send(ctx context.Context, _ job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	u.got <- len(batch)
	<-ctx.Done()
	for i := range batch {
		done(i, apns.Response{Err: fmt.Errorf("%w: %w", apns.ErrNotSent, context.Cause(ctx))})
	}
}

// What of a removed app is not on its way goes back at once, and keeps nobody waiting.
func TestRemovedAppGivesBackWhatIsNotSent(t *testing.T) {
	f := setup(t, nil)
	stuck := takesNothing{got: make(chan int, 10)}
	w := f.start(options{change: func(c *worker.Config) {
		c.Apps = append(c.Apps, app("news", stuck))
		c.DrainTimeout = time.Hour
		c.StrayAfter = time.Hour
	}})
	f.publishFor("news", "stuck", tokens(0, 5)...)
	if got := <-stuck.got; got != 5 {
		t.Fatalf("sent: got %d, want 5", got)
	}
	f.applied(w, f.apps[0])
	next := newSender(nil)
	f.applied(w, f.apps[0], app("news", next))
	f.sends(next, 5)
	f.drained()
}

// The drain timeout ends the wait for connections that do not answer.
func TestApplyWaitsNoLongerThanTheDrainTimeout(t *testing.T) {
	f := setup(t, nil)
	former, answer := held()
	f.apps = []*worker.App{app("shop", former)}
	w := f.start(options{change: func(c *worker.Config) { c.DrainTimeout = 100 * time.Millisecond }})
	f.publishFor("shop", "before", token(1))
	f.sends(former, 1)
	f.applied(w, app("shop", f.sender))
	f.publishFor("shop", "after", token(2))
	f.sends(f.sender, 1)
	answer()
	f.drained()
}

// What the former connections have not taken by then goes out by the new ones at once.
func TestReplacedAppGivesBackWhatIsNotSent(t *testing.T) {
	f := setup(t, nil)
	stuck := takesNothing{got: make(chan int, 10)}
	f.apps = []*worker.App{app("shop", stuck)}
	w := f.start(options{change: func(c *worker.Config) { c.DrainTimeout = 100 * time.Millisecond }})
	f.publishFor("shop", "stuck", tokens(0, 5)...)
	if got := <-stuck.got; got != 5 {
		t.Fatalf("sent: got %d, want 5", got)
	}
	f.applied(w, app("shop", f.sender))
	f.sends(f.sender, 5)
	f.drained()
}

// What no worker has known for a while is given up, also if it was served before.
func TestJobsOfARemovedAppAreGivenUpInTheEnd(t *testing.T) {
	f := setup(t, nil)
	w := f.start(options{change: func(c *worker.Config) { c.Apps = append(c.Apps, app("news", newSender(nil))) }})
	f.applied(w, f.apps[0])
	f.publishFor("news", "late", token(2))
	if got := f.dead("news", 1)[0].Headers().Get(stream.HeaderReason); got != "unknown app" {
		t.Errorf("reason: got %q, want unknown app", got)
	}
	f.eventually("nothing waits", func() (string, bool) {
		got := f.waiting("news")
		return fmt.Sprint(got), got == 0
	})
	next := newSender(nil)
	f.applied(w, f.apps[0], app("news", next))
	f.publishFor("news", "again", token(3))
	f.sends(next, 1)
}

// A campaign that runs is sent as soon as its app is there, stops with it, and goes on
// with the rest.
func TestCampaignOfAnAppThatComesAndGoes(t *testing.T) {
	f := setup(t, nil)
	const devices = 600
	for i := range devices {
		if _, err := f.set.Register(f.ctx, "news", device.Registration{Token: token(i), Environment: device.Production}); err != nil {
			t.Fatal(err)
		}
	}
	w := f.start(options{change: func(c *worker.Config) { c.Campaigns = f.set }})
	def, err := campaign.Parse([]byte(`{"id":"spring","audience":{"all":true},"notification":{"title":"hello"},"rate":300}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.js.NewCampaign(f.ctx, "news", def, time.Now()); err != nil {
		t.Fatal(err)
	}
	news := newSender(nil)
	f.applied(w, f.apps[0], app("news", news))
	f.eventually("the campaign is sent", func() (string, bool) {
		got := len(news.got())
		return fmt.Sprint(got), got > 0
	})
	f.applied(w, f.apps[0])
	sent := len(news.got())
	if sent >= devices {
		t.Fatalf("sent: got all %d before the app went", sent)
	}
	f.applied(w, f.apps[0], app("news", news))
	f.eventually("the campaign is done", func() (string, bool) {
		st, err := f.js.Campaign(f.ctx, "news", "spring")
		return fmt.Sprintf("%v %v, %d sent", st.State, err, len(news.got())), err == nil && st.State == campaign.Done
	})
	seen := make(map[device.Token]int)
	for _, n := range news.got() {
		seen[n.DeviceToken]++
	}
	if len(seen) != devices || len(news.got()) != devices {
		t.Errorf("sent: got %d to %d devices, want %d once each", len(news.got()), len(seen), devices)
	}
}

// Apps that cannot be served change nothing.
func TestApplyRefuses(t *testing.T) {
	f := setup(t, nil)
	w := f.start(options{})
	for name, apps := range map[string][]*worker.App{
		"a name for no subject": {app("a.b", f.sender)},
		"one twice":             {f.apps[0], app("news", f.sender), app("news", f.sender)},
	} {
		if err := w.Apply(f.ctx, apps); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if err := w.Resize(1); err == nil {
		t.Error("resize to 1: got no error")
	}
	if err := w.Resize(2 * job.MaxRecipients); err != nil {
		t.Error(err)
	}
	f.publishFor("shop", "still", token(1))
	f.sends(f.sender, 1)
	w.stop()
	if err := w.Apply(f.ctx, f.apps); !errors.Is(err, worker.ErrStopped) {
		t.Errorf("after the end: got %v, want %v", err, worker.ErrStopped)
	}
}

// answered is a sender that has had so many answers.
type answered struct {
	*sender
	n uint64
}

func (a answered) State() apns.State {
	return apns.State{Connections: 1, Answered: a.n, AnsweredWithin: map[float64]uint64{1: a.n}}
}

// What the connections before have answered is not compared with what those after have.
func TestReportOfAnAppThatIsReplaced(t *testing.T) {
	f := setup(t, nil)
	wait := f.reports()
	shop := app("shop", answered{f.sender, 1000})
	f.apps = []*worker.App{shop}
	w := f.start(options{change: often})
	wait("the former connections", func(r *stream.Report) bool { return r.Apps["shop"].Connections == 1 })
	f.applied(w, app("shop", answered{f.sender, 10}), app("news", f.sender))
	for range 20 {
		r := wait("both apps", func(r *stream.Report) bool { return len(r.Apps) == 2 })
		if got := r.Apps["shop"].APNs; len(got) != 0 {
			t.Fatalf("answers: got %v, want none: nothing was sent", got)
		}
	}
}
