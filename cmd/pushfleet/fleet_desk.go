package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/stream"
)

// fleetDesk is where it is said what the fleet does.
type fleetDesk interface {
	fleet(ctx context.Context) (*overview.Fleet, error)
	// follow calls do every second, until that returns an error or ctx ends.
	follow(ctx context.Context, do func(*overview.Fleet) error) error
}

// withFleet opens it for a command; app empty: all apps.
func withFleet(ctx context.Context, g *globals, app string, do func(context.Context, fleetDesk) error) error {
	if g.throughAPI() {
		d, err := g.openDoor()
		if err != nil {
			return err
		}
		r := &remoteFleet{door: d}
		if app != "" {
			r.query = url.Values{"app": {app}}
		}
		return do(ctx, r)
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	mine := func(string) bool { return true }
	if app != "" {
		if err := knownApp(cfg, app); err != nil {
			return err
		}
		mine = func(name string) bool { return name == app }
	}
	nc, streams, err := connectNATS(ctx, cfg, "fleet", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	view := newOverview(func() map[string]config.App { return cfg.Apps }, func() (*stream.Streams, error) { return streams, nil }, set, zap.NewNop())
	defer view.Close()
	return do(ctx, &seenFleet{view, mine})
}

// seenFleet is what NATS and Redis tell.
type seenFleet struct {
	view *overview.Watcher
	mine func(app string) bool
}

func (s *seenFleet) fleet(ctx context.Context) (*overview.Fleet, error) {
	f, err := s.view.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	return f.Of(s.mine), nil
}

func (s *seenFleet) follow(ctx context.Context, do func(*overview.Fleet) error) error {
	follower, err := s.view.Follow()
	if err != nil {
		return err
	}
	defer follower.Close()
	for {
		f, _, err := follower.Next(ctx)
		if err != nil {
			return err
		}
		if err := do(f.Of(s.mine)); err != nil {
			return err
		}
	}
}

// remoteFleet is what the API tells.
type remoteFleet struct {
	*door
	query url.Values
}

func (r *remoteFleet) fleet(ctx context.Context) (*overview.Fleet, error) {
	f := new(overview.Fleet)
	if err := r.get(ctx, f, r.query, "v1", "fleet"); err != nil {
		return nil, appError(err, r.query.Get("app"))
	}
	return f, nil
}

func (r *remoteFleet) follow(ctx context.Context, do func(*overview.Fleet) error) error {
	call := &remote.Call{Method: http.MethodGet, Path: []string{"v1", "events"}, Query: r.query}
	err := r.client.Follow(ctx, call, func(event string, data []byte) error {
		if event != "fleet" {
			return nil
		}
		f := new(overview.Fleet)
		if err := json.Unmarshal(data, f); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		return do(f)
	})
	return appError(err, r.query.Get("app"))
}
