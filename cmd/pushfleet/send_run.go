package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// sendBatch is how many jobs of a file are published in one call.
const sendBatch = 2000

// sendShown is of how many lines it is said on standard error why they were not published.
const sendShown = 10

// sending is one run of send.
type sending struct {
	flags     *sendFlags
	lane      job.Lane
	desk      jobDesk
	out, talk io.Writer

	stored, before, failed int
	receipts               []producer.Receipt // with --wait
}

// sent is what is printed of a job, as JSON.
type sent struct {
	Line      int    `json:"line,omitempty"` // of a file with many
	ID        string `json:"id,omitempty"`
	Sequence  uint64 `json:"sequence,omitempty"`
	Duplicate bool   `json:"duplicate"`
	Error     string `json:"error,omitempty"`

	Complete   *bool           `json:"complete,omitempty"` // with --wait
	Recipients []sentRecipient `json:"recipients,omitempty"`
}

// sentRecipient is what became of one recipient, as JSON.
type sentRecipient struct {
	Token   string     `json:"token,omitempty"` // whole
	User    string     `json:"user,omitempty"`
	Install string     `json:"install,omitempty"`
	Result  job.Result `json:"result"`
	Reason  string     `json:"reason,omitempty"`
	Status  int        `json:"status,omitempty"`
}

// one publishes one job.
func (s *sending) one(ctx context.Context, j *job.Job) error {
	r, err := s.desk.enqueue(ctx, j)
	if err != nil {
		return err
	}
	if s.flags.wait {
		if r.Duplicate {
			fmt.Fprintf(s.talk, "job %s was published before: nothing is sent again\n", r.ID)
		}
		return s.follow(ctx, []producer.Receipt{r})
	}
	if s.flags.output == "json" {
		return s.print(sent{ID: r.ID, Sequence: r.Sequence, Duplicate: r.Duplicate})
	}
	if r.Duplicate {
		fmt.Fprintf(s.out, "job %s was published before: nothing is sent again\n", r.ID)
		return nil
	}
	fmt.Fprintf(s.out, "job %s is stored for %d recipients (%s, %s, sequence %d)\n", r.ID, j.To.Len(), s.flags.app, s.lane, r.Sequence)
	return nil
}

// many publishes the jobs of a file.
func (s *sending) many(ctx context.Context, lines *jobLines) error {
	b := newBytesBar(s.talk, lines.size, "publishing")
	var numbers []int
	var jobs []*job.Job
	flush := func() error {
		err := s.batch(ctx, numbers, jobs)
		numbers, jobs = numbers[:0], jobs[:0]
		return err
	}
	for {
		in, ok := lines.next()
		if !ok {
			break
		}
		b.add(len(in.text) + 1)
		j, err := job.Parse(in.text)
		if err != nil {
			if err := s.fail(in.line, err); err != nil {
				return err
			}
			continue
		}
		numbers, jobs = append(numbers, in.line), append(jobs, j)
		if len(jobs) == sendBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(flush(), lines.err()); err != nil {
		return err
	}
	b.finish()
	fmt.Fprintf(s.talk, "%d jobs are stored, %d were published before, %d are not stored\n", s.stored, s.before, s.failed)
	if s.flags.wait && len(s.receipts) > 0 {
		if err := s.follow(ctx, s.receipts); err != nil {
			return err
		}
	}
	if s.failed > 0 {
		return errReported
	}
	return nil
}

// batch publishes jobs that stand in lines of those numbers.
func (s *sending) batch(ctx context.Context, numbers []int, jobs []*job.Job) error {
	receipts, err := s.desk.enqueueBatch(ctx, jobs)
	var failed *producer.BatchError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	if failed != nil {
		for _, one := range failed.Jobs {
			if err := s.fail(numbers[one.Index], one.Err); err != nil {
				return err
			}
		}
	}
	for i, r := range receipts {
		switch {
		case r.ID == "":
			continue
		case r.Duplicate:
			s.before++
		default:
			s.stored++
		}
		if s.flags.wait {
			s.receipts = append(s.receipts, r)
		} else if s.flags.output == "json" {
			if err := s.print(sent{Line: numbers[i], ID: r.ID, Sequence: r.Sequence, Duplicate: r.Duplicate}); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// fail says of a line why it is not published.
func (s *sending) fail(line int, why error) error {
	s.failed++
	if s.flags.output == "json" {
		return s.print(sent{Line: line, Error: why.Error()})
	}
	if s.failed <= sendShown {
		fmt.Fprintf(s.talk, "line %d: %v\n", line, why)
	}
	return nil
}

// follow prints what becomes of jobs, and fails unless all recipients are accepted.
func (s *sending) follow(ctx context.Context, receipts []producer.Receipt) error {
	over := fmt.Errorf("%s are over (--timeout); the job stays queued, and a worker of the app sends it", s.flags.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, s.flags.timeout, over)
	defer cancel()
	w := tabwriter.NewWriter(s.out, 20, 8, 2, ' ', 0)
	if s.flags.output != "json" {
		fmt.Fprintln(w, "JOB\tRECIPIENT\tRESULT\tREASON")
	}
	good := true
	var waited error
	for final, err := range s.desk.wait(ctx, receipts) {
		if err != nil {
			waited = err
		}
		good = good && final.accepted()
		if s.flags.output == "json" {
			if err := s.print(final); err != nil {
				return err
			}
			continue
		}
		for i := range final.Recipients {
			r := &final.Recipients[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(final.ID), printable(r.name()), r.Result, printable(r.Reason))
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	switch {
	case waited != nil:
		return waited
	case !good:
		return errReported
	default:
		return nil
	}
}

// accepted reports whether APNs has accepted the notifications to all recipients.
func (s *sent) accepted() bool {
	for i := range s.Recipients {
		if s.Recipients[i].Result != job.Accepted {
			return false
		}
	}
	return s.Complete != nil && *s.Complete && len(s.Recipients) > 0
}

// name names a recipient; a device token is cut.
func (r *sentRecipient) name() string {
	switch {
	case r.Token != "":
		t, err := device.ParseToken(r.Token)
		if err != nil {
			return "-"
		}
		return t.String()
	case r.User != "":
		return "user " + r.User
	case r.Install != "":
		return "install " + r.Install
	default:
		return "-" // the job itself
	}
}

// print prints one line of JSON.
func (s *sending) print(line sent) error {
	if err := json.NewEncoder(s.out).Encode(line); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
