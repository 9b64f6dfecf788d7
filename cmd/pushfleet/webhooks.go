package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/feedback"
)

// newWebhooks wires the webhooks of all apps that have one.
func newWebhooks(cfg *config.Config, log *zap.Logger, reg prometheus.Registerer, now func() time.Time) (*feedback.Webhooks, error) {
	receivers, err := receiversOf(cfg)
	if err != nil {
		return nil, err
	}
	return feedback.NewWebhooks(feedback.WebhooksConfig{
		Receivers: receivers, DrainTimeout: cfg.API.DrainTimeout, Version: version, Logger: log, Metrics: reg, Now: now,
	})
}

// receiversOf are the receivers of all apps that have a webhook.
func receiversOf(cfg *config.Config) (map[string]feedback.Receiver, error) {
	receivers := make(map[string]feedback.Receiver)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Apps)) {
		hook := cfg.Apps[name].Webhook
		if hook == nil {
			continue
		}
		r, err := newReceiver(hook)
		if err != nil {
			errs = append(errs, fmt.Errorf("webhook of %s: %w", name, err))
			continue
		}
		receivers[name] = r
	}
	return receivers, errors.Join(errs...)
}

func newReceiver(hook *config.Webhook) (feedback.Receiver, error) {
	secrets, err := feedback.ParseSecrets(hook.Secrets.Reveal())
	if err != nil {
		return feedback.Receiver{}, fmt.Errorf("secrets: %w", err)
	}
	r := feedback.Receiver{
		URL: hook.URL, Secrets: secrets, Lanes: hook.Lanes, Results: hook.Results,
		Timeout: hook.Timeout, Batch: hook.Batch, AllowPrivate: hook.AllowPrivate,
	}
	if hook.CAFile != "" {
		if r.RootCAs, err = certPool(hook.CAFile); err != nil {
			return feedback.Receiver{}, err
		}
	}
	return r, nil
}
