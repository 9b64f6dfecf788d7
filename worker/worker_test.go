package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

func TestJobIsSentAndSettled(t *testing.T) {
	f := setup(t, nil)
	f.start(options{})
	j := newJob("order-1", tokens(0, 3)...)
	j.CollapseID, j.TTL, j.HasTTL = "order", time.Hour, true
	before := time.Now()
	f.publish(job.Transactional, j)

	got := f.completed("order-1")
	if counts := results(got); counts["accepted"] != 3 || len(counts) != 1 {
		t.Errorf("outcomes: got %v, want 3 accepted", counts)
	}
	if o := got[0]; !o.Whole || o.Total != 3 || o.Environment != device.Production || o.Attempt != 1 {
		t.Errorf("outcome: got %+v, want all of the job in one", o)
	}
	if o := got[0]; o.QueuedAt.IsZero() || o.TakenAt.Before(o.QueuedAt) || o.SentAt.Before(o.TakenAt) || o.SentAt.After(time.Now()) {
		t.Errorf("outcome: got queued at %s, taken at %s, sent at %s, want one after the other", o.QueuedAt, o.TakenAt, o.SentAt)
	}
	f.drained()
	sent := f.sender.got()
	if len(sent) != 3 {
		t.Fatalf("sent: got %d, want 3", len(sent))
	}
	for i, n := range sent {
		if n.DeviceToken != token(i) || n.APNsID != job.APNsID("shop", "order-1", token(i)) {
			t.Errorf("notification %d: got %s %s, want the job's recipients in order, with their ids", i, n.DeviceToken, n.APNsID)
		}
		if n.Topic != bundle || n.PushType != job.PushAlert || n.Priority != 10 || n.CollapseID != "order" {
			t.Errorf("notification %d: got %+v", i, n)
		}
		if want := before.Add(time.Hour).Unix(); n.Expiration < want-1 || n.Expiration > want+5 {
			t.Errorf("expiration: got %d, want about %d", n.Expiration, want)
		}
	}
	progress, err := f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: job.Transactional, ID: "order-1"}})
	if err != nil {
		t.Fatal(err)
	}
	f.eventually("progress is complete", func() (string, bool) {
		progress, err = f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: job.Transactional, ID: "order-1"}})
		return fmt.Sprintf("%+v %v", progress, err), err == nil && progress[0].Complete && progress[0].Counts[job.Accepted] == 3 && progress[0].Duplicates == 0
	})
}

func TestJobWithoutIDIsNamedAfterItsPlace(t *testing.T) {
	f := setup(t, nil)
	f.start(options{})
	p := f.publish(job.Bulk, newJob("", token(1)))
	f.completed(p.ID)
	if got, want := f.sender.got()[0].APNsID, job.APNsID("shop", p.ID, token(1)); got != want {
		t.Errorf("apns-id: got %s, want %s", got, want)
	}
}

// Bad input becomes a dead letter with every problem, and nobody else waits.
func TestBadInput(t *testing.T) {
	f := setup(t, nil)
	f.start(options{})
	hexes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%s"`, token(i).Hex())
		}
		return "[" + b.String()[1:] + "]"
	}
	one := hexes(1)
	for _, tc := range []struct {
		name, subject, body string
		app                 string
		want                []string
	}{
		{name: "not JSON", body: `hello`, want: []string{"JSON"}},
		{name: "unknown field", body: `{"to":{"tokens":` + one + `},"notification":{"titel":"x"}}`, want: []string{"notification", "titel"}},
		{name: "no recipients", body: `{"to":{"tokens":[]},"notification":{"title":"x"}}`, want: []string{"to"}},
		{name: "1001 tokens", body: `{"to":{"tokens":` + hexes(1001) + `},"notification":{"title":"x"}}`, want: []string{"to.tokens", "1000"}},
		{name: "odd hex", body: `{"to":{"tokens":["abc"]},"notification":{"title":"x"}}`, want: []string{"to.tokens[0]", "odd"}},
		{name: "4097 bytes", body: `{"to":{"tokens":` + one + `},"payload":{"aps":{"alert":"a"},"x":"` + strings.Repeat("y", 4097-len(`{"aps":{"alert":"a"},"x":""}`)) + `"}}`, want: []string{"payload", "4097", "4096"}},
		{name: "unknown push type", body: `{"to":{"tokens":` + one + `},"notification":{"title":"x"},"push_type":"alarm"}`, want: []string{"push_type"}},
		{name: "notification and payload", body: `{"to":{"tokens":` + one + `},"notification":{"title":"x"},"payload":{"aps":{}}}`, want: []string{"notification", "payload"}},
		{name: "unknown app", subject: "push.jobs.ghost.bulk", app: "ghost", body: `{"to":{"tokens":` + one + `},"notification":{"title":"x"}}`, want: []string{"unknown app"}},
		{name: "unknown lane", subject: "push.jobs.shop.urgent", app: "shop", body: `{}`, want: []string{"unknown lane"}},
		{name: "garbage as large as the server takes", body: strings.Repeat("\x00", int(f.js.NC.MaxPayload())), want: []string{"JSON"}},
		{name: "two problems", body: `{"to":{"tokens":["zz"]},"notification":{"title":"x"},"priority":7}`, want: []string{"to.tokens[0]", "priority"}},
	} {
		if tc.subject == "" {
			tc.subject, tc.app = stream.JobsSubject("shop", job.Transactional), "shop"
		}
		// Own subject of DEAD's newest message, so one at a time.
		last := f.deadCount(tc.app)
		if err := f.js.NC.Publish(tc.subject, []byte(tc.body)); err != nil {
			t.Fatal(err)
		}
		letters := f.dead(tc.app, last+1)
		got := letters[last]
		reason := got.Headers().Get(stream.HeaderReason)
		for _, want := range tc.want {
			if !strings.Contains(reason, want) {
				t.Errorf("%s: reason is %q, want %q in it", tc.name, reason, want)
			}
		}
		if strings.Contains(reason, token(0).Hex()) {
			t.Errorf("%s: the reason tells a device token", tc.name)
		}
		cut := got.Headers().Get(stream.HeaderCut)
		if len(tc.body) < 1<<19 && (cut != "" || string(got.Data()) != tc.body) {
			t.Errorf("%s: the dead letter is not the original message", tc.name)
		}
		if len(tc.body) > 1<<19 && cut == "" {
			t.Errorf("%s: got no %s", tc.name, stream.HeaderCut)
		}
		// Nobody else is delayed: a good job goes through at once.
		id := strings.ReplaceAll(tc.name, " ", "-")
		f.publish(job.Transactional, newJob(id, token(99)))
		f.completed(id)
	}
	f.drained()
}

func (f *fixture) deadCount(app string) int {
	f.t.Helper()
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	st, err := api.Stream(f.ctx, stream.Dead)
	if err != nil {
		f.t.Fatal(err)
	}
	info, err := st.Info(f.ctx, jetstream.WithSubjectFilter(stream.DeadSubject(app)))
	if err != nil {
		f.t.Fatal(err)
	}
	return int(info.State.Subjects[stream.DeadSubject(app)])
}

func TestExpiredBeforeArrivalIsAnOutcome(t *testing.T) {
	f := setup(t, nil)
	j := newJob("late", tokens(0, 2)...)
	j.ExpiresAt = time.Now().Add(-time.Minute)
	f.publish(job.Bulk, j)
	f.start(options{})
	if counts := results(f.completed("late")); counts["expired"] != 2 {
		t.Errorf("outcomes: got %v, want 2 expired", counts)
	}
	f.drained()
	if sent := f.sender.got(); len(sent) != 0 {
		t.Errorf("sent: got %d, want none", len(sent))
	}
	if n := f.deadCount("shop"); n != 0 {
		t.Errorf("dead letters: got %d, want none", n)
	}
}

func TestUsersAndInstalls(t *testing.T) {
	f := setup(t, nil)
	f.register(device.Registration{Token: token(1), User: "ada", InstallID: "i-1"})
	f.register(device.Registration{Token: token(2), User: "ada"})
	f.register(device.Registration{Token: token(3), User: "ada", Kind: device.VoIP})
	f.register(device.Registration{Token: token(4), User: "bob", Environment: device.Sandbox})
	f.start(options{})
	f.publish(job.Transactional, &job.Job{ID: "u", To: job.Recipients{Users: []string{"ada", "bob", "nobody"}}, Notification: &job.Notification{Title: "x"}})
	got := f.completed("u")
	if counts := results(got); counts["accepted"] != 2 || counts["skipped no device"] != 1 || counts["skipped no credential for environment"] != 1 {
		t.Errorf("outcomes: got %v, want ada's two alert devices, nobody without a device, bob's without a credential", counts)
	}
	f.publish(job.Transactional, &job.Job{ID: "i", To: job.Recipients{Installs: []string{"i-1"}}, Notification: &job.Notification{Title: "x"}})
	if counts := results(f.completed("i")); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v, want one accepted", counts)
	}
	f.drained()
}

// A device in the token set is sent to through its own environment.
func TestRecordsEnvironmentRoutes(t *testing.T) {
	f := setup(t, nil)
	sandbox := newSender(nil)
	f.apps[0].Routes = append(f.apps[0].Routes, &worker.Route{Environment: device.Sandbox, Sender: sandbox})
	f.register(device.Registration{Token: token(1), Environment: device.Sandbox})
	f.start(options{})
	f.publish(job.Transactional, newJob("both", token(1), token(2)))
	got := f.completed("both")
	if len(got) != 2 || results(got)["accepted"] != 2 {
		t.Errorf("outcomes: got %+v, want one for each environment", got)
	}
	if s, p := sandbox.got(), f.sender.got(); len(s) != 1 || len(p) != 1 || s[0].DeviceToken != token(1) {
		t.Errorf("sent: got %d to sandbox, %d to production, want 1 and 1", len(s), len(p))
	}
	f.eventually("progress counts both", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: job.Transactional, ID: "both"}})
		return fmt.Sprintf("%+v %v", p, err), err == nil && p[0].Complete && p[0].Counts[job.Accepted] == 2 && p[0].Duplicates == 0
	})
}

// What APNs says about device tokens reaches the token set, by its rules.
func TestFeedback(t *testing.T) {
	registered := time.Now()
	after, before := registered.Add(time.Hour).UnixMilli(), registered.Add(-time.Hour).UnixMilli()
	f := setup(t, func(n *apns.Notification) apns.Response {
		switch n.DeviceToken {
		case token(1):
			return apns.Response{Status: 410, Reason: apns.Unregistered, Timestamp: after}
		case token(2):
			return apns.Response{Status: 410, Reason: apns.Unregistered, Timestamp: before}
		case token(3):
			return apns.Response{Status: 400, Reason: apns.BadDeviceToken}
		case token(4):
			return apns.Response{Status: 400, Reason: apns.DeviceTokenNotForTopic}
		default:
			return accept(n)
		}
	})
	for n := 1; n <= 5; n++ {
		kind := device.Alert
		if n == 4 {
			kind = device.VoIP // sent to with the wrong topic: the caller's mistake
		}
		f.register(device.Registration{Token: token(n), Kind: kind})
	}
	f.start(options{})
	f.publish(job.Bulk, newJob("first", tokens(1, 6)...))
	f.completed("first")
	want := map[int]device.State{1: device.Removed, 2: device.Live, 3: device.Quarantined, 4: device.Live, 5: device.Live}
	f.eventually("token set follows", func() (string, bool) {
		entries, err := f.set.Lookup(f.ctx, "shop", tokens(1, 6), nil)
		if err != nil {
			return err.Error(), false
		}
		for i, e := range entries {
			if !e.Known || e.Record.State != want[i+1] {
				return fmt.Sprintf("token %d: %+v", i+1, e.Record), false
			}
		}
		return "", entries[4].Record.Accepted && !entries[3].Record.Accepted
	})

	// Removed and quarantined ones are not sent to again.
	sentBefore := len(f.sender.got())
	f.publish(job.Bulk, newJob("second", tokens(1, 6)...))
	var suppressed int
	for result, n := range results(f.completed("second")) {
		if strings.HasPrefix(result, "suppressed removed 20") || strings.HasPrefix(result, "suppressed quarantined 20") {
			suppressed += n
		}
	}
	if suppressed != 2 || len(f.sender.got())-sentBefore != 3 {
		t.Errorf("second job: got %d suppressed, %d sent, want 2 and 3", suppressed, len(f.sender.got())-sentBefore)
	}
}

// A registration between send and answer survives a 410.
func TestReregistrationBetweenSendAndAnswer(t *testing.T) {
	var f *fixture
	f = setup(t, func(n *apns.Notification) apns.Response {
		f.register(device.Registration{Token: n.DeviceToken})
		return apns.Response{Status: 410, Reason: apns.Unregistered, Timestamp: time.Now().Add(time.Hour).UnixMilli()}
	})
	f.register(device.Registration{Token: token(1)})
	f.start(options{})
	f.publish(job.Transactional, newJob("race", token(1)))
	f.completed("race")
	f.eventually("recorder is done", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: job.Transactional, ID: "race"}})
		return fmt.Sprintf("%+v %v", p, err), err == nil && p[0].Complete
	})
	entries, err := f.set.Lookup(f.ctx, "shop", tokens(1, 2), nil)
	if err != nil || entries[0].Record.State != device.Live || entries[0].Record.Generation != 2 {
		t.Errorf("got %+v, %v, want it live at generation 2", entries[0].Record, err)
	}
}

func TestSecondJobOfAnIDIsNotSent(t *testing.T) {
	f := setup(t, nil)
	// Beyond JetStream's window: published without Nats-Msg-Id.
	body, err := newJob("once", token(1)).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.js.NC.Publish(stream.JobsSubject("shop", job.Bulk), body); err != nil {
			t.Fatal(err)
		}
	}
	f.start(options{})
	f.outcomes(func(all []job.JobOutcome) bool {
		for _, o := range all {
			if len(o.Others) == 1 && o.Others[0].Result == job.Duplicate {
				return true
			}
		}
		return false
	})
	f.drained()
	if sent := f.sender.got(); len(sent) != 1 {
		t.Errorf("sent: got %d, want 1", len(sent))
	}
	f.eventually("counts are of one job", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: job.Bulk, ID: "once"}})
		return fmt.Sprintf("%+v %v", p, err), err == nil && p[0].Complete && p[0].Counts[job.Accepted] == 1 && p[0].Duplicates == 0
	})
}

func TestSendAfterWaits(t *testing.T) {
	f := setup(t, nil)
	f.start(options{})
	j := newJob("later", token(1))
	j.SendAfter = time.Now().Add(1500 * time.Millisecond)
	f.publish(job.Transactional, j)
	f.completed("later")
	if now := time.Now(); now.Before(j.SendAfter) {
		t.Errorf("sent %s too early", j.SendAfter.Sub(now))
	}
}

// Some recipients fail for now: the same message comes back, and is sent to those only.
func TestRetrySendsToTheRest(t *testing.T) {
	tries := make(map[device.Token]int)
	f := setup(t, func(n *apns.Notification) apns.Response {
		tries[n.DeviceToken]++ // one worker, one lane: one goroutine at a time
		if n.DeviceToken == token(1) && tries[n.DeviceToken] == 1 {
			return apns.Response{Status: 503, Reason: apns.ServiceUnavailable}
		}
		if n.DeviceToken == token(2) && tries[n.DeviceToken] == 1 {
			return apns.Response{Err: errTest} // no answer
		}
		return accept(n)
	})
	f.start(options{})
	f.publish(job.Transactional, newJob("again", tokens(0, 4)...))
	got := f.completed("again")
	if counts := results(got); counts["accepted"] != 4 {
		t.Errorf("outcomes: got %v, want 4 accepted", counts)
	}
	f.drained()
	for n := range 4 {
		want := 1
		if n == 1 || n == 2 {
			want = 2
		}
		if tries[token(n)] != want {
			t.Errorf("token %d: sent %d times, want %d", n, tries[token(n)], want)
		}
	}
	ids := make(map[device.Token]string)
	for _, n := range f.sender.got() {
		if id, ok := ids[n.DeviceToken]; ok && id != n.APNsID.String() {
			t.Errorf("apns-id changed between tries: %s, %s", id, n.APNsID)
		}
		ids[n.DeviceToken] = n.APNsID.String()
	}
}

func TestUnknownIsDroppedIfTheJobSaysSo(t *testing.T) {
	f := setup(t, func(*apns.Notification) apns.Response { return apns.Response{Err: errTest} })
	f.start(options{})
	j := newJob("u", token(1))
	j.OnUnknown = job.Drop
	f.publish(job.Bulk, j)
	if counts := results(f.completed("u")); counts["unknown no answer"] != 1 {
		t.Errorf("outcomes: got %v, want one unknown", counts)
	}
}

// The job is at fault: an outcome for each recipient, and a dead letter that can
// be published again.
func TestJobAtFaultIsBuried(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(1) {
			return apns.Response{Status: 413, Reason: apns.PayloadTooLarge}
		}
		return accept(n)
	})
	f.start(options{})
	f.publish(job.Bulk, newJob("part", tokens(0, 3)...))
	if counts := results(f.completed("part")); counts["accepted"] != 2 || counts["rejected PayloadTooLarge"] != 1 {
		t.Errorf("outcomes: got %v", counts)
	}
	letter := f.dead("shop", 1)[0]
	j, err := job.Parse(letter.Data())
	if err != nil || len(j.To.Tokens) != 1 || j.To.Tokens[0] != token(1) {
		t.Errorf("dead letter: got %v, %v, want a job to the one recipient", j, err)
	}
	if root := letter.Headers().Get(stream.HeaderRoot); root != "part" {
		t.Errorf("root: got %q, want part", root)
	}
}

// A credential that APNs refuses stops the route; the jobs are kept.
func TestRefusedCredentialStopsTheRoute(t *testing.T) {
	f := setup(t, func(*apns.Notification) apns.Response {
		return apns.Response{Status: 403, Reason: apns.InvalidProviderToken}
	})
	f.start(options{})
	f.publish(job.Transactional, newJob("one", token(1)))
	<-f.sender.seen
	key := store.JobKey{App: "shop", Lane: job.Transactional, ID: "one"}
	f.eventually("retry is remembered", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{key})
		return fmt.Sprintf("%+v %v", p, err), err == nil && time.Until(p[0].RetryAt) > 20*time.Second
	})
	for n := range 20 {
		f.publish(job.Transactional, newJob(fmt.Sprintf("more-%d", n), token(n)))
	}
	f.eventually("all are handed back", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{{App: "shop", Lane: job.Transactional, ID: "more-19"}})
		return fmt.Sprintf("%+v %v", p, err), err == nil && !p[0].RetryAt.IsZero()
	})
	if n := len(f.sender.got()); n != 1 {
		t.Errorf("sent: got %d, want 1: the route is stopped", n)
	}
}

// Who looks at a worker is told which credential, and which topic, APNs refuses.
func TestNotesOfRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer apns.Response
		want   string
	}{
		{"credential", apns.Response{Status: 403, Reason: apns.Forbidden}, "shop, production: nothing is sent: APNs says Forbidden, tried again in "},
		{"topic", apns.Response{Status: 400, Reason: apns.TopicDisallowed}, "shop, production: nothing is sent for topic com.example.shop: APNs says TopicDisallowed, tried again in "},
		{
			"stopped client",
			apns.Response{Err: fmt.Errorf("%w: %w", apns.ErrNotSent, &apns.RouteError{Reason: apns.InvalidProviderToken})},
			"shop, production: nothing is sent: APNs says InvalidProviderToken, tried again in ",
		},
		{
			"certificate",
			apns.Response{Err: fmt.Errorf("%w: %w", apns.ErrNotSent, &apns.RouteError{Cause: errors.New("bad certificate")})},
			"shop, production: nothing is sent: APNs says apns: route stopped: bad certificate, tried again in ",
		},
		{"device token", apns.Response{Status: 400, Reason: apns.BadDeviceToken}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := setup(t, func(*apns.Notification) apns.Response { return tt.answer })
			w := f.start(options{})
			f.publish(job.Transactional, newJob("one", token(1)))
			<-f.sender.seen
			key := store.JobKey{App: "shop", Lane: job.Transactional, ID: "one"}
			f.eventually("what was said to be dealt with", func() (string, bool) {
				p, err := f.set.Progress(f.ctx, []store.JobKey{key})
				return fmt.Sprintf("%+v %v", p, err), err == nil && (p[0].Complete || !p[0].RetryAt.IsZero())
			})
			if got := strings.Join(w.Notes(), "; "); !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("notes: got %q, want %q", got, tt.want)
			}
		})
	}
}

// lostOutcomes takes outcomes and stores none: what a kill does between the
// answer and OUTCOMES.
type lostOutcomes struct {
	mu     sync.Mutex
	stored []func(error) // guarded by mu
}

func (l *lostOutcomes) Publish(_ string, _ job.Lane, _ []job.JobOutcome, stored func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored = append(l.stored, stored)
}

// lose tells that nothing will be stored.
func (l *lostOutcomes) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, stored := range l.stored {
		stored(errTest)
	}
	l.stored = nil
}

// What a worker settled, marked and could not tell is told by the one that gets
// the message, and not sent again.
func TestMarksAreToldNotSentAgain(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(3) {
			return apns.Response{Status: 410, Reason: apns.Unregistered, Timestamp: time.Now().Add(time.Hour).UnixMilli()}
		}
		return accept(n)
	})
	f.register(device.Registration{Token: token(3)})
	var lost lostOutcomes
	first := f.start(options{name: "w1", outcomes: func(worker.Outcomes) worker.Outcomes { return &lost }})
	f.publish(job.Transactional, newJob("m", tokens(0, 10)...))
	key := store.JobKey{App: "shop", Lane: job.Transactional, ID: "m"}
	f.eventually("all are marked", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{key})
		return fmt.Sprintf("%+v %v", p, err), err == nil && len(p[0].Marked) == 10
	})
	stopped := make(chan struct{})
	go func() { defer close(stopped); first.stop() }()
	f.eventually("nothing is held", func() (string, bool) {
		lost.lose()
		select {
		case <-stopped:
			return "", true
		default:
			return "still running", false
		}
	})
	f.start(options{name: "w2"})
	got := f.completed("m")
	if counts := results(got); counts["accepted"] != 9 || counts["rejected Unregistered"] != 1 {
		t.Errorf("outcomes: got %v, want 9 accepted and the 410", counts)
	}
	if n := len(f.sender.got()); n != 10 {
		t.Errorf("sent: got %d, want each of 10 once", n)
	}
	f.eventually("the told 410 removes", func() (string, bool) {
		entries, err := f.set.Lookup(f.ctx, "shop", tokens(3, 4), nil)
		return fmt.Sprint(entries, err), err == nil && entries[0].Record.State == device.Removed
	})
	f.drained()
}

// failing fails as Redis does when it is down.
type failing struct{}

func (failing) Guard(context.Context, []store.Claim) ([]store.Claimed, error) { return nil, errTest }

func (failing) Progress(context.Context, []store.JobKey) ([]store.Progress, error) {
	return nil, errTest
}
func (failing) MarkSettled(context.Context, []store.Mark) error              { return errTest }
func (failing) HandBack(context.Context, store.JobKey, store.HandBack) error { return errTest }

func (failing) Healed(context.Context) (string, store.Healed, error) {
	return "", store.Healed{}, errTest
}

func (failing) Lookup(context.Context, string, []device.Token, []store.Entry) ([]store.Entry, error) {
	return nil, errTest
}

func (failing) ByUsers(context.Context, string, []string) ([][]store.Entry, error) {
	return nil, errTest
}

func (failing) ByInstalls(context.Context, string, []string) ([][]store.Entry, error) {
	return nil, errTest
}

// Without Redis, jobs that name their device tokens go on, the others wait.
func TestRedisDown(t *testing.T) {
	f := setup(t, nil)
	f.start(options{devices: failing{}, progress: failing{}})
	f.publish(job.Transactional, &job.Job{ID: "users", To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "x"}})
	f.publish(job.Transactional, newJob("inline", tokens(0, 5)...))
	if counts := results(f.completed("inline")); counts["accepted"] != 5 {
		t.Errorf("outcomes: got %v, want 5 accepted", counts)
	}
	if n := len(f.sender.got()); n != 5 {
		t.Errorf("sent: got %d, want 5", n)
	}
}

// One app's APNs that never answers takes at most half of the room: another
// app's jobs go through.
func TestStuckAppLeavesRoom(t *testing.T) {
	f := setup(t, nil)
	stuck := make(chan struct{})
	blocked := newSender(func(n *apns.Notification) apns.Response { <-stuck; return accept(n) })
	f.apps = append(f.apps, &worker.App{Name: "stuck", BundleID: "com.example.stuck", Environment: device.Production, Routes: []*worker.Route{{Environment: device.Production, Sender: blocked}}})
	w := f.start(options{change: func(c *worker.Config) { c.MaxInFlight = 4000 }})
	for n := range 20 {
		if _, err := f.js.PublishJob(f.ctx, "stuck", job.Bulk, newJob(fmt.Sprintf("s-%d", n), tokens(0, 1000)...)); err != nil {
			t.Fatal(err)
		}
	}
	<-blocked.seen
	for n := range 20 {
		f.publish(job.Bulk, newJob(fmt.Sprintf("b-%d", n), tokens(0, 500)...))
	}
	for n := range 20 {
		if counts := results(f.completed(fmt.Sprintf("b-%d", n))); counts["accepted"] != 500 {
			t.Errorf("job %d: got %v", n, counts)
		}
	}
	close(stuck)
	w.stop()
}

// Told to stop, a worker hands back what it has not sent, at once.
func TestDrainHandsBack(t *testing.T) {
	stuck := make(chan struct{})
	f := setup(t, func(n *apns.Notification) apns.Response { <-stuck; return accept(n) })
	w := f.start(options{name: "w1", change: func(c *worker.Config) { c.DrainTimeout = 100 * time.Millisecond }})
	f.publish(job.Transactional, newJob("a", token(1), token(2)))
	<-f.sender.seen
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	f.publish(job.Transactional, newJob("b", token(3)))
	// The answer that was out comes after the drain timeout.
	time.AfterFunc(500*time.Millisecond, func() { close(stuck) })
	<-stopped
	second := newSender(nil)
	f.apps[0].Routes[0].Sender = second
	began := time.Now()
	f.start(options{name: "w2"})
	f.completed("a")
	f.completed("b")
	if took := time.Since(began); took > stream.TransactionalAckWait/2 {
		t.Errorf("handed-back jobs took %s, want at once, not after the ack wait", took)
	}
	// Token 1 was answered by the first worker and must not be sent to again.
	for _, n := range second.got() {
		if n.DeviceToken == token(1) {
			t.Errorf("token 1 was sent to again")
		}
	}
}

func TestReady(t *testing.T) {
	f := setup(t, nil)
	w := f.start(options{})
	f.eventually("worker is ready", func() (string, bool) { err := w.Ready(); return fmt.Sprint(err), err == nil })
	f.js.Server.Stop()
	f.eventually("worker is not ready", func() (string, bool) { err := w.Ready(); return fmt.Sprint(err), err != nil })
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]worker.Config{
		"room below two messages": {Name: "w", MaxInFlight: 100},
		"no name":                 {},
		"app with a dot":          {Name: "w", Apps: []*worker.App{{Name: "a.b"}}},
	} {
		if _, err := worker.New(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// A job expires between two deliveries: what was settled before is told as it
// was, the rest as expired.
func TestExpiredMeanwhile(t *testing.T) {
	f := setup(t, nil)
	key := store.JobKey{App: "shop", Lane: job.Bulk, ID: "e"}
	err := f.set.MarkSettled(f.ctx, []store.Mark{{Job: key, Recipients: []store.Marked{
		{Hash: job.RecipientHash(token(0)), Recipient: job.Recipient{Result: job.Accepted}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	// The first delivery goes to a worker that dies with it.
	c, err := f.js.LaneConsumer(f.ctx, "shop", job.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	j := newJob("e", tokens(0, 3)...)
	j.ExpiresAt = time.Now().Add(-time.Second)
	f.publish(job.Bulk, j)
	m, err := c.Wait(5 * time.Second)
	if err != nil || m == nil {
		t.Fatalf("first delivery: got %v, %v", m, err)
	}
	if err := m.Nak(0); err != nil {
		t.Fatal(err)
	}
	f.start(options{})
	if counts := results(f.completed("e")); counts["accepted"] != 1 || counts["expired"] != 2 {
		t.Errorf("outcomes: got %v, want 1 accepted, as marked, and 2 expired", counts)
	}
	if n := len(f.sender.got()); n != 0 {
		t.Errorf("sent: got %d, want none", n)
	}
}

// Somebody deletes a lane's consumer: the worker makes it again.
func TestDeletedConsumerComesBack(t *testing.T) {
	f := setup(t, nil)
	w := f.start(options{})
	f.eventually("worker is ready", func() (string, bool) { err := w.Ready(); return fmt.Sprint(err), err == nil })
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.DeleteConsumer(f.ctx, stream.Jobs, stream.LaneDurable("shop", job.Bulk)); err != nil {
		t.Fatal(err)
	}
	f.publish(job.Bulk, newJob("after", token(1)))
	f.completed("after")
}

// Told to stop before it has started, a worker just goes.
func TestStopBeforeStart(t *testing.T) {
	f := setup(t, nil)
	w, err := worker.New(worker.Config{Name: "w", Apps: f.apps, Streams: f.js.Streams})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("run: got %v, want nil", err)
	}
	r := feedback.NewRecorder(feedback.RecorderConfig{Streams: f.js.Streams, TokenSet: f.set, Ledger: f.set})
	if err := r.Run(ctx); err != nil {
		t.Errorf("recorder: got %v, want nil", err)
	}
}
