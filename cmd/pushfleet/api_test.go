package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
	return r.keyWith(nil, args...)
}

// keyWith is key, with settings from the environment.
func (r *rig) keyWith(env []string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append([]string{"key", "create", "-c", r.config}, args...)...)
	cmd.Env = append(os.Environ(), env...)
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
	if _, err := dialTLS(addr, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1: got a connection, want it refused")
	}

	// Rotation: one file before the other, so that for a while they do not fit.
	next, nextKey := selfSigned(t)
	nextPool := x509.NewCertPool()
	nextPool.AppendCertsFromPEM(next)
	replace(t, filepath.Join(r.dir, "api.pem"), next)
	r.until("the half of it", func() error {
		if _, err := dialTLS(addr, &tls.Config{RootCAs: pool}); err != nil {
			t.Fatalf("while the files do not fit: got %v, want the certificate before", err)
		}
		if !p.out.contains("the one before stays") {
			return errors.New("nothing is said")
		}
		return nil
	})
	replace(t, filepath.Join(r.dir, "api.key"), nextKey)
	r.until("the next certificate", func() error { _, err := dialTLS(addr, &tls.Config{RootCAs: nextPool}); return err })
	if _, err := dialTLS(addr, &tls.Config{RootCAs: pool}); err == nil {
		t.Error("got the certificate before, want it gone")
	}
	if err := r.stop(p); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
}

// dialTLS makes a connection, and reads what the server says of it: of a client without
// the certificate it wants, TLS 1.3 tells only then.
func dialTLS(addr string, cfg *tls.Config) (string, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, cfg)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(text), "HTTP/1.1 200 OK") {
		err = fmt.Errorf("got %.40q", text)
	}
	return string(text), err
}

// replace replaces a file at once, as those do who rotate certificates.
func replace(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// Who has no certificate of the authority is refused; another authority is in force as
// soon as its file is.
func TestAPIWithClientCertificates(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+", cert_file: api.pem, key_file: api.key, client_ca_file: clients.pem}")
	serverPEM, serverKey := selfSigned(t)
	onePEM, oneKey := selfSigned(t)
	otherPEM, otherKey := selfSigned(t)
	for name, text := range map[string][]byte{"api.pem": serverPEM, "api.key": serverKey, "clients.pem": onePEM} {
		if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	as := func(cert, key []byte) *tls.Config {
		t.Helper()
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(serverPEM)
		cfg := &tls.Config{RootCAs: pool}
		if cert != nil {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		return cfg
	}
	r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error { _, err := dialTLS(addr, as(onePEM, oneKey)); return err })
	for name, cfg := range map[string]*tls.Config{"none": as(nil, nil), "another": as(otherPEM, otherKey)} {
		if _, err := dialTLS(addr, cfg); err == nil {
			t.Errorf("%s: got an answer, want it refused", name)
		}
	}
	replace(t, filepath.Join(r.dir, "clients.pem"), otherPEM)
	r.until("the other authority", func() error { _, err := dialTLS(addr, as(otherPEM, otherKey)); return err })
	if _, err := dialTLS(addr, as(onePEM, oneKey)); err == nil {
		t.Error("got an answer with a certificate of the authority before, want it refused")
	}
}
