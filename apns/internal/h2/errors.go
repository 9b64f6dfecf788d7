package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// Why a connection ended or a request has no answer.
var (
	ErrClosed          = errors.New("h2: connection closed")
	ErrPeerClosed      = errors.New("h2: peer closed the connection")
	ErrRetired         = errors.New("h2: connection retired")
	ErrTimeout         = errors.New("h2: no answer in time")
	ErrPingTimeout     = errors.New("h2: peer is silent and does not answer a PING")
	ErrSettingsTimeout = errors.New("h2: peer sent no SETTINGS in time")
	ErrDrainTimeout    = errors.New("h2: connection did not drain in time")
)

// GoAwayError is a GOAWAY frame from the peer.
type GoAwayError struct {
	LastStreamID uint32
	Code         http2.ErrCode
	Debug        string // at most maxDebugBytes of it: JSON, text or empty
}

// Error names the code and quotes the debug data.
func (e *GoAwayError) Error() string {
	if e.Debug == "" {
		return fmt.Sprintf("h2: peer sent GOAWAY %v", e.Code)
	}
	return fmt.Sprintf("h2: peer sent GOAWAY %v: %q", e.Code, e.Debug)
}

// ResetError is a RST_STREAM frame from the peer.
type ResetError struct{ Code http2.ErrCode }

// Error names the code.
func (e ResetError) Error() string { return fmt.Sprintf("h2: peer reset the stream: %v", e.Code) }

// ProtocolError is a fault of the peer that ends the connection.
type ProtocolError struct {
	Code   http2.ErrCode
	Detail string
}

// Error says what the peer did.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("h2: peer's fault (%v): %s", e.Code, e.Detail)
}

func protocolError(detail string) error {
	return &ProtocolError{http2.ErrCodeProtocol, detail}
}

// lastWords is what we tell the peer when a connection ends because of err; nil
// if there is nothing to say or nobody to hear it.
func lastWords(err error) []byte {
	if fault, ok := errors.AsType[*ProtocolError](err); ok {
		return appendGoAway(nil, fault.Code)
	}
	return nil
}

// closedError is the end of a connection that a GOAWAY had announced. It is both.
type closedError struct {
	goAway *GoAwayError
	cause  error
}

func (e *closedError) Error() string   { return fmt.Sprintf("%v, then: %v", e.goAway, e.cause) }
func (e *closedError) Unwrap() []error { return []error{e.goAway, e.cause} }
