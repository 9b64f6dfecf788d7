package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// CampaignDefinition is a campaign as [campaign.Parse] reads it.
type CampaignDefinition json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (d CampaignDefinition) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (d *CampaignDefinition) UnmarshalJSON(text []byte) error {
	*d = slices.Clone(text)
	return nil
}

// Schema implements [huma.SchemaProvider] with [campaign.Schema].
func (*CampaignDefinition) Schema(huma.Registry) *huma.Schema {
	var s huma.Schema
	if err := json.Unmarshal(campaign.Schema(), &s.Extensions); err != nil {
		panic("api: the schema of campaigns is not JSON: " + err.Error())
	}
	// Both are the document's.
	delete(s.Extensions, "$schema")
	delete(s.Extensions, "$id")
	return &s
}

// CampaignSummary is where a campaign stands.
type CampaignSummary struct {
	_ struct{} `additionalProperties:"true"`

	ID        string     `json:"id" doc:"The campaign's id, unique within its app." example:"spring-sale"`
	App       string     `json:"app" doc:"The app."`
	State     string     `json:"state" enum:"loading,scheduled,running,paused,cancelled,done" doc:"loading: recipients of a file are still handed in. scheduled: it waits for its start, or for its next run."`
	Rate      int        `json:"rate,omitempty" doc:"In force, in notifications per second over the whole fleet. Absent: as many as it can."`
	CreatedAt time.Time  `json:"created_at" doc:"When it was created."`
	StartAt   *time.Time `json:"start_at,omitempty" doc:"When it is to start, or was; of a recurring campaign, its next run."`
	StartedAt *time.Time `json:"started_at,omitempty" doc:"When it did start."`
	PausedAt  *time.Time `json:"paused_at,omitempty" doc:"When it was paused last."`
	EndedAt   *time.Time `json:"ended_at,omitempty" doc:"When it was cancelled, or done."`
	Recurring bool       `json:"recurring,omitempty" doc:"It is not sent itself: runs of it are campaigns of their own."`
	Parent    string     `json:"parent,omitempty" doc:"The recurring campaign that this is a run of."`
	Ranges    int        `json:"ranges" doc:"Parts into which its audience is divided so far."`
	Devices   int64      `json:"devices" doc:"Devices in them that are looked at, or recipients of a file."`
	Expanded  bool       `json:"expanded" doc:"These are all."`
	Closed    bool       `json:"closed" doc:"It has ended, nothing of it is in a queue any more, and its counts are final."`
}

// SummaryOf says where a campaign stands.
func SummaryOf(st *campaign.Status) CampaignSummary {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return CampaignSummary{
		ID: st.ID, App: st.App, State: string(st.State), Rate: st.Rate,
		CreatedAt: st.CreatedAt.UTC(), StartAt: when(st.StartAt), StartedAt: when(st.StartedAt), PausedAt: when(st.PausedAt), EndedAt: when(st.EndedAt),
		Recurring: st.Recurs(), Parent: st.Parent,
		Ranges: st.Ranges, Devices: st.Devices, Expanded: st.Expanded, Closed: st.Closed,
	}
}

// CampaignCounts are what is counted of a campaign. A recipient is counted once,
// whatever is repeated.
type CampaignCounts struct {
	_ struct{} `additionalProperties:"true"`

	Ranges     int64            `json:"ranges" doc:"Ranges in which every recipient is settled."`
	Devices    int64            `json:"devices" doc:"Devices that were looked at in those, or recipients of a file."`
	Remaining  int64            `json:"remaining" doc:"Devices of the other ranges. Some of them may be settled already."`
	Matched    int64            `json:"matched" doc:"Of devices, those that belong to the audience. Once the campaign is closed, the results add up to it."`
	Results    map[string]int64 `json:"results" doc:"Recipients by what became of them, such as accepted, rejected, skipped."`
	Reasons    []CampaignReason `json:"reasons" nullable:"false" doc:"The same with the reasons, the most frequent ones first."`
	Removed    int64            `json:"removed" doc:"Of those rejected: device tokens that APNs called dead. They are removed, but for those that were registered since."`
	Quarantine int64            `json:"quarantined" doc:"Of those rejected: device tokens that APNs called wrong."`
	Duplicates int64            `json:"duplicates" doc:"Recipients with a second outcome: sent to twice, or told twice."`
}

// CampaignReason is why some recipients got a result.
type CampaignReason struct {
	_ struct{} `additionalProperties:"true"`

	Result string `json:"result" doc:"The result."`
	Reason string `json:"reason" doc:"APNs's reason, or pushfleet's in lower case."`
	Count  int64  `json:"count" doc:"How many recipients."`
}

// CountsOf orders what is counted of a campaign.
func CountsOf(st *campaign.Status, t *store.Totals) CampaignCounts {
	c := CampaignCounts{
		Ranges: t.Ranges, Devices: t.Devices, Remaining: max(0, st.Devices-t.Devices), Matched: t.Matched,
		Results: make(map[string]int64), Reasons: []CampaignReason{}, Duplicates: t.Duplicates,
	}
	for _, label := range slices.Sorted(maps.Keys(t.Counts)) {
		n := t.Counts[label]
		result, reason, _ := strings.Cut(label, ":")
		c.Results[result] += n
		if reason == "" {
			continue
		}
		c.Reasons = append(c.Reasons, CampaignReason{Result: result, Reason: reason, Count: n})
		if job.Result(result) != job.Rejected {
			continue
		}
		switch apns.Reason(reason).Verdict() {
		case apns.Dead:
			c.Removed += n
		case apns.Suspicious:
			c.Quarantine += n
		case apns.Keep:
		}
	}
	slices.SortStableFunc(c.Reasons, func(a, b CampaignReason) int { return int(b.Count - a.Count) })
	return c
}

// Campaign is all that is known of a campaign.
type Campaign struct {
	CampaignSummary
	Definition CampaignDefinition `json:"definition" doc:"The campaign as it was created."`
	Counts     CampaignCounts     `json:"counts" doc:"What is counted of it, for 90 days."`
	Pace
}

// CreatedCampaign is what became of a campaign that was to be created.
type CreatedCampaign struct {
	CampaignSummary
	Created bool `json:"created" doc:"False: it was created before, with the same definition."`
}

// CampaignList is a list of campaigns.
type CampaignList struct {
	_ struct{} `additionalProperties:"true"`

	Campaigns []CampaignSummary `json:"campaigns" nullable:"false" doc:"The campaigns, the newest first."`
	More      bool              `json:"more" doc:"There are more than the limit."`
}

// CampaignChange is the body of PATCH /v1/apps/{app}/campaigns/{id}.
type CampaignChange struct {
	Rate int `json:"rate" minimum:"0" maximum:"10000000" doc:"Notifications per second over the whole fleet; 0: as many as it can."`
}
