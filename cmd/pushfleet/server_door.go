package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/remote"
)

// door is the HTTP API as commands use it.
type door struct{ client *remote.Client }

func (g *globals) openDoor() (*door, error) {
	c, err := g.client()
	if err != nil {
		return nil, err
	}
	return &door{c}, nil
}

// call makes a call.
func (d *door) call(ctx context.Context, call *remote.Call) error {
	err := d.client.Do(ctx, call)
	if len(call.Path) > 2 && call.Path[1] == "apps" {
		err = appError(err, call.Path[2])
	}
	return err
}

// appError makes an app that the API key is not for a wrong use, as it is one that the
// configuration does not have.
func appError(err error, app string) error {
	if app != "" && remote.Is(err, "wrong_app", "unknown_app") {
		return usagef("--app: %q: %v", app, err)
	}
	return err
}

// callWhole is call for what must not be cut off half-way: once begun, it is answered.
func (d *door) callWhole(ctx context.Context, call *remote.Call) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.call(context.WithoutCancel(ctx), call)
}

// get reads.
func (d *door) get(ctx context.Context, out any, query url.Values, path ...string) error {
	return d.call(ctx, &remote.Call{Method: http.MethodGet, Path: path, Query: query, Out: out, Repeatable: true})
}

// inApp is the path of something of an app.
func inApp(app string, more ...string) []string {
	return append([]string{"v1", "apps", app}, more...)
}

// apps asks which apps the API key is for.
func (d *door) apps(ctx context.Context) ([]api.OwnApp, error) {
	var own api.OwnApps
	err := d.get(ctx, &own, nil, "v1", "apps")
	return own.Apps, err
}

// app is the app that is named, or else the only one that the API key is for.
func (d *door) app(ctx context.Context, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	list, err := d.apps(ctx)
	switch {
	case err != nil:
		return "", err
	case len(list) == 1:
		return list[0].Name, nil
	}
	return "", usagef("--app: must be given; the API key is for: %s", strings.Join(names(list), ", "))
}

// chosenApps are the app that is named, or all that the API key is for.
func (d *door) chosenApps(ctx context.Context, named string) ([]string, error) {
	if named != "" {
		return []string{named}, nil
	}
	list, err := d.apps(ctx)
	return names(list), err
}

func names(list []api.OwnApp) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// environment is the one that an app is in where nobody says.
func (d *door) environment(ctx context.Context, app string) (string, error) {
	list, err := d.apps(ctx)
	for i := range list {
		if list[i].Name == app {
			return list[i].Environment, err
		}
	}
	if err == nil {
		err = usagef("--app: the API key is not for %q; it is for: %s", app, strings.Join(names(list), ", "))
	}
	return "", err
}
