package worker

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/stream"
)

// mostTracedTries is how many tries at APNs of one delivery of a job have a span each, and
// mostTracedInRange of one of a campaign's range. choice: a job to a thousand devices, or
// a campaign to millions, must not push all other spans out of the exporter's queue; the
// counts of the whole are on the span of the job or the range.
const (
	mostTracedTries   = 32
	mostTracedInRange = 4
)

// traced is the trace of a job or a range in work. Most have none: a nil one does nothing.
// Names follow OpenTelemetry's semantic conventions for messaging and for HTTP clients.
type traced struct {
	ctx    context.Context //nolint:containedctx // only the trace in it
	span   trace.Span
	tracer trace.Tracer
	most   int // tries that have a span

	mu    sync.Mutex
	tries map[int]trace.Span // guarded by mu: by recipient, those without an answer
	begun int                // guarded by mu: tries that had a span
}

// traceOf begins the span of a job that names a trace, or of a range whose campaign does,
// if the worker traces.
func (w *Worker) traceOf(m *message) *traced {
	if w.cfg.Tracer == nil {
		return nil
	}
	ctx, most := context.Background(), mostTracedTries
	switch {
	case m.lane.campaign != nil:
		in := m.lane.campaign.status.Load().Trace
		if in == "" {
			return nil
		}
		ctx, most = stream.InTrace(ctx, in), mostTracedInRange
	case !m.in.Traced():
		return nil
	default:
		ctx = m.in.InTrace(ctx)
	}
	ctx, span := m.in.StartProcess(ctx, w.cfg.Tracer, m.id)
	if span == nil {
		return nil
	}
	return &traced{ctx: ctx, span: span, tracer: w.cfg.Tracer, most: most, tries: make(map[int]trace.Span)}
}

// traceRequest returns a context in which a campaign is created that the message asks for:
// in the message's trace, with a span of it if the worker traces.
func (w *Worker) traceRequest(ctx context.Context, in *stream.Message, id string) (_ context.Context, end func(error)) {
	none := func(error) {}
	if !in.Traced() {
		return ctx, none
	}
	ctx = in.InTrace(ctx)
	if w.cfg.Tracer == nil {
		return ctx, none
	}
	ctx, span := in.StartProcess(ctx, w.cfg.Tracer, id)
	if span == nil {
		return ctx, none
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "is not created")
		}
		span.End()
	}
}

// try begins the span of a try at APNs for recipient i. It has the apns-id and no
// device token.
func (t *traced) try(i int, n apns.Notification, env device.Environment) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun == t.most {
		return
	}
	t.begun++
	_, t.tries[i] = t.tracer.Start(t.ctx, "POST /3/device/{token}",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("http.request.method", "POST"),
			attribute.String("url.template", "/3/device/{token}"),
			attribute.String("apns.id", n.APNsID.String()),
			attribute.String("apns.topic", n.Topic),
			attribute.String("apns.push_type", string(n.PushType)),
			attribute.Int("apns.priority", int(n.Priority)),
			attribute.String("apns.environment", env.String()),
		))
}

// answered ends the span of a try. It does not block.
func (t *traced) answered(i int, r apns.Response) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	span, ok := t.tries[i]
	if !ok {
		return
	}
	delete(t.tries, i)
	if r.Err == nil {
		span.SetAttributes(attribute.Int("http.response.status_code", r.Status))
	}
	if cause := causeOf(r); cause != causeAccepted {
		// Not the text of an error, which may name hosts and proxies.
		span.SetAttributes(attribute.String("error.type", string(cause)))
		span.SetStatus(codes.Error, string(cause))
	}
	if r.UniqueID != "" {
		span.SetAttributes(attribute.String("apns.unique_id", r.UniqueID))
	}
	span.End()
}

// end ends the job's span, with what became of its recipients at this delivery.
func (t *traced) end(m *message) {
	if t == nil {
		return
	}
	m.mu.Lock()
	var took, settled, later int
	for i := range m.recipients {
		switch m.recipients[i].fate {
		case accepted:
			took++
		case waiting:
			later++
		}
	}
	settled = len(m.others)
	m.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, span := range t.tries { // what was given up
		span.End()
	}
	clear(t.tries)
	t.span.SetAttributes(
		attribute.Int("pushfleet.accepted", took),
		attribute.Int("pushfleet.not_accepted", settled),
		attribute.Int("pushfleet.tried_later", later),
	)
	if m.bad != nil {
		t.span.SetStatus(codes.Error, "cannot be read")
	}
	t.span.End()
}
