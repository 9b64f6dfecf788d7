package main

import (
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// newOverview makes what tells what the fleet does; streams says how JetStream is reached.
func newOverview(cfg *config.Config, streams func() (*stream.Streams, error), set *store.Store, log *zap.Logger) *overview.Watcher {
	return overview.New(overview.Config{
		Streams: streams, Devices: set, Logger: log.Named("overview"),
		Apps: func() map[string]overview.AppConfig {
			apps := make(map[string]overview.AppConfig, len(cfg.Apps))
			for name, app := range cfg.Apps {
				apps[name] = overview.AppConfig{BundleID: app.BundleID, Environment: app.Environment.String()}
			}
			return apps
		},
	})
}
