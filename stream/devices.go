package stream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DeviceAckWait is how long the server waits for a device change to be settled.
const DeviceAckWait = 30 * time.Second

const (
	registrarDurable = "registrar"
	// registrarGroup: one process at a time is given device changes, so that they
	// stay in order. JetStream chooses another one when it has not asked for
	// registrarPin; by then what it left behind is delivered again, before anything
	// newer: that is why it is longer than the ack wait.
	registrarGroup = "registrar"
	registrarPin   = DeviceAckWait + 10*time.Second
)

// DevicesSubject returns the subject for device changes of an app.
func DevicesSubject(app string) string { return "push.devices." + app }

// PublishDevice publishes a device change (feedback.ParseDeviceChange) as it is.
// id, if not empty, drops a second publish within two minutes. [ErrFull]: it was
// not taken.
func (s *Streams) PublishDevice(ctx context.Context, app, id string, body []byte) error {
	if !ValidName(app) {
		return fmt.Errorf("app %q: must be letters, digits, '-' and '_'", app)
	}
	msg := nats.NewMsg(DevicesSubject(app))
	msg.Data = body
	if id != "" {
		msg.Header.Set(jetstream.MsgIDHeader, "devices/"+app+"/"+id)
	}
	if _, err := s.js.PublishMsg(ctx, msg); err != nil {
		return s.publishError(msg.Subject, err)
	}
	return nil
}

// RegistrarConsumer ensures the registrar's durable, and returns it. Of all
// processes that fetch from it only one is given messages, in their order.
func (s *Streams) RegistrarConsumer(ctx context.Context) (*Consumer, error) {
	c, err := s.consumer(ctx, Devices, jetstream.ConsumerConfig{
		Durable:        registrarDurable,
		FilterSubject:  "push.devices.*",
		AckWait:        DeviceAckWait,
		PriorityPolicy: jetstream.PriorityPolicyPinned,
		PriorityGroups: []string{registrarGroup},
		PinnedTTL:      registrarPin,
	})
	if err != nil {
		return nil, err
	}
	c.group = registrarGroup
	return c, nil
}

// LeaveRegistrar lets another process have the registrar's messages at once, if
// they were this one's. Nothing that c returned may be unsettled.
func (s *Streams) LeaveRegistrar(ctx context.Context, c *Consumer) error {
	info, err := c.consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask for consumer %s: %w", c.name, err)
	}
	for _, g := range info.PriorityGroups {
		if g.Group != registrarGroup || g.PinnedClientID == "" || g.PinnedClientID != c.pin {
			continue
		}
		st, err := s.js.Stream(ctx, Devices)
		if err == nil {
			err = st.UnpinConsumer(ctx, registrarDurable, registrarGroup)
		}
		if err != nil {
			return fmt.Errorf("leave consumer %s: %w", c.name, err)
		}
	}
	return nil
}

// Reconnects returns how often the connection to NATS was made anew.
func (s *Streams) Reconnects() uint64 { return s.nc.Stats().Reconnects }

// AckWaiting acknowledges the message and waits until the server has taken that,
// and every acknowledgement that was made before it.
func (m *Message) AckWaiting(ctx context.Context) error {
	if err := m.msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("acknowledge message %d: %w", m.Sequence, err)
	}
	return nil
}

// splitDevicesSubject returns the app that a subject of DEVICES names.
func splitDevicesSubject(subject string) (string, error) {
	app, ok := strings.CutPrefix(subject, "push.devices.")
	if !ok || app == "" || strings.Contains(app, ".") {
		return "", fmt.Errorf("subject %q is not push.devices.<app>", subject)
	}
	return app, nil
}
