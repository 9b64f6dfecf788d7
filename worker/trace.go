package worker

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
)

// mostTracedTries is how many tries at APNs of one delivery have a span each. choice: a
// job to a thousand devices must not push all other spans out of the exporter's queue; the
// counts of the whole are on the job's span.
const mostTracedTries = 32

// traced is the trace of a job in work. Most jobs have none: a nil one does nothing.
// Names follow OpenTelemetry's semantic conventions for messaging and for HTTP clients.
type traced struct {
	ctx    context.Context //nolint:containedctx // only the trace in it
	span   trace.Span
	tracer trace.Tracer

	mu    sync.Mutex
	tries map[int]trace.Span // guarded by mu: by recipient, those without an answer
	begun int                // guarded by mu: tries that had a span
}

// traceOf begins the span of a job that names a trace, if the worker traces.
func (w *Worker) traceOf(m *message) *traced {
	if w.cfg.Tracer == nil || m.rng != nil || !m.in.Traced() {
		return nil
	}
	ctx, span := m.in.StartProcess(context.Background(), w.cfg.Tracer, m.id)
	if span == nil {
		return nil
	}
	return &traced{ctx: ctx, span: span, tracer: w.cfg.Tracer, tries: make(map[int]trace.Span)}
}

// try begins the span of a try at APNs for recipient i. It has the apns-id and no
// device token.
func (t *traced) try(i int, n apns.Notification, env device.Environment) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun == mostTracedTries {
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
		t.span.SetStatus(codes.Error, "is no job")
	}
	t.span.End()
}
