package main_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver takes traces as OpenTelemetry's collector does.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	raw      bytes.Buffer        // guarded by mu: all requests
	headers  []http.Header       // guarded by mu
	spans    map[string]*v1.Span // guarded by mu: by name
	services map[string]bool     // guarded by mu: instances
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	rc := &receiver{spans: make(map[string]*v1.Span), services: make(map[string]bool)}
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
			return
		}
		rc.mu.Lock()
		defer rc.mu.Unlock()
		rc.raw.Write(body)
		rc.headers = append(rc.headers, r.Header)
		for _, resource := range req.ResourceSpans {
			for _, kv := range resource.Resource.Attributes {
				if kv.Key == "service.name" || kv.Key == "service.instance.id" {
					rc.services[kv.Value.GetStringValue()] = true
				}
			}
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					rc.spans[span.Name] = span
				}
			}
		}
	}))
	t.Cleanup(rc.Close)
	return rc
}

// One trace from the command line, by JetStream, to APNs's answer, as two processes tell it
// to a receiver: one is configured by the file, the other by OpenTelemetry's environment.
func TestTraceAcrossProcesses(t *testing.T) {
	r := newRig(t)
	rc := newReceiver(t)
	worker := r.workerWith("w1", "PUSHFLEET_TELEMETRY_ENDPOINT="+rc.URL, "PUSHFLEET_TELEMETRY_HEADERS=X-Key=s3cret%20one")
	token := strings.Repeat("0a", 32)
	send := func(env ...string) {
		t.Helper()
		cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), "send", "-c", r.config, "--app", "shop", "--token", token, "--title", "x", "--wait")
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("send: %v: %s", err, out)
		}
	}
	send() // without a trace: the worker has nothing to tell
	send("OTEL_EXPORTER_OTLP_ENDPOINT="+rc.URL, "OTEL_RESOURCE_ATTRIBUTES=service.instance.id=shell")
	if err := r.stop(worker); err != nil {
		t.Errorf("worker: %v", err)
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	var parent, trace []byte
	for _, name := range []string{"pushfleet send", "publish push.jobs.shop.transactional", "process push.jobs.shop.transactional", "POST /3/device/{token}"} {
		span := rc.spans[name]
		if span == nil {
			t.Fatalf("got no span %q", name)
		}
		if !bytes.Equal(span.ParentSpanId, parent) || trace != nil && !bytes.Equal(span.TraceId, trace) {
			t.Errorf("%s: got parent %x in trace %x, want %x in %x", name, span.ParentSpanId, span.TraceId, parent, trace)
		}
		parent, trace = span.SpanId, span.TraceId
	}
	for _, want := range []string{"pushfleet", "w1", "shell"} {
		if !rc.services[want] {
			t.Errorf("got the services %v, want %s", rc.services, want)
		}
	}
	keyed := 0
	for _, h := range rc.headers {
		if h.Get("X-Key") == "s3cret one" {
			keyed++
		}
	}
	if keyed == 0 {
		t.Error("got no request with the header that is configured")
	}
	raw, err := hex.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(rc.raw.Bytes(), []byte(token[:16])) || bytes.Contains(rc.raw.Bytes(), raw[:8]) {
		t.Error("got a device token in a trace")
	}
}

// The same of a campaign that the command line creates.
func TestTraceOfACampaignAcrossProcesses(t *testing.T) {
	r := newRig(t)
	rc := newReceiver(t)
	worker := r.workerWith("w1", "PUSHFLEET_TELEMETRY_ENDPOINT="+rc.URL)
	r.must("device", "register", "--app", "shop", strings.Repeat("0a", 32))
	file := r.write("spring.json", `{"id":"spring","audience":{"all":true},"notification":{"title":"x"}}`)
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), "campaign", "create", "-c", r.config, "--app", "shop", "-f", file)
	cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+rc.URL)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("campaign create: %v: %s", err, out)
	}
	r.until("the campaign", func() error {
		if out := r.must("campaign", "show", "spring", "--app", "shop", "--output", "json"); !strings.Contains(out, `"done"`) {
			return errors.New(out)
		}
		return nil
	})
	if err := r.stop(worker); err != nil {
		t.Errorf("worker: %v", err)
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	var parent, trace []byte
	for _, name := range []string{"pushfleet campaign create", "create push.campaigns.shop", "process push.ranges.shop.{campaign}", "POST /3/device/{token}"} {
		span := rc.spans[name]
		if span == nil {
			t.Fatalf("got no span %q", name)
		}
		// There are several ranges, and the device is in one of them.
		inRange := name == "POST /3/device/{token}" && len(span.ParentSpanId) > 0
		if !inRange && !bytes.Equal(span.ParentSpanId, parent) || trace != nil && !bytes.Equal(span.TraceId, trace) {
			t.Errorf("%s: got parent %x in trace %x, want %x in %x", name, span.ParentSpanId, span.TraceId, parent, trace)
		}
		parent, trace = span.SpanId, span.TraceId
	}
}

// What cannot be sent is no reason not to work, and is said.
func TestTracesThatCannotBeSent(t *testing.T) {
	r := newRig(t)
	worker := r.workerWith("w1", "PUSHFLEET_TELEMETRY_ENDPOINT=http://127.0.0.1:1")
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), "send", "-c", r.config, "--app", "shop", "--token", strings.Repeat("0a", 32), "--title", "x", "--wait")
	cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("send: %v: %s", err, out)
	}
	if err := r.stop(worker); err != nil {
		t.Errorf("worker: %v", err)
	}
	if !worker.out.contains("traces are not sent") && !worker.out.contains("the last traces are not sent") {
		t.Errorf("got %s, want a word of it", worker.out)
	}
	cmd = exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), "worker", "-c", r.config)
	cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+"http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "must be http/protobuf") {
		t.Errorf("grpc: got %v, %s", err, out)
	}
}
