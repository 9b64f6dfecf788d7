package job_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

// content reads a job's content as a document that holds one does.
func content(text string) (j job.Job, problems []string) {
	d := strictjson.New([]byte(text))
	job.ContentMembers().Read(d, &j)
	d.End()
	if !d.Broken() {
		j.CheckContent(&d.Problems)
	}
	list, _ := d.List()
	for _, p := range list {
		problems = append(problems, p.String())
	}
	return j, problems
}

// TestContentIsJudgedLikeAJob takes the same jobs, without what a content does not
// have, and wants the same problems.
func TestContentIsJudgedLikeAJob(t *testing.T) {
	t.Parallel()
	const to = `"to":{"users":["u"]},`
	judged := 0
	check := func(name, text string, want []string) {
		rest, found := strings.CutPrefix(text, `{`+to)
		if !found || strings.Contains(text, "send_after") || strings.Contains(text, `"id"`) {
			return
		}
		judged++
		want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return strings.Contains(s, "renders to") })
		if _, got := content(`{` + rest); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for name, text := range good() {
		check(name, text, nil)
	}
	for _, tt := range bad() {
		check(tt.name, tt.json, tt.problems)
	}
	if judged < 40 {
		t.Errorf("got %d contents, want many", judged)
	}
}

func TestContentMembersWriteWhatTheyRead(t *testing.T) {
	t.Parallel()
	j := everyField()
	j.ID, j.To = "", job.Recipients{}
	data := job.ContentMembers().Append(nil, j)
	for _, name := range []string{"id", "to", "send_after"} {
		if strings.Contains(string(data), `"`+name+`":`) {
			t.Errorf("got %s, want it without %s", data, name)
		}
	}
	got, problems := content(string(data))
	got.SendAfter = j.SendAfter
	if problems != nil || !reflect.DeepEqual(&got, j) {
		t.Errorf("got %+v, %q, want %+v", got, problems, j)
	}
}

func TestOverride(t *testing.T) {
	t.Parallel()
	base := job.Notification{
		Title: "t", Body: "b", Badge: new(3), Sound: job.Sound{Name: "s", Critical: true}, MutableContent: true,
		LocKey: "k", LocArgs: []string{"a"}, ContentState: json.RawMessage(`{"a":1}`),
	}
	for name, tt := range map[string]struct {
		over job.Notification
		want func(*job.Notification)
	}{
		"nothing":       {job.Notification{}, func(*job.Notification) {}},
		"a text":        {job.Notification{Title: "T"}, func(n *job.Notification) { n.Title = "T" }},
		"a zero":        {job.Notification{Badge: new(0)}, func(n *job.Notification) { n.Badge = new(0) }},
		"a whole sound": {job.Notification{Sound: job.Sound{Name: "x"}}, func(n *job.Notification) { n.Sound = job.Sound{Name: "x"} }},
		"a list":        {job.Notification{LocArgs: []string{"b", "c"}}, func(n *job.Notification) { n.LocArgs = []string{"b", "c"} }},
		"an object":     {job.Notification{ContentState: json.RawMessage(`{"b":2}`)}, func(n *job.Notification) { n.ContentState = json.RawMessage(`{"b":2}`) }},
	} {
		want := base
		tt.want(&want)
		got, err := base.Override(&tt.over)
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	if base.Title != "t" || *base.Badge != 3 {
		t.Errorf("the notification itself: got %+v, want it as it was", base)
	}
}
