package feedback_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Where JetStream gives no consumer at the start, as while it elects a leader, the
// recorder and the registrar wait for it, and then work. They can be told to stop
// meanwhile.
func TestStartWithoutConsumers(t *testing.T) {
	d := newDesk(t)
	api, err := jetstream.New(d.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{stream.Devices, stream.Outcomes} {
		if err := api.DeleteStream(d.ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	start := func(what func(context.Context) error, cannot <-chan struct{}) (stop func()) {
		t.Helper()
		stop = run(t, what)
		select {
		case <-cannot:
		case <-d.ctx.Done():
			t.Fatal("waited for a line in the log")
		}
		return stop
	}
	log, _, heard := said("cannot take outcomes", "cannot take device changes")
	recorder := feedback.NewRecorder(feedback.RecorderConfig{Streams: d.js.Streams, TokenSet: d.set, Ledger: d.set, Logger: log})
	registrar := feedback.NewRegistrar(feedback.RegistrarConfig{
		Streams: d.js.Streams, Devices: d.set, Apps: map[string]device.Environment{"shop": device.Sandbox}, Logger: log,
	})
	start(recorder.Run, heard["cannot take outcomes"])()
	start(registrar.Run, heard["cannot take device changes"])()
	start(recorder.Run, heard["cannot take outcomes"])
	start(registrar.Run, heard["cannot take device changes"])

	if _, err := stream.Open(d.ctx, d.js.NC, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	d.publish("shop", `{"action":"register","token":"`+token(1).Hex()+`"}`)
	d.done()
	if _, ok := d.device("shop", token(1)); !ok {
		t.Error("registered: got nothing of it in the token set")
	}
	publisher := feedback.NewPublisher(feedback.PublisherConfig{Streams: d.js.Streams, Worker: "w1"})
	run(t, publisher.Run)
	publisher.Publish("shop", job.Bulk, []job.JobOutcome{outcome("late", 2, 3)}, func(err error) {
		if err != nil {
			t.Errorf("publish: %v", err)
		}
	})
	c, err := d.js.RecorderConsumer(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	waitFloor(t, c, 1)
}
