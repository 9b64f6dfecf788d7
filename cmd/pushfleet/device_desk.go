package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/store"
)

// deviceDesk is where single devices of an app are looked at and changed.
type deviceDesk interface {
	// register sets the environment, where there is none, to the app's.
	register(ctx context.Context, r *device.Registration) (generation uint32, err error)
	// known are the devices of a user or, where there is none, that of a device token.
	known(ctx context.Context, t device.Token, user string) ([]device.Description, error)
	remove(ctx context.Context, t device.Token) error
}

// withDevices opens the devices of an app for a command.
func withDevices(ctx context.Context, g *globals, app string, do func(context.Context, deviceDesk) error) error {
	if !g.throughAPI() {
		return withStore(ctx, g, app, func(ctx context.Context, cfg *config.Config, set *store.Store) error {
			return do(ctx, &storedDevices{app: app, cfg: cfg, set: set})
		})
	}
	if app == "" {
		return usagef("--app is needed")
	}
	d, err := g.openDoor()
	if err != nil {
		return err
	}
	return do(ctx, &remoteDevices{door: d, app: app})
}

// unknownDevice is the error of a device token that nobody knows.
func unknownDevice(app string, t device.Token) error {
	return fmt.Errorf("device token %s is not known to app %s", t, app)
}

// storedDevices are those in Redis.
type storedDevices struct {
	app string
	cfg *config.Config
	set *store.Store
}

func (s *storedDevices) register(ctx context.Context, r *device.Registration) (uint32, error) {
	if r.Environment == device.EnvironmentUnset {
		r.Environment = device.Production
		if a, ok := s.cfg.Apps[s.app]; ok {
			r.Environment = a.Environment
		}
	}
	done, err := s.set.Register(ctx, s.app, *r)
	return done.Generation, err
}

func (s *storedDevices) known(ctx context.Context, t device.Token, user string) ([]device.Description, error) {
	tokens := []device.Token{t}
	if user != "" {
		found, err := s.set.ByUsers(ctx, s.app, []string{user})
		if err != nil {
			return nil, err
		}
		tokens = tokens[:0]
		for _, e := range found[0] {
			tokens = append(tokens, e.Token)
		}
	}
	list := make([]device.Description, 0, len(tokens))
	for _, t := range tokens {
		d, ok, err := s.set.Device(ctx, s.app, t)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, unknownDevice(s.app, t)
		}
		list = append(list, device.Describe(d))
	}
	return list, nil
}

// remove changes nothing where the device token is removed already.
func (s *storedDevices) remove(ctx context.Context, t device.Token) error {
	was, err := s.set.Delete(ctx, s.app, t, device.Deleted)
	if err != nil || was {
		return err
	}
	_, known, err := s.set.Device(ctx, s.app, t)
	if err == nil && !known {
		err = unknownDevice(s.app, t)
	}
	return err
}

// remoteDevices are those behind the API.
type remoteDevices struct {
	*door
	app string
}

func (d *remoteDevices) register(ctx context.Context, r *device.Registration) (uint32, error) {
	if r.Environment == device.EnvironmentUnset {
		env, err := d.environment(ctx, d.app)
		if err != nil {
			return 0, err
		}
		if r.Environment, err = device.ParseEnvironment(env); err != nil {
			return 0, fmt.Errorf("environment of app %s: %w", d.app, err)
		}
	}
	in := api.Registration{
		User: r.User, InstallID: r.InstallID, Environment: r.Environment.String(), Kind: r.Kind.String(),
		Locale: r.Locale, Timezone: r.Timezone, AppVersion: r.AppVersion, Tags: r.Tags, Attributes: r.Attributes,
	}
	if !r.PreviousToken.IsZero() {
		in.PreviousToken = r.PreviousToken.Hex()
	}
	var out api.Registered
	err := d.call(ctx, &remote.Call{Method: http.MethodPut, Path: inApp(d.app, "devices", r.Token.Hex()), In: in, Out: &out, Repeatable: true})
	return out.Generation, err
}

func (d *remoteDevices) known(ctx context.Context, t device.Token, user string) ([]device.Description, error) {
	if user != "" {
		var found struct{ Devices []device.Description }
		err := d.get(ctx, &found, nil, inApp(d.app, "users", user, "devices")...)
		return found.Devices, err
	}
	var one device.Description
	err := d.get(ctx, &one, nil, inApp(d.app, "devices", t.Hex())...)
	if remote.Is(err, "unknown_device") {
		return nil, unknownDevice(d.app, t)
	}
	return []device.Description{one}, err
}

func (d *remoteDevices) remove(ctx context.Context, t device.Token) error {
	err := d.call(ctx, &remote.Call{Method: http.MethodDelete, Path: inApp(d.app, "devices", t.Hex()), Repeatable: true})
	if remote.Is(err, "unknown_device") {
		return unknownDevice(d.app, t)
	}
	return err
}
