package producer_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// answers is an APNs: it accepts everything but device tokens that begin with dd,
// which it calls dead.
type answers struct{}

func (answers) Send(_ context.Context, _ job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	for i := range batch {
		if batch[i].DeviceToken.Raw()[0] == 0xdd {
			done(i, apns.Response{Status: 410, Reason: apns.Unregistered, Timestamp: 1_700_000_000_000, APNsID: batch[i].APNsID})
			continue
		}
		done(i, apns.Response{Status: 200, APNsID: batch[i].APNsID})
	}
}

// fleet is a worker for the app shop, whose user ada has the device 0a0a….
type fleet struct {
	url  string
	stop func()
}

// startFleet starts NATS, a Redis and a worker in this process.
func startFleet() (*fleet, error) {
	url, stopServer := startServer()
	nc, err := stream.Dial(url)
	if err != nil {
		return nil, err
	}
	streams, err := stream.Open(context.Background(), nc, stream.Config{})
	if err != nil {
		return nil, err
	}
	mini, err := embedded.StartRedis(0)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: mini.Addr(), Protocol: 2})
	set := store.New(client, store.Config{Buckets: 16})
	if _, err := set.Register(context.Background(), "shop", device.Registration{Token: token("0a"), User: "ada", Environment: device.Production}); err != nil {
		return nil, err
	}
	publisher := feedback.NewPublisher(feedback.PublisherConfig{Streams: streams, Worker: "w1"})
	recorder := feedback.NewRecorder(feedback.RecorderConfig{Streams: streams, TokenSet: set, Ledger: set})
	w, err := worker.New(worker.Config{
		Name: "w1", Streams: streams, Devices: set, Progress: set, Outcomes: publisher,
		StrayInterval: 50 * time.Millisecond, StrayAfter: 200 * time.Millisecond,
		Apps: []*worker.App{{
			Name: "shop", BundleID: "com.example.shop", Environment: device.Production,
			Routes: []*worker.Route{{Environment: device.Production, Sender: answers{}}},
		}},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	after, stopAfter := context.WithCancel(context.Background())
	var work, tail sync.WaitGroup
	work.Go(func() { _ = w.Run(ctx) })
	tail.Go(func() { _ = publisher.Run(after) })
	tail.Go(func() { _ = recorder.Run(after) })
	return &fleet{url: url, stop: func() {
		cancel()
		work.Wait()
		stopAfter()
		tail.Wait()
		nc.Close()
		_ = client.Close()
		mini.Stop()
		stopServer()
	}}, nil
}

// token is a device token of one byte, in hex, 32 times.
func token(hex string) device.Token {
	text := ""
	for range 32 {
		text += hex
	}
	t, err := device.ParseToken(text)
	if err != nil {
		panic(err)
	}
	return t
}

// startServer runs a NATS server with pushfleet's streams for an example.
func startServer() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "producer-example-")
	if err != nil {
		log.Fatal(err)
	}
	s, err := embedded.StartNATS(embedded.NATSConfig{StoreDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	if err := makeStreams(s.URL()); err != nil {
		log.Fatal(err)
	}
	return s.URL(), func() {
		s.Stop()
		_ = os.RemoveAll(dir)
	}
}

// makeStreams does what the start of a worker does.
func makeStreams(url string) error {
	nc, err := stream.Dial(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := stream.Open(context.Background(), nc, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30}); err != nil {
		return fmt.Errorf("make streams: %w", err)
	}
	return nil
}
