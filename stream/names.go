package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/pushfleet/pushfleet/job"
)

// The streams.
const (
	Jobs     = "JOBS"     // work queue: jobs, campaigns, campaign ranges
	Devices  = "DEVICES"  // work queue: registrations and removals
	Outcomes = "OUTCOMES" // what became of notifications, for a week
	Dead     = "DEAD"     // what was given up
	Webhooks = "WEBHOOKS" // work queue: POSTs to webhooks; only where there is one
)

// The key-value buckets.
const (
	presenceBucket  = "pushfleet-workers"   // worker name -> Presence, 30 s
	campaignsBucket = "pushfleet-campaigns" // <app>.<SubjectToken(campaign)> -> campaign.Status
)

// The durables that are not one per app and lane.
const (
	recorderDurable = "recorder"
	strayDurable    = "stray"
	requestsDurable = "campaigns"
)

// The headers of our own. Dead letters carry everything but the original body
// in headers, so that a body of the largest size still fits.
const (
	HeaderID       = "Push-ID"       // redriven job: its own id; its body has the first one's
	HeaderRoot     = "Push-Root"     // id of the job that a redriven one continues
	HeaderCampaign = "Push-Campaign" // campaign that the message belongs to

	HeaderReason     = "Push-Reason"     // dead letter: why it was given up
	HeaderTries      = "Push-Tries"      // dead letter: deliveries so far
	HeaderAttempts   = "Push-Attempts"   // dead letter: tries at APNs of the recipient that had most
	HeaderRecipients = "Push-Recipients" // dead letter: how many recipients are given up
	HeaderFirst      = "Push-First"      // dead letter, redriven job: when JetStream first stored the message (RFC 3339)
	HeaderLast       = "Push-Last"       // dead letter: when it was given up (RFC 3339)
	HeaderExpires    = "Push-Expires"    // dead letter: when the job's time is over (RFC 3339)
	HeaderSubject    = "Push-Subject"    // dead letter: where the message was published
	HeaderCut        = "Push-Cut"        // dead letter: "<bytes> sha256:<hex>" of a body that did not fit
)

// JobsSubject returns the subject for jobs of an app and lane.
func JobsSubject(app string, lane job.Lane) string {
	return "push.jobs." + app + "." + lane.String()
}

// OutcomesSubject returns the subject for outcomes of jobs of an app and lane.
func OutcomesSubject(app string, lane job.Lane) string {
	return "push.outcomes." + app + "." + lane.String()
}

// CampaignsSubject returns the subject for campaigns of an app that are to be
// created.
func CampaignsSubject(app string) string { return "push.campaigns." + app }

// RangesSubject returns the subject for ranges of a campaign.
func RangesSubject(app, campaign string) string {
	return "push.ranges." + app + "." + SubjectToken(campaign)
}

// RangeOutcomesSubject returns the subject for outcomes of one range of a campaign.
func RangeOutcomesSubject(app, campaign string, n int) string {
	return OutcomesSubject(app, job.Bulk) + "." + SubjectToken(campaign) + "." + strconv.Itoa(n)
}

// CampaignOutcomesSubject returns the wildcard subject for outcomes of all ranges of a
// campaign.
func CampaignOutcomesSubject(app, campaign string) string {
	return OutcomesSubject(app, job.Bulk) + "." + SubjectToken(campaign) + ".*"
}

// AppOutcomes returns the wildcard subject for all outcomes of an app.
func AppOutcomes(app string) string { return "push.outcomes." + app + ".>" }

// DeadSubject returns the subject for dead letters of an app.
func DeadSubject(app string) string { return "push.dead." + app }

// MsgID returns the Nats-Msg-Id of a job. JetStream's duplicate window is one
// per stream, so a bare job id of one app would swallow another app's.
func MsgID(app string, lane job.Lane, id string) string {
	return app + "/" + lane.String() + "/" + id
}

// RangeMsgID returns the Nats-Msg-Id of a range. No lane is called "c".
func RangeMsgID(app, campaign string, n int) string {
	return app + "/c/" + campaign + "/" + strconv.Itoa(n)
}

// rangesDurable returns the name of the durable consumer of a campaign's ranges.
// Names of apps and campaigns have no '=', so that no two campaigns share one, nor
// a campaign and a lane.
func rangesDurable(app, campaign string) string { return durableOfRanges(app, SubjectToken(campaign)) }

func durableOfRanges(app, token string) string { return "c=" + app + "=" + token }

// LaneDurable returns the name of the durable consumer of an app and lane.
func LaneDurable(app string, lane job.Lane) string { return app + "-" + lane.String() }

// SubjectToken returns id as one token of a subject: itself where it holds only
// letters, digits, '-' and '_', else a hash of it.
func SubjectToken(id string) string {
	if ValidName(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "h_" + hex.EncodeToString(sum[:16])
}

// ValidName reports whether s can be an app's name: letters, digits, '-' and
// '_', at most 64 of them.
func ValidName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// splitRangesSubject returns the app, and what [SubjectToken] made of the campaign,
// that a subject of ranges names.
func splitRangesSubject(subject string) (app, campaign string, err error) {
	parts := strings.Split(subject, ".")
	if len(parts) != 4 || parts[0] != "push" || parts[1] != "ranges" {
		return "", "", fmt.Errorf("subject %q is not push.ranges.<app>.<campaign>", subject)
	}
	return parts[2], parts[3], nil
}

// splitCampaignsSubject returns the app that a subject of campaigns to create names.
func splitCampaignsSubject(subject string) (string, error) {
	app, ok := strings.CutPrefix(subject, "push.campaigns.")
	if !ok || app == "" || strings.Contains(app, ".") {
		return "", fmt.Errorf("subject %q is not push.campaigns.<app>", subject)
	}
	return app, nil
}

// splitJobsSubject returns the app and the lane that a subject of JOBS names.
func splitJobsSubject(subject string) (app, lane string, err error) {
	parts := strings.Split(subject, ".")
	if len(parts) != 4 || parts[0] != "push" || parts[1] != "jobs" {
		return "", "", fmt.Errorf("subject %q is not push.jobs.<app>.<lane>", subject)
	}
	return parts[2], parts[3], nil
}
