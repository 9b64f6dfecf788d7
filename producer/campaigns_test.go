package producer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/stream"
)

// noon is the time of day in these tests.
func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func parse(t *testing.T, text string) *campaign.Campaign {
	t.Helper()
	c, err := campaign.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const toAll = `{"id":"spring","audience":{"all":true},"notification":{"body":"b"}}`

func TestCampaigns(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	c := producer.NewCampaigns(js.Streams, noon)
	made, created, err := c.Create(ctx, "shop", parse(t, toAll))
	if err != nil || !created || made.State != campaign.Scheduled || !made.StartAt.Equal(noon()) {
		t.Fatalf("create: got %+v, created %t, %v, want it scheduled for now", made, created, err)
	}
	if again, created, err := c.Create(ctx, "shop", parse(t, toAll)); err != nil || created || !reflect.DeepEqual(again, made) {
		t.Errorf("again: got %+v, created %t, %v, want %+v", again, created, err, made)
	}
	other := parse(t, toAll)
	other.Rate = 5
	if _, _, err := c.Create(ctx, "shop", other); !errors.Is(err, stream.ErrCampaignExists) {
		t.Errorf("other content: got %v, want %v", err, stream.ErrCampaignExists)
	}
	var invalid *job.Invalid
	if _, _, err := c.Create(ctx, "shop", &campaign.Campaign{ID: "x"}); !errors.As(err, &invalid) {
		t.Errorf("invalid: got %v, want a *job.Invalid", err)
	}
	late := parse(t, `{"id":"late","audience":{"all":true},"notification":{"body":"b"},"start_at":"2026-11-24T11:00:00Z"}`)
	if _, _, err := c.Create(ctx, "shop", late); !errors.As(err, &invalid) {
		t.Errorf("in the past: got %v, want a *job.Invalid", err)
	}
	if _, _, err := c.Create(ctx, "shop", parse(t, toFile)); err == nil {
		t.Error("of a file, without it: got no error")
	}
	if list, err := c.List(ctx, "shop"); err != nil || len(list) != 1 || list[0].ID != "spring" {
		t.Errorf("list: got %+v, %v, want spring alone", list, err)
	}

	for _, step := range []struct {
		name string
		do   func() (campaign.Status, error)
		want campaign.State // empty: refused
	}{
		{"pause", func() (campaign.Status, error) { return c.Pause(ctx, "shop", "spring") }, campaign.Paused},
		{"pause again", func() (campaign.Status, error) { return c.Pause(ctx, "shop", "spring") }, campaign.Paused},
		{"pace", func() (campaign.Status, error) { return c.SetRate(ctx, "shop", "spring", 700) }, campaign.Paused},
		{"resume", func() (campaign.Status, error) { return c.Resume(ctx, "shop", "spring") }, campaign.Scheduled},
		{"cancel", func() (campaign.Status, error) { return c.Cancel(ctx, "shop", "spring") }, campaign.Cancelled},
		{"resume what is cancelled", func() (campaign.Status, error) { return c.Resume(ctx, "shop", "spring") }, ""},
		{"pace what is cancelled", func() (campaign.Status, error) { return c.SetRate(ctx, "shop", "spring", 7) }, ""},
	} {
		st, err := step.do()
		if step.want == "" {
			if !errors.Is(err, campaign.ErrState) {
				t.Errorf("%s: got %v, want %v", step.name, err, campaign.ErrState)
			}
		} else if err != nil || st.State != step.want {
			t.Errorf("%s: got %+v, %v, want it %s", step.name, st, err, step.want)
		}
	}
	st, err := c.Get(ctx, "shop", "spring")
	if err != nil || st.Rate != 700 || !st.PausedAt.Equal(noon()) || !st.EndedAt.Equal(noon()) {
		t.Errorf("at the end: got %+v, %v, want rate 700, and when it was paused and cancelled", st, err)
	}
	if _, err := c.Pause(ctx, "shop", "none"); !errors.Is(err, stream.ErrNoCampaign) {
		t.Errorf("pause of none: got %v, want %v", err, stream.ErrNoCampaign)
	}
	if err := c.Delete(ctx, "shop", "spring"); !errors.Is(err, campaign.ErrState) {
		t.Errorf("delete of one that is not closed: got %v, want %v", err, campaign.ErrState)
	}
	if _, err := js.ChangeCampaign(ctx, "shop", "spring", func(st *campaign.Status) error {
		st.Closed = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, "shop", "spring"); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := c.Delete(ctx, "shop", "spring"); !errors.Is(err, stream.ErrNoCampaign) {
		t.Errorf("delete again: got %v, want %v", err, stream.ErrNoCampaign)
	}
}

const toFile = `{"id":"file","recipients":{"variables":["name"]},"notification":{"body":"Hi {{name|you}}"}}`

// csvOf is a file of users from, …, to-1, with a bad line before every 100th.
func csvOf(from, to int) string {
	var b strings.Builder
	b.WriteString("user,name\n")
	for n := from; n < to; n++ {
		if n%100 == 0 {
			b.WriteString(",nobody\n")
		}
		fmt.Fprintf(&b, "user-%d,Name %d\n", n, n)
	}
	return b.String()
}

// queued returns all recipients in JOBS, and how many ranges they are in. Each range
// must be there once, in order.
func queued(t *testing.T, js *testenv.JetStream) (users []string, ranges int) {
	t.Helper()
	c, err := js.RangesConsumer(t.Context(), "shop", "file")
	if err != nil {
		t.Fatal(err)
	}
	for {
		messages, err := c.Take(100)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) == 0 {
			return users, ranges
		}
		for _, m := range messages {
			if len(m.Data) > campaign.MaxRangeBytes {
				t.Errorf("range %d: got %d bytes, want at most %d", ranges, len(m.Data), campaign.MaxRangeBytes)
			}
			var r campaign.Range
			if err := json.Unmarshal(m.Data, &r); err != nil {
				t.Fatal(err)
			}
			if r.Number != ranges || r.Devices != len(r.Recipients) || len(r.Recipients) > campaign.MaxRangeRecipients || r.Campaign != "file" {
				t.Errorf("got range %d of %s with %d devices, %d recipients, want number %d", r.Number, r.Campaign, r.Devices, len(r.Recipients), ranges)
			}
			ranges++
			for _, one := range r.Recipients {
				users = append(users, one.User)
			}
		}
	}
}

func checkUsers(t *testing.T, got []string, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("recipients: got %d, want %d", len(got), n)
	}
	for i, user := range got {
		if want := fmt.Sprint("user-", i); user != want {
			t.Fatalf("recipient %d: got %s, want %s", i, user, want)
		}
	}
}

func TestCreateFromFile(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	var bad []int64
	got, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{
		Source: strings.NewReader(csvOf(0, 2500)),
		Bad: func(line int64, why error) error {
			if why == nil || !strings.Contains(why.Error(), "neither token nor user") {
				t.Errorf("line %d: got %v", line, why)
			}
			bad = append(bad, line)
			return nil
		},
	})
	if err != nil || !got.Created || got.State != campaign.Scheduled || !got.Expanded || got.Ranges != 3 || got.Devices != 2500 || got.Before != 0 || got.Bad != 25 {
		t.Errorf("got %+v, %v, want 2500 in 3 ranges and 25 bad lines, scheduled", got, err)
	}
	if len(bad) != 25 || bad[0] != 2 || bad[1] != 103 {
		t.Errorf("bad lines: got %d, %v, want 25 from line 2 on", len(bad), bad)
	}
	users, _ := queued(t, js)
	checkUsers(t, users, 2500)

	// Once more: all of it is there, and the file is not needed any more.
	again, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader("user,name\nx,x\n")})
	if err != nil || again.Created || !reflect.DeepEqual(again.Status, got.Status) {
		t.Errorf("again: got %+v, %v, want %+v", again, err, got.Status)
	}
}

// Whoever is named again is not sent to again, however far away that is.
func TestCreateFromFileOnceForEach(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	token := strings.Repeat("0a", 32)
	var b strings.Builder
	b.WriteString("user,token,name\nuser-0,,A\n," + token + ",A\n")
	for n := range 2500 {
		fmt.Fprintf(&b, "user-%d,,N\n", n) // the first one again
	}
	b.WriteString("," + strings.ToUpper(token) + ",B\n" + token + ",,a user of that name\nuser-7,,B\n")
	var bad []string
	got, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{
		Source: strings.NewReader(b.String()),
		Bad: func(line int64, why error) error {
			bad = append(bad, fmt.Sprint(line, ": ", why))
			return nil
		},
	})
	if err != nil || got.Devices != 2502 || got.Ranges != 3 || got.Bad != 3 {
		t.Errorf("got %+v, %v, want 2502 in 3 ranges and 3 bad lines", got, err)
	}
	want := []string{"4: names the same recipient as a line before", "2504: names the same recipient as a line before", "2506: names the same recipient as a line before"}
	if !reflect.DeepEqual(bad, want) {
		t.Errorf("bad lines: got %q, want %q", bad, want)
	}
	users, _ := queued(t, js)
	once := make(map[string]bool)
	for _, user := range users {
		if once[user] {
			t.Errorf("user %q: got it twice", user)
		}
		once[user] = true
	}
	if !once[token] || len(once) != 2502 { // one of them is the device token's, without a user
		t.Errorf("got %d users, want 2502", len(once))
	}
}

// However often it is cut off, each recipient is handed in once.
func TestCreateFromFileGoesOn(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	const n = 300_000 // five blocks
	file := csvOf(0, n)
	before := int64(-1)
	for calls := 1; ; calls++ {
		ctx, cancel := context.WithCancel(t.Context())
		got, err := c.CreateFromFile(ctx, "shop", parse(t, toFile), producer.File{
			Source: strings.NewReader(file),
			Taken:  func(int64) { cancel() },
		})
		cancel()
		if got.Before <= before {
			t.Fatalf("call %d: got %d handed in before, want more than %d", calls, got.Before, before)
		}
		before = got.Before
		if err == nil {
			if calls < 5 || got.Devices != n || got.Created || got.Bad != n/100 || got.State != campaign.Scheduled {
				t.Errorf("call %d: got %+v, want all of it at the fifth or sixth call", calls, got)
			}
			break
		}
		if !errors.Is(err, context.Canceled) || got.State != campaign.Loading {
			t.Fatalf("call %d: got %+v, %v, want it loading", calls, got.Status, err)
		}
	}
	users, _ := queued(t, js)
	checkUsers(t, users, n)
}

// Who dies after a block is stored and before that is written down stores it again:
// as the same ranges.
func TestCreateFromFileDiesBetween(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	load := func(file string) error {
		_, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(file)})
		return err
	}
	// The source fails after the first block: that is stored.
	broken := errors.New("broken")
	_, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{
		Source: io.MultiReader(strings.NewReader(csvOf(0, 64_100)), failing{broken}),
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v, want %v", err, broken)
	}
	// As if it had not been written down.
	if _, err := js.ChangeCampaign(t.Context(), "shop", "file", func(st *campaign.Status) error { return st.Load(0, 0, "") }); err != nil {
		t.Fatal(err)
	}
	if err := load(csvOf(0, 70_000)); err != nil {
		t.Fatal(err)
	}
	users, _ := queued(t, js)
	checkUsers(t, users, 70_000)
}

// failing is a source that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestCreateFromFileNeedsTheSameFile(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.CreateFromFile(ctx, "shop", parse(t, toFile), producer.File{
		Source: strings.NewReader(csvOf(0, 100_000)), Taken: func(int64) { cancel() },
	}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"others":                             csvOf(1, 100_001),
		"shorter":                            csvOf(0, 10_000),
		"one is changed":                     strings.Replace(csvOf(0, 100_000), "Name 4711\n", "Name 4712\n", 1),
		"as far as it was, but for the last": csvOf(0, 63_999),
	} {
		if _, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(file)}); !errors.Is(err, producer.ErrOtherFile) {
			t.Errorf("%s: got %v, want %v", name, err, producer.ErrOtherFile)
		}
	}
	// Cut off exactly at what was handed in: it is the file's end, as far as one can know.
	got, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(csvOf(0, 64_000))})
	if err != nil || got.Devices != 64_000 || got.State != campaign.Scheduled {
		t.Errorf("to the same place: got %+v, %v, want it scheduled", got, err)
	}
}

func TestCreateFromFileOfTwo(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	file := csvOf(0, 130_000)
	second := false
	got, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(file), Taken: func(int64) {
		if second {
			return
		}
		second = true
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := c.CreateFromFile(ctx, "shop", parse(t, toFile), producer.File{
			Source: strings.NewReader(file), Taken: func(int64) { cancel() },
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("the second: %v", err)
		}
	}})
	if !errors.Is(err, producer.ErrTwoFiles) {
		t.Errorf("got %+v, %v, want %v", got, err, producer.ErrTwoFiles)
	}
	if _, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(file)}); err != nil {
		t.Fatal(err)
	}
	users, _ := queued(t, js)
	checkUsers(t, users, 130_000)
}

func TestCreateFromFileOfLargeRecipients(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	var b strings.Builder
	b.WriteString("user,name\n")
	const n = 60
	for i := range n {
		// Each is six times as long in JSON.
		fmt.Fprintf(&b, "user-%d,%s\n", i, strings.Repeat("<", 20_000))
	}
	if _, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(b.String())}); err != nil {
		t.Fatal(err)
	}
	users, ranges := queued(t, js)
	checkUsers(t, users, n)
	if ranges != n/2 {
		t.Errorf("ranges: got %d, want two recipients in each", ranges)
	}
}

func TestCreateFromFileRefuses(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	c := producer.NewCampaigns(js.Streams, noon)
	ended := errors.New("ended")
	for name, tc := range map[string]struct {
		of   string
		file producer.File
		want error
	}{
		"no recipient":   {toFile, producer.File{Source: strings.NewReader("user,name\n,x\n")}, producer.ErrNoRecipients},
		"header":         {toFile, producer.File{Source: strings.NewReader("user\nada\n")}, nil},
		"an audience":    {toAll, producer.File{Source: strings.NewReader("user\nada\n")}, nil},
		"the bad end it": {toFile, producer.File{Source: strings.NewReader("user,name\n,x\n"), Bad: func(int64, error) error { return ended }}, ended},
	} {
		got, err := c.CreateFromFile(t.Context(), "shop", parse(t, tc.of), tc.file)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: got %+v, %v, want %v", name, got, err, tc.want)
		}
	}
	if list, err := c.List(t.Context(), ""); len(list) != 0 || err != nil {
		t.Errorf("campaigns: got %+v, %v, want none made", list, err)
	}

	// Cancelled meanwhile: no more is handed in.
	got, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{
		Source: strings.NewReader(csvOf(0, 200_000)), Taken: func(n int64) {
			if n > 64_000 {
				t.Errorf("taken: got %d, want no more than a block", n)
			}
			if _, err := c.Cancel(t.Context(), "shop", "file"); err != nil {
				t.Error(err)
			}
		},
	})
	if !errors.Is(err, campaign.ErrState) || got.State != campaign.Cancelled {
		t.Errorf("cancelled: got %+v, %v, want %v", got.Status, err, campaign.ErrState)
	}
}

// Without room it is said so, and it goes on when there is some.
func TestCreateFromFileIntoFullJobs(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{}, stream.Config{JobsBytes: 6 << 20, OutcomesBytes: 1 << 20})
	c := producer.NewCampaigns(js.Streams, noon)
	file := csvOf(0, 200_000)
	got, err := c.CreateFromFile(t.Context(), "shop", parse(t, toFile), producer.File{Source: strings.NewReader(file)})
	if !errors.Is(err, stream.ErrFull) || got.State != campaign.Loading || got.Devices == 0 {
		t.Errorf("got %+v, %v, want %v after some", got.Status, err, stream.ErrFull)
	}
}
