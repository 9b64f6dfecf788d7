package apnstest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Environment is one of APNs's two.
type Environment string

// The environments. An empty one means production, or "the server's", as said
// where it is used.
const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

func (e Environment) check() error {
	switch e {
	case "", Production, Sandbox:
		return nil
	}
	return fmt.Errorf("must be production or sandbox, got %q", e)
}

// Fate is what a device token is to a server: how it answers a notification to
// it. Tokens that were not set with [Server.SetDevice] have theirs from a hash
// of the token, so that every run and every client agrees without any list.
type Fate uint8

// The fates.
const (
	Healthy    Fate = iota
	Dead            // 410 Unregistered
	Bad             // 400 BadDeviceToken
	WrongTopic      // 400 DeviceTokenNotForTopic
)

// String returns the fate in lower case.
func (f Fate) String() string {
	switch f {
	case Healthy:
		return "healthy"
	case Dead:
		return "dead"
	case Bad:
		return "bad"
	case WrongTopic:
		return "wrong_topic"
	default:
		return fmt.Sprintf("fate(%d)", uint8(f))
	}
}

// Shares says which part of all device tokens has which fate: each from 0 to 1,
// together at most 1. What remains is healthy.
type Shares struct {
	Dead       float64 `json:"dead,omitempty"`
	Bad        float64 `json:"bad,omitempty"`
	WrongTopic float64 `json:"wrong_topic,omitempty"`
}

func (s Shares) check() error {
	sum := 0.0
	for _, v := range []float64{s.Dead, s.Bad, s.WrongTopic} {
		if !(v >= 0 && v <= 1) { // also NaN
			return fmt.Errorf("shares: each must be from 0 to 1, got %v", v)
		}
		sum += v
	}
	if sum > 1 {
		return fmt.Errorf("shares: together must be at most 1, got %v", sum)
	}
	return nil
}

// Fate returns the fate of a device token, given as raw bytes. It depends on
// nothing but s and the token.
func (s Shares) Fate(deviceToken []byte) Fate { return s.fate(xxhash.Sum64(deviceToken)) }

func (s Shares) fate(tokenHash uint64) Fate {
	// The top 53 bits are a float64's worth of [0,1).
	u := float64(tokenHash>>11) / (1 << 53)
	switch {
	case u < s.Dead:
		return Dead
	case u < s.Dead+s.Bad:
		return Bad
	case u < s.Dead+s.Bad+s.WrongTopic:
		return WrongTopic
	default:
		return Healthy
	}
}

// UnknownPolicy says what to do with a device token that nobody set.
type UnknownPolicy uint8

// The policies.
const (
	Accept UnknownPolicy = iota // judge it by the shares of [Config]
	Reject                      // BadDeviceToken
)

// Device is a device token as a server knows it. The zero value is healthy: any
// topic of the server's environment.
type Device struct {
	// Topic is the only bundle id (or whole topic) that the token is for; for
	// another it is DeviceTokenNotForTopic. Empty: any.
	Topic string `json:"topic,omitempty"`
	// Environment other than the server's makes it BadDeviceToken. Empty: the server's.
	Environment Environment `json:"environment,omitempty"`
	Bad         bool        `json:"bad,omitempty"` // BadDeviceToken

	// DeadSince, if set, makes it 410 with this timestamp (milliseconds count).
	DeadSince *time.Time `json:"dead_since,omitempty"`
	// DeadReason is the 410's reason; empty is Unregistered.
	DeadReason string `json:"dead_reason,omitempty"`
	// SilentUntil: a dead token is still answered 200 before that, as APNs hides
	// for a while that an app is gone.
	SilentUntil *time.Time `json:"silent_until,omitempty"`

	// Offline devices take nothing: APNs keeps one notification for them.
	Offline bool `json:"offline,omitempty"`

	// Answer, if set, is given to every valid request, whatever else is set.
	Answer *Answer `json:"answer,omitempty"`
	// NeverAnswer takes every valid request and never answers it (observed:
	// jchambers/pushy#773).
	NeverAnswer bool `json:"never_answer,omitempty"`
}

// Answer is a response of one's own choice.
type Answer struct {
	Status int    `json:"status"`           // 200 to 599
	Reason string `json:"reason,omitempty"` // empty: no body
	// Timestamp is sent with 410 only, in milliseconds since the epoch; 0 is now.
	Timestamp int64 `json:"timestamp,omitempty"`
}

func (a *Answer) check() error {
	switch {
	case a == nil:
		return nil
	case a.Status < 200 || a.Status > 599:
		return fmt.Errorf("answer.status: must be from 200 to 599, got %d", a.Status)
	case a.Status == 200 && a.Reason != "":
		return errors.New("answer.reason: must be empty with status 200")
	case len(a.Reason) > 100:
		return fmt.Errorf("answer.reason: must have at most 100 bytes, got %d", len(a.Reason))
	}
	return nil
}

func (d *Device) check() error {
	if err := d.Environment.check(); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	return d.Answer.check()
}

// device is a Device with what is worked out once.
type device struct {
	Device
	out *outcome // of Answer
}

// devices holds the devices that were set one by one.
type devices struct {
	some atomic.Bool // spares the lock while there are none
	mu   sync.RWMutex
	m    map[string]*device // by raw token
}

func (d *devices) get(raw []byte) *device {
	if !d.some.Load() {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.m[string(raw)]
}

// SetDevice makes the device token known as dev, replacing what it was. token is
// hexadecimal. What was stored for an offline device is delivered when it comes
// online. Safe for concurrent use.
func (s *Server) SetDevice(token string, dev Device) error {
	raw, ok := appendUnhex(nil, []byte(token))
	if !ok || len(raw) == 0 || len(token) > maxTokenChars {
		return fmt.Errorf("set device: token must be 2 to %d hex digits, an even number, got %d characters", maxTokenChars, len(token))
	}
	if err := dev.check(); err != nil {
		return fmt.Errorf("set device: %w", err)
	}
	d := &device{Device: dev}
	if dev.Answer != nil {
		d.out = s.outcomes.named(dev.Answer.Status, dev.Answer.Reason)
	}
	s.devices.mu.Lock()
	s.devices.m[string(raw)] = d
	s.devices.some.Store(true)
	s.devices.mu.Unlock()
	if !dev.Offline {
		s.ledger.online(string(raw), s.cfg.Now())
	}
	return nil
}

// DeleteDevice makes the device token unknown again. It does nothing if it was.
func (s *Server) DeleteDevice(token string) {
	raw, ok := appendUnhex(nil, []byte(token))
	if !ok {
		return
	}
	s.devices.mu.Lock()
	delete(s.devices.m, string(raw))
	s.devices.some.Store(len(s.devices.m) > 0)
	s.devices.mu.Unlock()
}

// Device returns what the device token was set to, and whether it was.
func (s *Server) Device(token string) (Device, bool) {
	raw, ok := appendUnhex(nil, []byte(token))
	if !ok {
		return Device{}, false
	}
	if d := s.devices.get(raw); d != nil {
		return d.Device, true
	}
	return Device{}, false
}

// Fate returns how the server answers a valid notification to a device token
// (hexadecimal) now, were there no faults. A token that is set for a topic or
// for an answer of its own counts as healthy.
func (s *Server) Fate(token string) Fate {
	raw, ok := appendUnhex(nil, []byte(token))
	if !ok || len(raw) == 0 || len(token) > maxTokenChars {
		return Bad
	}
	if d := s.devices.get(raw); d != nil {
		switch {
		case d.Bad || d.Environment != "" && d.Environment != s.cfg.Environment:
			return Bad
		case d.DeadSince != nil && (d.SilentUntil == nil || !s.cfg.Now().Before(*d.SilentUntil)):
			return Dead
		}
		return Healthy
	}
	if s.cfg.Unknown == Reject {
		return Bad
	}
	return s.shares.Fate(raw)
}

// maxTokenChars is the longest device token that is taken for one.
//
// choice: WWDC 2015 announced up to 100 bytes; nothing longer was seen.
const maxTokenChars = 200
