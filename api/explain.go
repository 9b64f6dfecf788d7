package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/explain"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/stream"
)

// Explainer says what became of devices; see [explain.Explainer].
type Explainer interface {
	Explain(ctx context.Context, q *explain.Question) (*explain.Explanation, error)
}

// searchTime is how long a request searches OUTCOMES: the rest of callTimeout is for what
// it reads besides.
const searchTime = 4 * time.Second

func (a *API) getExplanation(c *call) (int, any, *Problem) {
	var f faults
	q := c.question(&f)
	if f.any() {
		return 0, nil, invalid(&f)
	}
	x, err := a.cfg.Explainer.Explain(c.ctx, q)
	var recurs *explain.RecursError
	switch {
	case errors.Is(err, stream.ErrNoCampaign):
		return 0, nil, problemf(http.StatusNotFound, codeUnknownCampaign, "the app has no campaign with this id")
	case errors.As(err, &recurs):
		return 0, nil, problemf(http.StatusConflict, codeWrongState, "%s", recurs)
	case err != nil:
		return 0, nil, queueUnavailable(err)
	}
	return http.StatusOK, x, nil
}

// question is what the URL asks.
func (c *call) question(f *faults) *explain.Question {
	query := c.r.URL.Query()
	q := &explain.Question{
		App: c.appName, Campaign: query.Get("campaign"), Job: query.Get("job"), Lane: readLane(query, f),
		User: query.Get("user"), Install: query.Get("install"), Now: c.api.cfg.Now(), Within: searchTime,
	}
	if (q.Campaign == "") == (q.Job == "") {
		f.add("", "must have exactly one of the parameters job, campaign")
	}
	given := 0
	for _, name := range []string{"user", "install", "token"} {
		if query.Get(name) != "" {
			given++
		}
	}
	if given != 1 {
		f.add("", "must have exactly one of the parameters user, install, token")
	}
	checkID("{user}", q.User, f)
	checkID("{install}", q.Install, f)
	if text := query.Get("token"); text != "" {
		var err error
		if q.Token, err = device.ParseToken(text); err != nil {
			f.add("{token}", "%v", err)
		}
	}
	if text := query.Get("since"); text != "" {
		long, ok := strictjson.ParseLong(text)
		if !ok {
			f.add("{since}", "must be a duration such as 36h or 7d")
		}
		q.Since = q.Now.Add(-long)
	}
	return q
}
