package stream_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/stream"
)

// certificate writes name.pem and name-key.pem into dir: one for 127.0.0.1 that is its
// own authority.
func certificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, name+"-key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each way to authenticate, at a real server that wants it; and what is wrong with it
// is refused, and said without the secret.
func TestConnectAuthenticates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir, "server")
	certificate(t, dir, "client")
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	strangerSeed, _ := stranger.Seed()
	write(t, filepath.Join(dir, "user.nk"), append(seed, '\n'))
	write(t, filepath.Join(dir, "stranger.nk"), append(strangerSeed, '\n'))
	in := func(name string) string { return filepath.Join(dir, name) }
	operator := newOperator(t)
	write(t, in("user.creds"), operator.creds)
	write(t, in("stranger.creds"), newOperator(t).creds)

	serverTLS := fmt.Sprintf("tls {cert_file: %q, key_file: %q}\n", in("server.pem"), in("server-key.pem"))
	clientTLS := fmt.Sprintf("tls {cert_file: %q, key_file: %q, ca_file: %q, verify: true}\n", in("server.pem"), in("server-key.pem"), in("client.pem"))
	for _, tt := range []struct {
		name, server string
		good         stream.ConnectConfig
		bad          map[string]stream.ConnectConfig
	}{
		{
			"user and password", "authorization {user: push, password: correct-horse}",
			stream.ConnectConfig{User: "push", Password: "correct-horse"},
			map[string]stream.ConnectConfig{"nothing": {}, "another password": {User: "push", Password: "battery-staple"}},
		},
		{
			"token", "authorization {token: correct-horse}",
			stream.ConnectConfig{Token: "correct-horse"},
			map[string]stream.ConnectConfig{"nothing": {}, "another token": {Token: "battery-staple"}},
		},
		{
			"nkey", "authorization {users: [{nkey: " + public + "}]}",
			stream.ConnectConfig{NKeySeedFile: in("user.nk")},
			map[string]stream.ConnectConfig{"nothing": {}, "another key": {NKeySeedFile: in("stranger.nk")}, "no file": {NKeySeedFile: in("none.nk")}},
		},
		{
			"credentials file", operator.server,
			stream.ConnectConfig{CredentialsFile: in("user.creds")},
			map[string]stream.ConnectConfig{"nothing": {}, "of another account": {CredentialsFile: in("stranger.creds")}},
		},
		{
			"TLS", serverTLS,
			stream.ConnectConfig{CAFile: in("server.pem")},
			map[string]stream.ConnectConfig{"the system's authorities": {TLS: true}, "another authority": {CAFile: in("client.pem")}},
		},
		{
			"client certificate", clientTLS,
			stream.ConnectConfig{CAFile: in("server.pem"), CertFile: in("client.pem"), KeyFile: in("client-key.pem")},
			map[string]stream.ConnectConfig{"none": {CAFile: in("server.pem")}, "another": {CAFile: in("server.pem"), CertFile: in("server.pem"), KeyFile: in("server-key.pem")}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "nats.conf")
			write(t, file, []byte(tt.server))
			server := testenv.StartNATS(t, embedded.NATSConfig{File: file, NoJetStream: true})
			tt.good.URL = server.URL()
			nc, err := stream.Connect(tt.good, zap.NewNop())
			if err != nil {
				t.Fatalf("got %v, want a connection", err)
			}
			nc.Close()
			for what, cfg := range tt.bad {
				cfg.URL = server.URL()
				nc, err := stream.Connect(cfg, zap.NewNop())
				if err == nil {
					nc.Close()
					t.Errorf("%s: got a connection, want it refused", what)
					continue
				}
				if strings.Contains(err.Error(), "battery-staple") || bytes.Contains([]byte(err.Error()), strangerSeed) {
					t.Errorf("%s: got a secret in %v, want none", what, err)
				}
			}
		})
	}
}

// The section alone asks for TLS: a server without it is refused.
func TestConnectWantsTLS(t *testing.T) {
	t.Parallel()
	server := testenv.StartNATS(t, embedded.NATSConfig{NoJetStream: true})
	if nc, err := stream.Connect(stream.ConnectConfig{URL: server.URL(), TLS: true}, zap.NewNop()); err == nil {
		nc.Close()
		t.Error("got a connection in the clear, want it refused")
	}
}

// operator is who issues credentials: what a server must know of it, and a credentials
// file of a user.
type operator struct {
	server string
	creds  []byte
}

func newOperator(t *testing.T) operator {
	t.Helper()
	pair := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		public, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return kp, public
	}
	opKey, opID := pair(nkeys.CreateOperator())
	accKey, accID := pair(nkeys.CreateAccount())
	userKey, userID := pair(nkeys.CreateUser())
	encode := func(c interface {
		Encode(nkeys.KeyPair) (string, error)
	}, by nkeys.KeyPair,
	) string {
		t.Helper()
		token, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	userToken := encode(jwt.NewUserClaims(userID), accKey)
	seed, err := userKey.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(userToken, seed)
	if err != nil {
		t.Fatal(err)
	}
	return operator{
		server: fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: {%s: %s}\n",
			encode(jwt.NewOperatorClaims(opID), opKey), accID, encode(jwt.NewAccountClaims(accID), opKey)),
		creds: creds,
	}
}
