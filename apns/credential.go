package apns

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sideshow/apns2/certificate"
	"github.com/sideshow/apns2/token"
)

// KeyConfig names a token signing key (.p8) from the Apple developer account.
type KeyConfig struct {
	Path   string // of the .p8 file
	Base64 string // or its content, base64 of the PEM text
	KeyID  string // 10 characters
	TeamID string // 10 characters
}

// CertificateConfig names an APNs client certificate with its private key.
type CertificateConfig struct {
	Path     string // .p12 or .pem
	Password string
}

// Credential is what a route proves itself to APNs with: a signing key or a
// client certificate. Make one with [LoadKey] or [LoadCertificate].
type Credential struct {
	key           *ecdsa.PrivateKey
	keyID, teamID string
	certificate   *tls.Certificate
}

// LoadKey reads a signing key. Its errors name what is wrong, never the key.
func LoadKey(cfg KeyConfig) (Credential, error) {
	var pem []byte
	var err error
	switch {
	case cfg.Path != "" && cfg.Base64 != "":
		return Credential{}, errors.New("signing key: give a path or base64, not both")
	case cfg.Path != "":
		if pem, err = os.ReadFile(cfg.Path); err != nil {
			return Credential{}, fmt.Errorf("read signing key: %w", err)
		}
	case cfg.Base64 != "":
		if pem, err = base64.StdEncoding.DecodeString(strings.TrimSpace(cfg.Base64)); err != nil {
			return Credential{}, errors.New("read signing key: not base64 of the .p8 file")
		}
	default:
		return Credential{}, errors.New("signing key: neither path nor base64 is given")
	}
	if cfg.KeyID == "" || cfg.TeamID == "" {
		return Credential{}, errors.New("signing key: key id and team id are needed")
	}
	key, err := token.AuthKeyFromBytes(pem)
	if err != nil {
		return Credential{}, fmt.Errorf("read signing key %s: %w", cfg.KeyID, err)
	}
	if key.Curve != elliptic.P256() {
		return Credential{}, fmt.Errorf("read signing key %s: its curve is %s, provider tokens need P-256", cfg.KeyID, key.Curve.Params().Name)
	}
	return Credential{key: key, keyID: cfg.KeyID, teamID: cfg.TeamID}, nil
}

// LoadCertificate reads a client certificate.
func LoadCertificate(cfg CertificateConfig) (Credential, error) {
	var cert tls.Certificate
	var err error
	switch strings.ToLower(filepath.Ext(cfg.Path)) {
	case ".p12", ".pfx":
		cert, err = certificate.FromP12File(cfg.Path, cfg.Password)
	case ".pem":
		cert, err = certificate.FromPemFile(cfg.Path, cfg.Password)
	default:
		return Credential{}, fmt.Errorf("certificate %s: must end in .p12 or .pem", cfg.Path)
	}
	if err != nil {
		return Credential{}, fmt.Errorf("read certificate %s: %w", cfg.Path, err)
	}
	return Credential{certificate: &cert}, nil
}

// Expires returns when a certificate is no longer good; zero for a key, which does
// not expire.
func (c Credential) Expires() time.Time {
	if c.certificate == nil || c.certificate.Leaf == nil {
		return time.Time{}
	}
	return c.certificate.Leaf.NotAfter
}

// UsesKey reports whether the credential signs provider tokens.
func (c Credential) UsesKey() bool { return c.key != nil }

// String names the credential by its public parts.
func (c Credential) String() string {
	switch {
	case c.key != nil:
		return "key " + c.keyID + " of team " + c.teamID
	case c.certificate != nil && c.certificate.Leaf != nil:
		return "certificate " + c.certificate.Leaf.Subject.CommonName
	case c.certificate != nil:
		return "certificate"
	default:
		return "no credential"
	}
}

// Equal reports whether both prove the same: the same key under the same ids, or the
// same certificate.
func (c Credential) Equal(other Credential) bool {
	switch {
	case c.key != nil && other.key != nil:
		return c.keyID == other.keyID && c.teamID == other.teamID && c.key.Equal(other.key)
	case c.certificate != nil && other.certificate != nil:
		return slices.EqualFunc(c.certificate.Certificate, other.certificate.Certificate, bytes.Equal)
	default:
		return c == other
	}
}
