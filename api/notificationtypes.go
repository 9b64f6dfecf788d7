package api

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pushfleet/pushfleet/job"
)

// MaxJobs is how many jobs one request hands in at the most.
const MaxJobs = 1000

// Job is a job as [job.Parse] reads it.
type Job json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (j Job) MarshalJSON() ([]byte, error) { return json.RawMessage(j).MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (j *Job) UnmarshalJSON(text []byte) error {
	*j = slices.Clone(text)
	return nil
}

// Schema implements [huma.SchemaProvider] with [job.Schema]. It has a name in the
// document, so that generated clients have a type for it.
func (*Job) Schema(reg huma.Registry) *huma.Schema {
	var s huma.Schema
	if err := json.Unmarshal(job.Schema(), &s.Extensions); err != nil {
		panic("api: the schema of jobs is not JSON: " + err.Error())
	}
	// Both are the document's.
	delete(s.Extensions, "$schema")
	delete(s.Extensions, "$id")
	reg.Map()["Job"] = &s
	return &huma.Schema{Ref: "#/components/schemas/Job"}
}

// HandedIn says where a job was stored.
type HandedIn struct {
	_ struct{} `additionalProperties:"true"`

	ID        string `json:"id" doc:"The job's id; seq- and its place for one that had none."`
	Sequence  uint64 `json:"sequence" doc:"The job's place in the queue."`
	Duplicate bool   `json:"duplicate" doc:"The queue had a job of this id already, from the last two minutes: it is that one, and nothing was stored."`
	StatusURL string `json:"status_url" doc:"Where to ask what became of it, from the root of this server."`
}

// JobBatch is the body of POST /v1/apps/{app}/notifications/batch.
type JobBatch struct {
	Jobs []Job `json:"jobs" nullable:"false" minItems:"1" maxItems:"1000" doc:"The jobs."`
}

// JobBatchResult is what became of a [JobBatch].
type JobBatchResult struct {
	_ struct{} `additionalProperties:"true"`

	Stored  int         `json:"stored" doc:"How many jobs are in the queue."`
	Failed  int         `json:"failed" doc:"How many are not."`
	Results []JobResult `json:"results" nullable:"false" doc:"One for each job, in their order."`
}

// JobResult is what became of one job of a [JobBatch].
type JobResult struct {
	_ struct{} `additionalProperties:"true"`

	Status int       `json:"status" doc:"As if it had been a request of its own: 202, 413, 422 (invalid), or 503 (repeat it later)."`
	Job    *HandedIn `json:"job,omitempty" doc:"With status 202."`
	Code   string    `json:"code,omitempty" doc:"With other statuses: as in a problem document."`
	Detail string    `json:"detail,omitempty" doc:"With other statuses: what went wrong, for people."`
	Errors []Fault   `json:"errors,omitempty" nullable:"false" doc:"Everything that is wrong with it, at most 10."`
}

// The states of a job. They are an interface: never renamed.
const (
	stateQueued   = "queued"
	stateInWork   = "in_work"
	stateRetrying = "retrying"
	stateDone     = "done"
)

// Results of recipients that are not settled, beside those of [job.Results].
const (
	resultWaiting  = "waiting"
	resultRetrying = "retrying"
)

// Notification is what became of a job.
type Notification struct {
	_ struct{} `additionalProperties:"true"`

	ID       string `json:"id" doc:"The job's id."`
	Lane     string `json:"lane" enum:"transactional,bulk" doc:"Its lane."`
	Sequence uint64 `json:"sequence,omitempty" doc:"Its place in the queue. Another one than was asked for: that one was refused as a duplicate of this. Absent: not known."`
	State    string `json:"state" enum:"queued,in_work,retrying,done" doc:"queued: no worker has had it. in_work: one has. retrying: it is tried again at retry_at. done: all recipients are settled."`

	QueuedAt  *time.Time `json:"queued_at,omitempty" doc:"When the queue stored it."`
	SendAfter *time.Time `json:"send_after,omitempty" doc:"It is not sent before, as it asks."`
	RetryAt   *time.Time `json:"retry_at,omitempty" doc:"When it is tried again."`

	Counts     map[string]int          `json:"counts" doc:"Settled recipients by what became of them. They are exact."`
	Duplicates int                     `json:"duplicates,omitempty" doc:"Recipients with a second outcome: sent to twice, or told twice."`
	Recipients []NotificationRecipient `json:"recipients" nullable:"false" doc:"Each recipient: a device token, or a user or installation that has none."`
	Omitted    int                     `json:"omitted,omitempty" doc:"Settled recipients that are counted and not among these: there are very many, or what became of them is not kept any more."`

	Latency *NotificationLatency `json:"latency,omitempty" doc:"Where the time went, of the delivery that settled the first recipients, as far as it is known."`
}

// NotificationRecipient is what became of one recipient of a job.
type NotificationRecipient struct {
	_ struct{} `additionalProperties:"true"`

	Token     string `json:"token,omitempty" doc:"The device token, in hexadecimal."`
	User      string `json:"user,omitempty" doc:"Your id of the user, where there is no device token or the recipient is not settled."`
	InstallID string `json:"install_id,omitempty" doc:"Your id of the installation, in the same cases."`

	Result string `json:"result" enum:"accepted,rejected,expired,suppressed,skipped,unknown,failed,waiting,retrying" doc:"accepted: APNs took it, which does not mean delivered. rejected: APNs said why not. expired: its time was over. suppressed: the device token must not be used. skipped: there is no way to it. unknown: no answer came, and the job said drop. failed: given up. waiting and retrying: not settled."`
	Reason string `json:"reason,omitempty" doc:"APNs's reason, or pushfleet's in lower case."`
	Status int    `json:"status,omitempty" doc:"APNs's HTTP status, where it answered."`
	APNsID string `json:"apns_id,omitempty" doc:"The apns-id, the same at every try."`

	Attempts  int        `json:"attempts,omitempty" doc:"Tries so far; of a settled one, the round in which it was settled."`
	SentAt    *time.Time `json:"sent_at,omitempty" doc:"When it was handed to APNs."`
	SettledAt *time.Time `json:"settled_at,omitempty" doc:"When the worker told what became of it."`
	RetryAt   *time.Time `json:"retry_at,omitempty" doc:"When it is tried again, where that differs from the rest."`
	DeadSince *time.Time `json:"dead_since,omitempty" doc:"With status 410: since when APNs knows the device token as dead."`
}

// NotificationLatency is where the time went, in milliseconds. Clocks of several
// machines are compared.
type NotificationLatency struct {
	_ struct{} `additionalProperties:"true"`

	Queued  *int64 `json:"queued_ms,omitempty" doc:"From the queue having stored the job to a worker having taken it."`
	Waiting *int64 `json:"waiting_ms,omitempty" doc:"From there to the first notification having been handed to APNs."`
	APNs    *int64 `json:"apns_ms,omitempty" doc:"From there to the answers having been told."`
}
