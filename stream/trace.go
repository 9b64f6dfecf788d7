package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/campaign"
)

// Names in traces follow OpenTelemetry's "Semantic conventions for messaging spans".

// traceScope names this package in traces.
const traceScope = "github.com/pushfleet/pushfleet/stream"

// The header of a trace (W3C Trace Context), as the standard spells it and as those
// write it who take NATS's headers for HTTP's.
const (
	headerTraceparent     = "traceparent"
	headerHTTPTraceparent = "Traceparent"
)

// startPublish begins a span for the publishing of a job and writes the trace into its
// message, if ctx has one; else it returns nil. The span goes where the one in ctx goes.
func startPublish(ctx context.Context, msg *nats.Msg, id string) trace.Span {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return nil
	}
	ctx, span := parent.TracerProvider().Tracer(traceScope).Start(ctx, "publish "+msg.Subject,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "publish"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", msg.Subject),
			attribute.Int("messaging.message.body.size", len(msg.Data)),
		))
	if id != "" {
		span.SetAttributes(attribute.String("messaging.message.id", id))
	}
	propagation.TraceContext{}.Inject(ctx, carrier(msg.Header))
	return span
}

// startCreate begins a span for the creation of a campaign and notes the trace in it, if
// ctx has one; else it returns nil.
func startCreate(ctx context.Context, st *campaign.Status) trace.Span {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return nil
	}
	destination := CampaignsSubject(st.App)
	ctx, span := parent.TracerProvider().Tracer(traceScope).Start(ctx, "create "+destination,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "create"),
			attribute.String("messaging.operation.type", "create"),
			attribute.String("messaging.destination.name", destination),
			attribute.String("messaging.message.id", st.ID),
		))
	st.Trace = traceparent(ctx)
	return span
}

// traceparent returns the trace in ctx as a header has it.
func traceparent(ctx context.Context) string {
	c := make(propagation.MapCarrier, 2)
	propagation.TraceContext{}.Inject(ctx, c)
	return c.Get(headerTraceparent)
}

// InTrace returns a context with the trace that a campaign's entry or a header names; if
// it names none, with none.
func InTrace(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{headerTraceparent: traceparent})
}

// endPublish ends a span of startPublish or startCreate; nil is none.
func endPublish(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		// The error's text may quote what the caller wrote.
		kind := errorKind(err)
		span.SetAttributes(attribute.String("error.type", kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}

func errorKind(err error) string {
	switch {
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrNoStream):
		return "no stream"
	case errors.Is(err, ErrUnanswered):
		return "no answer"
	default:
		return "_OTHER"
	}
}

// Traced reports whether the message names a trace. It costs next to nothing.
func (m *Message) Traced() bool {
	return len(m.headers[headerTraceparent]) > 0 || len(m.headers[headerHTTPTraceparent]) > 0
}

// carrier is NATS's headers, to write and to read a trace.
type carrier nats.Header

// Get returns a header in either spelling.
func (c carrier) Get(key string) string {
	if v := nats.Header(c).Get(key); v != "" {
		return v
	}
	return propagation.HeaderCarrier(c).Get(key)
}

// Set writes a header as the standard spells it.
func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }

// Keys returns the names of all headers.
func (c carrier) Keys() []string { return propagation.HeaderCarrier(c).Keys() }

// InTrace returns a context with the trace that the message names, if it names one.
func (m *Message) InTrace(ctx context.Context) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier(m.headers))
}

// StartProcess begins the span of a worker's work on a message, in the trace that ctx has,
// and returns a context with it. If the trace is not recorded the span is nil, and nothing
// needs to be done.
func (m *Message) StartProcess(ctx context.Context, tracer trace.Tracer, id string) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil // what it names is no trace
	}
	destination, group := m.Subject, LaneDurable(m.App, m.Lane)
	switch {
	case m.Campaign != "": // names of spans are few
		destination, group = "push.ranges."+m.App+".{campaign}", rangesDurable(m.App, m.Campaign)
	case m.Subject == CampaignsSubject(m.App):
		group = requestsDurable
	}
	ctx, span := tracer.Start(ctx, "process "+destination,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(m.ReceivedAt),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", m.Subject),
			attribute.String("messaging.consumer.group.name", group),
			attribute.String("messaging.message.id", id),
			attribute.Int("messaging.message.body.size", len(m.Data)),
			attribute.Int64("pushfleet.delivery", int64(m.Deliveries)),
		))
	if !span.IsRecording() {
		return ctx, nil
	}
	return ctx, span
}
