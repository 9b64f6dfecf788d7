package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/pushfleet/pushfleet/config"
)

// traces sends the traces of a process; what is not configured sends none.
type traces struct {
	provider *sdktrace.TracerProvider // nil: none
	log      *zap.Logger
}

// tracesPatience is how long the end of a process waits for its last spans to be taken.
const tracesPatience = 3 * time.Second

// startTraces starts what sends traces, if the configuration or OpenTelemetry's standard
// environment says where; the configuration goes first. environ is that environment,
// which the exporter reads too: what is not said here, such as certificates, timeouts and
// attributes of the resource, is as OpenTelemetry has it.
func startTraces(ctx context.Context, cfg config.Telemetry, environ func(string) string, instance string, log *zap.Logger) (*traces, error) {
	t := &traces{log: log.Named("traces")}
	elsewhere := cmp.Or(environ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), environ("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if cfg.Endpoint == "" && elsewhere == "" || strings.EqualFold(environ("OTEL_SDK_DISABLED"), "true") || environ("OTEL_TRACES_EXPORTER") == "none" {
		return t, nil
	}
	if p := cmp.Or(environ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), environ("OTEL_EXPORTER_OTLP_PROTOCOL")); p != "" && p != "http/protobuf" && cfg.Endpoint == "" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf, got %q: traces are sent over HTTP only, most receivers take that at port 4318", p)
	}
	var opts []otlptracehttp.Option
	if cfg.Endpoint != "" {
		opts = append(opts, otlptracehttp.WithEndpointURL(tracesURL(cfg.Endpoint)))
	}
	if headers := cfg.Headers.Reveal(); headers != "" {
		parsed, err := config.ParseHeaders(headers)
		if err != nil {
			return nil, fmt.Errorf("telemetry.headers: %w", err)
		}
		opts = append(opts, otlptracehttp.WithHeaders(parsed))
	}
	exporter, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "pushfleet"), attribute.String("service.version", version), attribute.String("service.instance.id", instance)),
		resource.WithFromEnv(), resource.WithTelemetrySDK()) // later ones go first
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)}
	if cfg.HasSampleRatio {
		provider = append(provider, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))))
	}
	t.provider = sdktrace.NewTracerProvider(provider...)
	seldom := &rate.Sometimes{First: 1, Interval: time.Minute}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		seldom.Do(func() { t.log.Warn("traces are not sent", zap.Error(err)) })
	}))
	return t, nil
}

// tracesURL adds the usual path to a URL without one.
func tracesURL(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
		return u.String()
	}
	return endpoint
}

// tracer returns nil where nothing is sent.
func (t *traces) tracer(name string) trace.Tracer {
	if t.provider == nil {
		return nil
	}
	return t.provider.Tracer("github.com/pushfleet/pushfleet/" + name)
}

// traceCommand begins the trace of a command, if traces are sent; end sends it.
func traceCommand(ctx context.Context, cfg *config.Config, instance, name string) (_ context.Context, end func(), err error) {
	spans, err := startTraces(ctx, cfg.Telemetry, os.Getenv, instance, zap.NewNop())
	if err != nil {
		return ctx, nil, err
	}
	tracer := spans.tracer(instance)
	if tracer == nil {
		return ctx, spans.stop, nil
	}
	ctx, span := tracer.Start(ctx, name)
	return ctx, func() {
		span.End()
		spans.stop()
	}, nil
}

// stop sends what is left.
func (t *traces) stop() {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracesPatience)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last traces are not sent", zap.Error(err))
	}
}
