package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/campaign"
)

// campaignMetrics are those of campaigns, as this worker knows them when it is asked.
// No label says which campaign: there are always new ones.
type campaignMetrics struct {
	worker                         *Worker
	states, overdue, contact, left *prometheus.Desc
}

func newCampaignMetrics(w *Worker) *campaignMetrics {
	return &campaignMetrics{
		worker: w,
		states: prometheus.NewDesc("pushfleet_campaigns",
			"Campaigns that are not deleted, by state. Every worker knows the same: take the maximum, not the sum.", []string{"app", "state"}, nil),
		overdue: prometheus.NewDesc("pushfleet_campaigns_overdue_seconds",
			"For how long the start, or a run, of a campaign has been due that did not happen. Every worker knows the same.", []string{"app"}, nil),
		contact: prometheus.NewDesc("pushfleet_campaigns_contact_seconds",
			"Since when this worker is not certain of the states of campaigns; above 1.5 it sends none. 0 while none runs.", nil, nil),
		left: prometheus.NewDesc("pushfleet_campaign_devices_left",
			"Devices in unfinished ranges of those running campaigns that this worker looks after: take the sum.", []string{"app"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *campaignMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.states
	descs <- c.overdue
	descs <- c.contact
	descs <- c.left
}

// Collect implements [prometheus.Collector].
func (c *campaignMetrics) Collect(to chan<- prometheus.Metric) {
	type ofApp struct {
		states  map[campaign.State]int
		overdue time.Duration
		left    int64
	}
	apps := make(map[string]*ofApp)
	for _, app := range c.worker.apps() {
		apps[app.name] = &ofApp{states: make(map[campaign.State]int)}
	}
	now, runs := c.worker.cfg.Now(), false
	for _, r := range c.worker.campaigns.all() {
		of, st := apps[r.app.name], r.status.Load()
		if of == nil {
			continue // it was removed just now
		}
		of.states[st.State]++
		switch st.State {
		case campaign.Scheduled:
			of.overdue = max(of.overdue, now.Sub(st.StartAt))
		case campaign.Running:
			runs = true
			of.left += r.devicesLeft()
		case campaign.Loading, campaign.Paused, campaign.Cancelled, campaign.Done:
		}
	}
	for name, of := range apps {
		for _, s := range campaign.States() {
			to <- prometheus.MustNewConstMetric(c.states, prometheus.GaugeValue, float64(of.states[s]), name, string(s))
		}
		to <- prometheus.MustNewConstMetric(c.overdue, prometheus.GaugeValue, of.overdue.Seconds(), name)
		to <- prometheus.MustNewConstMetric(c.left, prometheus.GaugeValue, float64(of.left), name)
	}
	contact := time.Duration(0)
	if runs {
		contact = c.worker.campaigns.sinceContact()
	}
	to <- prometheus.MustNewConstMetric(c.contact, prometheus.GaugeValue, contact.Seconds())
}

// leftAt is how many devices a campaign had left at a time.
type leftAt struct {
	devices int64
	at      time.Time
}

// leftGood is how long that is told: who looks after the campaign asks every second.
const leftGood = 2 * stewardLease

// devicesLeft is how many devices of the campaign are in ranges that are not finished;
// 0 if somebody else looks after it.
func (r *running) devicesLeft() int64 {
	if l := r.left.Load(); l != nil && time.Since(l.at) < leftGood {
		return l.devices
	}
	return 0
}
