package apnstest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// The extensions of a provider certificate (Apple's arc 1.2.840.113635.100.6.3)
// and the attribute that holds its bundle id.
func oidDevelopment() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
}

func oidProduction() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
}

func oidTopics() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
}

func oidUID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
}

// clientCertificate is what a client's certificate allows.
type clientCertificate struct {
	bundle       string          // of the subject
	topics       map[string]bool // of the extension; nil: bundle and its kin
	defaultTopic string          // used without apns-topic; empty: it is required
}

// allows reports whether the certificate may push to a topic.
func (k *clientCertificate) allows(use *topicUse) bool {
	switch use.pushType {
	case "location", "liveactivity": // need a provider token
		return false
	}
	if k.topics != nil {
		return k.topics[use.topic]
	}
	return use.bundle == k.bundle
}

// certificate looks at the client's certificate, if it sent one. reason is why
// the connection must end. Only before the reader starts.
func (c *conn) certificate() (reason string) {
	peers := c.tls.ConnectionState().PeerCertificates
	if len(peers) == 0 {
		return ""
	}
	leaf := peers[0]
	between := x509.NewCertPool()
	for _, p := range peers[1:] {
		between.AddCert(p)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.srv.clientCAs, Intermediates: between, CurrentTime: c.srv.cfg.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "BadCertificate"
	}
	k := &clientCertificate{}
	for _, name := range leaf.Subject.Names {
		if name.Type.Equal(oidUID()) {
			k.bundle, _ = name.Value.(string)
		}
	}
	var development, production bool
	for _, ext := range leaf.Extensions {
		switch {
		case ext.Id.Equal(oidDevelopment()):
			development = true
		case ext.Id.Equal(oidProduction()):
			production = true
		case ext.Id.Equal(oidTopics()):
			if k.topics, err = parseTopics(ext.Value); err != nil {
				return "BadCertificate"
			}
		}
	}
	if k.bundle == "" {
		return "BadCertificate"
	}
	if (development || production) && (c.srv.cfg.Environment == Sandbox && !development ||
		c.srv.cfg.Environment == Production && !production) {
		return "BadCertificateEnvironment"
	}
	if len(k.topics) <= 1 {
		k.defaultTopic = k.bundle
	}
	c.judge.cert = k
	return ""
}

// parseTopics reads the topics extension: a sequence of pairs, a topic and the
// sequence of its kinds (observed: jchambers/pushy TopicUtil).
func parseTopics(der []byte) (map[string]bool, error) {
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 || !seq.IsCompound {
		return nil, fmt.Errorf("parse topics: no sequence: %w", err)
	}
	topics := make(map[string]bool)
	for b := seq.Bytes; len(b) > 0; {
		var topic string
		var kinds []string
		var err error
		if b, err = asn1.Unmarshal(b, &topic); err != nil {
			return nil, fmt.Errorf("parse topics: %w", err)
		}
		if b, err = asn1.Unmarshal(b, &kinds); err != nil {
			return nil, fmt.Errorf("parse topics: kinds of %s: %w", topic, err)
		}
		topics[topic] = true
	}
	return topics, nil
}

// CertificateConfig says what a client certificate is for.
type CertificateConfig struct {
	BundleID string
	// Topics are the topics it lists, suffixes included; empty lists none, and the
	// bundle id is the default topic.
	Topics []string
	// Environments are those it is for; empty is both.
	Environments []Environment
	// NotAfter is when it expires; zero is in a year.
	NotAfter time.Time
}

// ClientCertificate issues a provider certificate that the server accepts, as
// Apple would to the owner of an app.
func (s *Server) ClientCertificate(cfg CertificateConfig) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject: pkix.Name{
			CommonName: "Apple Push Services: " + cfg.BundleID,
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUID(), Value: cfg.BundleID}},
		},
		NotBefore:   time.Now().AddDate(-1, 0, 0), // so that NotAfter may be past
		NotAfter:    cfg.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if cfg.NotAfter.IsZero() {
		template.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	environments := cfg.Environments
	if len(environments) == 0 {
		environments = []Environment{Production, Sandbox}
	}
	null := []byte{asn1.TagNull, 0}
	for _, e := range environments {
		id := oidProduction()
		if e == Sandbox {
			id = oidDevelopment()
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: id, Value: null})
	}
	if len(cfg.Topics) > 0 {
		var pairs []any
		for _, t := range cfg.Topics {
			pairs = append(pairs, t, []string{"app"})
		}
		var inner []byte
		for _, p := range pairs {
			var der []byte
			var err error
			if text, ok := p.(string); ok {
				der, err = asn1.MarshalWithParams(text, "utf8")
			} else {
				der, err = asn1.Marshal(p)
			}
			if err != nil {
				return tls.Certificate{}, fmt.Errorf("client certificate: %w", err)
			}
			inner = append(inner, der...)
		}
		der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: inner})
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("client certificate: %w", err)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidTopics(), Value: der})
	}
	cert, err := s.id.issue(template)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("client certificate: %w", err)
	}
	return cert, nil
}
