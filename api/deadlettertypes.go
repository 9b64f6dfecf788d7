package api

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// DeadLetter is what was given up, and why.
type DeadLetter struct {
	_ struct{} `additionalProperties:"true"`

	Sequence   uint64     `json:"sequence" doc:"Its number: its place in the stream DEAD."`
	App        string     `json:"app" doc:"The app."`
	Reason     string     `json:"reason" doc:"Why it was given up, for people."`
	Subject    string     `json:"subject,omitempty" doc:"Where the message was published."`
	Campaign   string     `json:"campaign,omitempty" doc:"Its campaign."`
	Root       string     `json:"root,omitempty" doc:"The job's id, or that of the one which it continues. Absent: it is no job."`
	ID         string     `json:"id,omitempty" doc:"Its own id, if it was redriven before."`
	Recipients int        `json:"recipients,omitempty" doc:"How many recipients were given up. Absent: that is not known."`
	Attempts   int        `json:"attempts,omitempty" doc:"How often APNs was tried, for the recipient that was tried most."`
	Deliveries int        `json:"deliveries,omitempty" doc:"How often JetStream had handed the message out."`
	First      *time.Time `json:"first,omitempty" doc:"When the message was first stored."`
	Last       *time.Time `json:"last,omitempty" doc:"When it was given up."`
	Expires    *time.Time `json:"expires,omitempty" doc:"When the job's time is over."`
	Cut        string     `json:"cut,omitempty" doc:"Length and SHA-256 of a body that was cut."`
	Bytes      int        `json:"bytes" doc:"Length of the body."`
	RedriveID  string     `json:"redrive_id" doc:"The id of the job that redriving makes."`
	Refusal    string     `json:"refusal,omitempty" doc:"Why it cannot be redriven. Absent: it can, as far as the letter tells."`

	Headers map[string][]string `json:"headers,omitempty" doc:"All headers. Of a list: absent."`
	Body    *string             `json:"body,omitempty" doc:"The body as text. Of a list: absent."`
}

// DeadLetterOf says what a dead letter is, without its headers and its body. Device
// tokens in the reason are shortened unless full says so.
func DeadLetterOf(l *stream.DeadLetter, now time.Time, full bool) DeadLetter {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	out := DeadLetter{
		Sequence: l.Sequence, App: l.App, Reason: l.Reason, Subject: l.Subject, Campaign: l.Campaign, Root: l.Root, ID: l.ID,
		Recipients: l.Recipients, Attempts: l.Attempts, Deliveries: l.Deliveries,
		First: when(l.First), Last: when(l.GivenUp()), Expires: when(l.Expires),
		Cut: l.Cut, Bytes: l.Bytes, RedriveID: l.RedriveID, Refusal: l.Refusal(now),
	}
	if !full {
		out.Reason = HideTokens(out.Reason)
	}
	return out
}

// WholeDeadLetterOf is [DeadLetterOf] with the headers and the body.
func WholeDeadLetterOf(l *stream.DeadLetter, now time.Time, full bool) DeadLetter {
	out := DeadLetterOf(l, now, full)
	body := bodyText(l.Body, full)
	out.Headers = make(map[string][]string, len(l.Header))
	for name, values := range l.Header {
		out.Headers[name] = slices.Clone(values)
	}
	if !full {
		body = HideTokens(body)
		for _, values := range out.Headers {
			for i := range values {
				values[i] = HideTokens(values[i])
			}
		}
	}
	out.Body = &body
	return out
}

// bodyText makes a body readable: the compact form of a job becomes JSON, and what is
// no text a dump, which needs full: it may hold device tokens.
func bodyText(body []byte, full bool) string {
	if len(body) > 0 && !utf8.Valid(body) {
		j, err := job.Parse(body)
		if err == nil {
			body, err = j.MarshalJSON()
		}
		switch {
		case err != nil && full:
			return hex.Dump(body)
		case err != nil:
			return "(not text: shown in full only)"
		}
	}
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") == nil {
		return indented.String()
	}
	return string(body)
}

// tokenBytes is from how many bytes on, in hexadecimal and also in groups, something may
// be a device token: UUIDs are shorter.
const tokenBytes = 20

// HideTokens shortens what may be a device token to six digits. What is cut before may keep
// more of one: cut afterwards.
func HideTokens(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		end := hexEnd(text, i)
		if end == 0 {
			out.WriteByte(text[i])
			i++
			continue
		}
		out.WriteString(text[i : i+6])
		out.WriteString("…")
		i = end
	}
	return out.String()
}

// hexEnd returns where what may be a device token ends that begins at i; 0: none does.
func hexEnd(text string, i int) (end int) {
	isByte := func(i int) bool { return i+1 < len(text) && isHex(text[i]) && isHex(text[i+1]) }
	n := 0
	for isByte(i) {
		n, i = n+1, i+2
		if i < len(text) && strings.IndexByte(" :-", text[i]) >= 0 && isByte(i+1) {
			i++
		}
	}
	if n < tokenBytes {
		return 0
	}
	return i
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// DeadLetterList is a page of dead letters.
type DeadLetterList struct {
	_ struct{} `additionalProperties:"true"`

	DeadLetters []DeadLetter `json:"dead_letters" nullable:"false" doc:"The oldest first. It may have fewer than the limit, or none, though others follow: see next."`
	Next        uint64       `json:"next,omitempty" doc:"Give it as after to go on. Absent: these are all."`
}

// DeadLetterChoice is the body of requests that redrive or purge dead letters.
type DeadLetterChoice struct {
	Sequences     []uint64 `json:"sequences,omitempty" nullable:"false" minItems:"1" maxItems:"1000" doc:"The numbers of those that are meant, in place of filters."`
	Reason        string   `json:"reason,omitempty" maxLength:"2048" doc:"Those with this in their reason, in any case."`
	Campaign      string   `json:"campaign,omitempty" maxLength:"256" doc:"Those of this campaign."`
	Job           string   `json:"job,omitempty" maxLength:"256" doc:"Those of this job."`
	NewerThan     string   `json:"newer_than,omitempty" maxLength:"32" doc:"Those given up since, such as 12h or 30d." example:"24h"`
	OlderThan     string   `json:"older_than,omitempty" maxLength:"32" doc:"Those given up longer ago."`
	All           bool     `json:"all,omitempty" doc:"All of the app: said where there is no filter."`
	DryRun        bool     `json:"dry_run,omitempty" doc:"Only count them."`
	Limit         int      `json:"limit,omitempty" minimum:"1" maximum:"10000" doc:"At most so many letters by this request. Left out: 1000."`
	MaxRecipients int      `json:"max_recipients,omitempty" minimum:"1" maximum:"10000000" doc:"Of redriving: no further letter once these have so many recipients. Left out: no bound."`
	After         uint64   `json:"after,omitempty" doc:"Go on: next of the answer before."`
	Through       uint64   `json:"through,omitempty" doc:"Go on: through of the answer before, so that letters that come back meanwhile are not meant."`
}

// DeadLetterResult is what was done with dead letters.
type DeadLetterResult struct {
	_ struct{} `additionalProperties:"true"`

	DryRun     bool              `json:"dry_run" doc:"Nothing was done: this is what would be."`
	Letters    int               `json:"letters" doc:"Letters that were redriven or deleted."`
	Recipients int               `json:"recipients" doc:"Their recipients, as far as that is known."`
	Stays      int               `json:"stays" doc:"Letters that are meant and cannot be redriven: see refusals."`
	Again      int               `json:"again" doc:"Of letters, those that were redriven within two minutes before: they are not sent again."`
	Unknown    []uint64          `json:"unknown,omitempty" nullable:"false" doc:"Numbers of which the app has no dead letter: they were redriven or purged meanwhile, or were never there."`
	Reasons    []DeadLetterCount `json:"reasons" nullable:"false" doc:"Letters by reason, the most first. Of rare reasons there is one row."`
	Refusals   []DeadLetterCount `json:"refusals" nullable:"false" doc:"Those that stay, by why."`
	Notes      []string          `json:"notes" nullable:"false" doc:"What becomes of those that are redriven, for people."`
	Next       uint64            `json:"next,omitempty" doc:"There may be more: give it as after, with through, to go on. Absent: these were all."`
	Through    uint64            `json:"through,omitempty" doc:"The last number that is meant. Absent where numbers were given."`
}

// DeadLetterCount counts dead letters.
type DeadLetterCount struct {
	_ struct{} `additionalProperties:"true"`

	Reason     string `json:"reason" doc:"The reason, cut to 80 bytes."`
	Letters    int    `json:"letters" doc:"How many letters."`
	Recipients int    `json:"recipients" doc:"How many recipients, as far as that is known."`
}

func countsOf(t *stream.DeadTally) []DeadLetterCount {
	out := []DeadLetterCount{}
	for _, n := range t.Counts() {
		out = append(out, DeadLetterCount{Reason: n.Reason, Letters: n.Letters, Recipients: n.Recipients})
	}
	return out
}
