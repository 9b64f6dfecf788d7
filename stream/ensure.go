package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// definitions are the streams as they are made. JOBS is last: it is the one that
// makes do with what is left of the file store.
func definitions(cfg Config) []jetstream.StreamConfig {
	base := jetstream.StreamConfig{
		Storage: jetstream.FileStorage, Replicas: max(cfg.Replicas, 1),
		Discard: jetstream.DiscardNew, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
		Duplicates: duplicateWindow, AllowDirect: true,
	}
	outcomes := base
	outcomes.Name, outcomes.Description = Outcomes, "pushfleet: what became of notifications"
	outcomes.Subjects = []string{"push.outcomes.>"}
	outcomes.Retention = jetstream.LimitsPolicy
	outcomes.MaxBytes, outcomes.MaxAge = cmp.Or(cfg.OutcomesBytes, outcomesBytes), outcomesAge

	devices := base
	devices.Name, devices.Description = Devices, "pushfleet device registrations"
	devices.Subjects = []string{"push.devices.*"}
	devices.Retention = jetstream.WorkQueuePolicy
	devices.MaxBytes = cmp.Or(cfg.DevicesBytes, devicesBytes)

	dead := base
	dead.Name, dead.Description = Dead, "pushfleet dead letters"
	dead.Subjects = []string{"push.dead.*"}
	dead.Retention = jetstream.LimitsPolicy
	dead.MaxBytes = cmp.Or(cfg.DeadBytes, deadBytes)

	campaigns := base
	campaigns.Name, campaigns.Description = campaignsStream, "pushfleet campaigns and their state"
	campaigns.Subjects = []string{campaignsKeys}
	campaigns.Retention = jetstream.LimitsPolicy
	campaigns.MaxBytes, campaigns.MaxMsgsPerSubject = cmp.Or(cfg.CampaignsBytes, campaignsBytes), 1
	campaigns.AllowRollup, campaigns.DenyDelete = true, true
	campaigns.AllowMsgTTL = true // for what is left of a deleted one
	// Any replica could answer, and one that lags with a state of before: who changes
	// a campaign must see what the change before it made.
	campaigns.AllowDirect = false

	jobs := base
	jobs.Name, jobs.Description = Jobs, "pushfleet jobs and campaigns"
	// Neither schedules nor per-message TTL: a stream with schedules refuses to
	// refuse what does not fit (error 10052), and a publisher's Nats-TTL would
	// delete jobs that nobody has seen.
	jobs.Subjects = []string{"push.jobs.*.*", "push.campaigns.*", "push.ranges.*.*"}
	jobs.Retention = jetstream.WorkQueuePolicy
	jobs.MaxBytes = cmp.Or(cfg.JobsBytes, jobsBytes)
	jobs.AllowAtomicPublish = true
	return []jetstream.StreamConfig{outcomes, devices, dead, campaigns, jobs}
}

// ensure makes a stream exist. An existing one is extended by what a newer
// pushfleet needs, and never loses what an operator has set.
func (s *Streams) ensure(ctx context.Context, want jetstream.StreamConfig) error {
	st, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		st, err = s.create(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("ensure stream %s: %w", want.Name, err)
	}
	have := st.CachedInfo().Config
	if err := checkKind(have, want); err != nil {
		return err
	}
	if want.Name == Jobs {
		if err := checkKeepsJobs(have); err != nil {
			return err
		}
	}
	if have.MaxBytes <= 0 {
		s.log.Warn("stream has no max_bytes: it can take the room that outcomes need, and then nothing is acknowledged any more", zap.String("stream", want.Name))
	}
	next, changed := extend(have, want)
	if !changed {
		return nil
	}
	if _, err := s.js.UpdateStream(ctx, next); err != nil {
		return fmt.Errorf("extend stream %s: %w", want.Name, err)
	}
	return nil
}

// checkKind refuses a stream that cannot be ours.
func checkKind(have, want jetstream.StreamConfig) error {
	if have.Retention != want.Retention || have.Storage != jetstream.FileStorage {
		return fmt.Errorf("%w: %s has retention %s and %s storage, want %s and file; rename or delete it", ErrForeign, want.Name, have.Retention, have.Storage, want.Retention)
	}
	return nil
}

// create makes a stream that does not exist, unless another process is faster.
func (s *Streams) create(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	asked := want.MaxBytes
	for {
		st, err := s.js.CreateStream(ctx, want)
		switch {
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
			st, err = s.js.Stream(ctx, want.Name)
			return st, err //nolint:wrapcheck // ensure names the stream
		case isNoStorage(err) && want.Name == Jobs && want.MaxBytes/2 >= leastJobsBytes:
			want.MaxBytes /= 2
		case isNoStorage(err):
			return nil, fmt.Errorf("the server has no %d bytes of file store to reserve for it: %w", want.MaxBytes, err)
		case err != nil:
			return nil, err //nolint:wrapcheck // as above
		default:
			if want.MaxBytes < asked {
				s.log.Warn("the server's file store is small: stream is made smaller", zap.String("stream", want.Name), zap.Int64("asked_bytes", asked), zap.Int64("max_bytes", want.MaxBytes))
			}
			return st, nil
		}
	}
}

// isNoStorage reports whether a stream was not made because the server, or no
// server of its cluster, can reserve its bytes.
func isNoStorage(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case 10005, 10023, 10047: // no suitable peers; insufficient resources; storage exceeded
		return true
	}
	return false
}

// extend adds to have what want needs, and reports whether anything was missing.
func extend(have, want jetstream.StreamConfig) (jetstream.StreamConfig, bool) {
	changed := false
	known := make(map[string]bool, len(have.Subjects))
	for _, subject := range have.Subjects {
		known[subject] = true
	}
	for _, subject := range want.Subjects {
		if !known[subject] {
			have.Subjects = append(have.Subjects, subject)
			changed = true
		}
	}
	for _, flag := range []struct {
		have *bool
		want bool
	}{
		{&have.AllowAtomicPublish, want.AllowAtomicPublish},
		{&have.AllowDirect, want.AllowDirect},
	} {
		if flag.want && !*flag.have {
			*flag.have = true
			changed = true
		}
	}
	if have.Name == Jobs && have.Discard != want.Discard {
		// Without a limit it changes nothing, and makes a later one harmless.
		have.Discard = want.Discard
		changed = true
	}
	return have, changed
}

// checkKeepsJobs refuses a JOBS stream that would delete jobs by itself. Limits
// are welcome where what exceeds them is refused.
func checkKeepsJobs(cfg jetstream.StreamConfig) error {
	if cfg.AllowMsgSchedules {
		// It cannot be turned off again (10052), and none was ever released.
		return fmt.Errorf("%w: it allows message schedules, as before the first release, and so cannot refuse what does not fit; let workers of that version empty it, delete it (nats stream rm %s), and the next start makes it anew", ErrLimited, cfg.Name)
	}
	if cfg.AllowMsgTTL {
		return fmt.Errorf("%w: allow_msg_ttl, which cannot be turned off; empty it, delete it (nats stream rm %s), and the next start makes it anew", ErrLimited, cfg.Name)
	}
	var limits []string
	if old := cfg.Discard == jetstream.DiscardOld; old && cfg.MaxMsgs > 0 {
		limits = append(limits, fmt.Sprintf("max_msgs=%d with discard=old", cfg.MaxMsgs))
	}
	if old := cfg.Discard == jetstream.DiscardOld; old && cfg.MaxBytes > 0 {
		limits = append(limits, fmt.Sprintf("max_bytes=%d with discard=old", cfg.MaxBytes))
	}
	if cfg.MaxAge > 0 {
		limits = append(limits, fmt.Sprintf("max_age=%s", cfg.MaxAge))
	}
	if cfg.MaxMsgsPerSubject > 0 && !(cfg.Discard == jetstream.DiscardNew && cfg.DiscardNewPerSubject) {
		limits = append(limits, fmt.Sprintf("max_msgs_per_subject=%d", cfg.MaxMsgsPerSubject))
	}
	if len(limits) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s; remove that, or set discard=new where there is one (nats stream edit %s)", ErrLimited, strings.Join(limits, ", "), cfg.Name)
}
