package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// campaignRange is about how many devices a range has.
const campaignRange = 1000

// Payloads are rendered one behind the other, in pieces of pieceOfPayloads bytes. One
// piece is left for the next when it has less than roomToRender, which is as much as
// nearly all payloads need; a longer one grows its piece.
const (
	pieceOfPayloads = 32 << 10
	roomToRender    = 1 << 10
)

// decodeRange reads a range of a campaign.
func decodeRange(l *lane, in *stream.Message) *message {
	m := &message{in: in, lane: l, cost: max(1, len(in.Data)/bytesPerPlace), touched: in.ReceivedAt, rng: new(campaign.Range)}
	if err := json.Unmarshal(in.Data, m.rng); err != nil {
		m.bad = fmt.Errorf("range of a campaign: %w", err)
		return m
	}
	if m.rng.Campaign != l.campaign.id {
		m.bad = errors.New("range of another campaign")
		return m
	}
	m.id, m.root = fmt.Sprintf("%s/%d", m.rng.Campaign, m.rng.Number), l.campaign.root()
	m.cost = max(m.cost, m.rng.Devices, len(m.rng.Recipients))
	return m
}

// resolveRanges finds the devices of ranges, decides about each, and sends. Each
// range is on its way before the next one is read.
func (w *Worker) resolveRanges(ctx context.Context, l *lane, batch []*message) {
	plan, err := w.compile(l.campaign)
	if err != nil {
		// Only a newer version can have made it: one that understands it may take these.
		w.handBackAll(batch, haltRetry, "compile campaign "+l.campaign.id, err)
		return
	}
	for i, m := range batch {
		w.awaitContact(ctx)
		if err := w.halted(m); err != nil && !w.cancelled(m) {
			w.handBackAll(batch[i:], haltRetry, "send campaign "+l.campaign.id, err)
			return
		}
		m.job, m.kind, m.topic = plan.Job(), plan.Job().Kind(), plan.Job().Topic(m.app.BundleID)
		if err := w.target(ctx, m, plan); err != nil {
			w.handBackAll([]*message{m}, storeRetry, "find the devices of a range", err)
			continue
		}
		if more := len(m.recipients) - m.cost; more > 0 {
			w.room.grow(l.holder, more)
			m.cost, m.grown = m.cost+more, more
		}
		if i == len(batch)-1 {
			w.send(ctx, l, []*message{m})
			return
		}
		go w.send(ctx, l, []*message{m})
	}
}

// cancelled reports whether a message's campaign was cancelled: what is left of it
// is told, and not sent.
func (w *Worker) cancelled(m *message) bool {
	return m.lane.campaign != nil && m.lane.campaign.status.Load().State == campaign.Cancelled
}

// target is what is to be known of one device to decide about it.
type target struct {
	device    *device.Device
	known     bool // the token set has it
	variables map[string]string
}

// target finds the recipients of a range and decides about each.
func (w *Worker) target(ctx context.Context, m *message, plan *campaign.Plan) error {
	targets, err := w.targets(ctx, m, plan)
	if err != nil {
		return err
	}
	m.recipients = slices.Grow(m.recipients, len(targets)) // behind users without devices
	now := w.cfg.Now()
	m.decidedAt = now
	var payloads []byte
	shared := plan.Shared()
	for i := range targets {
		t := &targets[i]
		r, open := w.recognise(m, t)
		if open {
			payloads = w.weigh(m, plan, t, &r, shared, payloads, now)
		}
		if r.fate == undecided {
			m.left++
		}
		m.recipients = append(m.recipients, r)
	}
	return w.spare(ctx, m, plan, targets)
}

// targets reads the devices of a range, each once, and only those that the
// audience has.
func (w *Worker) targets(ctx context.Context, m *message, plan *campaign.Plan) ([]target, error) {
	if len(m.rng.Recipients) > 0 {
		return w.fileTargets(ctx, m, plan)
	}
	st := m.lane.campaign.status.Load()
	type read struct {
		devices          []device.Device
		seen, unreadable int
	}
	got, err := withStore(ctx, func(ctx context.Context) (r read, err error) {
		r.devices, r.seen, r.unreadable, err = w.cfg.Campaigns.ReadAudience(ctx, m.lane.app.name,
			store.Classes{Of: m.rng.Of, From: m.rng.From, To: m.rng.To}, st.Tags, plan.NeedsDetails(), make([]device.Device, 0, m.rng.Devices))
		return r, err
	})
	if err != nil {
		return nil, err
	}
	if got.unreadable > 0 {
		w.log.Warn("records of devices cannot be read: they get no campaign", zap.String("app", m.lane.app.name), zap.String("campaign", m.rng.Campaign), zap.Int("devices", got.unreadable))
	}
	targets := make([]target, 0, len(got.devices))
	for i := range got.devices {
		if d := &got.devices[i]; plan.Matches(d) {
			targets = append(targets, target{device: d, known: true})
		}
	}
	return targets, nil
}

// fileTargets looks up the recipients of a file. A user stands for all devices
// that can get the campaign; of whoever is named twice the first line counts, and a
// device token's own line goes before its user's.
func (w *Worker) fileTargets(ctx context.Context, m *message, plan *campaign.Plan) ([]target, error) {
	var tokens []device.Token
	var users []string
	lines := make(map[device.Token]*campaign.Recipient)
	ofUser := make(map[string]*campaign.Recipient)
	for i := range m.rng.Recipients {
		r := &m.rng.Recipients[i]
		if r.User != "" {
			if ofUser[r.User] == nil {
				users, ofUser[r.User] = append(users, r.User), r
			}
			continue
		}
		t, err := device.ParseToken(r.Token)
		if err != nil {
			return nil, fmt.Errorf("recipient %d of the range: %w", i, err)
		}
		if lines[t] == nil {
			tokens, lines[t] = append(tokens, t), r
		}
	}
	var entries []store.Entry
	if len(tokens) > 0 {
		var err error
		if entries, err = withStore(ctx, func(ctx context.Context) ([]store.Entry, error) {
			return w.cfg.Devices.Lookup(ctx, m.lane.app.name, tokens, make([]store.Entry, 0, len(tokens)))
		}); err != nil {
			return nil, err
		}
	}
	reached := make(map[string]bool, len(users))
	if len(users) > 0 {
		found, err := withStore(ctx, func(ctx context.Context) ([][]store.Entry, error) {
			return w.cfg.Devices.ByUsers(ctx, m.lane.app.name, users)
		})
		if err != nil {
			return nil, err
		}
		for i, of := range found {
			for _, e := range of {
				if e.Record.Kind != plan.Job().Kind() || !e.Record.Usable() {
					continue
				}
				if lines[e.Token] != nil {
					reached[users[i]] = true
					continue
				}
				lines[e.Token] = ofUser[users[i]]
				entries = append(entries, e)
			}
		}
	}
	targets, err := w.describe(ctx, m, entries, lines)
	if err != nil {
		return nil, err
	}
	for i := range targets {
		reached[targets[i].device.User] = true
	}
	for _, user := range users {
		if !reached[user] {
			w.addNobodyOf(m, user)
		}
	}
	return targets, nil
}

// describe makes targets of what was looked up for the lines of a file. The user of
// a target is the line's.
func (w *Worker) describe(ctx context.Context, m *message, entries []store.Entry, lines map[device.Token]*campaign.Recipient) ([]target, error) {
	known := make([]store.Entry, 0, len(entries))
	targets := make([]target, 0, len(entries))
	for _, e := range entries {
		if e.Known {
			known = append(known, e)
			continue
		}
		targets = append(targets, target{device: &device.Device{Registration: device.Registration{Token: e.Token}}, variables: lines[e.Token].Variables})
	}
	devices, err := withStore(ctx, func(ctx context.Context) ([]device.Device, error) {
		devices, _, err := w.cfg.Campaigns.Describe(ctx, m.lane.app.name, known, make([]device.Device, 0, len(known)))
		return devices, err
	})
	if err != nil {
		return nil, err
	}
	for i := range devices {
		d, line := &devices[i], lines[devices[i].Token]
		if line.User != "" && d.Record.User != device.KeyOf(line.User) {
			continue // registered for somebody else since it was looked up
		}
		d.User = line.User
		targets = append(targets, target{device: d, known: true, variables: line.Variables})
	}
	return targets, nil
}

// addNobodyOf settles a user of a file who has no device for the campaign.
func (w *Worker) addNobodyOf(m *message, user string) {
	r := recipient{hash: job.UserHash(user)}
	if m.isSettled(r.hash) {
		r.fate = settledBefore
	} else {
		m.addOther(w, &r, job.Recipient{User: user, Result: job.Skipped, Reason: reasonNoDevice}, reasonNoDevice)
	}
	m.recipients = append(m.recipients, r)
}

// recognise makes a recipient of a device, and reports whether what becomes of it
// is still open.
func (w *Worker) recognise(m *message, t *target) (r recipient, open bool) {
	d := t.device
	r = recipient{token: d.Token, hash: job.RecipientHash(d.Token), environment: m.app.Environment, attempts: m.progress.Attempts}
	if t.known {
		r.generation = d.Record.Generation
		r.fresh = !d.Record.Accepted
		r.wrongKind = d.Record.Kind != m.kind
		if d.Record.Environment != device.EnvironmentUnset {
			r.environment = d.Record.Environment
		}
	}
	return r, w.stillOpen(m, &r, t.known, &d.Record)
}

// weigh decides about one device whose place is open: now, later or not at all.
// A rendered payload is appended to payloads, or to a new piece of them; that is returned.
func (w *Worker) weigh(m *message, plan *campaign.Plan, t *target, r *recipient, shared, payloads []byte, now time.Time) []byte {
	skipAs := func(reason, label string) {
		m.addOther(w, r, job.Recipient{DeviceToken: r.token, Result: job.Skipped, Reason: reason, Generation: r.generation}, label)
	}
	skip := func(reason string) { skipAs(reason, reason) }
	if w.cancelled(m) {
		skip(reasonCancelled)
		return payloads
	}
	switch d := plan.Decide(t.device, now); d.Action {
	case campaign.Skip:
		if d.Reason == campaign.ReasonExpired {
			m.addOther(w, r, job.Recipient{DeviceToken: r.token, Result: job.Expired, Generation: r.generation}, "")
		} else {
			skip(d.Reason)
		}
		return payloads
	case campaign.Later:
		r.fate, r.delay, r.later = waiting, d.At.Sub(now), true
		return payloads
	case campaign.Send:
		r.expiry = plan.Expiry(t.device)
	}
	if shared != nil {
		r.payload = shared
		return payloads
	}
	// A new piece instead of a larger one: what is rendered need not move.
	if cap(payloads)-len(payloads) < roomToRender {
		payloads = make([]byte, 0, pieceOfPayloads)
	}
	start := len(payloads)
	rendered, err := plan.Payload(payloads, t.device, t.variables)
	if err != nil {
		var missing *campaign.MissingError
		switch {
		case errors.As(err, &missing):
			skipAs(missing.Error(), labelNoValue)
		default:
			skip(campaign.ReasonTooLarge)
		}
		return payloads
	}
	r.payload = rendered[start:len(rendered):len(rendered)]
	return rendered
}

// Reasons of skipping that are the worker's own.
const (
	reasonNoDevice  = "no device"
	reasonCancelled = "cancelled"

	// labelNoValue is what metrics call the reason of a [campaign.MissingError].
	labelNoValue = "no value"
)

// spare asks whether users have had enough, and skips what is for those who have.
func (w *Worker) spare(ctx context.Context, m *message, plan *campaign.Plan, targets []target) error {
	limit, ok := plan.Cap()
	if !ok {
		return nil
	}
	var claims []store.CapClaim
	var whose []int
	first := len(m.recipients) - len(targets) // those before are users without devices
	for i := range targets {
		r := &m.recipients[first+i]
		if r.fate != undecided {
			continue
		}
		claims = append(claims, store.CapClaim{
			Who: whoIs(targets[i].device), Kind: limit.Kind, By: m.lane.campaign.id, Max: limit.Max, Per: limit.Per, Override: limit.Override,
		})
		whose = append(whose, first+i)
	}
	if len(claims) == 0 {
		return nil
	}
	granted, err := withStore(ctx, func(ctx context.Context) ([]bool, error) {
		return w.cfg.Campaigns.UseCaps(ctx, m.lane.app.name, claims)
	})
	if err != nil {
		return err
	}
	for n, i := range whose {
		if granted[n] {
			continue
		}
		r := &m.recipients[i]
		m.addOther(w, r, job.Recipient{DeviceToken: r.token, Result: job.Skipped, Reason: campaign.ReasonCap, Generation: r.generation}, campaign.ReasonCap)
		m.left--
	}
	return nil
}

// whoIs is whom a cap counts: the user, else the install, else the device token.
func whoIs(d *device.Device) device.Key {
	switch {
	case !d.Record.User.IsZero():
		return d.Record.User
	case !d.Record.Install.IsZero():
		return d.Record.Install
	default:
		return device.KeyOf(d.Token.Raw())
	}
}
