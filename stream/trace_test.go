package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func newTracer(t *testing.T) (trace.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return p.Tracer("test"), spans
}

// taken publishes a job of an app and returns its message.
func taken(ctx context.Context, t *testing.T, js *testenv.JetStream, app string) *stream.Message {
	t.Helper()
	c, err := js.LaneConsumer(t.Context(), app, job.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishJob(ctx, app, job.Bulk, newJob(t, "a")); err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(10 * time.Second)
	if err != nil || m == nil {
		t.Fatalf("got %v, %v, want a message", m, err)
	}
	return m
}

func TestJobContinuesTrace(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	tracer, spans := newTracer(t)
	ctx, root := tracer.Start(t.Context(), "root")
	m := taken(ctx, t, js, "shop")
	root.End()
	if !m.Traced() {
		t.Fatal("got a message without a trace")
	}
	_, process := m.StartProcess(m.InTrace(t.Context()), tracer, "a")
	process.End()
	got := make(map[string]tracetest.SpanStub)
	for _, span := range spans.GetSpans() {
		got[span.Name] = span
	}
	published, processed := got["publish push.jobs.shop.bulk"], got["process push.jobs.shop.bulk"]
	if published.SpanKind != trace.SpanKindProducer || published.Parent.SpanID() != root.SpanContext().SpanID() {
		t.Errorf("got %+v, want a producer's span below %s", published, root.SpanContext().SpanID())
	}
	if processed.SpanKind != trace.SpanKindConsumer || processed.Parent.SpanID() != published.SpanContext.SpanID() || processed.SpanContext.TraceID() != root.SpanContext().TraceID() {
		t.Errorf("got %+v, want a consumer's span below %s", processed, published.SpanContext.SpanID())
	}
}

// A process that only passes a trace on has no spans of its own.
func TestJobPassesTraceOn(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	m := taken(trace.ContextWithRemoteSpanContext(t.Context(), sc), t, js, "shop")
	if got, want := m.Header("traceparent"), "00-01000000000000000000000000000000-0200000000000000-01"; got != want {
		t.Errorf("got traceparent %q, want %q", got, want)
	}
	if m := taken(t.Context(), t, js, "news"); m.Traced() || m.Header("traceparent") != "" {
		t.Error("without a trace: got one")
	}
}

func TestStartProcess(t *testing.T) {
	t.Parallel()
	const good = "00-01000000000000000000000000000000-0200000000000000-01"
	for _, tt := range []struct {
		name, header, value string
		want                bool
	}{
		{"as the standard has it", "traceparent", good, true},
		{"as HTTP has it", "Traceparent", good, true},
		{"not sampled", "traceparent", strings.TrimSuffix(good, "1") + "0", false},
		{"nonsense", "traceparent", "00-zz-02-01", false},
		{"none", "tracestate", "a=b", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			js := testenv.NewJetStream(t)
			c, err := js.LaneConsumer(t.Context(), "shop", job.Bulk)
			if err != nil {
				t.Fatal(err)
			}
			api, err := jetstream.New(js.NC)
			if err != nil {
				t.Fatal(err)
			}
			msg := nats.NewMsg("push.jobs.shop.bulk")
			msg.Header[tt.header] = []string{tt.value}
			if _, err := api.PublishMsg(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			m, err := c.Wait(10 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
			ctx, span := m.StartProcess(m.InTrace(t.Context()), p.Tracer("test"), "a")
			if got := span != nil; got != tt.want {
				t.Errorf("got a span: %t, want %t", got, tt.want)
			}
			if tt.want && trace.SpanContextFromContext(ctx).TraceID() != (trace.TraceID{1}) {
				t.Error("got another trace")
			}
		})
	}
}

func TestFailedPublishIsTraced(t *testing.T) {
	t.Parallel()
	server := testenv.StartNATS(t, embedded.NATSConfig{})
	s, err := stream.Attach(testenv.Connect(t, server.URL()))
	if err != nil {
		t.Fatal(err)
	}
	tracer, spans := newTracer(t)
	ctx, root := tracer.Start(t.Context(), "root")
	defer root.End()
	if _, err := s.PublishJob(ctx, "shop", job.Bulk, newJob(t, "a")); !errors.Is(err, stream.ErrNoStream) {
		t.Fatalf("got %v, want %v", err, stream.ErrNoStream)
	}
	pending, err := s.PublishJobAsync(ctx, "shop", job.Bulk, newJob(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Wait(ctx); !errors.Is(err, stream.ErrNoStream) {
		t.Fatalf("async: got %v, want %v", err, stream.ErrNoStream)
	}
	got := spans.GetSpans()
	if len(got) != 2 {
		t.Fatalf("got %d spans, want 2", len(got))
	}
	for _, span := range got {
		if span.Status.Code != codes.Error || span.Status.Description != "no stream" {
			t.Errorf("got status %+v, want no stream", span.Status)
		}
	}
}

func TestNoTraceCostsNothing(t *testing.T) {
	ctx := t.Context()
	msg := nats.NewMsg("push.jobs.shop.bulk")
	if n := testing.AllocsPerRun(100, func() {
		if stream.StartPublish(ctx, msg, "a") != nil {
			t.Fatal("got a span")
		}
	}); n != 0 {
		t.Errorf("publish: got %v allocations, want none", n)
	}
	var m stream.Message
	if n := testing.AllocsPerRun(100, func() {
		if m.Traced() {
			t.Fatal("got a trace")
		}
	}); n != 0 {
		t.Errorf("take: got %v allocations, want none", n)
	}
}
