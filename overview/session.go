package overview

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// The sources of a session, as they are named to who reads.
const (
	sourceReports   = "what workers do"
	sourcePresence  = "which workers are alive"
	sourceFuses     = "fuses"
	sourceCampaigns = "campaigns"
	sourceBacklog   = "how old what waits is"
	sourceDevices   = "devices"
)

// session is one time of somebody following.
type session struct {
	cfg   Config
	ctx   context.Context //nolint:containedctx // it is the session's life
	stop  context.CancelFunc
	ready chan struct{} // closed with the first picture
	fleet atomic.Pointer[Fleet]
	begun time.Time

	mu        sync.Mutex // guards what is below
	followers map[*Follower]struct{}
	heard     map[string]heard // by the worker's name
	present   map[string]stream.Presence
	fuses     map[fuseKey]stream.Fuse
	oldest    map[laneKey]waitingLane
	census    map[string]store.Census
	trouble   map[string]error // by source; nil: it has told something
	campaigns map[[2]string]*heldCampaign
	changes   uint64 // of campaigns so far
	// campaignsKnown says that all of them were told.
	campaignsKnown bool
}

// heard is what a worker said last.
type heard struct {
	report stream.Report
	at     time.Time // monotonic
}

type fuseKey struct {
	app string
	env device.Environment
}

type laneKey struct {
	app  string
	lane job.Lane
}

// waitingLane is what JetStream itself says of a lane.
type waitingLane struct {
	messages uint64
	oldest   time.Time
}

var errNotYet = errors.New("not asked yet")

func newSession(cfg Config) *session {
	s := &session{
		cfg: cfg, ready: make(chan struct{}), begun: time.Now(),
		followers: make(map[*Follower]struct{}), heard: make(map[string]heard), fuses: make(map[fuseKey]stream.Fuse),
		census: make(map[string]store.Census), trouble: make(map[string]error), campaigns: make(map[[2]string]*heldCampaign),
	}
	for _, source := range []string{sourceReports, sourcePresence, sourceFuses, sourceCampaigns, sourceBacklog, sourceDevices} {
		s.trouble[source] = errNotYet
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// run looks until the session ends.
func (s *session) run() {
	var sources sync.WaitGroup
	defer sources.Wait()
	sources.Go(func() { s.keep(sourceReports, s.listen) })
	sources.Go(func() { s.keep(sourcePresence, every(presenceEvery, s.lookForWorkers)) })
	sources.Go(func() { s.keep(sourceBacklog, every(backlogEvery, s.lookAtBacklog)) })
	sources.Go(func() { s.keep(sourceFuses, s.watchFuses) })
	sources.Go(func() { s.keep(sourceCampaigns, s.watchCampaigns) })
	sources.Go(s.count)
	look := time.NewTicker(min(s.cfg.Every, 50*time.Millisecond))
	defer look.Stop()
	var last time.Time
	for {
		switch {
		case last.IsZero():
			if s.complete() || time.Since(s.begun) >= firstPatience {
				s.draw()
				close(s.ready)
				last = time.Now()
				look.Reset(s.cfg.Every)
			}
		default:
			s.draw()
		}
		select {
		case <-look.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// keep reads from a source of JetStream, and again when that has failed, until the
// session ends.
func (s *session) keep(source string, read func(context.Context, *stream.Streams) error) {
	for s.ctx.Err() == nil {
		streams, err := s.cfg.Streams()
		if err == nil {
			err = read(s.ctx, streams)
		}
		if s.ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended")
		}
		s.cfg.Logger.Debug("cannot see all of the fleet", zap.String("what", source), zap.Error(err))
		s.failed(source, err)
		pause(s.ctx, retryEvery)
	}
}

// every makes of one look one that goes on.
func every(interval time.Duration, look func(context.Context, *stream.Streams) error) func(context.Context, *stream.Streams) error {
	return func(ctx context.Context, streams *stream.Streams) error {
		for ctx.Err() == nil {
			asked, cancel := context.WithTimeout(ctx, interval+retryEvery)
			err := look(asked, streams)
			cancel()
			if err != nil {
				return err
			}
			pause(ctx, interval)
		}
		return nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *session) failed(source string, err error) {
	s.mu.Lock()
	s.trouble[source] = err
	s.mu.Unlock()
}

// listen hears the workers.
func (s *session) listen(ctx context.Context, streams *stream.Streams) error {
	return streams.Reports(ctx, func() { s.failed(sourceReports, nil) }, func(r *stream.Report) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.Left {
			delete(s.heard, r.Worker)
			delete(s.present, r.Worker)
			return
		}
		s.heard[r.Worker] = heard{*r, time.Now()}
	})
}

func (s *session) lookForWorkers(ctx context.Context, streams *stream.Streams) error {
	list, err := streams.Present(ctx)
	if err != nil {
		return err
	}
	present := make(map[string]stream.Presence, len(list))
	for _, p := range list {
		present[p.Name] = p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present, s.trouble[sourcePresence] = present, nil
	for name, h := range s.heard {
		if _, alive := present[name]; !alive && time.Since(h.at) > silentAfter {
			delete(s.heard, name)
		}
	}
	return nil
}

func (s *session) watchFuses(ctx context.Context, streams *stream.Streams) error {
	known, err := streams.Fuses(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	clear(s.fuses)
	for _, f := range known {
		s.fuses[fuseKey{f.App, f.Environment}] = f
	}
	s.trouble[sourceFuses] = nil
	s.mu.Unlock()
	return streams.WatchFuses(ctx, func(f stream.Fuse) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.Revision == 0 {
			delete(s.fuses, fuseKey{f.App, f.Environment})
			return
		}
		s.fuses[fuseKey{f.App, f.Environment}] = f
	})
}

// watchCampaigns follows the campaigns. What was deleted while nobody watched is found
// out by not being told of again.
func (s *session) watchCampaigns(ctx context.Context, streams *stream.Streams) error {
	told := make(map[[2]string]bool)
	whole := false
	return streams.WatchCampaigns(ctx, func(st campaign.Status, _ uint64) {
		if !whole {
			told[[2]string{st.App, st.ID}] = true
		}
		s.campaignChanged(st)
	}, func(uint64) {
		whole = true
		s.mu.Lock()
		var gone []campaign.Status
		for key, held := range s.campaigns {
			if !told[key] && !held.deleted {
				gone = append(gone, campaign.Status{App: key[0], ID: key[1]})
			}
		}
		s.campaignsKnown, s.trouble[sourceCampaigns] = true, nil
		s.mu.Unlock()
		for _, st := range gone {
			s.campaignChanged(st)
		}
	})
}

// lookAtBacklog asks what JetStream itself knows of what waits: how many messages, and
// since when. How many notifications that is workers know.
func (s *session) lookAtBacklog(ctx context.Context, streams *stream.Streams) error {
	subjects, err := streams.JobSubjects(ctx)
	if err != nil {
		return err
	}
	apps := s.cfg.Apps()
	oldest := make(map[laneKey]waitingLane)
	for _, sub := range subjects {
		lane, err := job.ParseLane(sub.Lane)
		if _, known := apps[sub.App]; err != nil || !known || sub.Messages == 0 {
			continue
		}
		at, err := streams.OldestJob(ctx, sub.App, lane)
		if err != nil {
			return err
		}
		oldest[laneKey{sub.App, lane}] = waitingLane{sub.Messages, at}
	}
	s.mu.Lock()
	s.oldest, s.trouble[sourceBacklog] = oldest, nil
	s.mu.Unlock()
	return nil
}

// count counts devices, now and then, until the session ends.
func (s *session) count() {
	for s.ctx.Err() == nil {
		next := censusEvery
		for app := range s.cfg.Apps() {
			counted, err := s.cfg.Devices.Census(s.ctx, app)
			if s.ctx.Err() != nil {
				return
			}
			if err != nil {
				s.failed(sourceDevices, err)
				next = 5 * retryEvery
				break
			}
			s.mu.Lock()
			s.census[app] = counted
			s.mu.Unlock()
		}
		if next == censusEvery {
			s.failed(sourceDevices, nil)
		}
		pause(s.ctx, next)
	}
}

// complete reports whether there is something to show: each source has told, or failed,
// and each worker that is alive was heard, with two reports where that is what it takes
// to say how fast it is.
func (s *session) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.trouble {
		if errors.Is(err, errNotYet) {
			return false
		}
	}
	for name := range s.present {
		if h, ok := s.heard[name]; !ok && s.trouble[sourceReports] == nil || ok && h.report.Seconds == 0 {
			return false
		}
	}
	return true
}

// draw makes a picture, and wakes those who follow.
func (s *session) draw() {
	streams, err := s.cfg.Streams()
	if err == nil && !streams.Connected() {
		err = errors.New("there is no connection to JetStream")
	}
	s.fleet.Store(s.picture(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.followers {
		f.nudge()
	}
}

func (f *Follower) nudge() {
	select {
	case f.wake <- struct{}{}:
	default: // it has not looked at the last one yet
	}
}

// add lets a follower be woken, at once if there is a picture.
func (s *session) add(f *Follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers[f] = struct{}{}
	if s.fleet.Load() != nil {
		f.nudge()
	}
}

func (s *session) remove(f *Follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.followers, f)
}

// unknown lists what cannot be told; away is why JetStream cannot be asked. mu is held.
func (s *session) unknown(away error) (list []string) {
	if away != nil {
		list = append(list, fmt.Sprintf("workers, backlog, fuses and campaigns: %v", away))
	} else {
		for _, source := range []string{sourcePresence, sourceReports, sourceBacklog, sourceFuses, sourceCampaigns} {
			if err := s.trouble[source]; err != nil {
				list = append(list, source+": "+err.Error())
			}
		}
	}
	if err := s.trouble[sourceDevices]; err != nil {
		list = append(list, sourceDevices+": "+err.Error())
	}
	return list
}
