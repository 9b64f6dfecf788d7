package main

import (
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// newOverview makes what tells what the fleet does; streams says how JetStream is reached.
func newOverview(configured func() map[string]config.App, streams func() (*stream.Streams, error), set *store.Store, log *zap.Logger) *overview.Watcher {
	return overview.New(overview.Config{
		Streams: streams, Devices: set, Logger: log.Named("overview"),
		Apps: func() map[string]overview.AppConfig {
			apps := make(map[string]overview.AppConfig)
			for name, app := range configured() {
				apps[name] = overview.AppConfig{BundleID: app.BundleID, Environment: app.Environment.String()}
			}
			return apps
		},
	})
}
