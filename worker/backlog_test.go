package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// An operator, and what scales workers, see what waits in notifications: messages by
// their recipients, and ranges of campaigns that run; each app and lane its own.
func TestBacklogMetrics(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.CollapseID == "stuck" {
			return apns.Response{Status: 503, Reason: apns.ServiceUnavailable}
		}
		return accept(n)
	})
	const devices = 3000
	f.registerMany(devices, nil)
	f.apps = append(f.apps, &worker.App{
		Name: "news", BundleID: "com.example.news", Environment: device.Production,
		Routes: []*worker.Route{{Environment: device.Production, Sender: f.sender}},
	})
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	// An operator has taken the limit of one stream away.
	dead, err := api.Stream(f.ctx, stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	cfg := dead.CachedInfo().Config
	cfg.MaxBytes = -1
	if _, err := api.UpdateStream(f.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	f.start(options{change: func(c *worker.Config) {
		f.sendsCampaigns(c)
		c.Metrics, c.BacklogInterval = reg, 20*time.Millisecond
	}})
	see := func(what string, is func(got map[string]float64) bool) {
		t.Helper()
		f.eventually(what, func() (string, bool) {
			got := backlogOf(t, reg)
			return fmt.Sprint(got), is(got)
		})
	}

	const jobs, untouched, single = 10, 4, 5
	for i := range jobs {
		j := newJob("", token(3*i), token(3*i+1), token(3*i+2))
		j.CollapseID = "stuck"
		f.publish(job.Transactional, j)
	}
	// A lane that nobody takes from counts by its messages, until more is known.
	see("the lane of news", func(got map[string]float64) bool {
		_, err := api.PauseConsumer(f.ctx, stream.Jobs, stream.LaneDurable("news", job.Transactional), time.Now().Add(time.Hour))
		return err == nil
	})
	for lane, n := range map[job.Lane]int{job.Transactional: untouched, job.Bulk: single} {
		for range n {
			j := newJob("", token(1))
			j.CollapseID = "stuck"
			if _, err := f.js.PublishJob(f.ctx, "news", lane, j); err != nil {
				t.Fatal(err)
			}
		}
	}
	const messages = jobs + untouched + single
	others := func(got map[string]float64) bool {
		return got["backlog_notifications news transactional"] == untouched && got["backlog_notifications news bulk"] == single
	}
	see("jobs that wait for APNs, by their recipients", func(got map[string]float64) bool {
		n := got["backlog_notifications shop transactional"]
		return n > jobs*3/2 && n <= 3*jobs && got["stream_messages JOBS"] == messages && got["stream_bytes JOBS"] > messages*100 &&
			got["stream_max_bytes JOBS"] == 1<<30 && got["backlog_notifications shop bulk"] == 0 && others(got)
	})
	if n, ok := backlogOf(t, reg)["stream_max_bytes DEAD"]; ok {
		t.Errorf("stream_max_bytes of DEAD: got %v, want none: it has no limit", n)
	}
	f.create(`{"id":"slow","audience":{"all":true},"notification":{"title":"Hello"},"rate":10}`)
	see("a campaign by its devices", func(got map[string]float64) bool {
		n := got["backlog_notifications shop bulk"]
		return n > devices/2 && n <= devices*11/10 && got["backlog_notifications shop transactional"] <= 3*jobs && others(got)
	})
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "slow", func(s *campaign.Status) error { return s.Pause(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	see("a paused campaign to want no workers", func(got map[string]float64) bool {
		info, err := api.Stream(f.ctx, stream.Jobs)
		if err != nil {
			t.Fatal(err)
		}
		st := info.CachedInfo().State
		return got["backlog_notifications shop bulk"] == 0 && st.Msgs > messages &&
			got["stream_messages JOBS"] == float64(st.Msgs) && got["stream_bytes JOBS"] == float64(st.Bytes) && others(got)
	})
}

// backlogOf returns what a registry has about what waits, by name and labels.
func backlogOf(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, fam := range families {
		if !strings.HasPrefix(fam.GetName(), "pushfleet_backlog") && !strings.HasPrefix(fam.GetName(), "pushfleet_stream") {
			continue
		}
		for _, m := range fam.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += " " + l.GetValue()
			}
			got[strings.TrimPrefix(fam.GetName(), "pushfleet_")+labels] = m.GetGauge().GetValue()
		}
	}
	return got
}
