package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Import is a device as another system knew it, or an export of this one.
type Import struct {
	// Registration says what is known of it. PreviousToken must be zero: what it
	// replaced is history.
	device.Registration

	// RegisteredAt is its last registration there, and CreatedAt the first one; the
	// zero time is not known. A RegisteredAt that is ahead of the token set's clock
	// counts as now.
	RegisteredAt, CreatedAt time.Time

	// Accepted says that APNs took a notification for it before.
	Accepted bool
}

// ImportResult is what became of one [Import].
type ImportResult uint8

// What becomes of imports. The numbers up to LeftNewer are those of
// lua/import.lua.
const (
	NotImported     ImportResult = iota // see the error
	ImportedNew                         // it was not in the token set
	ImportedAgain                       // it was, and is as the import says now
	LeftLive                            // it is in the token set, and was left as it is
	LeftQuarantined                     // as LeftLive
	LeftRemoved                         // it is remembered as removed, and stays so
	LeftNewer                           // it was registered later than the import says
	LeftInstall                         // another device token of its install is newer
)

var importResultNames = [...]string{
	"not imported", "new", "again", "known already", "quarantined", "removed", "registered later", "their install has a newer one",
}

// String returns a few words for reports.
func (r ImportResult) String() string {
	if int(r) >= len(importResultNames) {
		return fmt.Sprintf("import result(%d)", uint8(r))
	}
	return importResultNames[r]
}

// Imported is what became of one [Import].
type Imported struct {
	Result   ImportResult
	Replaced int // older device tokens that were removed in favour of this one
	// Err is why it was not imported, or not to its end: then importing again is
	// safe, and makes it whole.
	Err error
}

// importing is what an Import has beside its registration.
type importing struct {
	*Import
	overwrite bool
	result    ImportResult
}

// ImportMany registers devices that another system knew, at the time that it
// gives for them, so that a 410 of a time after that removes them, and in the
// order of list where that matters. What became of each is in the Imported at its
// place; the error is not nil if any has one. If nothing at all could be done,
// there are none.
//
// The token set knows better than an import:
//   - A device token that it has stays as it is, and so does one that it remembers
//     as removed. With overwrite, both are registered again, but for live ones that
//     were registered later than RegisteredAt.
//   - Of the device tokens of one install and kind the one registered last stays.
//     One without RegisteredAt is left out where the install has another already;
//     with overwrite it takes its place.
//
// Importing twice does no harm, and heals what a crash left half done.
func (s *Store) ImportMany(ctx context.Context, app string, list []Import, overwrite bool) ([]Imported, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return nil, err
	}
	regs := make([]device.Registration, len(list))
	for i := range list {
		regs[i] = list[i].Registration
		regs[i].PreviousToken = device.Token{}
	}
	made := make([]Registered, len(list))
	out := make([]Imported, len(list))
	for from := 0; from < len(list); from += pipelineTokens {
		to := min(from+pipelineTokens, len(list))
		for _, wave := range waves(regs[from:to], made[from:to]) {
			for _, r := range wave {
				r.source = &importing{Import: &list[from+r.n], overwrite: overwrite}
			}
			s.register(ctx, l, wave)
			for _, r := range wave {
				out[from+r.n] = Imported{Result: r.source.result, Replaced: r.out.Replaced}
				if r.out.Superseded {
					out[from+r.n].Result = LeftInstall
				}
			}
		}
	}
	failed := 0
	for i := range out {
		if out[i].Err = made[i].Err; out[i].Err != nil {
			if failed++; err == nil {
				err = out[i].Err
			}
		}
	}
	if failed > 0 {
		return out, fmt.Errorf("import devices of app %q: %d of %d went wrong, the first: %w", app, failed, len(list), err)
	}
	return out, nil
}

// importRecords is writeRecords for imports.
func (s *Store) importRecords(ctx context.Context, l *layout, wave []*registering) {
	var todo []*registering
	for _, r := range wave {
		if !r.ok() {
			continue
		}
		from := unixMilli(r.source.RegisteredAt)
		if from > 0 && r.after > from || from == 0 && r.after > 0 && !r.source.overwrite {
			r.source.result, r.left = LeftInstall, true
			continue
		}
		todo = append(todo, r)
	}
	if len(todo) == 0 {
		return
	}
	parts := s.onBuckets(ctx, l, bucketScript{
		name: "import", kinds: "dxr", head: []any{s.now(), todo[0].source.overwrite}, items: len(todo),
		token: func(i int) device.Token { return todo[i].token },
		args: func(dst []any, i int) []any {
			r := todo[i]
			record := device.Record{
				Environment: r.reg.Environment, Kind: r.reg.Kind, User: r.user, Install: r.install,
				Accepted: r.source.Accepted,
			}
			return append(dst, string(record.Append(nil)), r.details,
				unixMilli(r.source.RegisteredAt), unixMilli(r.source.CreatedAt), r.after, packOlder(r.pending))
		},
	})
	for g := range parts {
		members := parts[g].members
		reply, err := parts[g].list(6 * len(members))
		for n, i := range members {
			one := err
			if one == nil {
				one = todo[i].imported(reply[6*n : 6*n+6])
			}
			if one != nil {
				todo[i].out.Err = fmt.Errorf("write its record: %w", one)
			}
		}
	}
	s.heal(ctx, l, todo)
}

// imported takes in what the script said about r.
func (r *registering) imported(reply []any) error {
	did, ok := reply[0].(int64)
	if !ok || did > int64(LeftNewer) {
		return errReply
	}
	if did <= 0 {
		return errRecordVersion
	}
	r.source.result = ImportResult(did)
	if r.source.result <= ImportedAgain {
		return r.written(reply[1:])
	}
	r.left = true
	before, ok := reply[3].(string)
	if !ok {
		return errReply
	}
	r.before, _ = device.ParseRecord(before) // the script could read it
	return nil
}

// heal writes the slots and tags of device tokens that were left as they are: an
// import that was cut off may have written the record and no more.
func (s *Store) heal(ctx context.Context, l *layout, list []*registering) {
	var slots []pointer
	var whose []*registering
	var known []Entry
	for _, r := range list {
		if r.out.Err != nil || !r.left || r.before.State == device.Removed {
			continue
		}
		known = append(known, Entry{Token: r.token, Known: true, Record: r.before})
		for _, p := range pointersOf(Entry{Token: r.token, Record: r.before}) {
			slots, whose = append(slots, p), append(whose, r)
		}
	}
	for i, p := range s.point(ctx, l, slots) {
		if p.err != nil && !errors.Is(p.err, ErrTooManyDevices) {
			whose[i].out.Err = fmt.Errorf("write the slot of its user or install: %w", p.err)
		}
	}
	// What is not in its tags yet is put there by the next registration.
	_ = s.tagAgain(ctx, l, known, tagPut)
}
