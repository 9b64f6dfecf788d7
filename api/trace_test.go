package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// traceSeen is a token set that notes the trace of what is asked.
type traceSeen struct {
	*store.Store
	mu  sync.Mutex
	ids []string // guarded by mu: trace ids
}

func (s *traceSeen) Device(ctx context.Context, app string, t device.Token) (device.Device, bool, error) {
	s.mu.Lock()
	s.ids = append(s.ids, trace.SpanContextFromContext(ctx).TraceID().String())
	s.mu.Unlock()
	return s.Store.Device(ctx, app, t)
}

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

func (f *fixture) getTraced(key, token string) int {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.server.URL+"/v1/apps/shop/devices/"+token, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("traceparent", traceparent)
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestRequestContinuesTrace(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("ab", 32)
	for _, traces := range []bool{false, true} {
		t.Run(fmt.Sprintf("with a tracer: %t", traces), func(t *testing.T) {
			t.Parallel()
			exported := tracetest.NewInMemoryExporter()
			var seen *traceSeen
			f := setup(t, func(cfg *api.Config) {
				seen = &traceSeen{Store: cfg.TokenSet.(*store.Store)}
				cfg.TokenSet = seen
				if traces {
					cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(exported)).Tracer("api")
				}
			})
			if status := f.getTraced("nonsense", token); status != http.StatusUnauthorized {
				t.Errorf("a stranger: got %d", status)
			}
			if status := f.getTraced(f.admin, token); status != http.StatusNotFound {
				t.Errorf("got %d, want 404", status)
			}
			if len(seen.ids) != 1 || seen.ids[0] != traceID {
				t.Errorf("got the traces %q, want %s", seen.ids, traceID)
			}
			spans := exported.GetSpans()
			if !traces {
				return
			}
			if len(spans) != 1 {
				t.Fatalf("got %d spans, want that of the request of who may", len(spans))
			}
			span := spans[0]
			if span.Name != "GET /v1/apps/{app}/devices/{token}" || span.SpanKind != trace.SpanKindServer || span.Parent.SpanID().String() != "b7ad6b7169203331" || span.SpanContext.TraceID().String() != traceID {
				t.Errorf("got %+v", span)
			}
			if strings.Contains(fmt.Sprintf("%+v", spans), token[:16]) {
				t.Errorf("got a device token in %+v", spans)
			}
		})
	}
}

// A job that is handed in is a part of the request's trace, also where the API has no
// spans of its own.
func TestNotificationContinuesTrace(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	for n, given := range []string{traceparent, ""} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.server.URL+notifications, strings.NewReader(`{"to":{"users":["ada"]},"notification":{"title":"t"}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+f.admin)
		req.Header.Set("Content-Type", "application/json")
		if given != "" {
			req.Header.Set("traceparent", given)
		}
		resp, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("got %s", resp.Status)
		}
		if got := stored(t, js, uint64(n+1)).Header.Get("traceparent"); got != given {
			t.Errorf("got traceparent %q, want %q", got, given)
		}
	}
}
