package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pushfleet/pushfleet/job"
)

// What became of a notification reaches an app's backend over HTTP, signed; a process
// that is killed has lost nothing of it.
func TestWebhook(t *testing.T) {
	r := newRig(t)
	const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan job.WebhookEvent, 100)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			err = verifier.Verify(body, req.Header)
		}
		if err != nil {
			t.Errorf("POST: %v", err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		parsed, err := job.ParseWebhook(body)
		if err != nil || parsed.App != "shop" {
			t.Errorf("POST: got app %v, %v", parsed, err)
			return
		}
		for _, e := range parsed.Events {
			events <- e
		}
	}))
	t.Cleanup(backend.Close)
	f, err := os.OpenFile(r.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "    webhook: {url: %q, secrets: %s, allow_private: true}\n", backend.URL+"/s3cret-path", secret)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + freePort(t)
	api := func() *process {
		return r.start([]string{"PUSHFLEET_API_LISTEN=" + addr}, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	}
	var text []byte
	untilMetric := func(line string) {
		t.Helper()
		r.until(line, func() (err error) {
			if text, err = r.get("http://" + addr + "/metrics"); err == nil && !bytes.Contains(text, []byte(line+"\n")) {
				err = fmt.Errorf("it is not there")
			}
			return err
		})
	}
	next := func() job.WebhookEvent {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(30 * time.Second):
			t.Fatal("no event came")
			return job.WebhookEvent{}
		}
	}
	send := func(id, token string) {
		t.Helper()
		if out, err := r.cli("send", "--app", "shop", "--token", token, "--title", "Hello", "--id", id); err != nil {
			t.Fatalf("send: %v: %s", err, out)
		}
	}
	p := api()
	// It is measured once the durable is there: what is told from then on is for it.
	untilMetric(`pushfleet_webhook_lag_seconds{app="shop"} 0`)
	r.worker("w1")
	token := strings.Repeat("0a1b2c3d", 8)
	send("order-1", token)
	if e := next(); e.Job != "order-1" || e.DeviceToken.Hex() != token || e.Result != job.Accepted || e.APNsID == "" {
		t.Errorf("got %+v, want order-1 accepted", e)
	}
	untilMetric(`pushfleet_webhook_posts_total{app="shop",result="taken"} 1`)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-p.done; err == nil {
		t.Error("it ended before it was killed")
	}
	p.done <- nil // for the clean-up
	send("order-2", token)
	second := api()
	if e := next(); e.Job != "order-2" {
		t.Errorf("after a kill: got %+v, want order-2", e)
	}
	if err := r.stop(second); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
	for _, out := range []string{p.out.String(), second.out.String(), string(text)} {
		for _, hidden := range []string{token, secret, "s3cret"} {
			if strings.Contains(out, hidden) {
				t.Errorf("got %s in %s", hidden, out)
			}
		}
	}
}
