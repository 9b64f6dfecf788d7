package api

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// trace puts the trace that the request names (W3C Trace Context) into the call's
// context, so that what is published there continues it. With a tracer it begins a span of
// the request. It is called for those who may call the route: others have no say in what is
// recorded.
func (c *call) trace(rt *route) {
	tracer := c.api.cfg.Tracer
	if tracer == nil && c.r.Header.Get("Traceparent") == "" {
		return
	}
	c.ctx = propagation.TraceContext{}.Extract(c.ctx, propagation.HeaderCarrier(c.r.Header))
	if tracer == nil {
		return
	}
	// The route: a path has device tokens in it.
	c.ctx, c.span = tracer.Start(c.ctx, rt.method+" "+rt.path, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", rt.method),
		attribute.String("http.route", rt.path),
		attribute.String("pushfleet.request_id", c.id),
	))
}

// endTrace ends the span of the request, if it has one.
func (c *call) endTrace(status int) {
	if c.span == nil {
		return
	}
	c.span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		c.span.SetStatus(codes.Error, http.StatusText(status))
	}
	c.span.End()
}
