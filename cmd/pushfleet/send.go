package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// sendFlags describe one job on the command line.
type sendFlags struct {
	app, lane, file, id      string
	tokens, users            []string
	title, subtitle, body    string
	sound, payload, collapse string
	badge                    int
	ttl                      time.Duration
	output                   string
}

func newSend(g *globals) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Publish one job",
		Long: `send publishes one job to JetStream and says where it is stored. A worker sends it.

The job comes from flags, or as JSON from a file ("-" is standard input); see
"pushfleet schema job" for all of it.`,
		Example: `  pushfleet send --app shop --token 8f3a…  --title Shipped --body "Order 4711 is on its way"
  pushfleet send --app shop --user ada --badge 3 --lane bulk
  pushfleet send --app shop --file job.json
  echo '{"to":{"users":["ada"]},"notification":{"title":"Hi"}}' | pushfleet send --app shop --file -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := f.job(cmd)
			if err != nil {
				return err
			}
			return runSend(cmd.Context(), g, &f, j, cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.app, "app", "", "app, as configured (required)")
	fl.StringVar(&f.lane, "lane", "transactional", "transactional or bulk")
	fl.StringVarP(&f.file, "file", "f", "", "job as JSON; - reads standard input")
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
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	_ = cmd.MarkFlagRequired("app") // the flag exists: it was defined above
	cmd.MarkFlagsMutuallyExclusive("file", "token")
	cmd.MarkFlagsMutuallyExclusive("file", "user")
	return cmd
}

// job makes the job that the flags describe. What is wrong with it is said with
// the paths of its JSON.
func (f *sendFlags) job(cmd *cobra.Command) (*job.Job, error) {
	if f.file != "" {
		var data []byte
		var err error
		if f.file == "-" {
			data, err = io.ReadAll(cmd.InOrStdin())
		} else {
			data, err = os.ReadFile(f.file)
		}
		if err != nil {
			return nil, fmt.Errorf("read job: %w", err)
		}
		j, err := job.Parse(data)
		if err != nil {
			return nil, err
		}
		return j, nil
	}
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

func runSend(ctx context.Context, g *globals, f *sendFlags, j *job.Job, out io.Writer) error {
	lane, err := job.ParseLane(f.lane)
	if err != nil {
		return usagef("--lane: %v", err)
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if err := knownApp(cfg, f.app); err != nil {
		return err
	}
	nc, streams, err := connectNATS(ctx, cfg, "send", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	receipt, err := producer.FromStreams(streams).Enqueue(ctx, f.app, lane, j)
	if err != nil {
		return err
	}
	if f.output == "json" {
		return json.NewEncoder(out).Encode(map[string]any{
			"id": receipt.ID, "sequence": receipt.Sequence, "duplicate": receipt.Duplicate,
		})
	}
	if receipt.Duplicate {
		fmt.Fprintf(out, "job %s was published before: nothing is sent again\n", receipt.ID)
		return nil
	}
	fmt.Fprintf(out, "job %s is stored for %d recipients (%s, %s, sequence %d)\n", receipt.ID, j.To.Len(), f.app, lane, receipt.Sequence)
	return nil
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
