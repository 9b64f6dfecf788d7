package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/pushfleet/pushfleet/overview"
)

// Overview says what the fleet does; see [overview.Watcher].
type Overview interface {
	Fleet(ctx context.Context) (*overview.Fleet, error)
	Follow() (*overview.Follower, error)
}

func (a *API) getFleet(c *call) (int, any, *Problem) {
	mine, p := c.watched()
	if p != nil {
		return 0, nil, p
	}
	f, err := a.cfg.Overview.Fleet(c.ctx)
	if err != nil {
		return 0, nil, overviewProblem(err)
	}
	return http.StatusOK, f.Of(mine), nil
}

// watched tells the apps that are asked for: all of the key's, or the one that the query
// names.
func (c *call) watched() (mine func(app string) bool, p *Problem) {
	name := c.r.URL.Query().Get("app")
	if name == "" {
		return c.mine, nil
	}
	if !c.mine(name) {
		return nil, problemf(http.StatusForbidden, codeWrongApp, "the API key %s is not for this app", c.key.ID)
	}
	if _, known := c.live.Apps[name]; !known {
		return nil, problemf(http.StatusNotFound, codeUnknownApp, "no app with this name is configured")
	}
	return func(app string) bool { return app == name }, nil
}

func overviewProblem(err error) *Problem {
	p := unavailable(err)
	p.Detail = "what the fleet does cannot be told now: repeat the request later"
	if errors.Is(err, overview.ErrClosed) {
		p.Detail = "this process stops: repeat the request"
	}
	return p
}
