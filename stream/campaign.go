package stream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
)

// Errors about campaigns.
var (
	ErrCampaignExists = errors.New("stream: there is another campaign with this id")
	ErrNoCampaign     = errors.New("stream: there is no such campaign")
)

const (
	// How a bucket is made of a stream is fixed by NATS (ADR-8, "JetStream based
	// Key-Value Stores").
	campaignsStream = "KV_" + campaignsBucket
	campaignsKeys   = "$KV." + campaignsBucket + ".>"

	// One part in campaignsReserve of the bucket is left free by new campaigns: an
	// entry of a thousand bytes grows by three hundred until its campaign has ended,
	// and that must not fail.
	campaignsReserve = 4
	// deletedTTL is how long the bucket knows that an entry was deleted. As long, its id
	// is not free: what Redis has of the campaign would be taken for the new one's.
	deletedTTL = 90 * 24 * time.Hour
)

// errDeletedCampaign: nobody can tell a request that comes once more from a new one.
var errDeletedCampaign = fmt.Errorf("%w: it is deleted, and the id is free 90 days after that", ErrCampaignExists)

func campaignKey(app, id string) string { return app + "." + SubjectToken(id) }

// NewCampaign creates a campaign of an app by its definition, like [Streams.CreateCampaign].
// A [*job.Invalid] says what is wrong with it: what depends on the time is asked of a
// new one only.
func (s *Streams) NewCampaign(ctx context.Context, app string, c *campaign.Campaign, now time.Time) (_ campaign.Status, created bool, err error) {
	st, err := campaign.NewStatus(app, c, now)
	if err != nil {
		return campaign.Status{}, false, err
	}
	if _, err := s.Campaign(ctx, app, c.ID); errors.Is(err, ErrNoCampaign) {
		if err := c.Check(now); err != nil {
			return st, false, err
		}
	}
	return s.CreateCampaign(ctx, st)
}

// CreateCampaign stores a campaign that does not exist yet. If there is one of the
// same Definition under its id, that one is returned, as it stands now, and created
// is false: it can be called again whenever it is not known what became of the call.
// Of another Definition, or if it was deleted less than 90 days ago, the error wraps
// [ErrCampaignExists]; where there is no room for more campaigns, [ErrFull].
func (s *Streams) CreateCampaign(ctx context.Context, st campaign.Status) (_ campaign.Status, created bool, err error) {
	for {
		old, err := s.Campaign(ctx, st.App, st.ID)
		switch {
		case errors.Is(err, errOtherCampaign):
			return old, false, fmt.Errorf("create campaign %s of %s: %w", st.ID, st.App, ErrCampaignExists)
		case errors.Is(err, ErrNoCampaign):
			span := startCreate(ctx, &st)
			st.Revision, err = s.createCampaign(ctx, &st)
			endPublish(span, err)
			if errors.Is(err, jetstream.ErrKeyExists) {
				continue // somebody else was faster
			}
			if err != nil {
				return st, false, fmt.Errorf("create campaign %s of %s: %w", st.ID, st.App, err)
			}
			return st, true, nil
		case err != nil:
			return st, false, fmt.Errorf("create campaign: %w", err)
		case !sameJSON(old.Definition, st.Definition):
			return old, false, fmt.Errorf("create campaign %s of %s: %w", st.ID, st.App, ErrCampaignExists)
		}
		return old, false, nil
	}
}

func (s *Streams) createCampaign(ctx context.Context, st *campaign.Status) (revision uint64, err error) {
	if err := s.roomForCampaign(ctx); err != nil {
		return 0, err
	}
	body, err := encodeCampaign(st)
	if err != nil {
		return 0, err
	}
	// Not Create, which takes a deleted entry for none.
	key := campaignKey(st.App, st.ID)
	revision, err = s.campaigns.Update(ctx, key, body, 0)
	switch {
	case errors.Is(err, jetstream.ErrKeyExists) && s.deleted(ctx, key):
		return 0, errDeletedCampaign
	case err != nil:
		return 0, s.publishError("bucket "+campaignsBucket, err)
	}
	return revision, nil
}

// deleted reports whether the bucket knows that an entry was deleted.
func (s *Streams) deleted(ctx context.Context, key string) bool {
	entries, err := s.campaigns.History(ctx, key)
	return err == nil && entries[len(entries)-1].Operation() != jetstream.KeyValuePut
}

// roomForCampaign returns nil while the bucket has room for more.
func (s *Streams) roomForCampaign(ctx context.Context) error {
	st, err := s.js.Stream(ctx, campaignsStream)
	if err != nil {
		return fmt.Errorf("ask for bucket %s: %w", campaignsBucket, err)
	}
	info := st.CachedInfo()
	if limit := info.Config.MaxBytes; limit > 0 && info.State.Bytes > uint64(limit-limit/campaignsReserve) {
		return fmt.Errorf("%w: bucket %s has %d of %d bytes: delete campaigns that have ended", ErrFull, campaignsBucket, info.State.Bytes, limit)
	}
	return nil
}

// Campaign reads a campaign, or returns [ErrNoCampaign].
func (s *Streams) Campaign(ctx context.Context, app, id string) (campaign.Status, error) {
	if err := checkCampaign(app, id); err != nil {
		return campaign.Status{}, fmt.Errorf("read campaign: %w", err)
	}
	entry, err := s.campaigns.Get(ctx, campaignKey(app, id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return campaign.Status{}, fmt.Errorf("read campaign %s of %s: %w", id, app, ErrNoCampaign)
	}
	if err != nil {
		return campaign.Status{}, fmt.Errorf("read campaign %s of %s: %w", id, app, err)
	}
	st, err := parseCampaign(entry)
	if err != nil {
		return campaign.Status{}, err
	}
	if st.ID != id {
		return st, fmt.Errorf("read campaign %s of %s: %w", id, app, errOtherCampaign)
	}
	return st, nil
}

// errOtherCampaign: whoever chose an id that looks like the hash of another one has
// taken that one's place.
var errOtherCampaign = fmt.Errorf("%w, its key holds another one", ErrNoCampaign)

// Campaigns reads all campaigns of an app, or of all apps if it is empty, the newest
// first.
func (s *Streams) Campaigns(ctx context.Context, app string) ([]campaign.Status, error) {
	if app != "" && !ValidName(app) {
		return nil, fmt.Errorf("list campaigns: app %q: must be letters, digits, '-' and '_'", app)
	}
	entries, err := s.campaigns.all(ctx, cmp.Or(app, "*")+".*")
	if err != nil {
		return nil, fmt.Errorf("list campaigns: %w", err)
	}
	var list []campaign.Status
	for _, entry := range entries {
		switch st, err := parseCampaign(entry); {
		case err != nil:
			s.passesOver(err)
		case st.Revision != 0:
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b campaign.Status) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.App, b.App), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// ChangeCampaign changes a campaign and returns it as it is then. change is called
// with what the campaign is, and again if somebody else was faster; an error of it
// ends the call and is returned with the campaign as it is. What it leaves as it was
// is not written. It cannot change App, ID and Revision.
func (s *Streams) ChangeCampaign(ctx context.Context, app, id string, change func(*campaign.Status) error) (campaign.Status, error) {
	for {
		old, err := s.Campaign(ctx, app, id)
		if err != nil {
			return campaign.Status{}, err
		}
		st := old
		st.Tags = slices.Clone(old.Tags)
		if err := change(&st); err != nil {
			return old, err
		}
		st.App, st.ID, st.Revision = old.App, old.ID, old.Revision
		before, err := encodeCampaign(&old)
		if err != nil {
			return old, err
		}
		body, err := encodeCampaign(&st)
		if err != nil {
			return old, err
		}
		if bytes.Equal(before, body) {
			return st, nil
		}
		st.Revision, err = s.campaigns.Update(ctx, campaignKey(app, id), body, old.Revision)
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return old, fmt.Errorf("change campaign %s of %s: %w", id, app, s.publishError("bucket "+campaignsBucket, err))
		}
	}
}

// DeleteCampaign forgets a campaign that has ended and is closed; of another one the
// error wraps [campaign.ErrState]. To delete one that there is not changes nothing.
// Its id can be used again after 90 days.
func (s *Streams) DeleteCampaign(ctx context.Context, app, id string) error {
	st, err := s.Campaign(ctx, app, id)
	if errors.Is(err, ErrNoCampaign) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case !st.Ended():
		return fmt.Errorf("%w: cannot delete campaign %q, which is %s: it must have ended", campaign.ErrState, id, st.State)
	case !st.Closed:
		return fmt.Errorf("%w: cannot delete campaign %q, which is %s and not closed yet: workers close it within a minute", campaign.ErrState, id, st.State)
	}
	err = s.campaigns.Purge(ctx, campaignKey(app, id), jetstream.LastRevision(st.Revision), jetstream.PurgeTTL(deletedTTL))
	if err != nil {
		return fmt.Errorf("delete campaign %s of %s: %w", id, app, err)
	}
	return nil
}

// CampaignsRevision returns the revision of the last change of any campaign. It is
// asked of the bucket's leader: who has seen that revision ([Streams.WatchCampaigns])
// knew, when the question was put, all that there was to know.
func (s *Streams) CampaignsRevision(ctx context.Context) (last uint64, err error) {
	st, err := s.js.Stream(ctx, campaignsStream)
	if err != nil {
		return 0, fmt.Errorf("ask for bucket %s: %w", campaignsBucket, err)
	}
	return st.CachedInfo().State.LastSeq, nil
}

// WatchCampaigns calls changed with every campaign, then ready once, and changed
// again whenever a campaign changes, until ctx ends. seen is the revision up to which
// everything has been told then. A campaign that is deleted has Revision 0, and no
// more than App and ID; one that this watch never told of is not told of at all. It
// comes through reconnections of its own accord. The error is nil if ctx ended.
func (s *Streams) WatchCampaigns(ctx context.Context, changed func(st campaign.Status, seen uint64), ready func(seen uint64)) error {
	before, err := s.CampaignsRevision(ctx)
	if err != nil {
		return err
	}
	seen := before
	ids := make(map[string]string) // by key: a deleted entry does not say its id
	err = s.watchCampaigns(ctx, func(st campaign.Status, revision uint64) {
		// The first ones come in the order of their revisions, but up to the one of
		// before all of them make one picture.
		seen = max(seen, revision)
		key := campaignKey(st.App, st.ID)
		if st.Revision != 0 {
			ids[key] = st.ID
		} else {
			id, known := ids[st.App+"."+st.ID]
			if !known {
				return
			}
			delete(ids, st.App+"."+st.ID)
			st.ID = id
		}
		changed(st, seen)
	}, func() { ready(seen) })
	if err != nil {
		return fmt.Errorf("watch campaigns: %w", err)
	}
	return nil
}

// watchCampaigns calls changed with what a watch tells, and ready once it has
// told all that there was, until ctx ends. Of a deleted entry ID is what [SubjectToken]
// made of it.
func (s *Streams) watchCampaigns(ctx context.Context, changed func(st campaign.Status, revision uint64), ready func()) error {
	watch, err := s.campaigns.Watch(ctx, "*.*")
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err //nolint:wrapcheck // the callers name what they do
	}
	defer stopWatch(watch)
	for {
		select {
		case entry, ok := <-watch.Updates():
			switch {
			case !ok && ctx.Err() != nil:
				return nil
			case !ok:
				return errWatchEnded
			case entry == nil:
				ready()
				continue
			}
			st, err := parseCampaign(entry)
			if err != nil {
				s.passesOver(err)
				continue
			}
			changed(st, entry.Revision())
		case <-ctx.Done():
			return nil
		}
	}
}

// passesOver tells of an entry that is not ours: no reason to stop all the others.
func (s *Streams) passesOver(err error) {
	s.log.Warn("passes over an entry that cannot be read", zap.String("bucket", campaignsBucket), zap.Error(err))
}

// stopWatch ends a watch. What it still wants to tell must be taken from it, or its
// goroutine would wait for ever.
func stopWatch(watch jetstream.KeyWatcher) {
	_ = watch.Stop() // nobody listens any more
	for {
		select {
		case _, ok := <-watch.Updates():
			if !ok {
				return
			}
		case <-time.After(time.Second):
			return
		}
	}
}

// parseCampaign reads an entry; one that was deleted has no Revision, and what
// [SubjectToken] made of its ID.
func parseCampaign(entry jetstream.KeyValueEntry) (campaign.Status, error) {
	app, token, _ := strings.Cut(entry.Key(), ".")
	st := campaign.Status{App: app, ID: token}
	if entry.Operation() != jetstream.KeyValuePut {
		return st, nil
	}
	if err := json.Unmarshal(entry.Value(), &st); err != nil {
		return st, fmt.Errorf("read campaign %s: %w", entry.Key(), err)
	}
	if SubjectToken(st.ID) != token {
		return st, fmt.Errorf("read campaign %s: its id %q has another key", entry.Key(), st.ID)
	}
	st.Revision = entry.Revision()
	return st, nil
}

func encodeCampaign(st *campaign.Status) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the definition stays what it was
	if err := e.Encode(st); err != nil {
		return nil, fmt.Errorf("encode campaign %s of %s: %w", st.ID, st.App, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// sameJSON reports whether two documents differ in nothing but white space.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func checkCampaign(app, id string) error {
	if !ValidName(app) { // a wildcard would mean what nobody meant
		return fmt.Errorf("app %q: must be letters, digits, '-' and '_'", app)
	}
	if id == "" {
		return errNoID
	}
	return nil
}

var errNoID = errors.New("campaign without an id")
