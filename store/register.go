package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pushfleet/pushfleet/device"
)

// Registered is what became of one registration.
type Registered struct {
	// RegisteredAt is when, in milliseconds since the epoch, and Generation the
	// count of this device token's registrations; see [device.Record].
	RegisteredAt int64
	Generation   uint32
	// New reports that the device token was not in the token set before, or was
	// removed.
	New bool
	// Replaced counts the older device tokens that were removed in favour of this
	// one by this call.
	Replaced int
	// Superseded reports that this device token was removed at once, since another
	// one of the same install was registered at the same moment and won.
	Superseded bool
	// Err is why the registration was not carried out, or not to its end. In both
	// cases registering again is safe, and makes it whole.
	Err error
}

// errRecordVersion is told where a record is in the way that cannot be read.
var errRecordVersion = fmt.Errorf("%w: it is damaged, or a newer version wrote it", device.ErrRecord)

// Register registers one device: see [Store.RegisterMany].
func (s *Store) Register(ctx context.Context, app string, r device.Registration) (Registered, error) {
	out, err := s.RegisterMany(ctx, app, []device.Registration{r})
	if err != nil {
		if len(out) == 1 && out[0].Err != nil {
			err = fmt.Errorf("register a device of app %q: %w", app, out[0].Err)
		}
		return Registered{}, err
	}
	return out[0], nil
}

// RegisterMany registers devices of one app, in the order of regs where that
// matters. What became of each is in the Registered at its place; the error is
// not nil if any has one. If nothing at all could be done, there are none.
//
// A registration takes the device token out of quarantine and back from removal,
// detaches it from a user or install that it does not name again, and removes
// what the device token replaces: PreviousToken, and the other device tokens of
// the same kind and InstallID (but for Live Activities, of which an install may
// have several). Those are removed only if they were not registered later.
//
// It is three to six pipelines, however many regs; thousands in one call are
// cheaper than as many calls.
func (s *Store) RegisterMany(ctx context.Context, app string, regs []device.Registration) ([]Registered, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return nil, err
	}
	out := make([]Registered, len(regs))
	for from := 0; from < len(regs); from += pipelineTokens {
		to := min(from+pipelineTokens, len(regs))
		for _, wave := range waves(regs[from:to], out[from:to]) {
			s.register(ctx, l, wave)
		}
	}
	failed := 0
	for i := range out {
		if out[i].Err != nil {
			if failed++; err == nil {
				err = out[i].Err
			}
		}
	}
	if failed > 0 {
		return out, fmt.Errorf("register devices of app %q: %d of %d went wrong, the first: %w", app, failed, len(regs), err)
	}
	return out, nil
}

// registering is a registration on its way.
type registering struct {
	successor
	reg     *device.Registration
	out     *Registered
	user    device.Key
	details string

	slots    []slot         // of its install, but for its own
	after    int64          // registered_at must be greater
	pending  []older        // to be remembered; their at is not used
	seen     []device.Token // of the same install that need no second look
	before   device.Record
	remember string // what is remembered, as the script returned it

	detailsBefore string // as JSON, if they were others

	n      int        // its place in the call
	source *importing // nil: it comes from the app itself
	left   bool       // as it was: nothing more is to be done
}

func (r *registering) ok() bool { return r.out.Err == nil && !r.left }

// waves sorts registrations so that those which concern one device token or
// install follow each other in the order they were given. Invalid ones are in
// none.
func waves(regs []device.Registration, out []Registered) [][]*registering {
	var list [][]*registering
	type subject struct {
		install string
		token   device.Token
	}
	next := make(map[subject]int) // the first wave that may concern it
	for i := range regs {
		reg := &regs[i]
		r := &registering{reg: reg, out: &out[i], n: i}
		if err := reg.Validate(); err != nil {
			out[i].Err = err
			continue
		}
		var err error
		if r.details, err = packDetails(reg); err != nil {
			out[i].Err = fmt.Errorf("pack details: %w", err)
			continue
		}
		r.user = device.KeyOf(reg.User)
		r.successor = successor{token: reg.Token, kind: reg.Kind, install: device.KeyOf(reg.InstallID)}

		subjects := append(make([]subject, 0, 3), subject{token: reg.Token})
		if !reg.PreviousToken.IsZero() {
			subjects = append(subjects, subject{token: reg.PreviousToken})
		}
		if reg.InstallID != "" {
			subjects = append(subjects, subject{install: reg.InstallID})
		}
		wave := 0
		for _, sub := range subjects {
			wave = max(wave, next[sub])
		}
		for _, sub := range subjects {
			next[sub] = wave + 1
		}
		if wave == len(list) {
			list = append(list, nil)
		}
		list[wave] = append(list[wave], r)
	}
	return list
}

// register carries out registrations that have no device token or install in
// common. A crash after any step leaves what the next registration, or a sweep,
// makes whole:
//
//  1. find what each replaces
//  2. write the record, and with it what is to be replaced
//  3. write the user's and install's slots, also where nothing changed
//  4. put it into its tags, also where nothing changed
//  5. remove what is replaced
//  6. forget what was to be replaced
func (s *Store) register(ctx context.Context, l *layout, wave []*registering) {
	s.findOlder(ctx, l, wave)
	if wave[0].source != nil {
		s.importRecords(ctx, l, wave)
	} else {
		s.writeRecords(ctx, l, wave)
	}
	s.writeSlots(ctx, l, wave)
	s.writeTags(ctx, l, wave)

	var todo []*successor
	for _, r := range wave {
		if r.ok() && len(r.olds) > 0 {
			todo = append(todo, &r.successor)
		}
	}
	s.replaceOlder(ctx, l, todo)
	var done []finished
	for _, r := range wave {
		r.out.Replaced, r.out.Superseded = r.replaced, r.superseded
		if r.ok() {
			r.out.Err = r.err
		}
		if r.ok() && r.remember != "" {
			done = append(done, finished{token: r.token, remembered: r.remember})
		}
	}
	// What is not forgotten is done again by the next registration, to no effect.
	_ = s.settle(ctx, l, done)
}

// findOlder finds the device tokens that each registration replaces.
func (s *Store) findOlder(ctx context.Context, l *layout, wave []*registering) {
	var keys []device.Key
	var tokens []device.Token
	var asking []*registering
	for _, r := range wave {
		if r.replacesInstall() {
			keys = append(keys, r.install)
		}
		if r.replacesInstall() || !r.previous().IsZero() {
			asking = append(asking, r)
		}
	}
	if len(asking) == 0 {
		return
	}
	fail := func(err error) {
		for _, r := range asking {
			r.out.Err = fmt.Errorf("find what it replaces: %w", err)
		}
	}
	slots, err := s.readIndex(ctx, l, installIndex, keys)
	if err != nil {
		fail(err)
		return
	}
	for _, r := range asking {
		if r.replacesInstall() {
			r.slots = slices.DeleteFunc(slots[0], func(h slot) bool {
				return h.token == r.token || h.token.IsZero()
			})
			slots = slots[1:]
		}
		for _, h := range r.slots {
			tokens = append(tokens, h.token)
		}
		if t := r.previous(); !t.IsZero() {
			tokens = append(tokens, t)
		}
	}
	entries, err := s.lookup(ctx, l, tokens, nil)
	if err != nil {
		fail(err)
		return
	}
	var stale []pointer
	for _, r := range asking {
		for _, h := range r.slots {
			e := entries[0]
			entries = entries[1:]
			switch {
			case e.Err != nil:
			case !e.Known || e.Record.State == device.Removed || e.Record.Install != r.install:
				stale = append(stale, pointer{
					ix: installIndex, key: r.install, token: h.token, generation: h.generation,
				})
			case e.Record.Kind != r.kind:
				r.seen = append(r.seen, h.token)
			default:
				r.seen = append(r.seen, h.token)
				r.pending = append(r.pending, older{token: h.token, how: sameInstall})
				r.after = max(r.after, e.Record.RegisteredAt)
			}
		}
		if !r.previous().IsZero() {
			e := entries[0]
			entries = entries[1:]
			if e.Err == nil && (!e.Known || e.Record.State != device.Removed) {
				r.pending = append(r.pending, older{token: e.Token, how: previousToken})
				r.after = max(r.after, e.Record.RegisteredAt)
			}
		}
	}
	_ = s.unpoint(ctx, l, stale)
}

// previous is the device token that is named as the one before, if it is
// another.
func (r *registering) previous() device.Token {
	if r.reg.PreviousToken == r.token {
		return device.Token{}
	}
	return r.reg.PreviousToken
}

// writeRecords writes records, details and what is to be replaced.
func (s *Store) writeRecords(ctx context.Context, l *layout, wave []*registering) {
	wave = slices.DeleteFunc(slices.Clone(wave), func(r *registering) bool { return !r.ok() })
	if len(wave) == 0 {
		return
	}
	parts := s.onBuckets(ctx, l, bucketScript{
		name: "register", kinds: "dxr", head: []any{s.now()}, items: len(wave),
		token: func(i int) device.Token { return wave[i].token },
		args: func(dst []any, i int) []any {
			r := wave[i]
			record := device.Record{
				Environment: r.reg.Environment, Kind: r.reg.Kind, User: r.user, Install: r.install,
			}
			return append(dst, string(record.Append(nil)), r.details, r.after, packOlder(r.pending))
		},
	})
	for g := range parts {
		members := parts[g].members
		reply, err := parts[g].list(5 * len(members))
		for n, i := range members {
			if err == nil {
				err = wave[i].written(reply[5*n : 5*n+5])
			}
			if err != nil {
				wave[i].out.Err = fmt.Errorf("write its record: %w", err)
			}
			if errors.Is(err, device.ErrRecord) {
				err = nil // that of this device token alone
			}
		}
	}
}

// written takes in what the script said about r.
func (r *registering) written(reply []any) error {
	at, ok1 := reply[0].(int64)
	generation, ok2 := reply[1].(int64)
	before, ok3 := reply[2].(string)
	remember, ok4 := reply[3].(string)
	details, ok5 := reply[4].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return errReply
	}
	if generation == 0 {
		return errRecordVersion
	}
	if before != "" {
		// The script could read it. What only ParseRecord minds is overwritten now.
		r.before, _ = device.ParseRecord(before)
	}
	r.out.RegisteredAt, r.out.Generation = at, uint32(generation)
	r.out.New = before == "" || r.before.State == device.Removed
	r.remember = remember
	r.detailsBefore = details
	r.at = at
	var err error
	r.olds, err = unpackOlder(remember)
	return err
}

// inUse reports whether the device token was in the token set before, and not
// removed. Then nobody is about to take it out of the indexes for what is as it
// was.
func (r *registering) inUse() bool {
	return r.before.Generation > 0 && r.before.State != device.Removed
}

// writeSlots puts device tokens into the slots of their users and installs, and
// takes them out of those that they had before.
//
// choice: most registrations change nothing. Then it is only looked whether the
// device token is in its slots, which costs Redis a fraction of writing them.
func (s *Store) writeSlots(ctx context.Context, l *layout, wave []*registering) {
	var in, out []pointer
	var same []bool          // of in
	var whose []*registering // the same
	for _, r := range wave {
		if !r.ok() {
			continue
		}
		add := func(ix index, now, before device.Key) {
			p := pointer{ix: ix, token: r.token, generation: r.out.Generation}
			if p.key = now; !now.IsZero() {
				in = append(in, p)
				same = append(same, before == now && r.inUse())
				whose = append(whose, r)
			}
			if p.key = before; !before.IsZero() && before != now {
				out = append(out, p)
			}
		}
		add(userIndex, r.user, r.before.User)
		add(installIndex, r.install, r.before.Install)
	}
	results := s.pointAgain(ctx, l, in, same)
	for i := range in {
		if errors.Is(results[i].err, ErrTooManyDevices) {
			// Stale ones may take the room; they go when they are followed.
			if _, err := s.follow(ctx, l, in[i].ix, []device.Key{in[i].key}); err == nil {
				results[i] = s.point(ctx, l, in[i:i+1])[0]
			}
		}
		r := whose[i]
		if err := results[i].err; err != nil && r.ok() {
			r.out.Err = fmt.Errorf("write the slot of its user or install: %w", err)
		}
		if in[i].ix != installIndex || !r.replacesInstall() {
			continue
		}
		// One that has come since findOlder is a race.
		for _, t := range results[i].others {
			if !slices.Contains(r.seen, t) {
				r.olds = append(r.olds, older{token: t, at: r.at, how: sameInstall})
			}
		}
	}
	// What could not be taken out is found stale by the next reader.
	_ = s.unpoint(ctx, l, out)
}
