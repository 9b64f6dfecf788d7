package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// globals are the flags that every command has.
type globals struct {
	configPath string
	logLevel   string
	logFormat  string
	server     serverFlags

	// For the audit log; see about. app is for where no flag tells.
	app, object string
	details     []zap.Field
}

func (g *globals) register(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&g.configPath, "config", "c", "", "configuration file (default: $PUSHFLEET_CONFIG, else none)")
	g.server.register(f)
	f.StringVar(&g.logLevel, "log-level", "", "debug, info, warn or error (default: as configured, else info)")
	f.StringVar(&g.logFormat, "log-format", "", "console or json (default: as configured, else console)")
}

// load reads the configuration.
func (g *globals) load() (*config.Config, error) {
	cfg, err := config.Load(g.path(), os.Environ())
	if err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	g.override(cfg)
	return cfg, nil
}

// source reads the configuration and checks the files that it names, for a process that
// follows its changes.
func (g *globals) source() (*config.Source, *config.Config, error) {
	s := config.NewSource(g.path(), os.Environ())
	cfg, err := s.Read()
	for tries := 1; errors.Is(err, config.ErrChanging) && tries < 3; tries++ {
		cfg, err = s.Read()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("configuration:\n%w", err)
	}
	g.override(cfg)
	return s, cfg, nil
}

func (g *globals) path() string { return cmp.Or(g.configPath, os.Getenv("PUSHFLEET_CONFIG")) }

// override puts flags over the configuration.
func (g *globals) override(cfg *config.Config) {
	cfg.Log.Level = cmp.Or(g.logLevel, cfg.Log.Level)
	cfg.Log.Format = cmp.Or(g.logFormat, cfg.Log.Format)
}

// logger makes the process's logger.
func logger(cfg config.Log) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, usagef("log level: must be debug, info, warn or error, got %q", cfg.Level)
	}
	var zc zap.Config
	switch cfg.Format {
	case "json":
		zc = zap.NewProductionConfig()
		zc.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	case "console", "":
		zc = zap.NewDevelopmentConfig()
		zc.Development = false
		zc.EncoderConfig.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		zc.EncoderConfig.EncodeCaller = nil
	default:
		return nil, usagef("log format: must be console or json, got %q", cfg.Format)
	}
	zc.Level = zap.NewAtomicLevelAt(level)
	zc.DisableStacktrace = true
	log, err := zc.Build()
	if err != nil {
		return nil, fmt.Errorf("make logger: %w", err)
	}
	return log, nil
}

// dialNATS connects as is configured, unless ctx ends first.
func dialNATS(ctx context.Context, cfg *config.Config, role string, log *zap.Logger) (*nats.Conn, error) {
	return stream.ConnectContext(ctx, stream.ConnectConfig{
		URL: cfg.NATS.URL, Name: "pushfleet " + role,
		CredentialsFile: cfg.NATS.CredentialsFile, NKeySeedFile: cfg.NATS.NKeySeedFile,
		User: cfg.NATS.User, Password: cfg.NATS.Password.Reveal(),
		Token: cfg.NATS.Token.Reveal(), TLS: cfg.NATS.TLS.Enabled,
		CAFile: cfg.NATS.TLS.CAFile, CertFile: cfg.NATS.TLS.CertFile, KeyFile: cfg.NATS.TLS.KeyFile,
		Timeout: cfg.NATS.ConnectTimeout,
	}, log.Named("nats"))
}

// streamConfig says how the streams are made.
func streamConfig(cfg config.NATS, log *zap.Logger) stream.Config {
	return stream.Config{
		Replicas:  cfg.Replicas,
		JobsBytes: int64(cfg.JobsBytes), OutcomesBytes: int64(cfg.OutcomesBytes),
		DevicesBytes: int64(cfg.DevicesBytes), DeadBytes: int64(cfg.DeadBytes),
		CampaignsBytes: int64(cfg.CampaignsBytes),
		Logger:         log.Named("nats"),
	}
}

// connectNATS connects and makes the streams exist.
func connectNATS(ctx context.Context, cfg *config.Config, role string, log *zap.Logger) (*nats.Conn, *stream.Streams, error) {
	nc, err := dialNATS(ctx, cfg, role, log)
	if err != nil {
		return nil, nil, err
	}
	streams, err := stream.Open(ctx, nc, streamConfig(cfg.NATS, log))
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, streams, nil
}

// connectRedis opens the token set. It does not wait for Redis.
func connectRedis(cfg config.Redis) (*store.Store, redis.UniversalClient, error) {
	tlsConfig, err := redisTLS(cfg.TLS)
	if err != nil {
		return nil, nil, err
	}
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		// In RESP3 the client looks for a push message before every reply. We ask for none.
		Protocol: 2,
		Addrs:    cfg.Addresses, Username: cfg.Username, Password: cfg.Password.Reveal(),
		DB: cfg.DB, MasterName: cfg.MasterName, TLSConfig: tlsConfig,
		SentinelUsername: cfg.SentinelUsername, SentinelPassword: cfg.SentinelPassword.Reveal(),
		ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second, ContextTimeoutEnabled: true,
	})
	return store.New(client, store.Config{KeepJobs: cfg.KeepJobs}), client, nil
}
