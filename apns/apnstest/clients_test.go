package apnstest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// TestGoClients has Go's HTTP client send a thousand notifications, some of them
// bad, over as many connections as it likes, and over one.
func TestGoClients(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"as it likes", "strict"} {
		srv := newServer(t, apnstest.Config{BadShare: 0.1, Environment: apnstest.Sandbox})
		hc := srv.Client()
		if name == "strict" {
			tr, ok := hc.Transport.(*http.Transport)
			if !ok {
				t.Fatalf("got transport %T", hc.Transport)
			}
			tr.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true}
		}
		jwt := srv.ProviderToken(time.Now())
		send := func(i int) error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+"/3/device/"+tokenN(i), strings.NewReader(payload))
			if err != nil {
				return err
			}
			id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
			for k, v := range map[string]string{
				"authorization": "bearer " + jwt, "apns-topic": bundle, "apns-push-type": "alert", "apns-id": id,
			} {
				req.Header.Set(k, v)
			}
			resp, err := hc.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			want, wantBody := 200, ""
			if srv.Fate(tokenN(i)) == apnstest.Bad {
				want, wantBody = 400, `{"reason":"BadDeviceToken"}`
			}
			if resp.StatusCode != want || string(body) != wantBody || resp.Header.Get("apns-id") != id {
				return fmt.Errorf("notification %d: got %d %s %v, want %d %s", i, resp.StatusCode, body, resp.Header, want, wantBody)
			}
			if unique := resp.Header.Get("apns-unique-id"); (unique != "") != (want == 200) {
				return fmt.Errorf("notification %d: got apns-unique-id %q with %d", i, unique, want)
			}
			return nil
		}
		if err := send(0); err != nil { // opens the streams
			t.Fatalf("%s: %v", name, err)
		}
		var wg sync.WaitGroup
		errs := make(chan error, 50)
		for k := range 50 {
			wg.Go(func() {
				for i := 1 + k; i < 1000; i += 50 {
					if err := send(i); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			t.Errorf("%s: %v", name, err)
		}
		if st := srv.Stats(); st.Received != 1000 || st.Duplicates != 0 {
			t.Errorf("%s: got %d received, %d duplicates, want 1000, 0", name, st.Received, st.Duplicates)
		} else if name == "strict" && st.ConnectionsTotal != 1 {
			t.Errorf("%s: got %d connections, want 1", name, st.ConnectionsTotal)
		}
		hc.CloseIdleConnections()
	}
}

func TestAPNs2(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Topics: []string{bundle}})
	pem, err := srv.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.AuthKeyFromBytes(pem)
	if err != nil {
		t.Fatal(err)
	}
	withToken := apns2.NewTokenClient(&token.Token{AuthKey: key, KeyID: srv.KeyID(), TeamID: srv.TeamID()})
	cert, err := srv.ClientCertificate(apnstest.CertificateConfig{BundleID: bundle})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*apns2.Client{"token": withToken, "certificate": apns2.NewClient(cert)} {
		c.Host = srv.URL()
		trust(t, c, srv)
		dead := time.UnixMilli(1_700_000_000_123)
		if err := srv.SetDevice(tokenN(2), apnstest.Device{DeadSince: &dead}); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			note   apns2.Notification
			status int
			reason string
		}{
			{apns2.Notification{DeviceToken: tokenN(1), Topic: bundle}, 200, ""},
			{apns2.Notification{DeviceToken: tokenN(2), Topic: bundle}, 410, apns2.ReasonUnregistered},
			{apns2.Notification{DeviceToken: "zz", Topic: bundle}, 400, apns2.ReasonBadDeviceToken},
			{apns2.Notification{DeviceToken: tokenN(1), Topic: "com.example.other"}, 400, apns2.ReasonTopicDisallowed},
			{apns2.Notification{DeviceToken: tokenN(1), Topic: bundle, Priority: 3}, 400, apns2.ReasonBadPriority},
			{apns2.Notification{DeviceToken: tokenN(1), Topic: bundle, CollapseID: strings.Repeat("x", 65)}, 400, apns2.ReasonBadCollapseID},
		} {
			tt.note.Payload = []byte(payload)
			resp, err := c.Push(&tt.note)
			if err != nil {
				t.Fatalf("%s: push: %v", name, err)
			}
			if resp.StatusCode != tt.status || resp.Reason != tt.reason || resp.ApnsID == "" {
				t.Errorf("%s: got %+v, want %d %q", name, resp, tt.status, tt.reason)
			}
			if tt.status == 410 && resp.Timestamp.Unix() != dead.Unix() {
				t.Errorf("%s: got timestamp %v, want %v", name, resp.Timestamp, dead)
			}
		}
		c.CloseIdleConnections()
	}
}

// trust makes apns2's own transport trust srv.
func trust(t *testing.T, c *apns2.Client, srv *apnstest.Server) {
	t.Helper()
	tr, ok := c.HTTPClient.Transport.(*http2.Transport) //nolint:staticcheck // apns2 uses this type, deprecated since
	if !ok {
		t.Fatalf("got transport %T", c.HTTPClient.Transport)
	}
	cfg := tr.TLSClientConfig //nolint:staticcheck // as above
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
		tr.TLSClientConfig = cfg //nolint:staticcheck // as above
	}
	cfg.RootCAs = srv.CAPool()
}

// TestGoSeesGoAway shows that a reason in GOAWAY reaches a common client's user
// as an error.
func TestGoSeesGoAway(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	hc := srv.Client()
	defer hc.CloseIdleConnections()
	setFaults(t, srv, do(1, apnstest.Action{GoAway: &apnstest.GoAway{Code: "ENHANCE_YOUR_CALM", Reason: "Shutdown", Then: "close"}}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+"/3/device/"+tokenN(1), io.MultiReader(strings.NewReader(payload)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hc.Do(req) // a body that cannot be sent again: no hidden retry
	if err == nil {
		_ = resp.Body.Close()
		t.Fatalf("got %d, want an error", resp.StatusCode)
	}
	if errors.Is(err, io.EOF) {
		t.Errorf("got %v, want what the GOAWAY said", err)
	}
}
