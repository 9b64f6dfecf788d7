package worker_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"strconv"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/worker"
)

// row is what the table must say of an answer at the first try of a bulk job.
type row struct {
	status int
	action worker.Action
	halt   worker.Halt
	least  time.Duration // of the delay
	most   time.Duration
}

const (
	second = time.Second
	minute = time.Minute
)

func expected() map[apns.Reason]row {
	bury := row{400, worker.Bury, worker.GoOn, 0, 0}
	drop := row{400, worker.Drop, worker.GoOn, 0, 0}
	topic := row{400, worker.Retry, worker.StopTopic, 30 * second, 30 * second}
	route := row{403, worker.Retry, worker.StopRoute, 30 * second, 30 * second}
	soon := row{403, worker.Retry, worker.GoOn, second / 2, second}
	server := row{503, worker.Retry, worker.GoOn, 15 * minute / 2, 15 * minute}
	with := func(r row, status int) row { r.status = status; return r }
	return map[apns.Reason]row{
		apns.BadCollapseID: bury, apns.BadExpirationDate: bury, apns.BadMessageID: bury, apns.BadPriority: bury,
		apns.InvalidPushType: bury, apns.PayloadEmpty: bury, apns.PayloadTooLarge: with(bury, 413),
		apns.BadDeviceToken: drop, apns.DeviceTokenNotForTopic: drop,
		apns.ExpiredToken: with(drop, 410), apns.Unregistered: with(drop, 410),
		apns.BadTopic: topic, apns.MissingTopic: topic, apns.TopicDisallowed: topic,
		apns.BadCertificate: route, apns.BadCertificateEnvironment: route, apns.Forbidden: route,
		apns.InvalidProviderToken: route, apns.MissingProviderToken: route,
		apns.BadEnvironmentKeyIDInToken: route, apns.BadEnvironmentKeyInToken: route,
		apns.DuplicateHeaders: with(route, 400), apns.MissingDeviceToken: with(route, 400),
		apns.BadPath: with(route, 404), apns.MethodNotAllowed: with(route, 405),
		apns.ExpiredProviderToken: soon, apns.UnrelatedKeyIDInToken: soon, apns.IdleTimeout: with(soon, 400),
		apns.TooManyProviderTokenUpdates: with(soon, 429), apns.Shutdown: with(soon, 503),
		apns.TooManyRequests:     {429, worker.Retry, worker.GoOn, minute / 2, minute},
		apns.InternalServerError: with(server, 500), apns.ServiceUnavailable: server,
	}
}

func TestPolicyOfEveryReason(t *testing.T) {
	t.Parallel()
	p := worker.NewPolicy()
	want := expected()
	for _, reason := range reasonConstants(t) {
		w, ok := want[reason]
		if !ok {
			t.Errorf("%s: no row in this test", reason)
			continue
		}
		if !worker.HasRule(p, reason) {
			t.Errorf("%s: no row in the policy", reason)
		}
		for range 20 { // the delay has jitter
			got := p.Decide(apns.Response{Status: w.status, Reason: reason}, worker.Try{Lane: job.Bulk, Attempt: 1})
			if got.Action != w.action || got.Halt != w.halt || !got.Attempted || got.Delay < w.least || got.Delay > w.most {
				t.Fatalf("%s: got %+v, want %+v", reason, got, w)
			}
		}
	}
}

// reasonConstants lists the Reason constants in the source, so that a new one
// without a row fails, whoever forgets to list it.
func reasonConstants(t *testing.T) []apns.Reason {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), "../apns/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []apns.Reason
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != gotoken.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			vs := spec.(*ast.ValueSpec)
			if id, ok := vs.Type.(*ast.Ident); !ok || id.Name != "Reason" {
				continue
			}
			text, err := strconv.Unquote(vs.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, apns.Reason(text))
		}
	}
	if got := apns.Reasons(); len(got) != len(reasons) || len(reasons) < 30 {
		t.Fatalf("apns.Reasons lists %d, the source %d", len(got), len(reasons))
	}
	return reasons
}

func TestPolicyWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	p := worker.NewPolicy()
	lost := errors.New("connection lost")
	for _, tc := range []struct {
		name      string
		err       error
		onUnknown job.OnUnknown
		action    worker.Action
		attempted bool
	}{
		{"not sent", fmt.Errorf("%w: refused", apns.ErrNotSent), job.Resend, worker.Retry, false},
		{"not sent, at most once", fmt.Errorf("%w: refused", apns.ErrNotSent), job.Drop, worker.Retry, false},
		{"route stopped", fmt.Errorf("%w: %w", apns.ErrNotSent, &apns.RouteError{Reason: apns.BadCertificate}), job.Resend, worker.Retry, false},
		{"no answer", lost, job.Resend, worker.Retry, true},
		{"no answer, at most once", lost, job.Drop, worker.Drop, true},
	} {
		got := p.Decide(apns.Response{Err: tc.err}, worker.Try{Lane: job.Bulk, Attempt: 1, OnUnknown: tc.onUnknown})
		wantHalt := worker.GoOn
		if tc.name == "route stopped" {
			wantHalt = worker.StopRoute
		}
		if got.Action != tc.action || got.Attempted != tc.attempted || got.Halt != wantHalt {
			t.Errorf("%s: got %+v, want action %d, attempted %v", tc.name, got, tc.action, tc.attempted)
		}
	}
}

func TestPolicyOfUndocumentedReasons(t *testing.T) {
	t.Parallel()
	p := worker.NewPolicy()
	for _, tc := range []struct {
		status int
		action worker.Action
	}{{200, worker.Accept}, {418, worker.Retry}, {403, worker.Retry}, {599, worker.Retry}, {302, worker.Retry}} {
		for _, reason := range []apns.Reason{"", "NeverHeardOf"} {
			if tc.status == 200 && reason != "" {
				continue
			}
			got := p.Decide(apns.Response{Status: tc.status, Reason: reason}, worker.Try{Attempt: 1})
			if got.Action != tc.action || got.Halt != worker.GoOn {
				t.Errorf("status %d, reason %q: got %+v, want action %d", tc.status, reason, got, tc.action)
			}
		}
	}
}

func TestPolicyBackOff(t *testing.T) {
	t.Parallel()
	p := worker.NewPolicy()
	at := func(r apns.Response, lane job.Lane, attempt int) worker.Decision {
		return p.Decide(r, worker.Try{Lane: lane, Attempt: attempt})
	}
	down := apns.Response{Status: 503, Reason: apns.ServiceUnavailable}
	for _, reason := range []apns.Reason{apns.ServiceUnavailable, apns.InternalServerError, "", "NeverHeardOf"} {
		if d := at(apns.Response{Status: 500, Reason: reason}, job.Transactional, 1); !d.Again || d.Action != worker.Retry || d.Delay < 7*minute {
			t.Errorf("first 5xx (%q) of a transactional one: got %+v, want it tried again at once, or else by the schedule", reason, d)
		}
	}
	if at(down, job.Transactional, 2).Again || at(down, job.Bulk, 1).Again || at(apns.Response{Status: 429, Reason: apns.TooManyRequests}, job.Transactional, 1).Again {
		t.Error("tried again at once: want it for the first 5xx of a transactional one only")
	}
	if d := at(down, job.Transactional, 2).Delay; d < 7*minute || d > 15*minute {
		t.Errorf("second 5xx of a transactional one: got %s, want Apple's 15 minutes", d)
	}
	if d := at(down, job.Bulk, 10).Delay; d < 30*minute || d > 60*minute {
		t.Errorf("tenth 5xx: got %s, want at most an hour", d)
	}
	if d := at(down, job.Bulk, 30); d.Action != worker.Bury {
		t.Errorf("thirtieth 5xx: got %+v, want it given up", d)
	}
	if d := at(apns.Response{Err: apns.ErrNotSent}, job.Bulk, 1000); d.Action != worker.Retry || d.Delay > minute {
		t.Errorf("thousandth try that APNs never saw: got %+v, want another one", d)
	}
	far := p.Decide(apns.Response{Err: apns.ErrNotSent}, worker.Try{Lane: job.Bulk, Attempt: 1, Delivery: 10})
	if far.Delay < 30*second || far.Delay > minute {
		t.Errorf("tenth delivery that APNs never saw: got %s, want close to a minute", far.Delay)
	}
	if d := at(apns.Response{Status: 403, Reason: apns.Forbidden}, job.Bulk, 1000); d.Action != worker.Retry {
		t.Errorf("refused credential: got %+v, want it kept until somebody mends that", d)
	}
}

// Never retried, whatever happens: Apple's list in "Handling notification
// responses from APNs".
func TestPolicyNeverRetries(t *testing.T) {
	t.Parallel()
	p := worker.NewPolicy()
	for _, reason := range []apns.Reason{apns.BadDeviceToken, apns.DeviceTokenNotForTopic, apns.ExpiredToken, apns.Unregistered, apns.PayloadTooLarge} {
		for attempt := 1; attempt < 40; attempt++ {
			if got := p.Decide(apns.Response{Status: 400, Reason: reason}, worker.Try{Attempt: attempt}); got.Action == worker.Retry {
				t.Errorf("%s at attempt %d: got a retry", reason, attempt)
			}
		}
	}
}

// No retry comes later than the notification expires.
func TestPolicyAndExpiry(t *testing.T) {
	t.Parallel()
	p := worker.NewPolicy()
	const left = 20 * second
	for _, tt := range []struct {
		name     string
		response apns.Response
		attempt  int
		action   worker.Action
		most     time.Duration
	}{
		{"5xx", apns.Response{Status: 503, Reason: apns.ServiceUnavailable}, 1, worker.Drop, 0},
		{"too many to the device", apns.Response{Status: 429, Reason: apns.TooManyRequests}, 1, worker.Drop, 0},
		{"not sent", apns.Response{Err: apns.ErrNotSent}, 1, worker.Retry, second},
		{"not sent, again and again", apns.Response{Err: apns.ErrNotSent}, 10, worker.Retry, left / 2},
		{"no answer", apns.Response{Err: errTest}, 10, worker.Retry, left / 2},
		{"refused credential", apns.Response{Status: 403, Reason: apns.Forbidden}, 1, worker.Retry, left / 2},
	} {
		for range 20 {
			got := p.Decide(tt.response, worker.Try{Lane: job.Bulk, Attempt: tt.attempt, Left: left})
			if got.Action != tt.action || got.Delay > tt.most || got.Again {
				t.Fatalf("%s: got %+v, want action %d and at most %s", tt.name, got, tt.action, tt.most)
			}
			got = p.Decide(tt.response, worker.Try{Lane: job.Bulk, Attempt: tt.attempt, Left: 48 * 60 * minute})
			if got.Action != worker.Retry {
				t.Fatalf("%s, with two days left: got %+v, want a retry", tt.name, got)
			}
		}
	}
	for _, left := range []time.Duration{-second, -1, 1, second / 2} {
		got := p.Decide(apns.Response{Err: apns.ErrNotSent}, worker.Try{Lane: job.Bulk, Attempt: 10, Left: left})
		if got.Action != worker.Retry || got.Delay != max(0, left) {
			t.Errorf("with %s left: got %+v, want it back when it expires", left, got)
		}
	}
	// The quick retry is in time where the schedule is not.
	if got := p.Decide(apns.Response{Status: 503}, worker.Try{Lane: job.Transactional, Attempt: 1, Left: left}); !got.Again || got.Action != worker.Drop {
		t.Errorf("first 5xx of a transactional one: got %+v, want it tried at once, or given up", got)
	}
}
