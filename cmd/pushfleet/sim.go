package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/config"
)

// simFlags are the simulator's flags.
type simFlags struct {
	listen, admin, out string
	hosts, topics      []string
	keyID, teamID      string
	environment        string
	unknown, ledger    string
	journal            string
	shares             apnstest.Shares
	latency            time.Duration
	announce           bool
	streams            int
}

func newSim(g *globals) *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run the APNs simulator",
		Long: `sim answers as APNs does: it checks every request as APNs is known to, verifies
provider tokens, limits streams, and keeps a ledger of what it received. Its key
and its certificate authority are written to --out, and used again at the next
start.

Some device tokens can be dead, bad or of another topic, by a hash of the token or
one by one over the admin interface:

  GET /stats   GET /ledger?token=…   PUT /devices/{token}   PUT /faults`,
		Example: `  pushfleet sim --out sim
  pushfleet sim --listen :2197 --admin :2198 --dead 0.01 --latency 20ms --ledger hash`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSim(cmd.Context(), g, &f, cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:2197", "where to answer as APNs")
	fl.StringVar(&f.admin, "admin", "127.0.0.1:2198", "where the admin interface is")
	fl.StringVar(&f.out, "out", "sim", "directory for ca.pem and the signing key")
	fl.StringSliceVar(&f.hosts, "host", nil, "names or addresses of the certificate, beside loopback")
	fl.StringVar(&f.keyID, "key-id", "SIM0000001", "key id of a new signing key")
	fl.StringVar(&f.teamID, "team-id", "SIMTEAM001", "team id of a new signing key")
	fl.StringVar(&f.environment, "environment", "production", "production or sandbox")
	fl.StringSliceVar(&f.topics, "topic", nil, "bundle ids that the key may push to (default: any)")
	fl.StringVar(&f.unknown, "unknown", "accept", "what to do with device tokens that were not set: accept or reject")
	fl.StringVar(&f.ledger, "ledger", "full", "full (every request), hash (counts and a hash) or off")
	fl.StringVar(&f.journal, "journal", "", "file that gets a line for every request and answer (default: none)")
	fl.Float64Var(&f.shares.Dead, "dead", 0, "share of device tokens that are dead (410)")
	fl.Float64Var(&f.shares.Bad, "bad", 0, "share of device tokens that are bad (400 BadDeviceToken)")
	fl.Float64Var(&f.shares.WrongTopic, "wrong-topic", 0, "share of device tokens that are for another topic")
	fl.DurationVar(&f.latency, "latency", 0, "time to every answer")
	fl.IntVar(&f.streams, "streams", 0, "limit of concurrent streams (default: 1000)")
	fl.BoolVar(&f.announce, "announce", false, "print both URLs to standard output, for scripts")
	return cmd
}

func runSim(ctx context.Context, g *globals, f *simFlags, out io.Writer) error {
	cfg := apnstest.Config{
		Addr: f.listen, Hosts: f.hosts, Environment: apnstest.Environment(f.environment), Topics: f.topics,
		DeadShare: f.shares.Dead, BadShare: f.shares.Bad, WrongTopicShare: f.shares.WrongTopic,
		Latency: f.latency, Streams: f.streams,
	}
	switch f.unknown {
	case "accept":
	case "reject":
		cfg.Unknown = apnstest.Reject
	default:
		return usagef("--unknown: must be accept or reject, got %q", f.unknown)
	}
	var err error
	if cfg.Ledger, err = apnstest.ParseLedgerMode(f.ledger); err != nil {
		return usagef("--ledger: %v", err)
	}
	if cfg.Identity, err = simIdentity(f); err != nil {
		return err
	}
	closeJournal := func() error { return nil }
	if f.journal != "" {
		if cfg.Journal, closeJournal, err = createJournal(f.journal); err != nil {
			return err
		}
	}
	level := g.logLevel
	if level == "" {
		level = "info"
	}
	log, err := logger(config.Log{Level: level, Format: g.logFormat})
	if err != nil {
		return err
	}
	s, err := apnstest.New(cfg)
	if err != nil {
		return fmt.Errorf("start simulator: %w", err)
	}
	log.Info("simulator answers as APNs", zap.String("url", s.URL()), zap.String("key_id", s.KeyID()), zap.String("team_id", s.TeamID()), zap.String("files", f.out))
	err = serve(ctx, f.admin, s.Admin(), func(a net.Addr) {
		log.Info("simulator's admin interface", zap.Stringer("address", a))
		if f.announce {
			fmt.Fprintf(out, "%s http://%s\n", s.URL(), a)
		}
	})
	return errors.Join(err, s.Close(), closeJournal())
}

// createJournal makes the file of a journal.
func createJournal(name string) (*apnstest.Journal, func() error, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, nil, fmt.Errorf("create journal: %w", err)
	}
	j := apnstest.NewJournal(file)
	return j, func() error { return errors.Join(j.Flush(), file.Close()) }, nil
}

// simIdentity reads the key and authority in --out, or makes them.
func simIdentity(f *simFlags) (*apnstest.Identity, error) {
	id, err := apnstest.LoadIdentity(f.out)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if id, err = apnstest.NewIdentity(); err != nil {
		return nil, err
	}
	id.Key.ID, id.Key.TeamID = f.keyID, f.teamID
	return id, id.WriteFiles(f.out)
}
