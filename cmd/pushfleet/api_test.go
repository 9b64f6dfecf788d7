package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newAPIRig starts redis-server alone: the API needs no more.
func newAPIRig(t *testing.T, more string) *rig {
	t.Helper()
	t.Parallel()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("this test needs redis-server: apt-get install redis-server")
	}
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, bin: bin, dir: t.TempDir()}
	redisPort := freePort(t)
	r.redisAddr = "127.0.0.1:" + redisPort
	r.start(nil, redis, "--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	r.config = filepath.Join(r.dir, "pushfleet.yaml")
	text := fmt.Sprintf(`
redis: {addresses: ["%s"]}
%s
apps:
  shop: {bundle_id: com.example.shop, key: {path: pushfleet.yaml, key_id: SIM0000001, team_id: SIMTEAM001}}
`, r.redisAddr, more)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// http sends a request with a key, and returns status and body.
func (r *rig) http(client *http.Client, method, url, key, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.ctx, method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// key makes an API key at the command line.
func (r *rig) key(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"key", "create", "-c", r.config}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	key := strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(key, "pf_") || strings.Contains(errs.String(), key) {
		r.t.Fatalf("key create: %v: %s %s, want a key, and on standard output alone", err, out, errs.String())
	}
	return key
}

// Keys, registration, look-up, revocation and the end, as an operator and an
// app's backend see them.
func TestAPI(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+"}")
	base := "http://" + addr
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config, "--log-format", "json")
	r.until("the API", func() error { _, err := r.get(base + "/readyz"); return err })
	if _, err := r.get(base + "/livez"); err != nil {
		t.Errorf("/livez: %v", err)
	}
	if doc, err := r.get(base + "/openapi.json"); err != nil || !json.Valid(doc) || !bytes.Contains(doc, []byte(`"3.1.0"`)) {
		t.Errorf("/openapi.json: got %.100s, %v, want OpenAPI 3.1", doc, err)
	}

	key := r.key("--app", "shop", "--scope", "devices", "--name", "shop backend")
	hex := strings.Repeat("0a1b2c3d", 8)
	url := base + "/v1/apps/shop/devices/" + hex
	for _, step := range []struct {
		method, url, key, body string
		status                 int
		want                   string
	}{
		{http.MethodPut, url, "", "", 401, "an API key is needed"},
		{http.MethodPut, url, key, `{"user":"ada","timezone":"Europe/Vienna"}`, 200, `"created":true`},
		{http.MethodPut, url, key, `{"user":"ada"}`, 200, `"generation":2`},
		{http.MethodGet, base + "/v1/apps/shop/users/ada/devices", key, "", 200, hex},
		{http.MethodDelete, url, key, "", 204, ""},
		{http.MethodGet, url, key, "", 200, `"removed"`},
	} {
		status, body := r.http(http.DefaultClient, step.method, step.url, step.key, step.body)
		if status != step.status || !strings.Contains(body, step.want) {
			t.Errorf("%s %s: got %d %s, want %d %s", step.method, step.url, status, body, step.status, step.want)
		}
	}
	if out, err := r.cli("device", "show", "--app", "shop", hex); err != nil || !strings.Contains(out, "removed") {
		t.Errorf("device show: %v: %s; want it removed", err, out)
	}

	out, err := r.cli("key", "list")
	if err != nil || !strings.Contains(out, "shop backend") || strings.Contains(out, key[20:]) {
		t.Errorf("key list: %v: %s; want the name and no secret", err, out)
	}
	if out, err := r.cli("key", "create", "--app", "nosuch", "--scope", "read"); err == nil {
		t.Errorf("a key for an unknown app: got %s, want it refused", out)
	}
	if out, err := r.cli("key", "create", "--app", "shop", "--scope", "root"); err == nil {
		t.Errorf("a key of an unknown scope: got %s, want it refused", out)
	}
	if out, err := r.cli("key", "revoke", key); err != nil || strings.Contains(out, key[20:]) {
		t.Errorf("key revoke: %v: %s; want it revoked, and no secret", err, out)
	}
	r.until("the revocation", func() error {
		if status, body := r.http(http.DefaultClient, http.MethodGet, url, key, ""); status != http.StatusUnauthorized {
			return fmt.Errorf("got %d %s, want 401", status, body)
		}
		return nil
	})
	metrics, err := r.get(base + "/metrics")
	if err != nil || !bytes.Contains(metrics, []byte(`pushfleet_http_requests_total{class="2xx",method="PUT",route="/v1/apps/{app}/devices/{token}"} 2`)) {
		t.Errorf("metrics: %v: got none for two registrations", err)
	}
	if !bytes.Contains(metrics, []byte("pushfleet_clock_ahead_seconds 0")) {
		t.Error("metrics: got no clock, want the time of day to come through one")
	}
	if err := r.stop(p); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
	for name, text := range map[string]string{"log": p.out.String(), "metrics": string(metrics)} {
		if strings.Contains(text, hex) || strings.Contains(text, key[20:]) {
			t.Errorf("%s: got a device token or a key in it: %s", name, text)
		}
	}
}

func TestAPIWithTLS(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+", cert_file: api.pem, key_file: api.key}")
	certPEM, keyPEM := selfSigned(t)
	for name, text := range map[string][]byte{"api.pem": certPEM, "api.key": keyPEM} {
		if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "https://"+addr+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("got %s %s, want HTTP/2 and 200", resp.Proto, resp.Status)
		}
		return nil
	})
	key := r.key("--all-apps", "--scope", "admin")
	if status, body := r.http(client, http.MethodPut, "https://"+addr+"/v1/apps/shop/devices/"+strings.Repeat("0a", 32), key, "{}"); status != http.StatusOK {
		t.Errorf("got %d %s, want 200", status, body)
	}
	if err := r.stop(p); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
}
