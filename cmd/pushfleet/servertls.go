package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
)

// servedTLS is the server's side of TLS, from files that may be replaced while it
// serves. What they hold is looked at again at a handshake, at most once a second. It is
// safe for concurrent use.
type servedTLS struct {
	files []string // certificate, key, and client CA if there is one
	log   *zap.Logger
	now   func() time.Time

	mu      sync.Mutex  // guards what follows
	config  *tls.Config // a new one for each content, so that no session outlives it
	stamp   string      // of the files that it was read from
	refused string      // of files that cannot be used, so that this is said once
	looked  time.Time
}

// lookEvery is how old the last look at the files may be. choice: rotation is in force
// at once for people, and handshakes cost no more than they did.
const lookEvery = time.Second

// newServedTLS reads the files, or says why it cannot. It returns nil where no
// certificate is configured.
func newServedTLS(cfg config.API, log *zap.Logger) (*servedTLS, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	s := &servedTLS{files: []string{cfg.CertFile, cfg.KeyFile}, log: log, now: time.Now}
	if cfg.ClientCAFile != "" {
		s.files = append(s.files, cfg.ClientCAFile)
	}
	var err error
	if s.stamp, err = s.look(); err == nil {
		s.config, err = s.read()
	}
	if err != nil {
		return nil, fmt.Errorf("api certificate: %w", err)
	}
	s.looked = s.now()
	return s, nil
}

// tlsConfig is what a server is started with.
func (s *servedTLS) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(), nil },
	}
}

// current returns the configuration for a handshake. Files that cannot be used change
// nothing: one of a pair may have been written before the other.
func (s *servedTLS) current() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.looked) < lookEvery {
		return s.config
	}
	s.looked = now
	stamp, err := s.look()
	if err == nil && stamp == s.stamp {
		return s.config
	}
	var next *tls.Config
	if err == nil {
		next, err = s.read()
	}
	if err != nil {
		if stamp != s.refused {
			s.refused = stamp
			s.log.Warn("the certificate was changed and cannot be used: the one before stays", zap.Error(err))
		}
		return s.config
	}
	s.config, s.stamp, s.refused = next, stamp, ""
	s.log.Info("the certificate was changed", zap.Time("not_after", next.Certificates[0].Leaf.NotAfter))
	return s.config
}

// look tells one content of the files from another, without reading them.
func (s *servedTLS) look() (stamp string, err error) {
	for _, name := range s.files {
		info, err := os.Stat(name)
		if err != nil {
			return "", fmt.Errorf("look at certificate: %w", err)
		}
		stamp += fmt.Sprintf("%d %d ", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}

func (s *servedTLS) read() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(s.files[0], s.files[1])
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if len(s.files) > 2 {
		if t.ClientCAs, err = certPool(s.files[2]); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}
