package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// Waiting is a subject of JOBS that holds messages.
type Waiting struct {
	Subject   string
	App, Lane string
	Messages  uint64
}

// JobSubjects lists the subjects of JOBS that hold jobs.
func (s *Streams) JobSubjects(ctx context.Context) ([]Waiting, error) {
	subjects, err := s.jobsSubjects(ctx, "push.jobs.>")
	if err != nil {
		return nil, err
	}
	var waiting []Waiting
	for subject, n := range subjects {
		app, lane, err := splitJobsSubject(subject)
		if err != nil {
			continue // another room's subject
		}
		waiting = append(waiting, Waiting{Subject: subject, App: app, Lane: lane, Messages: n})
	}
	slices.SortFunc(waiting, func(a, b Waiting) int { return strings.Compare(a.Subject, b.Subject) })
	return waiting, nil
}

// Backlog is what waits in JOBS.
type Backlog struct {
	Jobs map[string]uint64 // by app
	// Most is about how many messages JOBS can hold, of the size of those in it; where
	// it is empty, of a KiB.
	Most uint64
}

// Backlog returns what waits in JOBS.
func (s *Streams) Backlog(ctx context.Context) (Backlog, error) {
	st, err := s.js.Stream(ctx, Jobs)
	if err != nil {
		return Backlog{}, fmt.Errorf("ask for stream %s: %w", Jobs, err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter("push.jobs.>"))
	if err != nil {
		return Backlog{}, fmt.Errorf("list subjects of %s: %w", Jobs, err)
	}
	size := uint64(1024)
	if info.State.Msgs > 0 {
		size = max(info.State.Bytes/info.State.Msgs, 1)
	}
	b := Backlog{Jobs: make(map[string]uint64), Most: uint64(max(info.Config.MaxBytes, 0)) / size}
	for subject, n := range info.State.Subjects {
		if app, _, err := splitJobsSubject(subject); err == nil {
			b.Jobs[app] += n
		}
	}
	return b, nil
}

// OldestJob returns when JetStream stored the oldest job of an app and lane that is not
// settled; zero if there is none.
func (s *Streams) OldestJob(ctx context.Context, app string, lane job.Lane) (time.Time, error) {
	subject := JobsSubject(app, lane)
	st, err := s.js.Stream(ctx, Jobs)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for stream %s: %w", Jobs, err)
	}
	msg, err := st.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the oldest job of %s: %w", subject, err)
	}
	return msg.Time, nil
}

// jobsSubjects returns how many messages each subject of JOBS holds that a filter
// matches.
func (s *Streams) jobsSubjects(ctx context.Context, filter string) (map[string]uint64, error) {
	st, err := s.js.Stream(ctx, Jobs)
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", Jobs, err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("list subjects of %s: %w", Jobs, err)
	}
	return info.State.Subjects, nil
}

// StrayConsumer ensures the consumer of what no other consumer matches, on
// exactly the given subjects. A work queue admits no overlap (error 10100), so a
// catch-all cannot stand beside the apps' own consumers.
func (s *Streams) StrayConsumer(ctx context.Context, subjects []string) (*Consumer, error) {
	return s.consumer(ctx, Jobs, jetstream.ConsumerConfig{
		Durable: strayDurable, FilterSubjects: subjects, AckWait: strayAckWait,
	})
}

// StraySubjects returns what the stray consumer is on; none if there is none.
func (s *Streams) StraySubjects(ctx context.Context) ([]string, error) {
	c, err := s.js.Consumer(ctx, Jobs, strayDurable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for consumer %s: %w", strayDurable, err)
	}
	cfg := c.CachedInfo().Config
	if cfg.FilterSubject != "" {
		return []string{cfg.FilterSubject}, nil
	}
	return cfg.FilterSubjects, nil
}

// RemoveStray deletes the stray consumer, if there is one.
func (s *Streams) RemoveStray(ctx context.Context) error {
	err := s.js.DeleteConsumer(ctx, Jobs, strayDurable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s: %w", strayDurable, err)
	}
	return nil
}

// ReleaseJobs makes room for the stray consumer on a subject of JOBS: the consumer goes
// that stood there while workers knew the app. It is for subjects that no worker knows.
func (s *Streams) ReleaseJobs(ctx context.Context, w *Waiting) error {
	for _, lane := range job.Lanes() {
		if lane.String() != w.Lane {
			continue
		}
		err := s.js.DeleteConsumer(ctx, Jobs, LaneDurable(w.App, lane))
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("delete consumer of %s: %w", w.Subject, err)
		}
	}
	return nil
}

// ReleaseApp makes room for an app's own consumers: the stray consumer goes if
// it is on a subject of the app.
func (s *Streams) ReleaseApp(ctx context.Context, app string) error {
	subjects, err := s.StraySubjects(ctx)
	if err != nil {
		return err
	}
	for _, lane := range job.Lanes() {
		if slices.Contains(subjects, JobsSubject(app, lane)) {
			return s.RemoveStray(ctx)
		}
	}
	return nil
}
