package producer_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/stream"
)

// told is what a worker tells of one job.
type told struct {
	app string
	job.JobOutcome
}

// tell stores outcomes, one message for all that is given.
func tell(t *testing.T, s *stream.Streams, lane job.Lane, all ...told) {
	t.Helper()
	o := job.Outcomes{App: all[0].app, Lane: lane, Worker: "w1", At: time.UnixMilli(1_795_000_000_000)}
	of := stream.OutcomesOf{App: o.App, Lane: lane, Campaign: all[0].Campaign, Range: all[0].Range}
	for _, one := range all {
		o.Jobs = append(o.Jobs, one.JobOutcome)
	}
	storing, err := s.PublishOutcomes(of, rand.Text(), o.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := storing.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// complete is the outcome of a job that was accepted for device tokens.
func complete(r producer.Receipt, tokens ...string) told {
	one := told{r.App, job.JobOutcome{ID: r.ID, Sequence: r.Sequence, Attempt: 1, Complete: true, Total: len(tokens)}}
	for _, hex := range tokens {
		one.Accepted = append(one.Accepted, token(hex))
	}
	return one
}

func TestOutcomesAreFiltered(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	of := func(app, id string) told { return told{app, job.JobOutcome{ID: id}} }
	redriven, campaign := of("shop", "again"), of("shop", "spring sale/0")
	redriven.Root = "a"
	campaign.Campaign = "spring sale"
	tell(t, js.Streams, job.Bulk, of("shop", "a"), of("shop", "b"))                                                 // place 1
	tell(t, js.Streams, job.Transactional, of("shop", "urgent"), redriven)                                          // 2
	tell(t, js.Streams, job.Bulk, campaign)                                                                         // 3
	tell(t, js.Streams, job.Bulk, of("news", "a"))                                                                  // 4
	storing, err := js.PublishOutcomes(stream.OutcomesOf{App: "shop", Lane: job.Bulk}, "bad", []byte("no outcome")) // 5
	if err != nil {
		t.Fatal(err)
	}
	if err := storing.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	tell(t, js.Streams, job.Bulk, of("shop", "last")) // 6
	tell(t, js.Streams, job.Bulk, of("news", "last")) // 7
	campaign.ID, campaign.Range = "last", 1
	tell(t, js.Streams, job.Bulk, campaign)                    // 8
	tell(t, js.Streams, job.Transactional, of("shop", "last")) // 9
	for _, tt := range []struct {
		name   string
		filter producer.Filter
		want   []string
	}{
		{"of all", producer.Filter{From: 1}, []string{"1 shop a", "1 shop b", "2 shop urgent", "2 shop again", "3 shop spring sale/0", "4 news a", "6 shop last"}},
		{"of an app", producer.Filter{App: "news", From: 1}, []string{"4 news a", "7 news last"}},
		{"of a lane", producer.Filter{App: "shop", Lanes: []job.Lane{job.Transactional}, From: 1}, []string{"2 shop urgent", "2 shop again", "9 shop last"}},
		{"of a lane of all apps", producer.Filter{Lanes: []job.Lane{job.Bulk}, From: 3}, []string{"3 shop spring sale/0", "4 news a", "6 shop last"}},
		{"of jobs", producer.Filter{App: "shop", Jobs: []string{"a", "last"}, From: 1}, []string{"1 shop a", "2 shop again", "6 shop last"}},
		{"of a campaign", producer.Filter{App: "shop", Campaign: "spring sale", From: 1}, []string{"3 shop spring sale/0", "8 shop last"}},
		{"of a campaign of all apps", producer.Filter{Campaign: "spring sale", Since: time.Now().Add(-time.Hour)}, []string{"3 shop spring sale/0", "8 shop last"}},
		{"from a place", producer.Filter{App: "shop", From: 3}, []string{"3 shop spring sale/0", "6 shop last"}},
	} {
		var got []string
		for o, err := range p.Outcomes(t.Context(), tt.filter) {
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			got = append(got, fmt.Sprint(o.Place, " ", o.App, " ", o.ID))
			if o.ID == "last" {
				break
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}

	var bad []uint64
	for o, err := range p.Outcomes(t.Context(), producer.Filter{App: "shop", From: 4, Bad: func(place uint64, _ error) { bad = append(bad, place) }}) {
		if err != nil {
			t.Fatal(err)
		}
		if o.ID == "last" {
			break
		}
	}
	if !slices.Equal(bad, []uint64{5}) {
		t.Errorf("bad: got %v, want 5", bad)
	}
	for name, f := range map[string]producer.Filter{
		"app":              {App: "*"},
		"jobs, campaign":   {Jobs: []string{"a"}, Campaign: "b"},
		"places and times": {From: 1, Since: time.Now()},
	} {
		n := 0
		for _, err := range p.Outcomes(t.Context(), f) {
			if n++; err == nil {
				t.Errorf("%s: got no error", name)
			}
		}
		if n != 1 {
			t.Errorf("%s: got %d, want an error alone", name, n)
		}
	}
}

func TestOutcomeHasEverything(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	want := told{"shop", job.JobOutcome{
		ID: "a", Sequence: 7, Attempt: 2, Environment: device.Production, Complete: true, Total: 3, Accepted: []device.Token{token("0a"), token("0b")},
		Others: []job.Recipient{{DeviceToken: token("dd"), Result: job.Rejected, Reason: "Unregistered", Status: 410, Timestamp: 1}},
	}}
	tell(t, js.Streams, job.Bulk, want)
	for o, err := range p.Outcomes(t.Context(), producer.Filter{From: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if o.App != "shop" || o.Lane != job.Bulk || o.Worker != "w1" || o.At.UnixMilli() != 1_795_000_000_000 || o.Place != 1 {
			t.Errorf("got %+v", o)
		}
		var got []string
		for r := range o.Recipients() {
			got = append(got, fmt.Sprint(r.DeviceToken.Hex()[:4], " ", r.Result, " ", r.Reason, " ", r.Status))
		}
		if want := []string{"0a0a accepted  200", "0b0b accepted  200", "dddd rejected Unregistered 410"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for range o.Recipients() { // may be left early
			break
		}
		break
	}
}

func TestOutcomesEndWithTheirContext(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tell(t, js.Streams, job.Bulk, told{"shop", job.JobOutcome{ID: "a"}}, told{"shop", job.JobOutcome{ID: "b"}})
	var got []string
	for o, err := range p.Outcomes(ctx, producer.Filter{From: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o.ID)
		cancel()
	}
	if !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, want a alone", got)
	}
}

// What is told while the connection is away comes afterwards, and nothing twice.
func TestOutcomesSurviveConnections(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	server, err := url.Parse(js.Server.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.StartProxy(t, server.Host)
	p := connect(t, "nats://"+proxy.Addr, nats.ReconnectWait(10*time.Millisecond))
	tell(t, js.Streams, job.Bulk, told{"shop", job.JobOutcome{ID: "0"}})
	n := 0
	for o, err := range p.Outcomes(t.Context(), producer.Filter{App: "shop", From: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if o.ID != fmt.Sprint(n) {
			t.Fatalf("got %s, want %d", o.ID, n)
		}
		if n++; n == 100 {
			break
		}
		if n%10 == 1 {
			proxy.Refuse(true)
			for more := range 10 {
				tell(t, js.Streams, job.Bulk, told{"shop", job.JobOutcome{ID: fmt.Sprint(n + more)}})
			}
			proxy.Refuse(false)
		}
	}
}

func TestOutcomesSayThatTheConnectionIsClosed(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := connect(t, js.Server.URL())
	tell(t, js.Streams, job.Bulk, told{"shop", job.JobOutcome{ID: "a"}})
	var last error
	for _, err := range p.Outcomes(t.Context(), producer.Filter{From: 1}) {
		if last = err; err == nil {
			_ = p.Close()
		}
	}
	if !errors.Is(last, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want %v", last, nats.ErrConnectionClosed)
	}
}
