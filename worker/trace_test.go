package worker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/worker"
)

// traces is a fixture whose worker traces.
type traces struct {
	*fixture
	provider *sdktrace.TracerProvider
	exported *tracetest.InMemoryExporter
	worker   *running
}

func setupTraces(t *testing.T, answer func(n *apns.Notification) apns.Response) *traces {
	t.Helper()
	f := &traces{fixture: setup(t, answer), exported: tracetest.NewInMemoryExporter()}
	f.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(f.exported))
	f.worker = f.start(options{change: func(cfg *worker.Config) { cfg.Tracer = f.provider.Tracer("worker") }})
	return f
}

// publishTraced publishes a job in a trace, waits until it is settled and the worker has
// stopped, and returns the spans of that trace by name.
func (f *traces) publishTraced(j *job.Job) map[string][]tracetest.SpanStub {
	f.t.Helper()
	ctx, root := f.provider.Tracer("test").Start(f.ctx, "root")
	if _, err := f.js.PublishJob(ctx, "shop", job.Transactional, j); err != nil {
		f.t.Fatal(err)
	}
	root.End()
	f.completed(j.ID)
	f.worker.stop()
	byName := make(map[string][]tracetest.SpanStub)
	for _, span := range f.exported.GetSpans() {
		if span.SpanContext.TraceID() != root.SpanContext().TraceID() {
			f.t.Errorf("%s is in another trace", span.Name)
		}
		byName[span.Name] = append(byName[span.Name], span)
	}
	return byName
}

const (
	spanPublish = "publish push.jobs.shop.transactional"
	spanProcess = "process push.jobs.shop.transactional"
	spanTry     = "POST /3/device/{token}"
)

// attr returns an attribute of a span, as text.
func attr(span *tracetest.SpanStub, key string) string {
	for _, kv := range span.Attributes {
		if kv.Key == attribute.Key(key) {
			return kv.Value.String()
		}
	}
	return ""
}

func TestTraceFromProducerToAnswer(t *testing.T) {
	dead := token(2)
	f := setupTraces(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == dead {
			return apns.Response{Status: 410, Reason: apns.Unregistered, Timestamp: 1, APNsID: n.APNsID}
		}
		return accept(n)
	})
	spans := f.publishTraced(newJob("traced", token(1), dead))
	if len(spans[spanPublish]) != 1 || len(spans[spanProcess]) != 1 || len(spans[spanTry]) != 2 {
		t.Fatalf("got %v, want one for publishing, one for the job, two for tries", spans)
	}
	process := spans[spanProcess][0]
	if process.Parent.SpanID() != spans[spanPublish][0].SpanContext.SpanID() || process.SpanKind != trace.SpanKindConsumer {
		t.Errorf("process: got parent %s, kind %s", process.Parent.SpanID(), process.SpanKind)
	}
	for key, want := range map[string]string{
		"messaging.message.id": "traced", "messaging.system": "nats", "messaging.destination.name": "push.jobs.shop.transactional",
		"messaging.consumer.group.name": "shop-transactional", "pushfleet.delivery": "1",
		"pushfleet.accepted": "1", "pushfleet.not_accepted": "1", "pushfleet.tried_later": "0",
	} {
		if got := attr(&process, key); got != want {
			t.Errorf("process: got %s %q, want %q", key, got, want)
		}
	}
	for i := range spans[spanTry] {
		try := &spans[spanTry][i]
		want := map[string]string{
			"apns.topic": bundle, "apns.push_type": "alert", "apns.priority": "10", "apns.environment": "production",
			"apns.id": job.APNsID("shop", "traced", token(1)).String(), "http.response.status_code": "200", "error.type": "",
		}
		status := codes.Unset
		if attr(try, "http.response.status_code") != "200" {
			want["apns.id"], want["http.response.status_code"], want["error.type"] = job.APNsID("shop", "traced", dead).String(), "410", "Unregistered"
			status = codes.Error
		}
		for key, want := range want {
			if got := attr(try, key); got != want {
				t.Errorf("try %d: got %s %q, want %q", i, key, got, want)
			}
		}
		if try.Parent.SpanID() != process.SpanContext.SpanID() || try.SpanKind != trace.SpanKindClient || try.Status.Code != status {
			t.Errorf("try %d: got parent %s, kind %s, status %v", i, try.Parent.SpanID(), try.SpanKind, try.Status)
		}
	}
	if all := fmt.Sprintf("%+v", spans); strings.Contains(all, dead.Hex()[:16]) || strings.Contains(all, "hello") {
		t.Errorf("got a device token or a text in %s", all)
	}
}

// A try that is made again at once has a span of its own.
func TestEachTryIsTraced(t *testing.T) {
	first := true
	f := setupTraces(t, func(n *apns.Notification) apns.Response {
		if first {
			first = false
			return apns.Response{Status: 500, Reason: apns.InternalServerError, APNsID: n.APNsID, Connection: 1}
		}
		return accept(n)
	})
	spans := f.publishTraced(newJob("again", token(1)))
	var got []string
	for _, try := range spans[spanTry] {
		got = append(got, attr(&try, "http.response.status_code")+" "+attr(&try, "error.type"))
	}
	if len(got) != 2 || got[0] != "500 InternalServerError" || got[1] != "200 " {
		t.Errorf("got %q, want both tries", got)
	}
}

func TestTracedTriesAreBounded(t *testing.T) {
	f := setupTraces(t, nil)
	spans := f.publishTraced(newJob("many", tokens(0, 1000)...))
	if n := len(spans[spanTry]); n != 32 {
		t.Errorf("got %d tries, want 32", n)
	}
	if got := attr(&spans[spanProcess][0], "pushfleet.accepted"); got != "1000" {
		t.Errorf("got %s accepted, want 1000", got)
	}
}

func TestOnlyWhatNamesATraceIsTraced(t *testing.T) {
	f := setupTraces(t, nil)
	f.publish(job.Transactional, newJob("untraced", token(1)))
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	if _, err := f.js.PublishJob(trace.ContextWithRemoteSpanContext(context.Background(), unsampled), "shop", job.Transactional, newJob("unsampled", token(2))); err != nil {
		t.Fatal(err)
	}
	f.completed("untraced")
	f.completed("unsampled")
	f.worker.stop()
	if spans := f.exported.GetSpans(); len(spans) != 0 {
		t.Errorf("got %+v, want none", spans)
	}
}
