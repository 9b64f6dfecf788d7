package apnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Key is a provider authentication key that a server knows.
type Key struct {
	ID     string // 10 characters: the `kid` of its provider tokens
	TeamID string // 10 characters: their `iss`

	// Private signs in [Server.ProviderToken]. A server verifies with Public; if
	// that is nil, with Private's public half.
	Private *ecdsa.PrivateKey
	Public  *ecdsa.PublicKey

	// Environment is the only one that the key is for; empty is both.
	Environment Environment
	// Topics are the only bundle ids that the key is for; empty is all.
	Topics []string
	// RelatedTo is the id of the key whose tokens may mix with this one's on one
	// connection (a rotation pair); empty is none.
	RelatedTo string
}

func (k *Key) public() *ecdsa.PublicKey {
	if k.Public == nil && k.Private != nil {
		return &k.Private.PublicKey
	}
	return k.Public
}

// Identity is what a client must know of a simulator, and what must outlive a
// restart for clients to go on unchanged: the authority behind the server's
// certificate, and the provider key. Several servers may share one.
type Identity struct {
	Key Key

	caCert *x509.Certificate
	caDER  []byte
	caKey  *ecdsa.PrivateKey
}

// Names of the files that an identity is kept in.
const (
	caFile       = "ca.pem"
	caKeyFile    = "ca-key.pem"
	identityFile = "apnstest.json"
)

// keyFile is the name that Apple gives a downloaded key.
func keyFile(keyID string) string { return "AuthKey_" + keyID + ".p8" }

// identityJSON is the content of identityFile.
type identityJSON struct {
	KeyID  string `json:"key_id"`
	TeamID string `json:"team_id"`
}

// NewIdentity makes a new authority and a new provider key with made-up ids.
func NewIdentity() (*Identity, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate authority key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "apnstest authority"},
		NotBefore:             time.Now().Add(-time.Hour), // clients' clocks differ
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("create authority certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority certificate: %w", err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate provider key: %w", err)
	}
	return &Identity{
		Key:    Key{ID: randomID(), TeamID: randomID(), Private: private},
		caCert: cert, caDER: der, caKey: caKey,
	}, nil
}

// LoadIdentity reads what [Identity.WriteFiles] wrote. An error that matches
// [fs.ErrNotExist] means that dir holds no identity.
func LoadIdentity(dir string) (*Identity, error) {
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	var ids identityJSON
	if err := json.Unmarshal(text, &ids); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", filepath.Join(dir, identityFile), err)
	}
	id := &Identity{Key: Key{ID: ids.KeyID, TeamID: ids.TeamID}}
	if id.caDER, err = readPEM(filepath.Join(dir, caFile), "CERTIFICATE"); err != nil {
		return nil, err
	}
	if id.caCert, err = x509.ParseCertificate(id.caDER); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", filepath.Join(dir, caFile), err)
	}
	if id.caKey, err = readKey(filepath.Join(dir, caKeyFile)); err != nil {
		return nil, err
	}
	if id.Key.Private, err = readKey(filepath.Join(dir, keyFile(ids.KeyID))); err != nil {
		return nil, err
	}
	return id, nil
}

// loadOrCreate returns dir's identity, making and writing one if there is none.
func loadOrCreate(dir string) (*Identity, error) {
	id, err := LoadIdentity(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if id, err = NewIdentity(); err != nil {
		return nil, err
	}
	return id, id.WriteFiles(dir)
}

// WriteFiles writes the identity into dir, which is made if it is not there:
// ca.pem for clients' trust, AuthKey_<key id>.p8 for their credential,
// apnstest.json with both ids, and ca-key.pem for the next start. All are
// readable by their owner only.
func (id *Identity) WriteFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	keyPEM, err := id.KeyPEM()
	if err != nil {
		return err
	}
	caKeyPEM, err := encodeKey(id.caKey)
	if err != nil {
		return err
	}
	ids, err := json.MarshalIndent(identityJSON{KeyID: id.Key.ID, TeamID: id.Key.TeamID}, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	files := []struct {
		name string
		data []byte
	}{
		{caFile, id.CAPEM()},
		{caKeyFile, caKeyPEM},
		{keyFile(id.Key.ID), keyPEM},
		{identityFile, append(ids, '\n')}, // last: it says that the others are there
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o600); err != nil {
			return fmt.Errorf("write identity: %w", err)
		}
	}
	return nil
}

// CAPEM returns the authority's certificate in PEM.
func (id *Identity) CAPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.caDER})
}

// CAPool returns a pool that holds only the authority's certificate.
func (id *Identity) CAPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(id.caCert)
	return pool
}

// KeyPEM returns the provider key as Apple hands it out: PKCS#8 in PEM.
func (id *Identity) KeyPEM() ([]byte, error) { return encodeKey(id.Key.Private) }

// serverCertificate issues a certificate for a listener.
func (id *Identity) serverCertificate(hosts []string) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "apnstest"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return id.issue(template)
}

// issue signs template for a key of its own.
func (id *Identity) issue(template *x509.Certificate) (tls.Certificate, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate certificate key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, id.caCert, private.Public(), id.caKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("create certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("parse certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}, nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// randomID makes ten characters like Apple's key and team ids.
func randomID() string {
	const chars = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789" // 32: no bias
	var b [10]byte
	_, _ = rand.Read(b[:])
	for i := range b {
		b[i] = chars[b[i]%32]
	}
	return string(b[:])
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	if key == nil {
		return nil, errors.New("encode key: there is no private key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func readPEM(file, kind string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("load identity: %s: want a PEM block %q", file, kind)
	}
	return block.Bytes, nil
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(file, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("load identity: %s: want a key on P-256", file)
	}
	return key, nil
}
