package feedback_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// said is a logger, what it was told, and a signal for each text in it.
func said(texts ...string) (*zap.Logger, *observer.ObservedLogs, map[string]chan struct{}) {
	signals := make(map[string]chan struct{})
	for _, text := range texts {
		signals[text] = make(chan struct{}, 1)
	}
	core, logs := observer.New(zap.WarnLevel)
	return zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if c := signals[e.Message]; c != nil {
			select {
			case c <- struct{}{}:
			default:
			}
		}
		return nil
	})), logs, signals
}

// While Redis is out of memory, is a replica, or is away, outcomes and device
// changes are kept and not acknowledged; afterwards they are applied, once,
// without anybody's doing.
func TestRedisTakesNothing(t *testing.T) {
	t.Parallel()
	type outage struct {
		name       string
		begin, end func(t *testing.T, c *redis.Client, s *testenv.RedisServer)
		cause      string
	}
	configure := func(value string) func(*testing.T, *redis.Client, *testenv.RedisServer) {
		return func(t *testing.T, c *redis.Client, _ *testenv.RedisServer) {
			t.Helper()
			if err := c.ConfigSet(t.Context(), "maxmemory", value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	follow := func(host, port string) func(*testing.T, *redis.Client, *testenv.RedisServer) {
		return func(t *testing.T, c *redis.Client, _ *testenv.RedisServer) {
			t.Helper()
			if err := c.ReplicaOf(t.Context(), host, port).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []outage{
		{"out of memory", configure("1"), configure("0"), "OOM"},
		// Of a master that is not there, so that it keeps what it has.
		{"replica", follow("127.0.0.1", "1"), follow("NO", "ONE"), "READONLY"},
		{
			"away",
			func(_ *testing.T, _ *redis.Client, s *testenv.RedisServer) { s.Kill() },
			func(t *testing.T, _ *redis.Client, s *testenv.RedisServer) { t.Helper(); s.Restart(t) },
			"connection refused",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, ok := testenv.StartRedis(t, testenv.AppendOnly(t.TempDir(), "always")...)
			if !ok {
				t.Log("no redis-server on PATH: nothing to disturb")
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			t.Cleanup(cancel)
			client := redis.NewClient(&redis.Options{Addr: server.Addr, DialerRetries: 1})
			t.Cleanup(func() { _ = client.Close() })
			d := &desk{t: t, ctx: ctx, js: testenv.NewJetStream(t), set: store.New(client, store.Config{Buckets: 4})}
			dead := d.register(token(1))
			tt.begin(t, client, server)

			const outcomesWait, changesWait = "cannot apply outcomes, trying again", "cannot apply device changes, trying again"
			log, logs, waits := said(outcomesWait, changesWait)
			p := feedback.NewPublisher(feedback.PublisherConfig{Streams: d.js.Streams, Worker: "w1"})
			run(t, p.Run)
			run(t, feedback.NewRecorder(feedback.RecorderConfig{Streams: d.js.Streams, TokenSet: d.set, Ledger: d.set, Logger: log}).Run)
			streams, err := stream.Open(ctx, testenv.Connect(t, d.js.Server.URL()), stream.Config{OutcomesBytes: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			run(t, feedback.NewRegistrar(feedback.RegistrarConfig{
				Streams: streams, Devices: d.set, Apps: map[string]device.Environment{"shop": device.Production}, Logger: log,
			}).Run)

			o := outcome("a", 10, 13)
			o.Total++
			o.Others = []job.Recipient{{
				DeviceToken: token(1), Result: job.Rejected, Status: 410, Reason: "Unregistered",
				Timestamp: dead.RegisteredAt + 1, Generation: dead.Generation,
			}}
			stored := make(chan error, 1)
			p.Publish("shop", job.Bulk, []job.JobOutcome{o}, func(err error) { stored <- err })
			if err := <-stored; err != nil {
				t.Fatal(err)
			}
			d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q,"user":"u-1"}`, token(2).Hex()))
			<-waits[outcomesWait]
			<-waits[changesWait]
			c, err := d.js.RecorderConsumer(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if floor, err := c.AckFloor(ctx); floor != 0 || err != nil {
				t.Errorf("outcomes acknowledged meanwhile: got %d, %v, want none", floor, err)
			}
			if n := messages(t, d.js, stream.Devices); n != 1 {
				t.Errorf("device changes kept meanwhile: got %d, want 1", n)
			}

			tt.end(t, client, server)
			waitFloor(t, c, 1)
			d.done()
			if got, ok := d.device("shop", token(1)); !ok || got.Record.State != device.Removed {
				t.Errorf("the one that APNs called dead: got %+v, want it removed", got.Record)
			}
			if got, ok := d.device("shop", token(2)); !ok || got.User != "u-1" || got.Record.State == device.Removed {
				t.Errorf("the one that was registered: got %+v, %t", got, ok)
			}
			progress, err := d.set.Progress(ctx, []store.JobKey{{App: "shop", Lane: job.Bulk, ID: "a"}})
			if err != nil || progress[0].Counts[job.Accepted] != 3 || progress[0].Counts[job.Rejected] != 1 || progress[0].Duplicates != 0 {
				t.Errorf("progress: got %+v, %v, want 3 accepted and 1 rejected, once", progress, err)
			}
			named := false
			for _, e := range logs.All() {
				text := fmt.Sprint(e.Message, e.ContextMap())
				named = named || strings.Contains(text, tt.cause)
				for n := range 20 {
					if strings.Contains(text, token(n).Hex()) || strings.Contains(text, token(n).Raw()) {
						t.Errorf("log: got a device token in %q", text)
					}
				}
			}
			if !named {
				t.Errorf("log: got %v, want the cause %s in it", logs.All(), tt.cause)
			}
		})
	}
}

// register registers a device of shop.
func (d *desk) register(t device.Token) store.Registered {
	d.t.Helper()
	got, err := d.set.RegisterMany(d.ctx, "shop", []device.Registration{{Token: t, Environment: device.Production}})
	if err != nil {
		d.t.Fatal(err)
	}
	return got[0]
}
