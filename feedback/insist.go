package feedback

import (
	"context"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/stream"
)

// insist opens a consumer, however long JetStream does not give it, such as while it
// elects a leader. It returns nil when ctx ends first.
func insist(ctx context.Context, log *zap.Logger, otherwise string, open func(context.Context) (*stream.Consumer, error)) *stream.Consumer {
	for ctx.Err() == nil {
		c, err := open(ctx)
		switch {
		case err == nil:
			return c
		case ctx.Err() == nil:
			log.Warn(otherwise, zap.Error(err))
			pause(ctx, recordPause)
		}
	}
	return nil
}
