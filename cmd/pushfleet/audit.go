package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
)

// auditKey is the annotation of a command that leaves a line in the audit log: what the
// log calls it.
const auditKey = "audit"

// audited has a command leave one line about who changed what, done or not. A wrong use
// and a dry run change nothing, and leave none.
func audited(g *globals, what string, cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{auditKey: what}
	work := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := work(cmd, args)
		dry := cmd.Flags().Lookup("dry-run")
		var usage *usageError
		if errors.As(err, &usage) || dry != nil && dry.Value.String() == "true" {
			return err
		}
		if g.throughAPI() {
			return err // the API's audit log has it, with the API key
		}
		g.leaveLine(cmd, what, err)
		return err
	}
	return cmd
}

// leaveLine logs what a command did.
func (g *globals) leaveLine(cmd *cobra.Command, what string, err error) {
	cfg := config.Log{Level: "info", Format: g.logFormat}
	if whole, err := g.load(); err == nil {
		cfg = whole.Log
	}
	log, logErr := auditLogger(cfg)
	if logErr != nil {
		return // the command has said that the format is none
	}
	defer log.Sync() //nolint:errcheck // a terminal cannot be synced
	log = log.Named("audit")
	fields := []zap.Field{zap.String("who", operator())}
	app := g.app
	if flag := cmd.Flags().Lookup("app"); app == "" && flag != nil && flag.Value.Type() == "string" {
		app = flag.Value.String()
	}
	fields = append(fields, zap.String("app", app), zap.String("object", g.object))
	fields = append(fields, g.details...)
	if err != nil {
		log.Warn(what, append(fields, zap.String("result", "failed"), zap.Error(err))...)
		return
	}
	log.Info(what, append(fields, zap.String("result", "done"))...)
}

// about names what a command changes, for the audit log: never a secret, and never a
// whole device token.
func (g *globals) about(object string, details ...zap.Field) { g.object, g.details = object, details }

// choice is a flag, and what it was set to.
type choice struct{ flag, value string }

// chosen is how flags choose what is changed; those that are not set are left out.
func chosen(flags ...choice) string {
	var words []string
	for _, f := range flags {
		if f.value != "" {
			words = append(words, f.flag+"="+f.value)
		}
	}
	return strings.Join(words, " ")
}

// auditLogger is the logger of the audit log: no level silences it.
func auditLogger(cfg config.Log) (*zap.Logger, error) {
	if cfg.Level != "debug" {
		cfg.Level = "info"
	}
	return logger(cfg)
}
