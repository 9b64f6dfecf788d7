package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/overview"
)

const (
	// eventHeartbeat is after how long without an event a comment is sent: less than
	// what proxies give a silent connection.
	eventHeartbeat = 10 * time.Second
	// DefaultEventPatience is how long a follower may take to read what is sent to it.
	DefaultEventPatience = 10 * time.Second
)

// CampaignEvent is the data of an event "campaigns".
type CampaignEvent struct {
	_ struct{} `additionalProperties:"true"`

	App       string            `json:"app" doc:"The app."`
	Whole     bool              `json:"whole,omitempty" doc:"These are all of the app's, and no other is there: so the first ones."`
	Campaigns []CampaignSummary `json:"campaigns" nullable:"false" doc:"Those that have changed, as they are now, the newest first."`
	Deleted   []string          `json:"deleted,omitempty" nullable:"false" doc:"Ids of those that are not there any more."`
	More      bool              `json:"more,omitempty" doc:"There are more than a thousand: these are the newest."`
}

// streamed is a body that is sent bit by bit, for as long as it takes.
type streamed func(w http.ResponseWriter)

func (a *API) getEvents(c *call) (int, any, *Problem) {
	mine, p := c.watched()
	if p != nil {
		return 0, nil, p
	}
	if p := a.followers.enter(c.key.ID); p != nil {
		return 0, nil, p
	}
	f, err := a.cfg.Overview.Follow()
	if err != nil {
		a.followers.leave(c.key.ID)
		return 0, nil, overviewProblem(err)
	}
	return http.StatusOK, streamed(func(w http.ResponseWriter) {
		defer a.followers.leave(c.key.ID)
		defer f.Close()
		ctx, cancel := context.WithCancel(c.r.Context()) // c.ctx has ended: it was for the beginning
		defer cancel()
		defer context.AfterFunc(a.followers.ending, cancel)()
		e := &eventWriter{w: w, control: http.NewResponseController(w), patience: a.cfg.EventPatience}
		e.begin()
		for e.err == nil && a.follow(ctx, c, f, mine, e) {
			continue
		}
	}), nil
}

// follow waits for what happens next and sends it; it reports whether to go on.
func (a *API) follow(ctx context.Context, c *call, f *overview.Follower, mine func(string) bool, e *eventWriter) bool {
	soon, cancel := context.WithTimeout(ctx, eventHeartbeat)
	defer cancel()
	fleet, changes, err := f.Next(soon)
	switch {
	case ctx.Err() != nil, errors.Is(err, overview.ErrClosed):
		return false
	case !c.stillMay():
		return false
	case err != nil: // nothing happens
		e.comment("still here")
		return true
	}
	e.event("fleet", fleet.Of(mine))
	for _, ev := range campaignEvents(changes, slices.Sorted(maps.Keys(a.live.Load().Apps)), mine) {
		e.event("campaigns", ev)
	}
	return true
}

// stillMay reports whether the call's key has not been revoked since. Keys that cannot be
// read are as good as they were.
func (c *call) stillMay() bool {
	ctx, cancel := context.WithTimeout(c.r.Context(), keyTimeout)
	defer cancel()
	key, _, err := c.api.keyring.find(ctx, c.key.ID)
	return err != nil || key != nil
}

// campaignEvents makes an event for each app of whose campaigns something changed.
func campaignEvents(changes *overview.Changes, apps []string, mine func(string) bool) []CampaignEvent {
	if changes == nil {
		return nil
	}
	of := make(map[string]*CampaignEvent)
	event := func(app string) *CampaignEvent {
		if of[app] == nil {
			of[app] = &CampaignEvent{App: app, Whole: changes.Whole, Campaigns: []CampaignSummary{}}
		}
		return of[app]
	}
	if changes.Whole {
		for _, app := range apps {
			event(app)
		}
	}
	for i := range changes.Campaigns {
		st := &changes.Campaigns[i]
		if e := event(st.App); len(e.Campaigns) < maxCampaigns {
			e.Campaigns = append(e.Campaigns, SummaryOf(st))
		} else {
			e.More = true
		}
	}
	for _, d := range changes.Deleted {
		e := event(d.App)
		e.Deleted = append(e.Deleted, d.ID)
	}
	var list []CampaignEvent
	for _, app := range slices.Sorted(maps.Keys(of)) {
		if mine(app) && slices.Contains(apps, app) {
			list = append(list, *of[app])
		}
	}
	return list
}

// eventWriter sends server-sent events (WHATWG HTML, 9.2). Nothing waits in it: who does
// not read what was sent within the patience is dropped.
type eventWriter struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	err      error // nil: the caller is still there
}

// begin sends the headers. The server's own deadline for reading is over once the request is
// read (observed: Go 1.26, net/http, startBackgroundRead); the one for writing is moved in send.
func (e *eventWriter) begin() {
	h := e.w.Header()
	h.Set("Content-Type", contentTypeEvents)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep it back
	e.w.WriteHeader(http.StatusOK)
	e.comment("pushfleet")
}

func (e *eventWriter) comment(text string) { e.send(": " + text + "\n\n") }

// event sends an event; data becomes a line of JSON.
func (e *eventWriter) event(name string, data any) {
	e.send("event: " + name + "\ndata: " + string(encode(data)) + "\n")
}

func (e *eventWriter) send(text string) {
	if e.err != nil {
		return
	}
	_ = e.control.SetWriteDeadline(time.Now().Add(e.patience)) // else the server's own ends it
	if _, e.err = e.w.Write([]byte(text)); e.err == nil {
		e.err = e.control.Flush()
	}
}
