package api_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// morgue is an API with dead letters, on a real JetStream.
type morgue struct {
	*fixture
	js    *testenv.JetStream
	audit *observer.ObservedLogs
	lanes map[string]*stream.Consumer
}

func newMorgue(t *testing.T) *morgue {
	t.Helper()
	core, lines := observer.New(zap.InfoLevel)
	m := &morgue{js: testenv.NewJetStream(t), audit: lines, lanes: make(map[string]*stream.Consumer)}
	m.fixture = setup(t, func(c *api.Config) {
		c.DeadLetters, c.Audit = m.js.Streams, zap.New(core)
		c.Now = time.Now // letters are stored by the server's clock
	})
	return m
}

// take takes the next job of an app out of the queue.
func (m *morgue) take(app string) *stream.Message {
	m.t.Helper()
	if m.lanes[app] == nil {
		var err error
		if m.lanes[app], err = m.js.LaneConsumer(m.t.Context(), app, job.Bulk); err != nil {
			m.t.Fatal(err)
		}
	}
	in, err := m.lanes[app].Wait(5 * time.Second)
	if err != nil || in == nil {
		m.t.Fatalf("take a job of %s: got %v, %v", app, in, err)
	}
	return in
}

// bury publishes a job and gives it up.
func (m *morgue) bury(app, body string, letter stream.Letter) {
	m.t.Helper()
	msg := nats.NewMsg(stream.JobsSubject(app, job.Bulk))
	msg.Data = []byte(body)
	if err := m.js.NC.PublishMsg(msg); err != nil {
		m.t.Fatal(err)
	}
	in := m.take(app)
	letter.Last = time.Now()
	if err := m.js.Bury(m.t.Context(), in, letter); err != nil {
		m.t.Fatal(err)
	}
	if err := in.AckWaiting(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// fill buries n letters of shop, every third with another reason, and one of news
// after each.
func (m *morgue) fill(n int) {
	m.t.Helper()
	for i := range n {
		reason := "PayloadTooLarge"
		if i%3 == 2 {
			reason = "no answer"
		}
		m.bury("shop", fmt.Sprintf(`{"to":{"tokens":[%q]},"notification":{"title":"t"}}`, token(i)), stream.Letter{Reason: reason, Root: fmt.Sprintf("order-%d", i), Recipients: 2})
		m.bury("news", `{"to":{"users":["ada"]},"notification":{"title":"t"}}`, stream.Letter{Reason: reason, Root: "theirs", Recipients: 1})
	}
}

// redriven wants a redriven job as the next one in shop's queue.
func (m *morgue) redriven(root string) {
	m.t.Helper()
	in := m.take("shop")
	j, err := job.Parse(in.Data)
	if err != nil {
		m.t.Fatal(err)
	}
	if id, got, err := in.Identity(j); err != nil || got != root || !strings.HasPrefix(id, "redrive-") {
		m.t.Errorf("in the queue: got %s, %s, %v, want %s redriven", id, got, err, root)
	}
	if err := in.AckWaiting(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

const letters = "/v1/apps/shop/dead-letters"

func (m *morgue) list(query string) api.DeadLetterList {
	m.t.Helper()
	return into[api.DeadLetterList](m.t, m.want(200, request{method: "GET", path: letters + query}))
}

func (m *morgue) do(what, body string) api.DeadLetterResult {
	m.t.Helper()
	return into[api.DeadLetterResult](m.t, m.want(200, request{method: "POST", path: letters + "/" + what, body: body}))
}

// left is the numbers of an app's letters.
func (m *morgue) left(app string) (list []uint64) {
	m.t.Helper()
	d, err := m.js.DeadLetters(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	err = d.Each(m.t.Context(), &stream.DeadSelection{Filter: stream.DeadFilter{App: app}}, func(l *stream.DeadLetter) error {
		list = append(list, l.Sequence)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

func numbers(list []api.DeadLetter) (out []uint64) {
	for i := range list {
		out = append(out, list[i].Sequence)
	}
	return out
}

func TestDeadLetterList(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	if got := m.list(""); got.Next != 0 || len(got.DeadLetters) != 0 {
		t.Errorf("without letters: got %+v", got)
	}
	m.fill(6) // shop's are 1, 3, 5, …, 11
	for _, tt := range []struct {
		query string
		want  []uint64
		next  uint64
	}{
		{"", []uint64{1, 3, 5, 7, 9, 11}, 0},
		{"?limit=2", []uint64{1, 3}, 4},
		{"?limit=2&after=4", []uint64{5, 7}, 8},
		{"?limit=2&after=8", []uint64{9, 11}, 0},
		{"?after=11", nil, 0},
		{"?reason=payloadtoo", []uint64{1, 3, 7, 9}, 0},
		{"?job=order-2", []uint64{5}, 0},
		{"?job=theirs", nil, 0},
		{"?campaign=spring", nil, 0},
		{"?newer_than=1h", []uint64{1, 3, 5, 7, 9, 11}, 0},
		{"?older_than=1h", nil, 0},
	} {
		got := m.list(tt.query)
		if !slices.Equal(numbers(got.DeadLetters), tt.want) || got.Next != tt.next {
			t.Errorf("%s: got %v, next %d, want %v, %d", tt.query, numbers(got.DeadLetters), got.Next, tt.want, tt.next)
		}
	}
	l := m.list("?limit=1").DeadLetters[0]
	if l.App != "shop" || l.Reason != "PayloadTooLarge" || l.Root != "order-0" || l.Recipients != 2 || l.Subject != "push.jobs.shop.bulk" || l.Last == nil || l.Body != nil || l.Headers != nil {
		t.Errorf("got %+v, want the first one, without its body", l)
	}
}

// A whole letter hides device tokens unless it is asked for them, and another app's is
// none.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.bury("shop", `{"to":{"tokens":["`+token(1)+`"]}}`, stream.Letter{Reason: "odd: " + strings.ToUpper(token(1)), Root: "order-1"})
	m.bury("shop", "\xff\xfe"+token(2), stream.Letter{Reason: "job: invalid"})
	m.bury("news", `{}`, stream.Letter{Reason: "r"})
	get := func(path string) api.DeadLetter {
		t.Helper()
		return into[api.DeadLetter](t, m.want(200, request{method: "GET", path: letters + path}))
	}
	short, full := get("/1"), get("/1?full=true")
	if want := "odd: " + strings.ToUpper(token(1)[:6]) + "…"; short.Reason != want || m.list("").DeadLetters[0].Reason != want || short.Headers["Push-Reason"][0] != want {
		t.Errorf("reason: got %q, headers %v, want %q everywhere", short.Reason, short.Headers, want)
	}
	if strings.Contains(*short.Body, token(1)) || !strings.Contains(*short.Body, token(1)[:6]+"…") || !strings.Contains(*full.Body, token(1)) || !strings.Contains(full.Reason, strings.ToUpper(token(1))) {
		t.Errorf("body: got %s and in full %s, want the device token in the second alone", *short.Body, *full.Body)
	}
	// Counts are cut: a device token that is cut in two is hidden as well.
	m.bury("shop", `{}`, stream.Letter{Reason: strings.Repeat("why ", 10) + token(3)})
	for _, what := range []string{"redrive", "purge"} {
		if got := m.do(what, `{"sequences":[4],"dry_run":true}`); got.Reasons[0].Reason != strings.Repeat("why ", 10)+token(3)[:6]+"…" {
			t.Errorf("%s: got the reason %q, want the device token shortened", what, got.Reasons[0].Reason)
		}
	}
	if noText := get("/2"); *noText.Body != "(not text: shown in full only)" || noText.Bytes != len(token(2))+2 {
		t.Errorf("no text: got %d bytes, %q", noText.Bytes, *noText.Body)
	}
	if dump := get("/2?full=true"); !strings.Contains(*dump.Body, "ff fe") {
		t.Errorf("no text, in full: got %q, want a dump", *dump.Body)
	}
	for _, path := range []string{"/3", "/99", "/3?full=true"} {
		if p := into[api.Problem](t, m.want(404, request{method: "GET", path: letters + path})); p.Code != "unknown_dead_letter" {
			t.Errorf("%s: got %+v, want unknown_dead_letter", path, p)
		}
	}
}

// Letters are redriven by filter: a dry run first, in parts, each once, and nobody
// else's.
func TestRedriveDeadLetters(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.fill(6)
	dry := m.do("redrive", `{"reason":"PayloadTooLarge","dry_run":true}`)
	want := api.DeadLetterResult{
		DryRun: true, Letters: 4, Recipients: 8, Through: 12, Refusals: []api.DeadLetterCount{},
		Reasons: []api.DeadLetterCount{{Reason: "PayloadTooLarge", Letters: 4, Recipients: 8}}, Notes: []string{"no worker is running: jobs wait until one is"},
	}
	if !reflect.DeepEqual(dry, want) || len(m.left("shop")) != 6 {
		t.Errorf("dry run: got %+v, want %+v", dry, want)
	}
	if lines := m.audit.TakeAll(); len(lines) != 0 {
		t.Errorf("dry run: got %v in the audit log, want nothing", lines)
	}

	first := m.do("redrive", `{"reason":"PayloadTooLarge","limit":3}`)
	if first.Letters != 3 || first.Recipients != 6 || first.Next != 8 || first.Through != 12 {
		t.Errorf("first part: got %+v, want three letters, and where to go on", first)
	}
	for _, root := range []string{"order-0", "order-1", "order-3"} {
		m.redriven(root)
	}
	// What comes back meanwhile is not meant.
	m.bury("shop", `{"to":{"users":["ada"]}}`, stream.Letter{Reason: "PayloadTooLarge"})
	second := m.do("redrive", fmt.Sprintf(`{"reason":"PayloadTooLarge","after":%d,"through":%d}`, first.Next, first.Through))
	if second.Letters != 1 || second.Next != 0 {
		t.Errorf("second part: got %+v, want the last one", second)
	}
	m.redriven("order-4")
	if got := m.left("shop"); !slices.Equal(got, []uint64{5, 11, 13}) {
		t.Errorf("left: got %v, want those of another reason, and the late one", got)
	}
	if got := m.left("news"); len(got) != 6 {
		t.Errorf("the other app: got %v, want all", got)
	}
	lines := m.audit.TakeAll()
	if len(lines) != 2 || lines[0].Message != "dead-letter.redrive" || lines[0].ContextMap()["object"] != "reason=PayloadTooLarge" || lines[0].ContextMap()["app"] != "shop" {
		t.Errorf("audit log: got %v, want two of the filter", lines)
	}
}

// By number: those of another app and those that are gone are told, nothing else.
func TestRedriveByNumber(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.fill(2)
	m.bury("shop", `{}`, stream.Letter{Reason: "late", Expires: time.Now().Add(-time.Hour)})
	got := m.do("redrive", `{"sequences":[5,3,2,99,3]}`)
	if got.Letters != 1 || got.Stays != 1 || !slices.Equal(got.Unknown, []uint64{2, 99}) || got.Through != 0 ||
		len(got.Refusals) != 1 || got.Refusals[0].Reason != "stays: the job's time is over" {
		t.Errorf("got %+v, want 3 redriven, 5 to stay, and 2 and 99 unknown", got)
	}
	if left := m.left(""); !slices.Equal(left, []uint64{1, 2, 4, 5}) {
		t.Errorf("left: got %v, want all but 3", left)
	}
	if again := m.do("redrive", `{"sequences":[3]}`); again.Letters != 0 || !slices.Equal(again.Unknown, []uint64{3}) {
		t.Errorf("again: got %+v, want it unknown", again)
	}
}

// A letter that somebody else has redriven and could not delete is sent once, and that is
// told.
func TestRedriveAgain(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.fill(1)
	theirs := nats.NewMsg(stream.JobsSubject("shop", job.Bulk))
	theirs.Data = []byte(`{}`)
	theirs.Header.Set(nats.MsgIdHdr, "shop/bulk/"+m.list("").DeadLetters[0].RedriveID)
	if err := m.js.NC.PublishMsg(theirs); err != nil {
		t.Fatal(err)
	}
	if got := m.do("redrive", `{"all":true}`); got.Letters != 1 || got.Again != 1 || len(m.left("shop")) != 0 {
		t.Errorf("got %+v, want one letter, which is not sent again", got)
	}
}

// What one request does is bounded by letters, by recipients and by time, and goes on.
func TestRedriveIsBounded(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.fill(4)
	if got := m.do("redrive", `{"all":true,"dry_run":true,"max_recipients":3}`); got.Letters != 2 || got.Recipients != 4 || got.Next != 4 {
		t.Errorf("max_recipients: got %+v, want two letters of two", got)
	}
	m.door.SetWorkTime(-time.Second) // it is over at once
	body, letters := `{"all":true}`, 0
	for n := range 4 {
		got := m.do("redrive", body)
		if got.Letters != 1 || (got.Next != 0) != (n < 3) {
			t.Fatalf("part %d: got %+v, want one letter, and the next but for the last", n, got)
		}
		letters += got.Letters
		body = fmt.Sprintf(`{"all":true,"after":%d,"through":%d}`, got.Next, got.Through)
	}
	if left := m.left("shop"); letters != 4 || len(left) != 0 {
		t.Errorf("got %d letters, left %v, want all 4 redriven", letters, left)
	}
	m.fill(3)
	if got := m.do("redrive", `{"sequences":[9,11,13]}`); got.Letters != 1 || got.Next != 10 {
		t.Errorf("numbers: got %+v, want one, and to go on at 11", got)
	}
	if got := m.do("redrive", `{"sequences":[9,11,13],"after":10}`); got.Letters != 1 || got.Next != 12 || len(got.Unknown) != 0 {
		t.Errorf("numbers: got %+v, want the second one", got)
	}
}

func TestPurgeDeadLetters(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.fill(6)
	if got := m.do("purge", `{"reason":"no answer","dry_run":true}`); got.Letters != 2 || !got.DryRun || len(m.left("shop")) != 6 {
		t.Errorf("dry run: got %+v, want two counted", got)
	}
	if got := m.do("purge", `{"reason":"no answer"}`); got.Letters != 2 || !slices.Equal(m.left("shop"), []uint64{1, 3, 7, 9}) {
		t.Errorf("by reason: got %+v, left %v, want 5 and 11 gone", got, m.left("shop"))
	}
	if got := m.do("purge", `{"sequences":[3,2,5]}`); got.Letters != 1 || !slices.Equal(got.Unknown, []uint64{2, 5}) {
		t.Errorf("by number: got %+v, want 3 alone", got)
	}
	if got := m.do("purge", `{"all":true,"limit":2}`); got.Letters != 2 || got.Next != 8 || !slices.Equal(m.left("shop"), []uint64{9}) {
		t.Errorf("the oldest two: got %+v, left %v, want 9 left", got, m.left("shop"))
	}
	if got := m.do("purge", `{"older_than":"1h"}`); got.Letters != 0 || len(m.left("shop")) != 1 {
		t.Errorf("older ones: got %+v, want none", got)
	}
	// What comes before after was never counted, and stays.
	m.fill(1)
	if got := m.do("purge", `{"all":true,"after":9}`); got.Letters != 1 || !slices.Equal(m.left("shop"), []uint64{9}) {
		t.Errorf("after 9: got %+v, left %v, want 9 left", got, m.left("shop"))
	}
	if got := m.left("news"); len(got) != 7 {
		t.Errorf("the other app: got %v, want all", got)
	}
}

func TestDeadLettersRefused(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	for _, tt := range []struct {
		r      request
		status int
		code   string
		errors []string
	}{
		{request{method: "GET", path: letters + "?limit=0"}, 422, "invalid", []string{"{limit}: must be 1 to 1000"}},
		{request{method: "GET", path: letters + "?limit=1001&after=x&newer_than=1"}, 422, "invalid", []string{
			"{limit}: must be 1 to 1000", "{after}: must be a whole number from 0 on", "{newer_than}: must be a duration such as 36h or 270d",
		}},
		{request{method: "GET", path: letters + "?newer_than=1h&older_than=2h"}, 422, "invalid", []string{"{newer_than}: must be longer than older_than, or nothing is left between"}},
		{request{method: "GET", path: letters + "/x"}, 422, "invalid", []string{"{sequence}: must be a dead letter's number"}},
		{request{method: "GET", path: letters + "/1?full=1"}, 422, "invalid", []string{"{full}: must be true or false"}},
		{request{method: "POST", path: letters + "/redrive", body: `{`}, 400, "malformed", nil},
		{request{method: "POST", path: letters + "/redrive"}, 400, "malformed", nil},
		{request{method: "POST", path: letters + "/redrive", body: `{}`}, 422, "invalid", []string{"must say which: sequences, filters such as reason, or all"}},
		{request{method: "POST", path: letters + "/purge", body: `{"dry_run":true}`}, 422, "invalid", []string{"must say which: sequences, filters such as reason, or all"}},
		{request{method: "POST", path: letters + "/purge", body: `{"reason":""}`}, 422, "invalid", []string{"reason: must not be empty: leave it out instead"}},
		{request{method: "POST", path: letters + "/purge", body: `{"all":true,"max_recipients":5}`}, 422, "invalid", []string{"max_recipients: is for redriving"}},
		{request{method: "POST", path: letters + "/redrive", body: `{"sequences":[1],"reason":"x"}`}, 422, "invalid", []string{"sequences: must not be given together with filters, or with all"}},
		{request{method: "POST", path: letters + "/redrive", body: `{"all":true,"job":"x"}`}, 422, "invalid", []string{"all: must not be given together with filters"}},
		{request{method: "POST", path: letters + "/redrive", body: `{"sequences":[],"limit":0,"all":"yes","older_than":"soon","app":"news"}`}, 422, "invalid", []string{
			"sequences: must not be empty", "limit: must be 1 to 10000", "all: must be a boolean, got a string", "app: unknown field",
			"older_than: must be a duration such as 36h or 270d",
		}},
		{request{method: "POST", path: letters + "/redrive", body: `{"sequences":[0,1.5,"2"]}`}, 422, "invalid", []string{
			"sequences[0]: must be a whole number from 1 on", "sequences[1]: must be a whole number from 1 on", "sequences[2]: must be a whole number, got a string",
		}},
		{request{method: "POST", path: letters + "/redrive", body: `{"older_than":"soon"}`}, 422, "invalid", []string{"older_than: must be a duration such as 36h or 270d"}},
		{request{method: "POST", path: letters + "/redrive", body: `{"sequences":[1` + strings.Repeat(",1", 1000) + `]}`}, 422, "invalid", []string{"sequences: must be at most 1000, got 1001"}},
	} {
		p := into[api.Problem](t, m.want(tt.status, tt.r))
		if got := faultsOf(p.Errors); p.Code != tt.code || !reflect.DeepEqual(got, tt.errors) {
			t.Errorf("%s %s %.60v: got %s %q, want %s %q", tt.r.method, tt.r.path, tt.r.body, p.Code, got, tt.code, tt.errors)
		}
	}
}

func (away) DeadLetters(context.Context) (*stream.DeadLetters, error) { return nil, errAway }

func TestDeadLettersWithoutJetStream(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *api.Config) { c.DeadLetters = away{} })
	for _, r := range []request{
		{method: "GET", path: letters},
		{method: "GET", path: letters + "/1"},
		{method: "POST", path: letters + "/redrive", body: `{"all":true}`},
		{method: "POST", path: letters + "/purge", body: `{"all":true}`},
	} {
		if p := into[api.Problem](t, f.want(503, r)); p.Code != "unavailable" {
			t.Errorf("%s: got %+v, want unavailable", r.path, p)
		}
	}
}
