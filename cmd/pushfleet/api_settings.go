package main

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/feedback"
)

// servedAPI is what of an API process follows the configuration.
type servedAPI struct {
	door  *api.API
	hooks *feedback.Webhooks
	tls   *servedTLS // nil: it serves without
	first config.Gorush
	apps  atomic.Pointer[map[string]config.App]
}

// configured returns the apps that are configured now. It must not be changed.
func (s *servedAPI) configured() map[string]config.App { return *s.apps.Load() }

// apiSettings are what the HTTP API takes from a configuration.
func apiSettings(cfg *config.Config) (api.Settings, error) {
	if len(cfg.Apps) == 0 {
		return api.Settings{}, errors.New("apps: none is configured, so there is nothing to serve")
	}
	s := api.Settings{Apps: make(map[string]api.App, len(cfg.Apps)), RateLimit: cfg.API.RateLimit}
	for name, app := range cfg.Apps {
		s.Apps[name] = api.App{Environment: app.Environment, BundleID: app.BundleID}
	}
	if g := cfg.API.Gorush; g.Enabled {
		s.Gorush = &api.Gorush{Key: g.APIKey.Reveal(), App: g.App, MaxNotifications: g.MaxNotifications}
	}
	return s, nil
}

// prepare makes ready what another configuration needs.
func (s *servedAPI) prepare(cfg *config.Config) (*prepared, error) {
	next := *cfg
	if next.API.Gorush.Enabled != s.first.Enabled {
		next.API.Gorush = s.first // it is opened and closed at the next start
	}
	settings, err := apiSettings(&next)
	if err == nil {
		err = s.door.Check(settings)
	}
	receivers, hookErr := receiversOf(cfg)
	served, tlsErr := s.readTLS(cfg.API)
	if err := errors.Join(err, hookErr, tlsErr); err != nil {
		return nil, err
	}
	return &prepared{
		discard: func() {},
		use: func(context.Context) error {
			if err := s.hooks.Apply(receivers); err != nil {
				return err
			}
			if s.tls != nil {
				s.tls.current.Store(served)
			}
			s.apps.Store(&cfg.Apps)
			return s.door.Apply(settings) // which has been checked
		},
	}, nil
}

func (s *servedAPI) readTLS(cfg config.API) (*tls.Config, error) {
	if s.tls == nil {
		return nil, nil // TLS begins at the next start
	}
	served, err := readServerTLS(cfg)
	if err == nil && served == nil {
		err = errors.New("api.cert_file: must not be taken away while TLS is served: restart the process without it")
	}
	return served, err
}

// live are the keys that change without a restart.
func (s *servedAPI) live() []string {
	keys := []string{"apps", "api.rate_limit", "api.gorush.api_key", "api.gorush.app", "api.gorush.max_notifications"}
	if s.tls != nil {
		keys = append(keys, "api.cert_file", "api.key_file", "api.client_ca_file")
	}
	return keys
}
