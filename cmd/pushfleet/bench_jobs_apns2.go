package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sideshow/apns2"
	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// apns2WorkerFlags are the flags of bench apns2-worker.
type apns2WorkerFlags struct {
	nats, url, dir string
	goroutines     int
	fetch          int
}

// apns2Patience is how long a pull stands: one that stood while the consumer was
// paused is not served when it is resumed.
const apns2Patience = 2 * time.Second

func newBenchAPNs2Worker() *cobra.Command {
	var f apns2WorkerFlags
	cmd := &cobra.Command{
		Use:    "apns2-worker",
		Short:  "A worker that calls apns2 for each message",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAPNs2Worker(cmd.Context(), f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.nats, "nats", "", "NATS server")
	fl.StringVar(&f.url, "url", "", "simulator")
	fl.StringVar(&f.dir, "dir", "", "simulator's files")
	fl.IntVar(&f.goroutines, "goroutines", 500, "goroutines that send")
	fl.IntVar(&f.fetch, "fetch", 1000, "messages asked for at a time")
	return cmd
}

// runAPNs2Worker is the worker that one would write in an afternoon, and write
// well: it asks for many messages at a time and for the next while it works, and
// acknowledges a message once APNs has accepted it. One that is not accepted
// comes back after its ack wait.
func runAPNs2Worker(ctx context.Context, f apns2WorkerFlags, out, talk io.Writer) error {
	id, err := apnstest.LoadIdentity(f.dir)
	if err != nil {
		return fmt.Errorf("read simulator's files: %w", err)
	}
	client, err := newAPNs2Client(f.url, id)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(f.nats)
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	consumer, err := js.Consumer(ctx, naiveStream, naiveDurable)
	if err != nil {
		return fmt.Errorf("find consumer %s: %w", naiveDurable, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(f.fetch), jetstream.PullExpiry(apns2Patience))
	if err != nil {
		return fmt.Errorf("consume from %s: %w", naiveDurable, err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	fmt.Fprintln(out, "ready")

	work := make(chan jetstream.Msg)
	var senders sync.WaitGroup
	defer senders.Wait()
	defer close(work)
	for first := true; ; first = false {
		msg, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("consume from %s: %w", naiveDurable, err)
		}
		if !first {
			work <- msg
			continue
		}
		// The first alone: APNs allows one stream until it has seen a provider token.
		if err := pushOne(ctx, client, msg); err != nil {
			return err
		}
		for range f.goroutines {
			senders.Go(func() {
				for msg := range work {
					if err := pushOne(ctx, client, msg); err != nil && ctx.Err() == nil {
						fmt.Fprintln(talk, "apns2 worker:", err) // the message comes again
					}
				}
			})
		}
	}
}

// pushOne sends a job of one device token, and acknowledges it if it was accepted.
func pushOne(ctx context.Context, client *apns2.Client, msg jetstream.Msg) error {
	j, err := job.Parse(msg.Data())
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	body, err := j.RenderPayload()
	if err != nil {
		return fmt.Errorf("render payload: %w", err)
	}
	t := j.To.Tokens[0]
	resp, err := client.PushWithContext(ctx, &apns2.Notification{
		DeviceToken: t.Hex(), ApnsID: job.APNsID(benchApp, j.ID, t).String(), Topic: benchTopic,
		PushType: apns2.PushTypeAlert, Priority: j.EffectivePriority(), Payload: body,
	})
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("push: %d %s", resp.StatusCode, resp.Reason)
	}
	if err := msg.Ack(); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}
