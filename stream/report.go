package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Report is what a worker tells every second of what it does, to whoever listens then.
// Nothing stores it: it is true for a second. Who is alive, whether it is heard or not,
// [Streams.Present] says.
type Report struct {
	Worker  string    `json:"worker"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"` // when it was started
	// Problem says in a sentence why the worker sends for no app; empty: it does.
	Problem string `json:"problem,omitempty"`
	// Left is set in the last one.
	Left bool `json:"left,omitempty"`

	// Seconds is how long Recent of the apps is about, up to now.
	Seconds float64              `json:"seconds"`
	Apps    map[string]AppReport `json:"apps,omitempty"`
}

// AppReport is what a worker tells of one app.
type AppReport struct {
	Connections int `json:"connections"` // to APNs that take notifications
	Wanted      int `json:"wanted"`      // that there are to be; 0: nothing was sent yet
	InFlight    int `json:"in_flight"`   // notifications that wait for APNs's answer

	Total  Settled `json:"total"`          // since the worker was started
	Recent Settled `json:"recent"`         // in the last [Report.Seconds]
	APNs   Times   `json:"apns,omitempty"` // from writing a request to its answer, recently
	// Accept is from JetStream having stored a job to APNs having accepted the
	// notification, recently, by lane.
	Accept [2]Times `json:"accept"`

	// Held says in a sentence each why something of the app is not sent.
	Held []string `json:"held,omitempty"`
	// Waiting is what is in JOBS, by lane, as the worker last saw it, Age seconds ago.
	// Each worker sees the same. nil: it has not seen it yet.
	Waiting *[2]LaneBacklog `json:"waiting,omitempty"`
	Age     float64         `json:"age,omitempty"`
}

// Settled are notifications by what became of them.
type Settled struct {
	Accepted int64 `json:"accepted,omitempty"`
	Rejected int64 `json:"rejected,omitempty"`
	Failed   int64 `json:"failed,omitempty"` // without an answer, or APNs failed
}

// Sum is how many there are.
func (s Settled) Sum() int64 { return s.Accepted + s.Rejected + s.Failed }

// LaneBacklog is what is in JOBS of an app's lane and not settled.
type LaneBacklog struct {
	Messages      uint64  `json:"messages,omitempty"`      // jobs, and ranges of running campaigns
	Notifications float64 `json:"notifications,omitempty"` // about how many those are
}

const reportSubjects = "push.workers.*"

func reportSubject(worker string) string { return "push.workers." + SubjectToken(worker) }

// Report tells what a worker does. It waits for nothing: whether it was heard is not
// known, nor whether this user may; see [Streams.ReportRefused].
func (s *Streams) Report(r *Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	subject := reportSubject(r.Worker)
	if err := s.nc.Publish(subject, body); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// ReportRefused returns what the server said when it refused a report, if that is what
// it said last: another error for each report that it refused.
func (s *Streams) ReportRefused(worker string) error { return s.refused(reportSubject(worker)) }

// reportsAhead bounds the reports that wait for who listens: more than a fleet's of a
// second. What is beyond is lost, and comes again.
const reportsAhead = 4096

// listenPatience is how long the server may take to know who listens.
const listenPatience = 5 * time.Second

// Reports calls heard with every report from now on, one after the other, until ctx
// ends: then it returns nil. It goes on after a lost connection by itself. listening, if
// not nil, is called once the server knows of it.
func (s *Streams) Reports(ctx context.Context, listening func(), heard func(*Report)) error {
	messages := make(chan *nats.Msg, reportsAhead)
	closed := s.nc.StatusChanged(nats.CLOSED)
	defer s.nc.RemoveStatusListener(closed)
	before := s.nc.LastError()
	sub, err := s.nc.ChanSubscribe(reportSubjects, messages)
	if err == nil {
		defer sub.Unsubscribe() //nolint:errcheck // the connection may be closed
		known, cancel := context.WithTimeout(ctx, listenPatience)
		err = s.nc.FlushWithContext(known)
		cancel()
	}
	if err == nil && s.nc.LastError() != before { //nolint:errorlint // whether the server has said something since
		err = s.refused(reportSubjects)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("listen to %s: %w", reportSubjects, err)
	}
	if listening != nil {
		listening()
	}
	for {
		select {
		case msg := <-messages:
			var r Report
			if err := json.Unmarshal(msg.Data, &r); err != nil || r.Worker == "" {
				s.log.Warn("passes over a report that cannot be read", zap.String("subject", msg.Subject), zap.Error(err))
				continue
			}
			heard(&r)
		case <-closed:
			return fmt.Errorf("listen to %s: %w", reportSubjects, nats.ErrConnectionClosed)
		case <-ctx.Done():
			return nil
		}
	}
}
