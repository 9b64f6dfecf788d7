package job_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func TestOutcomesRoundTrip(t *testing.T) {
	t.Parallel()
	for name, want := range goldenOutcomes() {
		data := want.AppendJSON([]byte("kept"))[4:]
		got, err := job.ParseOutcomes(data)
		if err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
}

// TestEveryFieldIsOnTheWire fills every field of the structs with something, so
// that one which is missing from the tables is lost on the way.
func TestEveryFieldIsOnTheWire(t *testing.T) {
	t.Parallel()
	var o job.Outcomes
	fill(reflect.ValueOf(&o).Elem())
	o.Jobs[0].Fresh[0] = 0
	got, err := job.ParseOutcomes(o.AppendJSON(nil))
	must(t, got, err)
	if !reflect.DeepEqual(got, &o) {
		t.Errorf("outcomes:\ngot  %+v\nwant %+v", *got, o)
	}

	// A job with everything is against the rules; its problems must not be more.
	var j job.Job
	fill(reflect.ValueOf(&j).Elem())
	j.To.Users, j.To.Installs, j.Payload, j.ExpiresAt = nil, nil, nil, time.Time{}
	n := j.Notification
	j.PushType, j.OnUnknown, n.InterruptionLevel, n.Event = job.PushLiveActivity, job.Drop, job.Active, job.EventStart
	j.Priority, n.ContentChanged, n.TitleLocKey, n.TitleLocArgs, n.LocKey, n.LocArgs = 5, false, "", nil, "", nil
	roundTrip(t, &j)
	j.PushType, n.Event = job.PushWidgets, ""
	*n = job.Notification{ContentChanged: true, TitleLocKey: "k", TitleLocArgs: []string{"a"}, LocKey: "k", LocArgs: []string{"a"}}
	roundTrip(t, &j)
}

// fill gives every field of a struct, and of those in it, a value of one.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMilli(1).Add(time.Second).UTC()))
		return
	case device.Token:
		v.Set(reflect.ValueOf(device.TokenFromRaw("\x01")))
		return
	case json.RawMessage:
		v.SetBytes([]byte(`{"a":1}`))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	default:
		v.SetUint(1)
	}
}

func TestOutcomesWireFormat(t *testing.T) {
	t.Parallel()
	o := &job.Outcomes{
		App: "shop", Lane: job.Bulk, Worker: "w1", At: time.UnixMilli(1760000000123),
		Jobs: []job.JobOutcome{{
			ID: "o-1", Sequence: 17, QueuedAt: time.UnixMilli(1760000000001), Attempt: 1, Environment: device.Production, Whole: true, Complete: true, Total: 3,
			Accepted: []device.Token{device.TokenFromRaw("\x0a\xff"), device.TokenFromRaw("\x0b")}, Fresh: []int{0, 1},
			Others: []job.Recipient{{
				DeviceToken: device.TokenFromRaw("\x0c"), User: "u", Install: "i", Result: job.Rejected, Reason: "Unregistered", Status: 410,
				Timestamp: 1750000000000, Generation: 3, SentAt: time.UnixMilli(1760000000100),
			}},
		}},
	}
	want := `{"v":1,"app":"shop","lane":"bulk","worker":"w1","at":1760000000123,"jobs":[{"id":"o-1","seq":17,"queued_at":1760000000001,"attempt":1,` +
		`"environment":"production","whole":true,"complete":true,"total":3,"accepted":["0aff","0b"],"fresh":[0,1],"others":[{"token":"0c","user":"u","install":"i",` +
		`"result":"rejected","reason":"Unregistered","status":410,"timestamp":1750000000000,"generation":3,"sent_at":1760000000100}]}]}`
	if got := string(o.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := string((&job.Outcomes{App: "a"}).AppendJSON(nil)), `{"v":1,"app":"a","lane":"transactional"}`; got != want {
		t.Errorf("zero values: got %s, want %s", got, want)
	}
}

func TestParseOutcomesIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	got, err := job.ParseOutcomes([]byte(`{"x":[{}],"v":1.0,"app":"a","lane":"bulk","jobs":[{"new":{"a":[1]},"id":"j","others":[{"result":"brand-new","y":null}]}]}`))
	must(t, got, err)
	want := &job.Outcomes{App: "a", Lane: job.Bulk, Jobs: []job.JobOutcome{{ID: "j", Others: []job.Recipient{{Result: "brand-new"}}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseOutcomesTellsProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		data string
		want []string
	}{
		{``, []string{"is empty"}},
		{`{}`, []string{"v: is required", "app: is required", "lane: is required"}},
		{`{"v":2,"app":"a","lane":"x"}`, []string{"v: is of a version that is not known, only 1 is", "lane: must be one of transactional, bulk, got x"}},
		{`{"v":"1","app":"a","lane":"bulk","jobs":[{"id":"a","fresh":["0"],"others":[{"token":1,"result":"x"}]}]}`, []string{
			"v: must be a whole number, got a string", "jobs[0].fresh[0]: must be a whole number, got a string", "jobs[0].others[0].token: must be a string, got a number",
		}},
		{`{"v":1,"app":"a","lane":"bulk"}{}`, []string{"not valid JSON: something follows the object at line 1, column 32"}},
		{`{"v":1,"app":"a","lane":"bulk","jobs":[{"id":"a"},{"seq":-1,"accepted":["x"],"others":[{"token":"","status":1000}]}]}`, []string{
			"jobs[1].seq: must be a whole number from 0 to 9223372036854775806", "jobs[1].accepted[0]: device token has an odd number of hex digits",
			"jobs[1].others[0].token: device token is empty", "jobs[1].others[0].status: must be a whole number from 0 to 999", "jobs[1].others[0].result: is required", "jobs[1].id: is required",
		}},
		{`{"v":1,"app":"a","lane":"bulk","jobs":[{"id":"a","fresh":[0,1,-1],"accepted":["0a"]}]}`, []string{"jobs[0].fresh[2]: must be an index of accepted"}},
		{`{"v":1,"app":"a","lane":"bulk","jobs":[{"id":"a","fresh":[0,1],"accepted":["0a"]}]}`, []string{"jobs[0].fresh[1]: must be an index of accepted, which has 1"}},
	} {
		o, err := job.ParseOutcomes([]byte(tt.data))
		if got := problemsOf(t, err); o != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.data, got, tt.want)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "parse outcomes: job: invalid: ") {
			t.Errorf("%s: got text %q", tt.data, err)
		}
		if invalid := (*job.Invalid)(nil); !errors.As(err, &invalid) {
			t.Errorf("%s: got %T, want a *job.Invalid inside", tt.data, err)
		}
	}
}

// manyOutcomes is a message with jobs of the given numbers of accepted and other
// recipients.
func manyOutcomes(sizes ...[2]int) *job.Outcomes {
	o := &job.Outcomes{App: "shop", Worker: "w", At: time.UnixMilli(1).UTC()}
	n := 0
	for i, size := range sizes {
		j := job.JobOutcome{
			ID: fmt.Sprintf("job %d \"\x01é", i), Sequence: uint64(i) + 1, QueuedAt: time.UnixMilli(2).UTC(), Attempt: 1,
			Environment: device.Production, Whole: true, Complete: true, Total: size[0] + size[1],
		}
		for k := range size[0] {
			if n++; n%3 == 0 {
				j.Fresh = append(j.Fresh, k)
			}
			j.Accepted = append(j.Accepted, tokenNumber(n))
		}
		j.Known = size[0] - len(j.Fresh)
		for k := range size[1] {
			n++
			j.Others = append(j.Others, job.Recipient{
				DeviceToken: tokenNumber(n), User: strings.Repeat("\"", k%50), Result: job.Rejected, Reason: "Unregistered", Status: 410,
				Timestamp: 1750000000000, Generation: uint32(k), SentAt: time.UnixMilli(int64(k)).UTC(),
			})
		}
		o.Jobs = append(o.Jobs, j)
	}
	return o
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][][2]int{
		{}, {{1, 0}}, {{0, 1}}, {{1000, 0}}, {{0, 1000}}, {{500, 500}, {1, 1}, {3, 0}}, {{1, 0}, {1, 0}, {1, 0}}, {{0, 0}, {10, 10}},
	} {
		for _, limits := range [][2]int{{0, 0}, {1 << 20, 1000}, {8192, 0}, {1500, 0}, {0, 1}, {0, 7}, {20_000, 300}, {1, 0}} {
			whole := manyOutcomes(sizes...)
			parts := whole.Split(limits[0], limits[1])
			checkSplit(t, fmt.Sprintf("%v by %v", sizes, limits), whole, parts, limits[0], limits[1])
		}
	}
}

func checkSplit(t *testing.T, name string, whole *job.Outcomes, parts []job.Outcomes, maxBytes, maxRecipients int) {
	t.Helper()
	joined := &job.Outcomes{App: whole.App, Lane: whole.Lane, Worker: whole.Worker, At: whole.At}
	for i := range parts {
		p := &parts[i]
		recipients := 0
		for _, j := range p.Jobs {
			recipients += len(j.Accepted) + len(j.Others)
		}
		if n := len(p.AppendJSON(nil)); maxBytes > 0 && n > maxBytes && recipients > 1 {
			t.Errorf("%s: part %d: got %d bytes, want at most %d", name, i, n, maxBytes)
		}
		most := maxRecipients
		if len(p.Jobs) == 1 && p.Jobs[0].Whole {
			most *= 2
		}
		if most > 0 && recipients > most {
			t.Errorf("%s: part %d: got %d recipients, want at most %d", name, i, recipients, most)
		}
		if len(p.Jobs) == 0 {
			t.Errorf("%s: part %d: got no jobs", name, i)
		}
		if p.App != whole.App || p.Worker != whole.Worker || !p.At.Equal(whole.At) {
			t.Errorf("%s: part %d: got head %+v, want that of the whole", name, i, p)
		}
		again, err := job.ParseOutcomes(p.AppendJSON(nil))
		must(t, again, err)
		for _, j := range p.Jobs {
			joinJob(t, name, joined, j)
		}
	}
	if !reflect.DeepEqual(joined.Jobs, whole.Jobs) {
		t.Errorf("%s: the parts together are not the whole", name)
	}
}

// joinJob puts a part of a job back to where it came from.
func joinJob(t *testing.T, name string, o *job.Outcomes, j job.JobOutcome) {
	t.Helper()
	if n := len(o.Jobs); n > 0 && o.Jobs[n-1].ID == j.ID {
		last := &o.Jobs[n-1]
		if last.Whole || j.Whole || last.Complete || last.Total != 0 {
			t.Errorf("%s: job %s in parts: got whole %t and %t, complete before its end %t with total %d", name, j.ID, last.Whole, j.Whole, last.Complete, last.Total)
		}
		for _, f := range j.Fresh {
			last.Fresh = append(last.Fresh, f+len(last.Accepted))
		}
		last.Accepted = append(slices.Clone(last.Accepted), j.Accepted...)
		last.Others = append(slices.Clone(last.Others), j.Others...)
		last.Known += j.Known
		last.Complete, last.Total = j.Complete, j.Total
		if j.Complete {
			last.Whole = true // all there again
		}
		return
	}
	o.Jobs = append(o.Jobs, j)
}

func TestSplitLeavesWholeJobsWhole(t *testing.T) {
	t.Parallel()
	parts := manyOutcomes([2]int{5, 0}, [2]int{5, 0}, [2]int{5, 0}).Split(0, 8)
	if len(parts) != 3 {
		t.Fatalf("got %d parts, want 3", len(parts))
	}
	for i, p := range parts {
		if len(p.Jobs) != 1 || !p.Jobs[0].Whole || !p.Jobs[0].Complete || p.Jobs[0].Total != 5 {
			t.Errorf("part %d: got %+v, want a whole job", i, p.Jobs)
		}
	}
	for n, want := range map[int]int{8: 1, 9: 3} {
		if parts := manyOutcomes([2]int{n, 0}).Split(0, 4); len(parts) != want {
			t.Errorf("a job of %d in parts of 4: got %d parts, want %d", n, len(parts), want)
		}
	}
	o := manyOutcomes([2]int{5, 0})
	o.Jobs[0].Complete, o.Jobs[0].Whole, o.Jobs[0].Total = false, false, 0
	for i, p := range o.Split(0, 2) {
		if p.Jobs[0].Complete || p.Jobs[0].Total != 0 {
			t.Errorf("part %d of an incomplete job: got complete %t, total %d", i, p.Jobs[0].Complete, p.Jobs[0].Total)
		}
	}
}

// TestSplitWithEscapes has ids that are six times as long in JSON, and the
// longest numbers.
func TestSplitWithEscapes(t *testing.T) {
	t.Parallel()
	o := &job.Outcomes{App: "shop", Worker: "w", At: time.UnixMilli(1).UTC()}
	j := job.JobOutcome{ID: strings.Repeat("\x01", 100), Root: strings.Repeat("\x02", 1000), Campaign: strings.Repeat("\x03", 1000), Range: 1<<31 - 1, Devices: 1<<31 - 1, Sequence: 1<<63 - 2, Attempt: 1<<31 - 1, Whole: true, Complete: true, Total: 1<<31 - 1}
	for range 200 {
		j.Others = append(j.Others, job.Recipient{
			DeviceToken: tokenNumber(1), User: strings.Repeat("\x01", 256), Install: strings.Repeat(`"\`, 128), Result: job.Rejected, Reason: "é",
			Status: 999, Timestamp: 253_402_300_799_999, Generation: 1<<32 - 1, WrongKind: true, AcceptedBefore: true, SentAt: time.UnixMilli(253_402_300_799_999).UTC(),
		})
	}
	o.Jobs = []job.JobOutcome{j}
	checkSplit(t, "escapes", o, o.Split(20_000, 0), 20_000, 0)
}

// TestSplitIsThrifty checks that the bounds on sizes are not far off.
func TestSplitIsThrifty(t *testing.T) {
	t.Parallel()
	o := manyOutcomes([2]int{20_000, 0})
	const limit = 100_000
	size := len(o.AppendJSON(nil))
	if parts := len(o.Split(limit, 0)); parts > size/limit*11/10+1 {
		t.Errorf("got %d parts for %d bytes at %d each", parts, size, limit)
	}
}
