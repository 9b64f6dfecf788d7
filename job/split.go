package job

import "github.com/pushfleet/pushfleet/device"

// Split divides a message so that no part's JSON exceeds maxBytes or tells of
// more than maxRecipients; either is no limit if it is not positive. Headers
// count against NATS's max_payload too: leave room for them.
//
// A job stays in one part if it fits there, and for that a part of one job may have
// twice maxRecipients: what is settled at once costs whoever counts it much less. A
// job that does not fit is in several, in order: none of them is Whole, and only the last is Complete and has the Total,
// if the job was. A single recipient that exceeds maxBytes by itself gets a part
// of its own. The parts share memory with o. Without jobs there are no parts.
func (o *Outcomes) Split(maxBytes, maxRecipients int) []Outcomes {
	s := splitter{from: o, maxBytes: maxBytes, maxRecipients: maxRecipients}
	s.base = len(outcomesObject.encode(nil, s.empty())) + len(`,"jobs":[]`)
	s.flush()
	for i := range o.Jobs {
		s.add(&o.Jobs[i])
	}
	s.flush()
	return s.out
}

type splitter struct {
	from                    *Outcomes
	maxBytes, maxRecipients int
	base                    int // bytes of a message without jobs

	out               []Outcomes
	now               Outcomes
	bytes, recipients int // of now, at most
}

func (s *splitter) empty() *Outcomes {
	return &Outcomes{App: s.from.App, Lane: s.from.Lane, Worker: s.from.Worker, At: s.from.At}
}

// flush ends the present part, if there is anything in it.
func (s *splitter) flush() {
	if len(s.now.Jobs) > 0 {
		s.out = append(s.out, s.now)
	}
	s.now, s.bytes, s.recipients = *s.empty(), s.base, 0
}

func (s *splitter) fits(bytes, recipients int) bool {
	return (s.maxBytes <= 0 || s.bytes+bytes <= s.maxBytes) &&
		(s.maxRecipients <= 0 || s.recipients+recipients <= s.maxRecipients)
}

func (s *splitter) put(j *JobOutcome, bytes, recipients int) {
	s.now.Jobs = append(s.now.Jobs, *j)
	s.bytes += bytes
	s.recipients += recipients
}

// add puts a job into the present part, or the next, or several.
func (s *splitter) add(j *JobOutcome) {
	bytes := jobBytes(j)
	for i := range j.Accepted {
		bytes += acceptedBytes(j, i)
	}
	for i := range j.Others {
		bytes += recipientBytes(&j.Others[i])
	}
	recipients := len(j.Accepted) + len(j.Others)
	if s.fits(bytes, recipients) {
		s.put(j, bytes, recipients)
		return
	}
	s.flush()
	if s.fits(bytes, recipients-s.maxRecipients) || recipients <= 1 {
		s.put(j, bytes, recipients)
		return
	}
	rest := *j
	for {
		part := s.cut(&rest)
		if len(rest.Accepted)+len(rest.Others) == 0 {
			part.Complete, part.Total = j.Complete, j.Total
			s.now.Jobs = append(s.now.Jobs, part)
			return
		}
		s.now.Jobs = append(s.now.Jobs, part)
		s.flush()
	}
}

// cut takes as much of a job's recipients as fits the present part, which has no
// other job, but one at least.
func (s *splitter) cut(rest *JobOutcome) JobOutcome {
	part := *rest
	part.Whole, part.Complete, part.Total = false, false, 0
	s.bytes += jobBytes(rest)
	take := func(bytes int) bool {
		if s.recipients > 0 && !s.fits(bytes, 1) {
			return false
		}
		s.bytes += bytes
		s.recipients++
		return true
	}
	accepted, others := 0, 0
	for accepted < len(rest.Accepted) && take(acceptedBytes(rest, accepted)) {
		accepted++
	}
	if accepted == len(rest.Accepted) {
		for others < len(rest.Others) && take(recipientBytes(&rest.Others[others])) {
			others++
		}
	}
	part.Accepted, rest.Accepted = head(rest.Accepted, accepted), rest.Accepted[accepted:]
	part.Others, rest.Others = head(rest.Others, others), rest.Others[others:]
	part.Fresh, rest.Fresh = cutFresh(rest.Fresh, accepted)
	// Which of them are known is not told: only the sum must hold.
	part.Known = min(rest.Known, accepted)
	rest.Known -= part.Known
	return part
}

// head returns the first n items, or nil if that is none.
func head[E any](items []E, n int) []E {
	if n == 0 {
		return nil
	}
	return items[:n:n]
}

// cutFresh divides indices at n; those of the rest count from there.
func cutFresh(fresh []int, n int) (before, after []int) {
	for _, f := range fresh {
		if f < n {
			before = append(before, f)
		} else {
			after = append(after, f-n)
		}
	}
	return before, after
}

// The sizes below are upper bounds, and exact or nearly so: numbers are counted
// with all the digits that they can have, and a fresh index for every accepted
// device token.

const (
	digits  = 20 // of the longest number
	perName = 24 // of the longest name, with its quotes, colon and comma
)

// jobBytes is the size of a job without recipients.
func jobBytes(j *JobOutcome) int {
	const numbers, flags, lists, texts = 9, 2, 3, 4
	return (numbers+flags+lists+texts)*perName + numbers*digits + stringBytes(j.ID) + stringBytes(j.Root) + stringBytes(j.Campaign) + len(`"production"`) + flags*len("true") + lists*len("[]")
}

func acceptedBytes(j *JobOutcome, i int) int {
	n := tokenBytes(j.Accepted[i])
	if len(j.Fresh) > 0 {
		n += decimalBytes(len(j.Accepted)) + len(",")
	}
	return n
}

// decimalBytes is how many digits a number of zero or more has.
func decimalBytes(n int) int {
	digits := 1
	for ; n >= 10; n /= 10 {
		digits++
	}
	return digits
}

func recipientBytes(r *Recipient) int {
	const names, numbers, flags = 11, 4, 2
	return len("{},") + names*perName + numbers*digits + flags*len("true") + tokenBytes(r.DeviceToken) +
		stringBytes(r.User) + stringBytes(r.Install) + stringBytes(string(r.Result)) + stringBytes(r.Reason)
}

func tokenBytes(t device.Token) int { return 2*t.Len() + len(`"",`) }

// stringBytes is the size of s as a JSON string.
func stringBytes(s string) int {
	n := len(`""`) + len(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ':
			n += len(`\u0000`) - 1
		case c == '"' || c == '\\':
			n++
		case c >= 0x80:
			n += len("\uFFFD") - 1 // if it is not UTF-8
		}
	}
	return n
}
