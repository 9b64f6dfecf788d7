package worker

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// takeRequests creates the campaigns that are published on push.campaigns.<app>,
// until ctx ends.
func (w *Worker) takeRequests(ctx context.Context) {
	var consumer *stream.Consumer
	for ctx.Err() == nil {
		var err error
		if consumer == nil {
			consumer, err = w.cfg.Streams.CampaignRequests(ctx)
		}
		var in *stream.Message
		if err == nil {
			in, err = consumer.Wait(patience)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			w.log.Warn("cannot take campaigns", zap.Error(err))
			consumer = nil
			pause(ctx, fetchPause)
		case in != nil && ctx.Err() != nil:
			w.nak(in, 0)
		case in != nil:
			w.takeRequest(ctx, in)
		}
	}
}

// takeRequest creates one campaign, or gives it up with the reason.
func (w *Worker) takeRequest(ctx context.Context, in *stream.Message) {
	reason := w.createRequested(ctx, in)
	switch {
	case reason == nil:
	case errors.Is(reason, errRefused):
		if err := w.cfg.Streams.Bury(ctx, in, stream.Letter{Reason: reason.Error(), Last: w.cfg.Now()}); err != nil {
			w.log.Warn("cannot store a dead letter", zap.String("app", in.App), zap.Error(err))
			w.nak(in, buryRetry)
			return
		}
		w.log.Warn("campaign is refused", zap.String("app", in.App), zap.Error(reason))
	default:
		w.log.Warn("cannot create a campaign", zap.String("app", in.App), zap.Error(reason))
		w.nak(in, storeRetry)
		return
	}
	if err := in.Ack(); err != nil {
		w.log.Warn("cannot acknowledge", zap.Uint64("sequence", in.Sequence), zap.Error(err))
	}
}

// errRefused says that a request will never be good.
var errRefused = errors.New("campaign is refused")

func (w *Worker) createRequested(ctx context.Context, in *stream.Message) error {
	if w.app(in.App) == nil {
		present, err := w.cfg.Streams.Present(ctx)
		if err != nil {
			return err
		}
		for _, p := range present {
			for _, app := range p.Apps {
				if app == in.App {
					return fmt.Errorf("app %q is another worker's", in.App)
				}
			}
		}
		return fmt.Errorf("%w: unknown app", errRefused)
	}
	def, err := campaign.Parse(in.Data)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if def.Recipients != nil {
		return fmt.Errorf("%w: recipients: a file's recipients are handed in by the client or the command line", errRefused)
	}
	// What was in time when it was published is not late because workers were.
	ctx, end := w.traceRequest(ctx, in, def.ID)
	_, _, err = w.cfg.Streams.NewCampaign(ctx, in.App, def, in.StoredAt)
	end(err)
	var invalid *job.Invalid
	if errors.As(err, &invalid) || errors.Is(err, stream.ErrCampaignExists) {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}
