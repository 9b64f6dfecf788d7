package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// WebhookAckWait is how long the server waits for a POST that a process has taken
// before it hands it to another one. Senders say that they are still at it at a third
// of this.
const WebhookAckWait = 15 * time.Second

const (
	// webhooksBytes is reserved for POSTs that have been made up and not yet taken.
	// There are few: no more is made up than can be sent.
	webhooksBytes = 256 << 20
	// webhookIdle is after how long the server forgets how far an app's webhook is when
	// nobody asks any more: well beyond what OUTCOMES keeps.
	webhookIdle = 30 * 24 * time.Hour
)

// WebhooksSubject returns the subject for POSTs to an app's webhook.
func WebhooksSubject(app string) string { return "push.webhooks." + app }

// Webhook is what an app's webhook is told from: outcomes that are not yet part of a
// POST, and POSTs that are not yet taken. Any number of processes share it.
type Webhook struct {
	Outcomes *Consumer
	Posts    *Consumer

	s       *Streams
	app     string
	filters []string // of Outcomes
	from    jetstream.Stream
	queue   jetstream.Stream
}

// Webhook ensures what an app's webhook needs, and returns it: the stream WEBHOOKS, and
// the durables webhook-<app> on OUTCOMES and <app> on WEBHOOKS. No lanes means all.
// Where the durable on OUTCOMES does not exist yet, it begins with the next outcome.
func (s *Streams) Webhook(ctx context.Context, app string, lanes []job.Lane) (*Webhook, error) {
	if !ValidName(app) {
		return nil, fmt.Errorf("ensure webhook: app %q: must be letters, digits, '-' and '_'", app)
	}
	if err := s.ensure(ctx, webhooksDefinition(s.replicas)); err != nil {
		return nil, err
	}
	w := &Webhook{s: s, app: app, filters: outcomesFilters(app, lanes)}
	var err error
	if w.Outcomes, err = s.consumer(ctx, Outcomes, jetstream.ConsumerConfig{
		Durable: "webhook-" + app, FilterSubjects: w.filters, AckWait: WebhookAckWait,
		DeliverPolicy: jetstream.DeliverNewPolicy, InactiveThreshold: webhookIdle,
	}); err != nil {
		return nil, err
	}
	if w.Posts, err = s.consumer(ctx, Webhooks, jetstream.ConsumerConfig{
		Durable: app, FilterSubject: WebhooksSubject(app), AckWait: WebhookAckWait, InactiveThreshold: webhookIdle,
	}); err != nil {
		return nil, err
	}
	if w.from, err = s.js.Stream(ctx, Outcomes); err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", Outcomes, err)
	}
	if w.queue, err = s.js.Stream(ctx, Webhooks); err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", Webhooks, err)
	}
	return w, nil
}

// webhooksDefinition is apart from the other streams: only processes that send
// webhooks make it.
func webhooksDefinition(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: Webhooks, Description: "pushfleet POSTs to webhooks", Subjects: []string{WebhooksSubject("*")},
		Storage: jetstream.FileStorage, Replicas: replicas, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, MaxBytes: webhooksBytes, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
		// As OUTCOMES: what a webhook that is not configured any more has left goes by itself.
		MaxAge: outcomesAge, Duplicates: duplicateWindow, AllowDirect: true,
	}
}

// outcomesFilters are the subjects of an app's outcomes in some lanes; none means all.
func outcomesFilters(app string, lanes []job.Lane) []string {
	if len(lanes) == 0 || len(lanes) == len(job.Lanes()) {
		return []string{AppOutcomes(app)}
	}
	var filters []string
	for _, lane := range lanes {
		filters = append(filters, OutcomesSubject(app, lane))
		if lane == job.Bulk { // those of campaigns
			filters = append(filters, OutcomesSubject(app, lane)+".>")
		}
	}
	return filters
}

// Publish stores a POST. One with an id that was stored within two minutes is stored
// once. [ErrFull]: it was not taken.
func (w *Webhook) Publish(ctx context.Context, id string, body []byte) error {
	msg := nats.NewMsg(WebhooksSubject(w.app))
	msg.Data = body
	msg.Header.Set(jetstream.MsgIDHeader, w.app+"/"+id)
	if _, err := w.s.js.PublishMsg(ctx, msg); err != nil {
		return w.s.publishError(msg.Subject, err)
	}
	return nil
}

// MaxBody is how many bytes a POST may have.
func (w *Webhook) MaxBody() int {
	// With room for the headers of a dead letter, so that none is cut.
	return max(w.s.MaxPayload()-2*maxReasonBytes, 1)
}

// Lag is what a webhook has before it.
type Lag struct {
	Messages int       // of OUTCOMES that are not yet part of a POST
	Posts    int       // that are not yet taken
	Oldest   time.Time // when the oldest of all that was stored; zero: there is nothing
}

// Lag asks how far the webhook is behind.
func (w *Webhook) Lag(ctx context.Context) (Lag, error) {
	var lag Lag
	info, err := w.Outcomes.consumer.Info(ctx)
	if err != nil {
		return lag, fmt.Errorf("ask for consumer %s: %w", w.Outcomes.name, err)
	}
	if lag.Messages = int(info.NumPending) + info.NumAckPending; lag.Messages > 0 {
		for _, filter := range w.filters {
			if err := lag.look(ctx, w.from, info.AckFloor.Stream+1, filter); err != nil {
				return lag, err
			}
		}
	}
	waiting, taken, err := w.Posts.Backlog(ctx)
	if err != nil {
		return lag, err
	}
	if lag.Posts = waiting + taken; lag.Posts > 0 {
		if err := lag.look(ctx, w.queue, 1, WebhooksSubject(w.app)); err != nil {
			return lag, err
		}
	}
	return lag, nil
}

// look makes the first message from a sequence on the oldest, if it is.
func (l *Lag) look(ctx context.Context, st jetstream.Stream, from uint64, subject string) error {
	raw, err := st.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // it is done meanwhile
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	if l.Oldest.IsZero() || raw.Time.Before(l.Oldest) {
		l.Oldest = raw.Time
	}
	return nil
}

// splitWebhooksSubject returns the app that a subject of WEBHOOKS names.
func splitWebhooksSubject(subject string) (string, error) {
	app, ok := strings.CutPrefix(subject, WebhooksSubject(""))
	if !ok || !ValidName(app) {
		return "", fmt.Errorf("subject %q is not push.webhooks.<app>", subject)
	}
	return app, nil
}
