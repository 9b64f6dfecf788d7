package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// sendFlags describe one job on the command line.
type sendFlags struct {
	app, lane, file, id      string
	tokens, users            []string
	title, subtitle, body    string
	sound, payload, collapse string
	badge                    int
	ttl                      time.Duration
	wait                     bool
	timeout                  time.Duration
	output                   string
}

func newSend(g *globals) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send [-]",
		Short: "Publish one job, or many from a file",
		Long: `send publishes jobs to JetStream and says where they are stored. Workers send them.

A job comes from flags, or as JSON from a file ("-" is standard input); see
"pushfleet schema job" for all of it. A file may have many, one a line: those that are
no jobs are told, the others are published, and it fails in the end. Jobs with an id can
be published again: each is sent once.

With --wait it follows what becomes of each recipient, and fails unless APNs accepts
all. It needs no more rights in NATS than to publish jobs and, to wait, to read outcomes;
through the API (--server) an API key with the scopes send and, to wait, read.`,
		Example: `  pushfleet send --app shop --token 8f3a…  --title Shipped --body "Order 4711 is on its way"
  pushfleet send --app shop --user ada --badge 3 --lane bulk
  pushfleet send --app shop --file job.json
  pushfleet send --app shop --user ada --title Hi --wait
  pushfleet send --app shop --lane bulk --file jobs.ndjson --wait --timeout 10m --output json
  pushfleet send --server https://push.example.com --api-key-file key --app shop --file jobs.ndjson
  echo '{"to":{"users":["ada"]},"notification":{"title":"Hi"}}' | pushfleet send --app shop -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] != "-" {
				return usagef("takes no arguments but -, which is standard input; a file is given with --file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if f.file != "" || len(f.tokens)+len(f.users) > 0 {
					return usagef("-: jobs come from standard input, from --file, or from --token and --user")
				}
				f.file = "-"
			}
			return f.run(cmd, g)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.app, "app", "", "app, as configured (required)")
	fl.StringVar(&f.lane, "lane", "transactional", "transactional or bulk")
	fl.StringVarP(&f.file, "file", "f", "", "a job as JSON, or many, one a line; - reads standard input")
	fl.StringVar(&f.id, "id", "", "the job's id: a second job of that id is not sent")
	fl.StringArrayVar(&f.tokens, "token", nil, "device token in hex; repeat for more")
	fl.StringArrayVar(&f.users, "user", nil, "user; repeat for more")
	fl.StringVar(&f.title, "title", "", "title of the alert")
	fl.StringVar(&f.subtitle, "subtitle", "", "subtitle of the alert")
	fl.StringVar(&f.body, "body", "", "body of the alert")
	fl.StringVar(&f.sound, "sound", "", `sound, "default" for the usual one`)
	fl.IntVar(&f.badge, "badge", 0, "badge; 0 clears it")
	fl.StringVar(&f.payload, "payload", "", "the exact JSON for APNs, instead of title, body and so on")
	fl.StringVar(&f.collapse, "collapse-id", "", "notifications of one collapse id replace each other on the device")
	fl.DurationVar(&f.ttl, "ttl", 0, "do not send after this long; 0s is one attempt (default: no limit)")
	fl.BoolVarP(&f.wait, "wait", "w", false, "wait for what becomes of each recipient; fail unless all are accepted")
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "with --wait: how long")
	fl.StringVarP(&f.output, "output", "o", "table", "table or json")
	_ = cmd.MarkFlagRequired("app") // the flag exists: it was defined above
	cmd.MarkFlagsMutuallyExclusive("file", "token")
	cmd.MarkFlagsMutuallyExclusive("file", "user")
	return cmd
}

// job makes the job that the flags describe. What is wrong with it is said with
// the paths of its JSON.
func (f *sendFlags) job(cmd *cobra.Command) (*job.Job, error) {
	j := &job.Job{ID: f.id, CollapseID: f.collapse, To: job.Recipients{Users: f.users}}
	for i, text := range f.tokens {
		t, err := device.ParseToken(text)
		if err != nil {
			return nil, usagef("--token, number %d: %v", i+1, err)
		}
		j.To.Tokens = append(j.To.Tokens, t)
	}
	changed := cmd.Flags().Changed
	if changed("ttl") {
		j.TTL, j.HasTTL = f.ttl, true
	}
	if f.payload != "" {
		j.Payload = json.RawMessage(f.payload)
	} else {
		n := &job.Notification{Title: f.title, Subtitle: f.subtitle, Body: f.body}
		if f.sound != "" {
			n.Sound = job.Sound{Name: f.sound}
		}
		if changed("badge") {
			n.Badge = &f.badge
		}
		j.Notification = n
	}
	if err := j.Validate(); err != nil {
		return nil, err
	}
	return j, nil
}

// run reads what is to be sent, connects and sends.
func (f *sendFlags) run(cmd *cobra.Command, g *globals) error {
	ctx := cmd.Context()
	lane, err := job.ParseLane(f.lane)
	if err != nil {
		return usagef("--lane: %v", err)
	}
	if err := oneOfOutputs(f.output); err != nil {
		return err
	}
	if f.timeout <= 0 {
		return usagef("--timeout: must be above 0, got %s", f.timeout)
	}
	var j *job.Job
	var many *jobLines
	if f.file != "" {
		in, size, err := openJobs(f.file, cmd.InOrStdin())
		if err != nil {
			return fmt.Errorf("read jobs: %w", err)
		}
		defer in.Close()
		if j, many, err = readJobs(in, size); err != nil {
			return err
		}
	} else if j, err = f.job(cmd); err != nil {
		return err
	}
	return withJobs(ctx, g, f.app, lane, func(ctx context.Context, desk jobDesk) error {
		s := &sending{flags: f, lane: lane, desk: desk, out: cmd.OutOrStdout(), talk: cmd.ErrOrStderr()}
		if many != nil {
			return s.many(ctx, many)
		}
		return s.one(ctx, j)
	})
}

// knownApp refuses an app that the configuration does not have, if it has any:
// a mistyped name would only be noticed a minute later, as a dead letter.
func knownApp(cfg *config.Config, app string) error {
	if len(cfg.Apps) == 0 {
		return nil
	}
	if _, ok := cfg.Apps[app]; !ok {
		return usagef("--app: %q is not configured; configured: %s", app, appNames(cfg))
	}
	return nil
}
