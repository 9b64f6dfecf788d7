package main

import (
	"context"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/stream"
)

// fuseDesk is where fuses are looked at and reset.
type fuseDesk interface {
	list(ctx context.Context) ([]api.Fuse, error)
	// environment is the given one or, where it is unset, the app's.
	environment(ctx context.Context, app string, env device.Environment) (device.Environment, error)
	// reset reports whether the fuse was tripped.
	reset(ctx context.Context, app string, env device.Environment) (bool, error)
}

// withFuses opens the fuses for a command.
func withFuses(ctx context.Context, g *globals, do func(context.Context, fuseDesk) error) error {
	if g.throughAPI() {
		d, err := g.openDoor()
		if err != nil {
			return err
		}
		return do(ctx, &remoteFuses{d})
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	return do(ctx, &storedFuses{cfg})
}

// storedFuses are those in JetStream.
type storedFuses struct{ cfg *config.Config }

func (s *storedFuses) list(ctx context.Context) ([]api.Fuse, error) {
	nc, streams, err := connectNATS(ctx, s.cfg, "fuse", zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	fuses, err := streams.Fuses(ctx)
	if err != nil {
		return nil, err
	}
	return fusesOf(s.cfg, fuses), nil
}

// fusesOf returns a fuse for each app and environment that is configured, and
// whatever else has tripped before.
func fusesOf(cfg *config.Config, entries []stream.Fuse) []api.Fuse {
	apps := make(map[string]device.Environment, len(cfg.Apps))
	for name, app := range cfg.Apps {
		apps[name] = app.Environment
	}
	return api.FusesOf(entries, apps)
}

func (s *storedFuses) environment(_ context.Context, app string, env device.Environment) (device.Environment, error) {
	if err := knownApp(s.cfg, app); err != nil {
		return env, err
	}
	if env == device.EnvironmentUnset {
		env = s.cfg.Apps[app].Environment
	}
	return env, nil
}

func (s *storedFuses) reset(ctx context.Context, app string, env device.Environment) (bool, error) {
	nc, streams, err := connectNATS(ctx, s.cfg, "fuse", zap.NewNop())
	if err != nil {
		return false, err
	}
	defer nc.Close()
	set, client, err := connectRedis(s.cfg.Redis)
	if err != nil {
		return false, err
	}
	defer client.Close()
	return feedback.NewFuse(feedback.FuseConfig{Streams: streams, Store: set, Name: "fuse reset"}).Reset(ctx, app, env, operator())
}

// remoteFuses are those behind the API, of the apps that the API key is for.
type remoteFuses struct{ *door }

func (r *remoteFuses) list(ctx context.Context) ([]api.Fuse, error) {
	apps, err := r.apps(ctx)
	if err != nil {
		return nil, err
	}
	all := []api.Fuse{}
	for i := range apps { // by name
		var one api.FuseList
		if err := r.get(ctx, &one, nil, inApp(apps[i].Name, "fuses")...); err != nil {
			return nil, err
		}
		all = append(all, one.Fuses...)
	}
	return all, nil
}

func (r *remoteFuses) environment(ctx context.Context, app string, env device.Environment) (device.Environment, error) {
	if env != device.EnvironmentUnset {
		return env, nil
	}
	name, err := r.door.environment(ctx, app)
	if err != nil {
		return env, err
	}
	if env, err = device.ParseEnvironment(name); err != nil {
		return env, fmt.Errorf("environment of app %s: %w", app, err)
	}
	return env, nil
}

func (r *remoteFuses) reset(ctx context.Context, app string, env device.Environment) (bool, error) {
	var out api.ResetFuse
	err := r.callWhole(ctx, &remote.Call{Method: http.MethodPost, Path: inApp(app, "fuses", env.String(), "reset"), Out: &out, Repeatable: true})
	return out.Reset, err
}
