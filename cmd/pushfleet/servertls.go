package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"

	"github.com/pushfleet/pushfleet/config"
)

// servedTLS is the server's side of TLS, whose certificate may be replaced while it
// serves. It is safe for concurrent use.
type servedTLS struct {
	current atomic.Pointer[tls.Config] // a new one for each change, so that no session outlives it
}

// tlsConfig is what a server is started with.
func (s *servedTLS) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load(), nil },
	}
}

// readServerTLS reads the files of a server's side of TLS; nil where no certificate is
// configured.
func readServerTLS(cfg config.API) (*tls.Config, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("api certificate: %w", err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("api certificate: %w", err)
		}
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if cfg.ClientCAFile != "" {
		if t.ClientCAs, err = certPool(cfg.ClientCAFile); err != nil {
			return nil, fmt.Errorf("api certificate: %w", err)
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}
