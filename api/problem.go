package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// Problem is the answer to a request that was not carried out: a problem document
// (RFC 9457). Its type is about:blank, so title is that of the status; programs
// go by code.
type Problem struct {
	_ struct{} `additionalProperties:"true"`

	Type      string  `json:"type" enum:"about:blank" doc:"Always about:blank: code says what it is."`
	Title     string  `json:"title" doc:"The status in words."`
	Status    int     `json:"status" doc:"The HTTP status."`
	Code      string  `json:"code" doc:"What went wrong, for programs."`
	Detail    string  `json:"detail" doc:"What went wrong, for people."`
	RequestID string  `json:"request_id" doc:"Names the request in the logs; also in the header X-Request-Id."`
	Errors    []Fault `json:"errors,omitempty" nullable:"false" doc:"Everything that is wrong with the request."`

	retryAfter time.Duration
	allow      string // of a 405
	cause      error  // for the log
}

// Fault is one thing that is wrong with a request. It never holds a device token
// or another value.
type Fault struct {
	_ struct{} `additionalProperties:"true"`

	Path    string `json:"path" doc:"JSON path in the body, such as tags[3], empty for the whole; or a parameter of the URL, such as {token}."`
	Message string `json:"message" doc:"What would be right."`
}

// The codes of problems. They are an interface: never renamed.
const (
	codeMalformed           = "malformed"
	codeUnauthorized        = "unauthorized"
	codeWrongApp            = "wrong_app"
	codeMissingScope        = "missing_scope"
	codeNoRoute             = "no_route"
	codeUnknownApp          = "unknown_app"
	codeUnknownDevice       = "unknown_device"
	codeMethod              = "method_not_allowed"
	codeTooManyDevices      = "too_many_devices"
	codeUnknownCampaign     = "unknown_campaign"
	codeUnknownNotification = "unknown_notification"
	codeUnknownKey          = "unknown_key"
	codeUnknownDeadLetter   = "unknown_dead_letter"
	codeCampaignExists      = "campaign_exists"
	codeWrongState          = "wrong_state"
	codeNoRoom              = "no_room"
	codeBodyTooLarge        = "body_too_large"
	codeEncoding            = "unsupported_encoding"
	codeInvalid             = "invalid"
	codeRateLimited         = "rate_limited"
	codeInternal            = "internal"
	codeUnavailable         = "unavailable"
	codeOverloaded          = "overloaded"
	contentType             = "application/json"
	contentTypeProblem      = "application/problem+json"
	contentTypeEvents       = "text/event-stream"
	retryWhenDown           = 5 * time.Second
	retryWhenOverloaded     = time.Second
)

func problemf(status int, code, format string, args ...any) *Problem {
	return &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Code: code, Detail: fmt.Sprintf(format, args...),
	}
}

// invalid is the problem of a request with faults.
func invalid(f *faults) *Problem {
	total := len(f.list) + f.more
	p := problemf(http.StatusUnprocessableEntity, codeInvalid, "the request has %d problems", total)
	if total == 1 {
		p.Detail = strings.TrimPrefix(f.list[0].Path+": "+f.list[0].Message, ": ")
	}
	if f.more > 0 {
		p.Detail += fmt.Sprintf(", of which the first %d are listed", len(f.list))
	}
	p.Errors = f.list
	return p
}

// unavailable is the problem of a request that Redis kept from being carried out.
func unavailable(cause error) *Problem {
	p := problemf(http.StatusServiceUnavailable, codeUnavailable,
		"the token set cannot be reached, or takes no changes now: repeat the request later; it may have been carried out, which does no harm")
	p.retryAfter, p.cause = retryWhenDown, cause
	return p
}

// queueUnavailable is the problem of a request that JetStream, or Redis, kept from being
// carried out.
func queueUnavailable(cause error) *Problem {
	p := problemf(http.StatusServiceUnavailable, codeUnavailable,
		"the queue or the token set cannot be reached: repeat the request later; it may have been carried out, which does no harm")
	p.retryAfter, p.cause = retryWhenDown, cause
	return p
}

// faults are what is wrong with a request.
type faults struct {
	list []Fault
	more int // beyond those
}

// take adds what a decoder found.
func (f *faults) take(list []strictjson.Problem, more int) {
	for _, p := range list {
		f.list = append(f.list, Fault{Path: p.Path, Message: p.Message})
	}
	f.more += more
}

// add adds a fault.
func (f *faults) add(path, format string, args ...any) {
	f.list = append(f.list, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) any() bool { return len(f.list) > 0 }
