package worker_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
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
	f.worker = f.start(options{change: func(cfg *worker.Config) {
		cfg.Tracer = f.provider.Tracer("worker")
		f.sendsCampaigns(cfg)
	}})
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
	return f.spansOf(root)
}

// spansOf stops the worker, and returns the spans of a trace, which is the only one, by
// name.
func (f *traces) spansOf(root trace.Span) map[string][]tracetest.SpanStub {
	f.t.Helper()
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

const (
	spanCreate   = "create push.campaigns.shop"
	spanRequest  = "process push.campaigns.shop"
	spanRange    = "process push.ranges.shop.{campaign}"
	tracedRanges = 4 // tries in each that have a span
)

// wantRanges wants a span for each range of a campaign that is done, under parent, with a
// few tries, which add up.
func (f *traces) wantRanges(spans map[string][]tracetest.SpanStub, st campaign.Status, devices int) {
	f.t.Helper()
	create := spans[spanCreate]
	if len(create) != 1 || create[0].SpanKind != trace.SpanKindProducer || attr(&create[0], "messaging.message.id") != st.ID {
		f.t.Fatalf("got %v, want the creation", create)
	}
	tries, accepted := make(map[trace.SpanID]int), 0
	for _, try := range spans[spanTry] {
		tries[try.Parent.SpanID()]++
	}
	for _, one := range spans[spanRange] {
		n, err := strconv.Atoi(attr(&one, "pushfleet.accepted"))
		if err != nil {
			f.t.Fatal(err)
		}
		accepted += n
		if got := tries[one.SpanContext.SpanID()]; one.Parent.SpanID() != create[0].SpanContext.SpanID() || got != min(n, tracedRanges) {
			f.t.Errorf("a range: got parent %s and %d tries of %d, want the creation and %d", one.Parent.SpanID(), got, n, tracedRanges)
		}
		if got := attr(&one, "messaging.consumer.group.name"); got != "c=shop="+st.ID {
			f.t.Errorf("a range: got group %s, want its own", got)
		}
	}
	if len(spans[spanRange]) != st.Ranges || st.Ranges < 2 || accepted != devices {
		f.t.Errorf("got %d ranges of %d, %d accepted of %d, want all", len(spans[spanRange]), st.Ranges, accepted, devices)
	}
}

func TestTraceOfACampaign(t *testing.T) {
	const devices = 3000
	f := setupTraces(t, nil)
	f.registerMany(devices, nil)
	ctx, root := f.provider.Tracer("test").Start(f.ctx, "root")
	def, err := campaign.Parse([]byte(`{"id":"traced","audience":{"all":true},"notification":{"body":"hello"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.js.NewCampaign(ctx, "shop", def, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, created, err := f.js.NewCampaign(ctx, "shop", def, time.Now()); err != nil || created { // tells nothing
		t.Fatalf("got %t, %v, want the same campaign", created, err)
	}
	root.End()
	f.create(`{"id":"untraced","audience":{"all":true},"notification":{"body":"hello"}}`)
	f.reaches("untraced", campaign.Done)
	spans := f.spansOfCampaign(root, "traced")
	f.wantRanges(spans, f.reaches("traced", campaign.Done), devices)
	if create := spans[spanCreate]; create[0].Parent.SpanID() != root.SpanContext().SpanID() {
		t.Errorf("create: got parent %s, want the caller's span", create[0].Parent.SpanID())
	}
	if all := fmt.Sprintf("%+v", spans); strings.Contains(all, token(1).Hex()[:16]) || strings.Contains(all, "hello") {
		t.Error("got a device token or a text in spans")
	}
}

// spansOfCampaign is spansOf, once the campaign is done.
func (f *traces) spansOfCampaign(root trace.Span, id string) map[string][]tracetest.SpanStub {
	f.t.Helper()
	f.reaches(id, campaign.Done)
	return f.spansOf(root)
}

func TestTraceOfACampaignFromTheQueue(t *testing.T) {
	const devices = 3000
	f := setupTraces(t, nil)
	f.registerMany(devices, nil)
	_, root := f.provider.Tracer("test").Start(f.ctx, "root")
	msg := nats.NewMsg(stream.CampaignsSubject("shop"))
	msg.Data = []byte(`{"id":"asked","audience":{"all":true},"notification":{"body":"hello"}}`)
	msg.Header.Set("traceparent", fmt.Sprintf("00-%s-%s-01", root.SpanContext().TraceID(), root.SpanContext().SpanID()))
	if err := f.js.NC.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
	root.End()
	f.eventually("the campaign", func() (string, bool) {
		_, err := f.js.Campaign(f.ctx, "shop", "asked")
		return fmt.Sprint(err), err == nil
	})
	spans := f.spansOfCampaign(root, "asked")
	f.wantRanges(spans, f.reaches("asked", campaign.Done), devices)
	request := spans[spanRequest]
	if len(request) != 1 || request[0].Parent.SpanID() != root.SpanContext().SpanID() || spans[spanCreate][0].Parent.SpanID() != request[0].SpanContext.SpanID() {
		t.Errorf("got %v, want the request between the message's trace and the creation", request)
	}
}

// What is not traced costs nothing: neither where nobody asked for traces, nor for
// campaigns that are in none.
func TestWhatIsNotTracedAllocatesNothing(t *testing.T) {
	provider := sdktrace.NewTracerProvider()
	for name, tracer := range map[string]trace.Tracer{"off": nil, "on": provider.Tracer("worker")} {
		if n := testing.AllocsPerRun(100, worker.UntracedRange(tracer)); n != 0 {
			t.Errorf("traces %s: got %v allocations for a range, want none", name, n)
		}
	}
}
