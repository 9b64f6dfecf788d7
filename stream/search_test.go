package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func TestSearchOutcomes(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	const id = "spring sale"
	publish := func(of stream.OutcomesOf, text string) {
		t.Helper()
		storing, err := js.PublishOutcomes(of, text, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := storing.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	collect := func(data []byte, left uint64) error {
		got = append(got, fmt.Sprint(string(data), " ", left))
		return nil
	}
	want := func(what string, err error, want ...string) {
		t.Helper()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
		}
		got = nil
	}
	want("nothing is there", js.CampaignOutcomes(ctx, "shop", id, time.Time{}, collect))
	publish(stream.OutcomesOf{App: "shop", Campaign: id, Range: 1}, "one")
	publish(stream.OutcomesOf{App: "shop", Campaign: "other", Range: 1}, "other campaign")
	publish(stream.OutcomesOf{App: "news", Campaign: id, Range: 1}, "other app")
	publish(stream.OutcomesOf{App: "shop", Lane: job.Bulk}, "job")
	publish(stream.OutcomesOf{App: "shop", Lane: job.Transactional}, "urgent job")
	publish(stream.OutcomesOf{App: "shop", Campaign: id, Range: 10}, "ten")
	want("campaign", js.CampaignOutcomes(ctx, "shop", id, time.Time{}, collect), "one 1", "ten 0")
	want("campaign, since after", js.CampaignOutcomes(ctx, "shop", id, time.Now().Add(time.Hour), collect))
	want("lane", js.LaneOutcomes(ctx, "shop", job.Bulk, time.Time{}, collect), "job 0")
	want("since before", js.LaneOutcomes(ctx, "shop", job.Transactional, time.Now().Add(-time.Hour), collect), "urgent job 0")
	want("since after", js.LaneOutcomes(ctx, "shop", job.Transactional, time.Now().Add(time.Hour), collect))

	ended := errors.New("ended")
	if err := js.CampaignOutcomes(ctx, "shop", id, time.Time{}, func([]byte, uint64) error { return ended }); !errors.Is(err, ended) {
		t.Errorf("got %v, want %v", err, ended)
	}
	for _, app := range []string{"*", "", ">"} {
		if err := js.CampaignOutcomes(ctx, app, id, time.Time{}, collect); err == nil {
			t.Errorf("campaign of app %q: got no error", app)
		}
		if err := js.LaneOutcomes(ctx, app, job.Bulk, time.Time{}, collect); err == nil {
			t.Errorf("lane of app %q: got no error", app)
		}
	}
}
