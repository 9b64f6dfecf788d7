package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// ConnectConfig says how to reach NATS.
type ConnectConfig struct {
	URL  string // one or more, comma separated; empty: nats://127.0.0.1:4222
	Name string // shown in the server's connection list

	CredentialsFile string // .creds file: JWT and nkey seed
	NKeySeedFile    string
	User, Password  string
	Token           string

	TLS                       bool   // also where neither the URL nor a file asks for it
	CAFile, CertFile, KeyFile string // PEM; all empty: the system's authorities, no client certificate

	Timeout time.Duration // of one try to connect to one server; 0: 5 s
}

// Connect connects to NATS and keeps the connection: once made, it reconnects
// for ever, and log tells of it. The caller closes it.
func Connect(cfg ConnectConfig, log *zap.Logger) (*nats.Conn, error) {
	return ConnectContext(context.Background(), cfg, log)
}

// ConnectContext is [Connect] for as long as ctx lasts: when it ends first, so does the
// try, with the cause. A connection that is made outlives ctx.
func ConnectContext(ctx context.Context, cfg ConnectConfig, log *zap.Logger) (*nats.Conn, error) {
	if cfg.URL == "" {
		cfg.URL = nats.DefaultURL
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(cfg.Timeout),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats disconnected", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("nats reconnected", zap.String("server", nc.ConnectedServerName()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			fields := []zap.Field{zap.Error(err)}
			if sub != nil {
				fields = append(fields, zap.String("subject", sub.Subject))
			}
			log.Warn("nats reports", fields...)
		}),
	}
	if cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.NKeySeedFile != "" {
		opt, err := nats.NkeyOptionFromSeed(cfg.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed %s: %w", cfg.NKeySeedFile, err)
		}
		opts = append(opts, opt)
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.Token != "" {
		opts = append(opts, nats.Token(cfg.Token))
	}
	tlsConfig, err := clientTLS(cfg)
	if err != nil {
		return nil, err
	}
	if tlsConfig != nil {
		opts = append(opts, nats.Secure(tlsConfig))
	}
	dialer := newFirstDialer(ctx, cfg.Timeout)
	nc, err := Dial(cfg.URL, append(opts, nats.SetCustomDialer(dialer))...)
	dialer.release()
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	return nc, err
}

// Dial connects to NATS, at one or more URLs separated by commas, with options of the caller's, and keeps the connection: once
// made, it reconnects for ever. The caller closes it. The error does not have the
// password of a URL.
func Dial(servers string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(servers, append([]nats.Option{
		nats.MaxReconnects(-1),
		// Two beats at 5 s: a half-open link is noticed well within an ack wait.
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats at %s: %w", redactURL(servers), withoutURL(err))
	}
	return nc, nil
}

var errURL = errors.New("must be one or more URLs such as nats://127.0.0.1:4222, separated by commas")

// withoutURL replaces an error that may quote a part of a URL.
func withoutURL(err error) error {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return errURL
	}
	return err
}

// redactURL removes user information, so that a URL can stand in an error.
func redactURL(s string) string {
	parts := strings.Split(s, ",")
	for i, part := range parts {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil {
			parts[i] = "(no URL)"
			continue
		}
		parts[i] = u.Redacted()
	}
	return strings.Join(parts, ",")
}

func clientTLS(cfg ConnectConfig) (*tls.Config, error) {
	if !cfg.TLS && cfg.CAFile == "" && cfg.CertFile == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read nats CA: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read nats CA: no certificate in %s", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read nats client certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}
