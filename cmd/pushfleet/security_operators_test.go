package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/stream"
)

// apiAs starts an API process as a user of NATS, and returns it with its URL.
func (s *secured) apiAs(user string, more ...string) (p *process, base string) {
	s.t.Helper()
	addr := "127.0.0.1:" + freePort(s.t)
	p = s.start(s.as(user, append(more, "PUSHFLEET_API_LISTEN="+addr)...), filepath.Join(s.bin, "pushfleet"), "api", "-c", s.config)
	s.until("the API", func() error {
		text, err := s.get("http://" + addr + "/readyz")
		if err == nil && strings.Contains(string(text), "JetStream") {
			err = fmt.Errorf("/readyz: %s", text)
		}
		return err
	})
	return p, "http://" + addr
}

// bury puts a message into DEAD, as a worker does, and returns its place.
func (s *secured) bury(nc *nats.Conn, subject, reason, body string) (sequence uint64) {
	s.t.Helper()
	msg := nats.NewMsg(stream.DeadSubject("shop"))
	msg.Header = nats.Header{stream.HeaderSubject: {subject}, stream.HeaderReason: {reason}, stream.HeaderRecipients: {"1"}}
	msg.Data = []byte(body)
	reply, err := nc.RequestMsgWithContext(s.ctx, msg)
	var ack struct{ Seq uint64 }
	if err == nil {
		err = json.Unmarshal(reply.Data, &ack)
	}
	if err != nil || ack.Seq == 0 {
		s.t.Fatalf("bury: got %s, %v, want it stored", reply.Data, err)
	}
	return ack.Seq
}

// streams opens the fleet's JetStream as a user who may everything.
func (s *secured) streams(nc *nats.Conn) *stream.Streams {
	s.t.Helper()
	streams, err := stream.Open(s.ctx, nc, stream.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	return streams
}

// The documented permissions are enough for an API that operators use, of NATS and of
// Redis, and it is refused nothing on the way.
func TestDocumentedPermissionsOfOperators(t *testing.T) {
	s := newSecured(t)
	hex := strings.Repeat("0a1b2c3d", 8)
	s.workerWith("w1", s.as("worker")...)
	a, base := s.apiAs("operators")
	key := s.keyWith(s.as("operator"), "--all-apps", "--scope", "admin")
	call := func(method, path, body string, want int, texts ...string) string {
		t.Helper()
		status, text := s.http(http.DefaultClient, method, base+path, key, body)
		if status != want {
			t.Fatalf("%s %s: got %d %s, want %d", method, path, status, text, want)
		}
		for _, part := range texts {
			if !strings.Contains(text, part) {
				t.Fatalf("%s %s: got %s, want %q in it", method, path, text, part)
			}
		}
		return text
	}
	operator := s.connect("operator", "", nil)
	streams := s.streams(operator)

	// Fuses.
	tripped := stream.Fuse{App: "shop", Environment: device.Production, Tripped: true, TrippedAt: time.Now(), Rejected: 200, Sent: 210}
	if _, err := streams.SetFuse(s.ctx, tripped); err != nil {
		t.Fatal(err)
	}
	call(http.MethodGet, "/v1/apps/shop/fuses", "", 200, `"tripped":true`)
	call(http.MethodPost, "/v1/apps/shop/fuses/production/reset", "", 200, `"tripped":false`, `"reset":true`)

	// Explanations: of a job by its lane, and of a campaign by its ranges.
	call(http.MethodPut, "/v1/apps/shop/devices/"+hex, `{"user":"ada"}`, 200)
	call(http.MethodPost, "/v1/apps/shop/notifications", `{"id":"one","to":{"users":["ada"]},"notification":{"title":"from the API"}}`, 202)
	s.received(hex, "from the API")
	s.until("the job's end", func() error {
		if text := call(http.MethodGet, "/v1/apps/shop/notifications/one", "", 200); !strings.Contains(text, `"state":"done"`) {
			return errors.New(text)
		}
		return nil
	})
	call(http.MethodGet, "/v1/apps/shop/explain?job=one&user=ada", "", 200, `"verdict":"accepted"`)
	call(http.MethodPost, "/v1/apps/shop/campaigns", `{"id":"spring","audience":{"all":true},"notification":{"title":"spring"}}`, 200)
	s.received(hex, "spring")
	s.until("the campaign's end", func() error {
		if text := call(http.MethodGet, "/v1/apps/shop/campaigns/spring", "", 200); !strings.Contains(text, `"state":"done"`) {
			return errors.New(text)
		}
		return nil
	})
	call(http.MethodGet, "/v1/apps/shop/explain?campaign=spring&token="+hex, "", 200, `"verdict":"accepted"`)

	// Dead letters: a job and a POST to a webhook are redriven, others purged by number and
	// at once.
	if _, err := streams.Webhook(s.ctx, "shop", nil); err != nil { // what a process with webhooks has made
		t.Fatal(err)
	}
	posts, err := operator.SubscribeSync(stream.WebhooksSubject("shop"))
	if err != nil {
		t.Fatal(err)
	}
	again := s.bury(operator, "push.jobs.shop.transactional", "PayloadTooLarge", `{"id":"two","to":{"users":["ada"]},"notification":{"title":"from the dead"}}`)
	post := s.bury(operator, "push.webhooks.shop", "no answer", `{"id":"three"}`)
	call(http.MethodGet, "/v1/apps/shop/dead-letters?reason=toolarge", "", 200, fmt.Sprintf(`"sequence":%d`, again))
	call(http.MethodGet, fmt.Sprintf("/v1/apps/shop/dead-letters/%d", again), "", 200, "from the dead")
	call(http.MethodPost, "/v1/apps/shop/dead-letters/redrive", fmt.Sprintf(`{"sequences":[%d,%d]}`, again, post), 200, `"letters":2`)
	s.received(hex, "from the dead")
	if msg, err := posts.NextMsgWithContext(s.ctx); err != nil || string(msg.Data) != `{"id":"three"}` {
		t.Errorf("a POST that is redriven: got %v, want it in WEBHOOKS", err)
	}
	one := s.bury(operator, "push.jobs.shop.bulk", "nonsense", "1")
	s.bury(operator, "push.jobs.shop.bulk", "nonsense", "2")
	call(http.MethodPost, "/v1/apps/shop/dead-letters/purge", fmt.Sprintf(`{"sequences":[%d]}`, one), 200, `"letters":1`)
	call(http.MethodPost, "/v1/apps/shop/dead-letters/purge", `{"all":true}`, 200, `"letters":1`)
	call(http.MethodGet, "/v1/apps/shop/dead-letters", "", 200, `"dead_letters":[]`)

	// API keys, and what counts device tokens, are Redis's.
	made := call(http.MethodPost, "/v1/keys", `{"name":"shop backend","scopes":["send"],"apps":["shop"]}`, 201, `"key":"pf_`)
	var created struct{ ID string }
	if err := json.Unmarshal([]byte(made), &created); err != nil {
		t.Fatal(err)
	}
	call(http.MethodGet, "/v1/keys", "", 200, created.ID)
	call(http.MethodDelete, "/v1/keys/"+created.ID, "", 204)
	s.until("the census", func() error {
		if text := call(http.MethodGet, "/v1/fleet", "", 200); !strings.Contains(text, `"active":1`) || strings.Contains(text, `"unknown"`) {
			return errors.New(text)
		}
		return nil
	})

	if err := s.stop(a); err != nil {
		t.Errorf("api: %v, want a clean end", err)
	}
	if text := a.out.String(); strings.Contains(strings.ToLower(text), "violation") || strings.Contains(text, "NOPERM") {
		t.Errorf("it was refused something:\n%s", text)
	}
	if text, err := s.redisLog(); err != nil || text != "[]" {
		t.Errorf("Redis refused something: %s, %v", text, err)
	}
}

// An API with the narrow permissions does nothing for operators, and says so.
func TestNarrowPermissionsOfTheAPI(t *testing.T) {
	s := newSecured(t)
	s.workerWith("w1", s.as("worker")...)
	a, base := s.apiAs("api")
	key := s.keyWith(s.as("operator"), "--app", "shop", "--scope", "admin")
	operator := s.connect("operator", "", nil)
	streams := s.streams(operator)
	if _, err := streams.SetFuse(s.ctx, stream.Fuse{App: "shop", Environment: device.Production, Tripped: true, TrippedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	letter := s.bury(operator, "push.jobs.shop.bulk", "nonsense", "1")
	for _, tt := range []struct{ method, path, body, refused string }{
		{http.MethodPost, "/fuses/production/reset", "", "$KV.pushfleet.fuse.shop.production"},
		{http.MethodGet, "/dead-letters", "", "$JS.API.CONSUMER.CREATE.DEAD."},
		{http.MethodPost, "/dead-letters/purge", fmt.Sprintf(`{"sequences":[%d]}`, letter), "$JS.API.STREAM.MSG.DELETE.DEAD"},
		{http.MethodGet, "/explain?job=one&user=ada", "", "$JS.API.CONSUMER.CREATE.OUTCOMES."},
	} {
		if status, text := s.http(http.DefaultClient, tt.method, base+"/v1/apps/shop"+tt.path, key, tt.body); status != http.StatusServiceUnavailable {
			t.Errorf("%s %s: got %d %s, want %d", tt.method, tt.path, status, text, http.StatusServiceUnavailable)
		}
		if !a.out.contains(tt.refused) {
			t.Errorf("%s %s: got nothing of %s in the log, want what was refused", tt.method, tt.path, tt.refused)
		}
	}
	f, err := streams.Fuse(s.ctx, "shop", device.Production)
	if err != nil || !f.Tripped {
		t.Errorf("the fuse: got %+v, %v, want it tripped", f, err)
	}
	d, err := streams.DeadLetters(s.ctx)
	if err == nil {
		_, err = d.Letter(s.ctx, letter)
	}
	if err != nil {
		t.Errorf("the dead letter: got %v, want it there", err)
	}
}
