package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pushfleet/pushfleet/internal/remote"
)

// Where commands find the API; flags go first. The names keep clear of the
// configuration's: PUSHFLEET_API_KEY_FILE is api.key_file, the key of a certificate.
const (
	envServer     = "PUSHFLEET_SERVER"
	envServerKey  = "PUSHFLEET_SERVER_KEY"
	envServerFile = "PUSHFLEET_SERVER_KEY_FILE"
	envServerCA   = "PUSHFLEET_SERVER_CA_FILE"
)

// serverFlags say which API a command asks in place of NATS and Redis.
type serverFlags struct {
	flag, keyFile, caFile string
	insecure              bool

	url string // as it was decided: see globals.decide; empty: straight to NATS and Redis
}

func (s *serverFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.flag, "server", "", "URL of the HTTP API to go through, in place of NATS and Redis (default: $"+envServer+")")
	f.StringVar(&s.keyFile, "api-key-file", "", "with --server: file with the API key (default: $"+envServerFile+", or the key in $"+envServerKey+")")
	f.StringVar(&s.caFile, "server-ca", "", "with --server: whom to trust, PEM (default: $"+envServerCA+", else as the system does)")
	f.BoolVar(&s.insecure, "insecure-http", false, "with --server: send the API key over plain HTTP to another machine")
}

// flagError has those who would give an API key on the command line not do so.
func flagError(_ *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && strings.HasPrefix(unknown.GetSpecifiedName(), "api-key") {
		return usagef("--api-key is no flag, as everybody on this machine can read command lines: put the API key into a file for --api-key-file, or into $%s", envServerKey)
	}
	return err
}

// decide says, before a command begins, whether it goes through the API. No command
// passes over --server, and none goes to another fleet than was meant.
func (g *globals) decide(cmd *cobra.Command) error {
	s := &g.server
	s.url = ""
	changed := cmd.Flags().Changed
	line, _ := wayOf(cmd)
	w, why := line.way, line.why
	name := commandName(cmd)
	if changed("server") {
		switch {
		case w == wayStraight:
			return usagef("--server: %s goes by --config: %s", name, why)
		case w == wayNone:
			return usagef("--server: %s asks no fleet: %s", name, why)
		case changed("config"):
			return usagef("--server and --config exclude one another: a command goes through the API, or straight to NATS and Redis")
		case s.flag == "":
			return usagef("--server: must be an http or https URL such as https://push.example.com")
		}
		s.url = s.flag
		return nil
	}
	env := os.Getenv(envServer)
	config := changed("config") || os.Getenv("PUSHFLEET_CONFIG") != ""
	switch {
	case w == wayNone, env == "", changed("config"):
	case w == wayStraight && !config:
		return usagef("$%s is set, and %s goes by --config: %s", envServer, name, why)
	case w == wayStraight:
	case config:
		return usagef("$%s and $PUSHFLEET_CONFIG are both set: say which is meant by --server or --config", envServer)
	default:
		s.url = env
		return nil
	}
	for _, flag := range []string{"api-key-file", "server-ca", "insecure-http"} {
		if changed(flag) {
			return usagef("--%s: is for --server, which is not given", flag)
		}
	}
	return nil
}

// throughAPI reports whether the command goes through the API.
func (g *globals) throughAPI() bool { return g.server.url != "" }

// client makes what calls the API.
func (g *globals) client() (*remote.Client, error) {
	s := &g.server
	key, err := s.key()
	if err != nil {
		return nil, err
	}
	cfg := remote.Config{URL: s.url, Key: key, AllowHTTP: s.insecure, UserAgent: "pushfleet/" + version}
	if file := firstOf(s.caFile, os.Getenv(envServerCA)); file != "" {
		if cfg.RootCAs, err = certPool(file); err != nil {
			return nil, fmt.Errorf("--server-ca: %w", err)
		}
	}
	c, err := remote.New(cfg)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "plain HTTP") {
			hint = " (--insecure-http allows it)"
		}
		return nil, usagef("--server: %v%s", err, hint)
	}
	return c, nil
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// maxKeyFile is the most bytes of a file with an API key.
const maxKeyFile = 4096

// key reads the API key. What it is never gets into an error.
func (s *serverFlags) key() (string, error) {
	text, file := os.Getenv(envServerKey), firstOf(s.keyFile, os.Getenv(envServerFile))
	from := "$" + envServerKey
	switch {
	case s.keyFile == "" && text != "" && file != "":
		return "", usagef("$%s and $%s are both set: say which is meant", envServerKey, envServerFile)
	case file != "":
		f, err := os.Open(file) //nolint:gosec // whoever runs the command says which
		if err != nil {
			return "", fmt.Errorf("read API key: %w", err)
		}
		defer f.Close()
		all, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
		if err != nil {
			return "", fmt.Errorf("read API key: %w", err)
		}
		text, from = string(all), file
	case text == "":
		return "", usagef("--server: needs an API key, by --api-key-file FILE, $%s or $%s", envServerFile, envServerKey)
	}
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "pf_") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usagef("%s: must hold an API key, pf_<id>_<secret>, and nothing else", from)
	}
	return text, nil
}
