package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/worker"
)

// An operator, and what scales workers, see what waits in notifications: messages by
// their recipients, and ranges of campaigns that run.
func TestBacklogMetrics(t *testing.T) {
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.CollapseID == "stuck" {
			return apns.Response{Status: 503, Reason: apns.ServiceUnavailable}
		}
		return accept(n)
	})
	f.registerMany(3000, nil)
	reg := prometheus.NewRegistry()
	f.start(options{change: func(c *worker.Config) {
		f.sendsCampaigns(c)
		c.Metrics, c.BacklogInterval = reg, 20*time.Millisecond
	}})
	see := func(what string, is func(got map[string]float64) bool) {
		t.Helper()
		f.eventually(what, func() (string, bool) {
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
			return fmt.Sprint(got), is(got)
		})
	}
	const jobs = 10
	for i := range jobs {
		j := newJob("", token(3*i), token(3*i+1), token(3*i+2))
		j.CollapseID = "stuck"
		f.publish(job.Transactional, j)
	}
	see("jobs that wait for APNs, by their recipients", func(got map[string]float64) bool {
		n := got["backlog_notifications shop transactional"]
		return n > jobs && n <= 3*jobs && got["stream_messages JOBS"] == jobs && got["stream_bytes JOBS"] > 0 &&
			got["stream_max_bytes JOBS"] == 1<<30 && got["backlog_notifications shop bulk"] == 0
	})
	f.create(`{"id":"slow","audience":{"all":true},"notification":{"title":"Hello"},"rate":10}`)
	see("a campaign by its devices", func(got map[string]float64) bool {
		return got["backlog_notifications shop bulk"] > 1000
	})
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "slow", func(s *campaign.Status) error { return s.Pause(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	see("a paused campaign to want no workers", func(got map[string]float64) bool {
		return got["backlog_notifications shop bulk"] == 0 && got["stream_messages JOBS"] > jobs
	})
}
