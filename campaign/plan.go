package campaign

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Options are what [Campaign.Compile] needs beside the campaign.
type Options struct {
	// Start is when the campaign starts: local times and a ttl count from it. Zero:
	// its StartAt, which must be set then.
	Start time.Time
	// Zones are shared by all that look time zones up; nil: the plan's own.
	Zones *device.Zones
}

// Plan is a compiled campaign: it answers for one device after another. It does not
// change, and is safe for concurrent use.
type Plan struct {
	job      job.Job
	limit    int // bytes of a payload
	audience matcher
	cap      *Cap
	details  bool

	usual     *template
	localized map[string]*template // by folded locale; nil: none

	control *lot
	expiry  job.Expiry
	clocks  *clocks // nil: the device's time zone does not matter
}

// Cap is a frequency cap with its default filled in.
type Cap struct {
	Max      int
	Per      time.Duration
	Kind     string
	Override bool // it counts, but is never refused
}

// Compile makes a plan of a campaign. An invalid one is refused like by
// [Campaign.Validate].
func (c *Campaign) Compile(o Options) (*Plan, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("compile campaign %q: %w", c.ID, err)
	}
	start := o.Start
	if start.IsZero() {
		start = c.StartAt
	}
	if start.IsZero() {
		return nil, fmt.Errorf("compile campaign %q: %w", c.ID, errors.New("its start is not set"))
	}
	zones := o.Zones
	if zones == nil {
		zones = new(device.Zones)
	}
	p := &Plan{job: c.Content, audience: newMatcher(c), expiry: c.Content.Expiration(start)}
	p.job.ID, p.job.PushType, p.job.Priority = c.ID, c.Content.EffectivePushType(), c.Content.EffectivePriority()
	p.limit = p.job.MaxPayload()
	if err := p.compileContent(c); err != nil {
		return nil, fmt.Errorf("compile campaign %q: %w", c.ID, err)
	}
	if g := c.ControlGroup; g != nil {
		p.control = newLot(cmp.Or(g.Seed, c.ID), g.Percent)
	}
	if f := c.FrequencyCap; f != nil {
		p.cap = &Cap{Max: f.Max, Per: f.Per, Kind: cmp.Or(f.Kind, DefaultKind), Override: f.Override}
	}
	if c.LocalTime != "" || c.QuietHours != nil {
		var err error
		if p.clocks, err = newClocks(c, zones, start); err != nil {
			return nil, fmt.Errorf("compile campaign %q: %w", c.ID, err)
		}
	}
	p.details = p.needsDetails()
	return p, nil
}

func (p *Plan) compileContent(c *Campaign) error {
	vars := c.variables()
	var err error
	if p.usual, err = newTemplate(&c.Content, vars); err != nil {
		return err
	}
	for tag := range c.Localizations {
		j, err := c.localized(tag)
		if err != nil {
			return err
		}
		t, err := newTemplate(j, vars)
		if err != nil {
			return err
		}
		if p.localized == nil {
			p.localized = make(map[string]*template)
		}
		p.localized[foldLocale(tag)] = t
	}
	return nil
}

func (p *Plan) needsDetails() bool {
	uses := p.audience.details || p.clocks != nil || p.localized != nil
	for t := range p.templates {
		uses = uses || slices.ContainsFunc(t.slots, func(s slot) bool { return s.source != fromFile && !p.fromFile() })
	}
	return uses
}

// fromFile reports whether the recipients are those of a file.
func (p *Plan) fromFile() bool { return p.audience.file }

// templates yields all of them.
func (p *Plan) templates(yield func(*template) bool) {
	if !yield(p.usual) {
		return
	}
	for _, t := range p.localized {
		if !yield(t) {
			return
		}
	}
}

// Job returns the content as a job without recipients, its push type and priority
// filled in. The texts in it have their placeholders; what is sent is
// [Plan.Payload]'s, and when it expires is [Plan.Expiry]'s. It must not be changed.
func (p *Plan) Job() *job.Job { return &p.job }

// NeedsDetails reports whether more of a device is looked at than its Token, its
// Record and, of a file's recipient, its User.
func (p *Plan) NeedsDetails() bool { return p.details }

// Matches reports whether a device belongs to the audience: it may be used, its
// device token is of the kind that the push type needs, and all conditions hold. A
// recipient of a file that is not registered belongs to it.
func (p *Plan) Matches(d *device.Device) bool { return p.audience.matches(d) }

// LeadingTags returns the tags that every device of the audience has: one of any at
// least, and each of all. Both may be empty. They must not be changed.
func (p *Plan) LeadingTags() (anyOf, all []string) { return p.audience.anyTag, p.audience.allTags }

// Cap returns the campaign's frequency cap; false: it has none.
func (p *Plan) Cap() (Cap, bool) {
	if p.cap == nil {
		return Cap{}, false
	}
	return *p.cap, true
}

// Shared returns the payload if it is the same for all, else nil. It must not be
// changed.
func (p *Plan) Shared() []byte {
	if len(p.usual.slots) > 0 || p.localized != nil {
		return nil
	}
	return p.usual.tail
}

// Payload appends the payload for a recipient to dst, and returns the extended
// slice. vars are what its file says of it; nil for a device of an audience. The
// variable user is d.User: for a file's recipient that is a user, it must be set.
//
// On an error dst is as it was. It is [ErrTooLarge] or a [*MissingError]: a value
// that is empty is none.
func (p *Plan) Payload(dst []byte, d *device.Device, vars map[string]string) ([]byte, error) {
	t := p.usual
	if p.localized != nil {
		t = p.templateFor(d.Locale)
	}
	out, err := t.append(dst, d, vars)
	if err != nil {
		return dst, err
	}
	if len(out)-len(dst) > p.limit {
		return dst, ErrTooLarge
	}
	return out, nil
}

// templateFor returns the template of the locale, or else of the nearest one that
// it is a case of: de-AT, or else de, or else the usual one.
func (p *Plan) templateFor(locale string) *template {
	var buf [device.MaxWordBytes]byte
	folded := appendFolded(buf[:0], locale)
	for len(folded) > 0 {
		if t, ok := p.localized[string(folded)]; ok {
			return t
		}
		end := len(folded) - 1
		for end > 0 && folded[end] != '-' {
			end--
		}
		folded = folded[:end]
	}
	return p.usual
}

// Action is what is to be done about a device.
type Action uint8

// The actions.
const (
	Send  Action = iota // now
	Skip                // never, see Decision.Reason
	Later               // ask again at Decision.At
)

// String returns "send", "skip" or "later".
func (a Action) String() string {
	switch a {
	case Send:
		return "send"
	case Skip:
		return "skip"
	case Later:
		return "later"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// The reasons of decisions, and of what else keeps a recipient of a campaign from
// being sent to. They are labels: few, and always the same.
const (
	ReasonControl      = "control group"
	ReasonQuiet        = "quiet hours"
	ReasonLocalTime    = "local time" // it is not yet
	ReasonLocalPassed  = "local time has passed"
	ReasonExpired      = "expired"
	ReasonExpiresFirst = "expires before its time"
	ReasonCap          = "frequency cap"
	ReasonTooLarge     = "payload too large"

	// reasonNoValue begins the reason of a [MissingError]; the variable's name
	// follows.
	reasonNoValue = "no value for "
)

// Decision is what is to be done about a device.
type Decision struct {
	Action Action
	Reason string    // one of the constants; of Send empty
	At     time.Time // of Later: when to ask again
}

// Decide says what is to be done about a device of the audience now. In this order:
//
//   - the control group is left out;
//   - a local time is waited for, or has passed;
//   - what has expired is left out, and so is what expires before it may be sent:
//     to wait for that would change nothing;
//   - quiet hours are waited for, or the device is left out. They count when it
//     is sent, not at the start, so after a local time and however long a rate has
//     stretched the campaign.
//
// Frequency caps are for who can count: see [Plan.Cap].
func (p *Plan) Decide(d *device.Device, now time.Time) Decision {
	if p.control != nil && p.control.drawn(d) {
		return Decision{Action: Skip, Reason: ReasonControl}
	}
	if p.clocks != nil {
		return p.clocks.of(d.Timezone).decide(now)
	}
	if p.expiry.Passed(now) {
		return Decision{Action: Skip, Reason: ReasonExpired}
	}
	return Decision{}
}

// Expiry returns when the notification to a device expires. A ttl counts from the
// campaign's start, or where there is a local time, from that.
func (p *Plan) Expiry(d *device.Device) job.Expiry {
	if p.clocks != nil {
		return p.clocks.of(d.Timezone).expiry
	}
	return p.expiry
}

// lot draws a part of the audience.
type lot struct {
	seed  [8]byte
	below uint64
}

func newLot(seed string, percent float64) *lot {
	l := &lot{below: uint64(math.Ldexp(percent/100, 64))}
	for i, h := 0, xxhash.Sum64String(seed); i < len(l.seed); i++ {
		l.seed[i] = byte(h >> (8 * i))
	}
	return l
}

// drawn reports whether a device is drawn: by its user, so that all devices of a
// user are; by its install, which outlives device tokens; or by its device token.
func (l *lot) drawn(d *device.Device) bool {
	var buf [len(l.seed) + 1 + device.MaxTokenBytes]byte
	b := append(buf[:0], l.seed[:]...)
	switch r := &d.Record; {
	case !r.User.IsZero():
		b = append(append(b, 'u'), r.User[:]...)
	case !r.Install.IsZero():
		b = append(append(b, 'i'), r.Install[:]...)
	default:
		b = append(append(b, 't'), d.Token.Raw()...)
	}
	return xxhash.Sum64(b) < l.below
}

// clocks are the clocks of time zones, as far as a campaign goes by them.
type clocks struct {
	zones   *device.Zones
	start   time.Time // to the minute
	content *job.Job

	local  int // minute of the day; -1: no local time
	skip   bool
	quiet  *window
	action QuietAction
	usual  *clock // of devices without a time zone

	known atomic.Pointer[map[string]*clock] // never changed, only replaced
	mu    sync.Mutex                        // held by who replaces it
}

// maxClocks bounds what is remembered. choice: far above the 600 zones there are;
// what is beyond are names of none, which devices should not have.
const maxClocks = 2000

// clock is that of one time zone.
type clock struct {
	loc *time.Location
	of  *clocks

	target  time.Time // not before; zero: no matter
	passed  bool      // the local time has, and the device is not to wait for the next day
	expiry  job.Expiry
	expires time.Time // zero: it does not

	phase atomic.Pointer[phase]
}

// phase is a time in which the quiet hours neither begin nor end.
type phase struct {
	from, until time.Time
	quiet       bool
}

func newClocks(c *Campaign, zones *device.Zones, start time.Time) (*clocks, error) {
	cs := &clocks{
		// A campaign that starts at 09:00:20 is in time for 09:00.
		start: start.Truncate(time.Minute),
		zones: zones, content: &c.Content, local: -1, skip: c.PastLocalTime == SkipDay,
	}
	if minute, ok := parseClock(c.LocalTime); ok {
		cs.local = minute
	}
	if q := c.QuietHours; q != nil {
		w, _ := newWindow(q)
		cs.quiet, cs.action = &w, q.Action
	}
	name := cmp.Or(c.DefaultTimezone, "UTC")
	loc, ok := zones.Location(name)
	if !ok {
		return nil, fmt.Errorf("time zone %q is not known", name)
	}
	cs.usual = cs.newClock(loc)
	cs.known.Store(&map[string]*clock{"": cs.usual, name: cs.usual})
	return cs, nil
}

// of returns the clock of a time zone.
func (cs *clocks) of(zone string) *clock {
	if c, ok := (*cs.known.Load())[zone]; ok {
		return c
	}
	return cs.learn(zone)
}

// learn makes a clock, and remembers it.
func (cs *clocks) learn(zone string) *clock {
	c := cs.usual
	if loc, ok := cs.zones.Location(zone); ok {
		c = cs.newClock(loc)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if known := *cs.known.Load(); len(known) < maxClocks {
		more := make(map[string]*clock, len(known)+1)
		for name, c := range known {
			more[name] = c
		}
		more[strings.Clone(zone)] = c
		cs.known.Store(&more)
	}
	return c
}

func (cs *clocks) newClock(loc *time.Location) *clock {
	c := &clock{loc: loc, of: cs}
	from := cs.start
	if cs.local >= 0 {
		c.target, c.passed = cs.targetIn(loc)
		from = c.target
	}
	c.expiry = cs.content.Expiration(from)
	c.expires, _ = c.expiry.Time()
	return c
}

// targetIn returns the first instant from the start on at which a clock in loc
// shows the local time, see [firstAt], and whether that is a day after the start's.
func (cs *clocks) targetIn(loc *time.Location) (at time.Time, passed bool) {
	today := wallOf(cs.start, loc)
	wall := time.Date(today.Year(), today.Month(), today.Day(), 0, cs.local, 0, 0, time.UTC)
	for at = firstAt(loc, wall); at.Before(cs.start); at = firstAt(loc, wall) {
		wall, passed = wall.AddDate(0, 0, 1), true
	}
	return at, passed && cs.skip
}

func (c *clock) decide(now time.Time) Decision {
	switch {
	case c.passed:
		return Decision{Action: Skip, Reason: ReasonLocalPassed}
	case now.Before(c.target):
		return c.later(c.target, ReasonLocalTime)
	case c.expiry.Passed(now):
		return Decision{Action: Skip, Reason: ReasonExpired}
	case c.of.quiet == nil:
		return Decision{}
	}
	ph := c.phase.Load()
	if ph == nil || now.Before(ph.from) || !now.Before(ph.until) {
		ph = &phase{from: now}
		ph.quiet, ph.until = c.of.quiet.at(c.loc, now)
		c.phase.Store(ph)
	}
	switch {
	case !ph.quiet:
		return Decision{}
	case c.of.action == SkipQuiet:
		return Decision{Action: Skip, Reason: ReasonQuiet}
	}
	return c.later(ph.until, ReasonQuiet)
}

func (c *clock) later(at time.Time, reason string) Decision {
	if !c.expires.IsZero() && !at.Before(c.expires) {
		return Decision{Action: Skip, Reason: ReasonExpiresFirst}
	}
	return Decision{Action: Later, Reason: reason, At: at}
}
