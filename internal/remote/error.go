package remote

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is an answer that is not what was asked for.
type Error struct {
	Status    int
	Code      string // for programs; empty: it was no problem document
	Detail    string
	RequestID string
	Faults    []Fault // everything that is wrong with the request

	retryAfter time.Duration // 0: it does not say
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Error says what the server says. A single fault is in the detail already.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	if len(e.Faults) > 1 {
		b.WriteString(":")
		for _, f := range e.Faults {
			b.WriteString("\n  " + strings.TrimPrefix(f.Path+": "+f.Message, ": "))
		}
		b.WriteString("\n ")
	}
	fmt.Fprintf(&b, " (HTTP %d", e.Status)
	if e.Code != "" {
		b.WriteString(", " + e.Code)
	}
	if e.RequestID != "" {
		b.WriteString(", request " + e.RequestID)
	}
	return b.String() + ")"
}

// Is reports whether an error is an answer with one of some codes.
func Is(err error, codes ...string) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}

// refused reads an answer that is not what was asked for.
func (c *Client) refused(resp *http.Response, text []byte) error {
	var problem struct {
		Status    int     `json:"status"`
		Code      string  `json:"code"`
		Detail    string  `json:"detail"`
		RequestID string  `json:"request_id"`
		Errors    []Fault `json:"errors"`
	}
	e := &Error{Status: resp.StatusCode, retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch {
	case media == "application/problem+json" && json.Unmarshal(text, &problem) == nil:
		e.Code, e.Detail, e.Faults = problem.Code, cmp.Or(problem.Detail, "it is refused"), problem.Errors
		e.RequestID = problem.RequestID
	case resp.StatusCode/100 == 3:
		e.Detail = c.base.Host + " sends elsewhere, where the API key does not go by itself: give the URL that serves the API"
	default:
		e.Detail = c.base.Host + " gave no answer of the API's: is it pushfleet's, and is the path right?"
	}
	return e
}

// retryAfter reads a header Retry-After in seconds.
func retryAfter(text string) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// unanswered is a request without an answer.
type unanswered struct {
	host  string
	cause error
}

func (e *unanswered) Error() string { return "ask " + e.host + ": " + e.cause.Error() }
func (e *unanswered) Unwrap() error { return e.cause }

// unsent reports whether it cannot have reached the server.
func (e *unanswered) unsent() bool {
	var op *net.OpError
	return errors.As(e.cause, &op) && op.Op == "dial"
}
