package apns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
)

func p8(t *testing.T, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestLoadKey(t *testing.T) {
	t.Parallel()
	good := p8(t, elliptic.P256())
	path := filepath.Join(t.TempDir(), "AuthKey.p8")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	b64 := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for _, tc := range []struct {
		name string
		cfg  apns.KeyConfig
		want string // in the error; empty: none
	}{
		{"path", apns.KeyConfig{Path: path, KeyID: "K", TeamID: "T"}, ""},
		{"base64", apns.KeyConfig{Base64: b64(good) + "\n", KeyID: "K", TeamID: "T"}, ""},
		{"both", apns.KeyConfig{Path: path, Base64: b64(good), KeyID: "K", TeamID: "T"}, "not both"},
		{"neither", apns.KeyConfig{KeyID: "K", TeamID: "T"}, "neither"},
		{"no file", apns.KeyConfig{Path: path + "x", KeyID: "K", TeamID: "T"}, "no such file"},
		{"not base64", apns.KeyConfig{Base64: "!!", KeyID: "K", TeamID: "T"}, "base64"},
		{"not a key", apns.KeyConfig{Base64: b64([]byte("hello")), KeyID: "K", TeamID: "T"}, "K"},
		{"wrong curve", apns.KeyConfig{Base64: b64(p8(t, elliptic.P384())), KeyID: "K", TeamID: "T"}, "P-256"},
		{"no key id", apns.KeyConfig{Path: path, TeamID: "T"}, "key id"},
	} {
		got, err := apns.LoadKey(tc.cfg)
		switch {
		case tc.want == "" && (err != nil || !got.UsesKey()):
			t.Errorf("%s: got %v, %v, want a key", tc.name, got, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

func TestLoadCertificate(t *testing.T) {
	t.Parallel()
	// apns2 reads RSA keys only, the kind that Apple's certificates have.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Apple Push Services: com.example.shop"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})...)
	path := filepath.Join(t.TempDir(), "push.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := apns.LoadCertificate(apns.CertificateConfig{Path: path})
	if err != nil || got.UsesKey() || !strings.Contains(got.String(), "com.example.shop") {
		t.Errorf("got %v, %v, want the certificate", got, err)
	}
	if ends := got.Expires(); ends.Unix() != template.NotAfter.Unix() {
		t.Errorf("got end %s, want %s", ends, template.NotAfter)
	}
	reg := prometheus.NewRegistry()
	client, err := apns.New(apns.ClientConfig{Credential: got, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if ends := metric(t, reg, "pushfleet_apns_certificate_expires_timestamp_seconds"); int64(ends) != template.NotAfter.Unix() {
		t.Errorf("metric: got end %v, want %d", ends, template.NotAfter.Unix())
	}
	for _, bad := range []string{path + "x", strings.TrimSuffix(path, ".pem") + ".p12"} {
		if _, err := apns.LoadCertificate(apns.CertificateConfig{Path: bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: got %v, want an error with the path", bad, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	want := map[apns.Reason]apns.Verdict{
		apns.Unregistered: apns.Dead, apns.ExpiredToken: apns.Dead,
		apns.BadDeviceToken: apns.Suspicious, apns.DeviceTokenNotForTopic: apns.Suspicious,
	}
	for _, r := range apns.Reasons() {
		if got := r.Verdict(); got != want[r] {
			t.Errorf("%s: got verdict %d, want %d", r, got, want[r])
		}
	}
}
