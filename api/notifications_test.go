package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const notifications = "/v1/apps/shop/notifications"

// setupNotifications is setup with notifications, on a real JetStream. queue, if not
// nil, stands before it.
func setupNotifications(t *testing.T, js *testenv.JetStream, queue api.Queue) *fixture {
	t.Helper()
	if queue == nil {
		queue = js.Streams
	}
	return setup(t, func(c *api.Config) { c.Queue, c.Jobs = queue, c.Keys.(*store.Store) })
}

// handedIn hands in a job.
func (f *fixture) handedIn(query, body string) api.HandedIn {
	f.t.Helper()
	return into[api.HandedIn](f.t, f.want(http.StatusAccepted, request{method: http.MethodPost, path: notifications + query, body: body}))
}

// stored is a message of JOBS.
func stored(t *testing.T, js *testenv.JetStream, sequence uint64) *jetstream.RawStreamMsg {
	t.Helper()
	client, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := client.Stream(t.Context(), stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := st.GetMsg(t.Context(), sequence)
	if err != nil {
		t.Fatalf("message %d of JOBS: %v", sequence, err)
	}
	return msg
}

func TestSendNotification(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	const more = `"to":{"users":["ada"]},"notification":{"title":"t"}`
	for _, tt := range []struct {
		name, query, key, body string
		id, status             string
		lane, stored           string
	}{
		{"its own id", "", "", `{"id":"a/1 ü",` + more + `}`, "a/1 ü", "/v1/apps/shop/notifications/a%2F1%20%C3%BC?sequence=1", "transactional", `{"id":"a/1 ü",` + more + `}`},
		{"the header's", "?lane=transactional", "key-1", `{` + more + `}`, "key-1", "/v1/apps/shop/notifications/key-1?sequence=2", "transactional", `{"id":"key-1",` + more + `}`},
		{"both", "", "b", ` {"id":"b",` + more + `}`, "b", "/v1/apps/shop/notifications/b?sequence=3", "transactional", ` {"id":"b",` + more + `}`},
		{"none", "", "", `{` + more + `}`, "seq-4", "/v1/apps/shop/notifications/seq-4", "transactional", `{` + more + `}`},
		{"bulk", "?lane=bulk", "", `{"id":"b",` + more + `}`, "b", "/v1/apps/shop/notifications/b?lane=bulk&sequence=6", "bulk", `{"id":"b",` + more + `}`},
		{"bulk, none", "?lane=bulk", "", `{` + more + `}`, "seq-7", "/v1/apps/shop/notifications/seq-7?lane=bulk", "bulk", `{` + more + `}`},
	} {
		r := request{method: http.MethodPost, path: notifications + tt.query, body: tt.body, header: map[string]string{}}
		if tt.key != "" {
			r.header["Idempotency-Key"] = tt.key
		}
		got := into[api.HandedIn](t, f.want(http.StatusAccepted, r))
		if got.ID != tt.id || got.StatusURL != tt.status || got.Duplicate {
			t.Errorf("%s: got %+v, want %s at %s", tt.name, got, tt.id, tt.status)
		}
		msg := stored(t, js, got.Sequence)
		if string(msg.Data) != tt.stored || msg.Subject != "push.jobs.shop."+tt.lane {
			t.Errorf("%s: got %s on %s, want %s in %s", tt.name, msg.Data, msg.Subject, tt.stored, tt.lane)
		}
		// It is found there at once.
		if status := into[api.Notification](t, f.want(http.StatusOK, request{method: http.MethodGet, path: got.StatusURL})); status.State != "queued" || status.Sequence != got.Sequence || status.ID != tt.id || status.Lane != tt.lane {
			t.Errorf("%s: got %+v, want it queued", tt.name, status)
		}
		again := into[api.HandedIn](t, f.want(http.StatusAccepted, r))
		if named := !strings.HasPrefix(tt.id, "seq-"); again.Duplicate != named || (again.Sequence == got.Sequence) != named {
			t.Errorf("%s: again: got %+v, want a duplicate of %d only if it has an id", tt.name, again, got.Sequence)
		}
	}
	for result, want := range map[string]float64{"stored": 8, "duplicate": 4} {
		if got := f.metric("pushfleet_api_jobs_total", map[string]string{"app": "shop", "result": result}); got != want {
			t.Errorf("metric of %s: got %v, want %v", result, got, want)
		}
	}
	if got := f.metric("pushfleet_api_jobs_publishing", nil); got != 0 {
		t.Errorf("metric of those that wait: got %v, want 0", got)
	}
}

// The largest job there is fits, and is stored in half of its size.
func TestSendToAThousand(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	j := job.Job{ID: "many", Notification: &job.Notification{Body: strings.Repeat("b", 4000)}}
	for n := range 1000 {
		j.To.Tokens = append(j.To.Tokens, device.TokenFromRaw(fmt.Sprintf("%256d", n)))
	}
	text, err := json.Marshal(&j)
	if err != nil {
		t.Fatal(err)
	}
	msg := stored(t, js, f.handedIn("", string(text)).Sequence)
	if got, err := job.Parse(msg.Data); err != nil || !reflect.DeepEqual(got, &j) || len(msg.Data) > len(text)*3/5 {
		t.Errorf("got %d bytes of %d, %v, want the same job in half of them", len(msg.Data), len(text), err)
	}
}

func TestSendMistakes(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	const post, get = http.MethodPost, http.MethodGet
	const body = `{"id":"a","to":{"users":["ada"]},"notification":{"title":"t"}}`
	const nameless = `{"to":{"users":["ada"]},"notification":{"title":"t"}}`
	compact, err := job.AppendCompact(nil, &job.Job{To: job.Recipients{Tokens: []device.Token{device.TokenFromRaw("t")}}, Notification: &job.Notification{Title: "t"}})
	if err != nil {
		t.Fatal(err)
	}
	key := func(k string) map[string]string { return map[string]string{"Idempotency-Key": k} }
	for _, tt := range []struct {
		name   string
		r      request
		status int
		code   string
		errors []string
	}{
		{"no key", request{method: post, path: notifications, body: body, key: "none"}, 401, "unauthorized", nil},
		{"key to read only", request{method: post, path: notifications, body: body, key: f.keyFor("shop", api.ScopeRead, api.ScopeDevices)}, 403, "missing_scope", nil},
		{"key to send only", request{method: get, path: notifications + "/a", key: f.keyFor("shop", api.ScopeSend)}, 403, "missing_scope", nil},
		{"key of another app", request{method: post, path: notifications, body: body, key: f.keyFor("news", api.ScopeSend)}, 403, "wrong_app", nil},
		{"unknown app", request{method: post, path: "/v1/apps/nosuch/notifications", body: body}, 404, "unknown_app", nil},
		{"wrong method", request{method: http.MethodPut, path: notifications, body: body}, 405, "method_not_allowed", nil},
		{"too large", request{method: post, path: notifications, body: strings.Repeat(" ", 768<<10+1)}, 413, "body_too_large", nil},
		{"zipped", request{method: post, path: notifications, body: body, header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported_encoding", nil},
		{"nothing", request{method: post, path: notifications}, 400, "malformed", nil},
		{"not JSON", request{method: post, path: notifications, body: "title=t"}, 400, "malformed", nil},
		{"two", request{method: post, path: notifications, body: body + body}, 400, "malformed", nil},
		{"not UTF-8", request{method: post, path: notifications, body: "{\"id\":\"\xff\"}"}, 400, "malformed", nil},
		{"compact", request{method: post, path: notifications, body: string(compact)}, 400, "malformed", nil},
		{"an array", request{method: post, path: notifications, body: "[]"}, 422, "invalid", []string{"must be an object, got an array"}},
		{"everything at once", request{
			method: post, path: notifications + "?lane=urgent",
			body: `{"id":"seq-5","to":{"tokens":["zz","abc"]},"notification":{"badge":-1,"colour":"red"},"priority":7,"lane":"bulk"}`,
		}, 422, "invalid", []string{
			"{lane}: must be transactional or bulk", "id: must not be seq- and a number: that names jobs without an id",
			"to.tokens[0]: device token holds something other than hex digits", "to.tokens[1]: device token has an odd number of hex digits",
			"notification.badge: must be a whole number from 0 to 2147483647", "notification.colour: unknown field",
			"priority: must be one of 10, 5, 1, got 7", "lane: unknown field",
		}},
		{"two ids", request{method: post, path: notifications, body: body, header: key("b")}, 422, "invalid", []string{"id: must be what the header Idempotency-Key says, or one of both left out"}},
		{"reserved key", request{method: post, path: notifications, body: nameless, header: key("seq-7")}, 422, "invalid", []string{"{Idempotency-Key}: must not be seq- and a number: that names jobs without an id"}},
		{"long key", request{method: post, path: notifications, body: nameless, header: key(strings.Repeat("k", 129))}, 422, "invalid", []string{"{Idempotency-Key}: is 129 bytes long, at most 128 are allowed"}},
		{"batch of none", request{method: post, path: notifications + "/batch", body: `{"jobs":[]}`}, 422, "invalid", []string{"jobs: must not be empty"}},
		{"batch without jobs", request{method: post, path: notifications + "/batch", body: `{"job":[]}`}, 422, "invalid", []string{"job: unknown field, did you mean jobs?", "jobs: is required"}},
		{"batch of too many", request{method: post, path: notifications + "/batch", body: `{"jobs":[{}` + strings.Repeat(",{}", 1000) + `]}`}, 422, "invalid", []string{"jobs: must be at most 1000, got 1001"}},
		{"broken batch", request{method: post, path: notifications + "/batch", body: `{"jobs":[{}`}, 400, "malformed", nil},
		{"batch in no lane", request{method: post, path: notifications + "/batch?lane=", body: `{"jobs":[]}`}, 422, "invalid", []string{"{lane}: must be transactional or bulk", "jobs: must not be empty"}},
		{"batch of one name", request{method: post, path: notifications + "/batch", body: `{"jobs":[` + nameless + `]}`, header: key("k")}, 422, "invalid", []string{"{Idempotency-Key}: is for a single job: give each job of a batch an id"}},
		{"unknown id", request{method: get, path: notifications + "/nosuch"}, 404, "unknown_notification", nil},
		{"a place that is not there", request{method: get, path: notifications + "/seq-4711"}, 404, "unknown_notification", nil},
		{"long id", request{method: get, path: notifications + "/" + strings.Repeat("i", 129)}, 422, "invalid", []string{"{id}: must be at most 128 bytes, got 129"}},
		{"id not UTF-8", request{method: get, path: notifications + "/%ff"}, 422, "invalid", []string{"{id}: must be UTF-8"}},
		{"lane and place", request{method: get, path: notifications + "/a?lane=x&sequence=-1"}, 422, "invalid", []string{"{lane}: must be transactional or bulk", "{sequence}: must be the place that the job was stored at"}},
	} {
		p := into[api.Problem](t, f.want(tt.status, tt.r))
		if got := faultsOf(p.Errors); p.Code != tt.code || !reflect.DeepEqual(got, tt.errors) {
			t.Errorf("%s: got %s %q, want %s %q", tt.name, p.Code, got, tt.code, tt.errors)
		}
	}
	// None of that is in the queue.
	if waiting, err := js.JobSubjects(t.Context()); err != nil || len(waiting) != 0 {
		t.Errorf("JOBS: got %+v, %v, want it empty", waiting, err)
	}
}

func TestSendBatch(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	const more = `"to":{"users":["ada"]},"notification":{"title":"t"}`
	body := `{"jobs":[{"id":"a",` + more + `},{"id":"b","to":{"users":["ada"]}},{ ` + more + `},{"id":"a",` + more + `},7,{"id":"c",` + more + `,"x":[` + strings.Repeat("1,", 30) + `1]}]}`
	got := into[api.JobBatchResult](t, f.want(http.StatusOK, request{method: http.MethodPost, path: notifications + "/batch?lane=bulk", body: body}))
	want := api.JobBatchResult{Stored: 3, Failed: 3, Results: []api.JobResult{
		{Status: 202, Job: &api.HandedIn{ID: "a", Sequence: 1, StatusURL: notifications + "/a?lane=bulk&sequence=1"}},
		{
			Status: 422, Code: "invalid", Detail: "jobs[1]: must have exactly one of notification, payload",
			Errors: []api.Fault{{Path: "jobs[1]", Message: "must have exactly one of notification, payload"}},
		},
		{Status: 202, Job: &api.HandedIn{ID: "seq-2", Sequence: 2, StatusURL: notifications + "/seq-2?lane=bulk"}},
		{Status: 202, Job: &api.HandedIn{ID: "a", Sequence: 1, Duplicate: true, StatusURL: notifications + "/a?lane=bulk&sequence=1"}},
		{
			Status: 422, Code: "invalid", Detail: "jobs[4]: must be an object, got a number",
			Errors: []api.Fault{{Path: "jobs[4]", Message: "must be an object, got a number"}},
		},
		{Status: 422, Code: "invalid", Detail: "jobs[5].x: unknown field", Errors: []api.Fault{{Path: "jobs[5].x", Message: "unknown field"}}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if msg := stored(t, js, 2); string(msg.Data) != `{ `+more+`}` {
		t.Errorf("the third: got %s, want it as it came", msg.Data)
	}

	var many []string
	for n := range 1000 {
		many = append(many, fmt.Sprintf(`{"id":"n%d",%s}`, n, more))
	}
	got = into[api.JobBatchResult](t, f.want(http.StatusOK, request{method: http.MethodPost, path: notifications + "/batch", body: `{"jobs":[` + strings.Join(many, ",") + `]}`}))
	if got.Stored != 1000 || got.Failed != 0 || got.Results[999].Job.ID != "n999" {
		t.Errorf("got %d stored, %d not, last %+v, want all 1000", got.Stored, got.Failed, got.Results[999])
	}
}

// A batch counts as many requests as it has jobs.
func TestBatchOfJobsIsCharged(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) { c.Queue, c.Jobs, c.RateLimit = js.Streams, c.Keys.(*store.Store), 3 })
	const one = `{"to":{"users":["ada"]},"notification":{"title":"t"}}`
	batch := request{method: http.MethodPost, path: notifications + "/batch", body: `{"jobs":[` + one + `,` + one + `,` + one + `,` + one + `]}`}
	f.want(http.StatusOK, batch) // more than a second's worth: all that there is
	a := f.want(http.StatusTooManyRequests, batch)
	if a.header.Get("Retry-After") == "" {
		t.Error("got no Retry-After, want one")
	}
}

// What is too many for one batch's faults is counted.
func TestFaultsOfABatchAreBounded(t *testing.T) {
	t.Parallel()
	f := setupNotifications(t, testenv.NewJetStream(t), nil)
	body := `{"jobs":[{"to":{"tokens":["x"` + strings.Repeat(`,"x"`, 99) + `]},"notification":{"title":"t"}}]}`
	got := into[api.JobBatchResult](t, f.want(http.StatusOK, request{method: http.MethodPost, path: notifications + "/batch", body: body}))
	if r := got.Results[0]; len(r.Errors) != 10 || r.Detail != "the request has 100 problems, of which the first 10 are listed" {
		t.Errorf("got %d faults, %q, want 10 of 100", len(r.Errors), r.Detail)
	}
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{}, stream.Config{JobsBytes: 1 << 20, OutcomesBytes: 1 << 20})
	f := setupNotifications(t, js, nil)
	users := strings.Repeat(`"`+strings.Repeat("u", 200)+`",`, 500)
	for n := range 100 {
		body := fmt.Sprintf(`{"id":"n%d","to":{"users":[%s"v%d"]},"notification":{"title":"t"}}`, n, strings.ReplaceAll(users, "u,", fmt.Sprint(n, "u,")), n)
		body = strings.Replace(body, "uuuu", fmt.Sprintf("%04d", n), 1)
		a := f.send(request{method: http.MethodPost, path: notifications, body: body})
		if a.status == http.StatusAccepted {
			continue
		}
		p := into[api.Problem](t, a)
		if a.status != http.StatusServiceUnavailable || p.Code != "no_room" || a.header.Get("Retry-After") == "" || n == 0 {
			t.Errorf("job %d: got %d %+v, Retry-After %q, want no_room and a time", n, a.status, p, a.header.Get("Retry-After"))
		}
		batch := f.want(http.StatusServiceUnavailable, request{method: http.MethodPost, path: notifications + "/batch", body: `{"jobs":[` + strings.Replace(body, `"n`, `"m`, 1) + `]}`})
		if p := into[api.Problem](t, batch); p.Code != "no_room" || batch.header.Get("Retry-After") == "" {
			t.Errorf("batch: got %+v, want no_room and a time", p)
		}
		if got := f.metric("pushfleet_api_jobs_total", map[string]string{"result": "no_room"}); got != 2 {
			t.Errorf("metric: got %v, want 2", got)
		}
		return
	}
	t.Error("got no end, want a queue of a megabyte to be full")
}

// broken is a queue that cannot be reached.
type broken struct{ api.Queue }

var errBroken = errors.New("there is no connection to JetStream")

func (broken) PublishParsed(context.Context, string, job.Lane, *job.Job, []byte) (*stream.Pending, error) {
	return nil, errBroken
}

func (broken) StoredJob(context.Context, string, job.Lane, uint64) (stream.StoredJob, bool, error) {
	return stream.StoredJob{}, false, errBroken
}

func (broken) StoredOutcomes(context.Context, uint64) (*job.Outcomes, bool, error) {
	return nil, false, errBroken
}

func TestQueueOutOfReach(t *testing.T) {
	t.Parallel()
	f := setupNotifications(t, nil, broken{})
	f.settled(7, outcome("done", 3, device.TokenFromRaw("t")))
	const more = `"to":{"users":["ada"]},"notification":{"title":"t"}}`
	for _, tt := range []struct {
		r    request
		text string
	}{
		{request{method: http.MethodPost, path: notifications, body: `{"id":"a",` + more}, "which does no harm, as it has an id"},
		{request{method: http.MethodPost, path: notifications, body: `{` + more}, "without an id it would then be sent twice"},
		{request{method: http.MethodPost, path: notifications + "/batch", body: `{"jobs":[{` + more + `]}`}, "sent twice"},
		{request{method: http.MethodGet, path: notifications + "/seq-1"}, "cannot be read now"},
		{request{method: http.MethodGet, path: notifications + "/done"}, "cannot be read now"},
	} {
		a := f.want(http.StatusServiceUnavailable, tt.r)
		if p := into[api.Problem](t, a); p.Code != "unavailable" || a.header.Get("Retry-After") != "5" || !strings.Contains(p.Detail, tt.text) {
			t.Errorf("%s %s: got %+v, Retry-After %q, want unavailable, 5 and %q", tt.r.method, tt.r.path, p, a.header.Get("Retry-After"), tt.text)
		}
	}
	// What is invalid is said all the same.
	mixed := f.want(http.StatusServiceUnavailable, request{method: http.MethodPost, path: notifications + "/batch", body: `{"jobs":[{` + more + `,{}]}`})
	if p := into[api.Problem](t, mixed); p.Code != "unavailable" {
		t.Errorf("one that is invalid, and one that could not be stored: got %+v, want unavailable", p)
	}
	f.want(http.StatusOK, request{method: http.MethodPost, path: notifications + "/batch", body: `{"jobs":[{}]}`})
}

// While JetStream stands still, no more than a bound of jobs wait for it; the others
// are refused at once.
func TestOverload(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	client, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteStream(t.Context(), stream.Jobs); err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{}, 4000) // it takes what is published, and does not answer
	if _, err := js.NC.Subscribe("push.jobs.>", func(*nats.Msg) { taken <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if err := js.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	const one = `{"to":{"users":["ada"]},"notification":{"title":"t"}}`
	body := `{"jobs":[` + one + strings.Repeat(","+one, 999) + `]}`
	ctx, leave := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.server.URL+notifications+"/batch", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+f.admin)
		waiting.Go(func() {
			if resp, err := f.client.Do(req); err == nil {
				t.Errorf("a batch that waits: got %s, want it to wait", resp.Status)
				resp.Body.Close()
			}
		})
	}
	for range 2000 {
		<-taken
	}
	if got := f.metric("pushfleet_api_jobs_publishing", nil); got != 2000 {
		t.Errorf("metric: got %v, want 2000", got)
	}
	a := f.want(http.StatusServiceUnavailable, request{method: http.MethodPost, path: notifications + "/batch", body: body})
	if p := into[api.Problem](t, a); p.Code != "overloaded" || a.header.Get("Retry-After") != "1" || len(taken) != 0 {
		t.Errorf("got %+v, Retry-After %q, %d published, want overloaded, 1, and nothing published", p, a.header.Get("Retry-After"), len(taken))
	}
	leave()
	waiting.Wait()
}
