package apnstest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// Duration is a [time.Duration] that is text in JSON, such as "20ms".
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Faults is everything that can be made to go wrong, or to take time. The zero
// value is a server in good health that answers at once. It can be replaced at
// any time, with [Server.SetFaults]; what a connection took over when it opened
// (said at each field) it keeps.
type Faults struct {
	// Seed makes every decision by probability repeatable, given the same order of
	// connections and requests.
	Seed uint64 `json:"seed,omitempty"`

	Latency     Latency           `json:"latency,omitzero"`
	Requests    []RequestFault    `json:"requests,omitempty"`    // the first that matches acts
	Connections []ConnectionFault `json:"connections,omitempty"` // all that match act

	// Flip makes every device token wrong: "environment" answers BadDeviceToken,
	// "topic" DeviceTokenNotForTopic to every valid request.
	Flip string `json:"flip,omitempty"`

	Auth       AuthFaults     `json:"auth,omitzero"`
	Streams    StreamFaults   `json:"streams,omitzero"`
	Flow       FlowFaults     `json:"flow,omitzero"`
	Responses  ResponseFaults `json:"responses,omitzero"`
	Score      ErrorScore     `json:"score,omitzero"`
	RateLimit  RateLimit      `json:"rate_limit,omitzero"`
	Reconnects ReconnectGuard `json:"reconnects,omitzero"`

	// IdleTimeout sends GOAWAY with reason IdleTimeout to a connection without
	// requests for so long. 0: never.
	IdleTimeout Duration `json:"idle_timeout,omitempty"`
	// StrictPayload answers 400 BadRequestPayload to a body that is no JSON object
	// or whose aps has a key of the wrong type. APNs does not: it says 200.
	StrictPayload bool `json:"strict_payload,omitempty"`
}

// Latency is how long an answer takes: the sum of the parts that are set.
type Latency struct {
	Constant Duration `json:"constant,omitempty"`
	// Jitter adds something between zero and it, evenly: it shuffles answers.
	Jitter Duration `json:"jitter,omitempty"`
	// Median and Sigma add a log-normal time; Sigma is of the logarithm.
	Median Duration `json:"median,omitempty"`
	Sigma  float64  `json:"sigma,omitempty"`
	// TailShare of the requests take Tail more.
	TailShare float64  `json:"tail_share,omitempty"`
	Tail      Duration `json:"tail,omitempty"`
	// InOrder keeps a connection's answers in order of the requests.
	InOrder bool `json:"in_order,omitempty"`
	// SilentShare of the device tokens, by their hash, are accepted and never
	// answered (observed: jchambers/pushy#773).
	SilentShare float64 `json:"silent_share,omitempty"`
}

// Match says which requests a fault is for. Zero fields match all.
type Match struct {
	TokenPrefix string  `json:"token_prefix,omitempty"` // hexadecimal digits
	TokenShare  float64 `json:"token_share,omitempty"`  // this part of all device tokens, by their hash
	Topic       string  `json:"topic,omitempty"`        // the exact apns-topic
	Connection  uint64  `json:"connection,omitempty"`   // its id: they count from 1

	// From and Until are since the faults were set; Until 0 is for ever.
	From  Duration `json:"from,omitempty"`
	Until Duration `json:"until,omitempty"`

	Skip        int     `json:"skip,omitempty"`        // not the first so many requests of a connection
	Every       int     `json:"every,omitempty"`       // of the others, each n-th only
	Probability float64 `json:"probability,omitempty"` // 0 is always
	Times       int     `json:"times,omitempty"`       // act at most so often; 0 is no bound
}

// RequestFault is what is done to a request. At most one of Answer, NeverAnswer
// and Reset may be set; Delay and Do go with any.
type RequestFault struct {
	Name  string `json:"name,omitempty"` // for the log of events
	Match `json:"match,omitzero"`

	// Answer is given instead of looking at the device token; all checks before
	// that have passed.
	Answer *Answer `json:"answer,omitempty"`
	// NeverAnswer judges the request, records it, and says nothing.
	NeverAnswer bool     `json:"never_answer,omitempty"`
	Reset       *Reset   `json:"reset,omitempty"`
	Delay       Duration `json:"delay,omitempty"` // in addition to the latency
	// Do is done to the request's connection. A GOAWAY or close comes before the
	// request is looked at: it is not processed unless the action says so.
	Do *Action `json:"do,omitempty"`
}

// Reset is a RST_STREAM instead of an answer.
type Reset struct {
	Code string `json:"code"` // an HTTP/2 error code, such as REFUSED_STREAM
	// When is "before" the request is looked at (default), "after" it is judged
	// and recorded, or after the answer's "headers".
	When  string `json:"when,omitempty"`
	Twice bool   `json:"twice,omitempty"` // and a second one with STREAM_CLOSED (observed: jchambers/pushy#476)
}

// ConnectionFault is what is done to a connection, from its start.
type ConnectionFault struct {
	Name        string   `json:"name,omitempty"`
	Connection  uint64   `json:"connection,omitempty"` // its id: they count from 1
	Every       int      `json:"every,omitempty"`      // each n-th connection only
	From        Duration `json:"from,omitempty"`       // since the faults were set
	Until       Duration `json:"until,omitempty"`      // 0 is for ever
	Probability float64  `json:"probability,omitempty"`
	Times       int      `json:"times,omitempty"`

	Refuse         bool `json:"refuse,omitempty"`          // TCP reset instead of TLS
	StallHandshake bool `json:"stall_handshake,omitempty"` // TLS never answers
	NoSettings     bool `json:"no_settings,omitempty"`     // TLS, then not a single frame
	// Do is done After its SETTINGS went out.
	After Duration `json:"after,omitempty"`
	Do    *Action  `json:"do,omitempty"`
}

// Action is something done to a connection, by a fault or by [Server.Do].
// Exactly one field must be set.
type Action struct {
	GoAway *GoAway `json:"goaway,omitempty"`
	// Close ends it: "tls" with close_notify, "fin" without, "rst" with a TCP reset.
	Close string `json:"close,omitempty"`
	// Freeze makes it half-open: nothing is read or written, the socket stays.
	Freeze bool `json:"freeze,omitempty"`
	// StopReading leaves the socket unread, so that the client's writes block; what
	// is to be answered still is.
	StopReading bool `json:"stop_reading,omitempty"`
	// Thaw undoes Freeze, StopReading and Mute. What was held back is not lost.
	Thaw bool `json:"thaw,omitempty"`
	// Mute judges and records requests and holds back all answers.
	Mute bool `json:"mute,omitempty"`
	// Settings sends SETTINGS and lives by them.
	Settings *Settings `json:"settings,omitempty"`
	// Wedge answers every further request with ExpiredProviderToken (observed:
	// jchambers/pushy#783).
	Wedge bool `json:"wedge,omitempty"`
	// Ping sends a PING.
	Ping bool `json:"ping,omitempty"`
	// Raw sends these bytes as they are, for what no other action says.
	Raw []byte `json:"raw,omitempty"`
}

// Settings are values of a SETTINGS frame; what is nil is left out.
type Settings struct {
	MaxConcurrentStreams *uint32 `json:"max_concurrent_streams,omitempty"`
	InitialWindowSize    *uint32 `json:"initial_window_size,omitempty"`
	HeaderTableSize      *uint32 `json:"header_table_size,omitempty"`
	MaxFrameSize         *uint32 `json:"max_frame_size,omitempty"` // 16384 to 2^24-1
}

// GoAway is a GOAWAY frame and what follows it. Requests above its
// last-stream-id are never in the ledger as accepted: those that were accepted
// and are not answered yet are withdrawn.
type GoAway struct {
	Code string `json:"code,omitempty"` // an HTTP/2 error code; empty is NO_ERROR
	// Last is the last-stream-id: "processed" (default) is the highest that was
	// processed, "max" 2^31-1, "zero" 0. Max stays open for new requests.
	Last string `json:"last,omitempty"`
	// Back lowers a processed last-stream-id by so many requests.
	Back int `json:"back,omitempty"`
	// Hold sends the frame only after so many requests more have come, none of
	// which is processed. A fault's own request is the first.
	Hold int `json:"hold,omitempty"`

	Reason string `json:"reason,omitempty"` // debug data {"reason":"…"}
	Debug  string `json:"debug,omitempty"`  // debug data as plain text

	// TwoPhase first sends 2^31-1 and goes on, then, after this time, the rest.
	TwoPhase Duration `json:"two_phase,omitempty"`
	// Then is "drain" (default): answer what is open, then close; "close" without
	// answering; "stay" open and answer.
	Then string `json:"then,omitempty"`
}

// AuthFaults change how provider tokens are judged.
type AuthFaults struct {
	ClockSkew Duration `json:"clock_skew,omitempty"` // added to the server's clock when it judges iat
	// MaxFuture is how far ahead iat may be; 0 is 5 minutes.
	//
	// choice: APNs's tolerance is unknown.
	MaxFuture Duration `json:"max_future,omitempty"`
	OnlyKeyID string   `json:"only_key_id,omitempty"` // any other key is InvalidProviderToken
	Revoked   []string `json:"revoked,omitempty"`     // key ids: 403 Forbidden
	// WedgeExpired: once a connection has seen an expired token it answers every
	// request so (observed: jchambers/pushy#783).
	WedgeExpired bool `json:"wedge_expired,omitempty"`
	// UpdateInterval is how often a connection's token may change; 0 is Apple's 20
	// minutes, negative is no limit.
	UpdateInterval Duration `json:"update_interval,omitempty"`
	// DocumentedSpelling answers a key of the other environment with the reason
	// that is documented, BadEnvironmentKeyIdInToken, not with the one seen.
	DocumentedSpelling bool `json:"documented_spelling,omitempty"`
}

// StreamFaults change how MAX_CONCURRENT_STREAMS is handled.
type StreamFaults struct {
	Strict bool `json:"strict,omitempty"` // a lowered limit binds before the client acknowledged it
	// GoAwayAbove answers a stream above the limit with GOAWAY(REFUSED_STREAM) and
	// plain text instead of a reset (observed: golang/go#17265).
	GoAwayAbove bool `json:"goaway_above,omitempty"`
	// FlapEvery switches between the limit and FlapTo, for connections that opened
	// afterwards.
	FlapEvery Duration `json:"flap_every,omitempty"`
	FlapTo    uint32   `json:"flap_to,omitempty"` // 0 is 1
}

// FlowFaults change a new connection's flow control and tables.
type FlowFaults struct {
	InitialWindow *uint32 `json:"initial_window,omitempty"` // SETTINGS_INITIAL_WINDOW_SIZE; nil is 65535
	// Withhold never sends WINDOW_UPDATE: after 65535 bytes the client stands.
	Withhold bool `json:"withhold,omitempty"`
	// UpdateBytes cuts what is granted into WINDOW_UPDATEs of at most so much.
	UpdateBytes int     `json:"update_bytes,omitempty"`
	TableSize   *uint32 `json:"table_size,omitempty"` // SETTINGS_HEADER_TABLE_SIZE; nil is 4096
}

// ResponseFaults give answers unusual shapes that HTTP/2 allows, on connections
// that open afterwards.
type ResponseFaults struct {
	Continuation  bool `json:"continuation,omitempty"`  // header blocks in several frames
	Padding       int  `json:"padding,omitempty"`       // bytes, 0 to 255
	Informational bool `json:"informational,omitempty"` // 103 first
	Trailers      bool `json:"trailers,omitempty"`      // after the body, or after the headers of a 200
	SplitBody     bool `json:"split_body,omitempty"`    // one DATA frame per byte, then an empty one
	// Index puts every header into the dynamic table, with Huffman codes: the table
	// turns over, and indices move.
	Index bool `json:"index,omitempty"`
	// Early answers a request before its body has come.
	Early bool `json:"early,omitempty"`
	// Unknown sends a frame of an unknown type before every answer.
	Unknown bool `json:"unknown,omitempty"`
}

// ErrorScore makes errors cost the connection its streams, as APNs was seen to
// do (observed: jchambers/pushy#732). Every 4xx but 410 counts.
type ErrorScore struct {
	// Mode is "" (off), "halve" or "one": what an error does to the stream limit.
	// The next 200 restores it.
	Mode string `json:"mode,omitempty"`
	// CloseAt sends GOAWAY at this score; 0 never does. An error adds 1, a
	// BadDeviceToken 3, a 200 takes 1 away.
	CloseAt int `json:"close_at,omitempty"`
}

// RateLimit is a leaky bucket for each device token: 429 TooManyRequests above.
type RateLimit struct {
	Burst int      `json:"burst,omitempty"` // how many at once; 0 is no limit
	Every Duration `json:"every,omitempty"` // one more after so long
}

// ReconnectGuard refuses a source address that connects too often (Apple treats
// that as denial of service).
type ReconnectGuard struct {
	PerMinute int      `json:"per_minute,omitempty"` // connects allowed; 0 is no guard
	Block     Duration `json:"block,omitempty"`      // for how long; 0 is a minute
}

// check reports every problem at once.
func (f *Faults) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	share := func(name string, v float64) {
		if !(v >= 0 && v <= 1) {
			bad("%s: must be from 0 to 1, got %v", name, v)
		}
	}
	positive := func(name string, d Duration) {
		if d < 0 {
			bad("%s: must not be negative, got %v", name, time.Duration(d))
		}
	}
	positive("latency.constant", f.Latency.Constant)
	positive("latency.jitter", f.Latency.Jitter)
	positive("latency.median", f.Latency.Median)
	positive("latency.tail", f.Latency.Tail)
	share("latency.tail_share", f.Latency.TailShare)
	share("latency.silent_share", f.Latency.SilentShare)
	if !(f.Latency.Sigma >= 0 && f.Latency.Sigma <= 10) {
		bad("latency.sigma: must be from 0 to 10, got %v", f.Latency.Sigma)
	}
	oneOf := func(name, got string, want ...string) {
		for _, w := range want {
			if got == w {
				return
			}
		}
		bad("%s: must be one of %q, got %q", name, want, got)
	}
	oneOf("flip", f.Flip, "", "environment", "topic")
	oneOf("score.mode", f.Score.Mode, "", "halve", "one")
	if f.Responses.Padding < 0 || f.Responses.Padding > 255 {
		bad("responses.padding: must be from 0 to 255, got %d", f.Responses.Padding)
	}
	if f.Flow.UpdateBytes < 0 {
		bad("flow.update_bytes: must not be negative, got %d", f.Flow.UpdateBytes)
	}
	if w := f.Flow.InitialWindow; w != nil && *w > 1<<31-1 {
		bad("flow.initial_window: must be at most %d, got %d", 1<<31-1, *w)
	}
	if t := f.Flow.TableSize; t != nil && *t > maxTableSize {
		bad("flow.table_size: must be at most %d, got %d", maxTableSize, *t)
	}
	positive("idle_timeout", f.IdleTimeout)
	positive("streams.flap_every", f.Streams.FlapEvery)
	positive("rate_limit.every", f.RateLimit.Every)
	positive("reconnects.block", f.Reconnects.Block)
	for i := range f.Requests {
		at := fmt.Sprintf("requests[%d]", i)
		r := &f.Requests[i]
		if strings.Trim(strings.ToLower(r.TokenPrefix), "0123456789abcdef") != "" {
			bad("%s.match.token_prefix: must be hex digits", at)
		}
		share(at+".match.token_share", r.TokenShare)
		share(at+".match.probability", r.Probability)
		if r.Skip < 0 || r.Every < 0 || r.Times < 0 {
			bad("%s.match: skip, every and times must not be negative", at)
		}
		positive(at+".delay", r.Delay)
		n := 0
		for _, set := range []bool{r.Answer != nil, r.NeverAnswer, r.Reset != nil} {
			if set {
				n++
			}
		}
		if n > 1 {
			bad("%s: at most one of answer, never_answer and reset may be set", at)
		}
		if n == 0 && r.Do == nil && r.Delay == 0 {
			bad("%s: says nothing to do", at)
		}
		if err := r.Answer.check(); err != nil {
			bad("%s.%w", at, err)
		}
		if r.Reset != nil {
			if _, err := errorCode(r.Reset.Code); err != nil {
				bad("%s.reset.code: %w", at, err)
			}
			oneOf(at+".reset.when", r.Reset.When, "", "before", "after", "headers")
		}
		if r.Do != nil {
			if err := r.Do.check(); err != nil {
				bad("%s.do: %w", at, err)
			}
		}
	}
	for i := range f.Connections {
		at := fmt.Sprintf("connections[%d]", i)
		r := &f.Connections[i]
		share(at+".probability", r.Probability)
		if r.Every < 0 || r.Times < 0 {
			bad("%s: every and times must not be negative", at)
		}
		positive(at+".after", r.After)
		if !r.Refuse && !r.StallHandshake && !r.NoSettings && r.Do == nil {
			bad("%s: says nothing to do", at)
		}
		if r.Do != nil {
			if err := r.Do.check(); err != nil {
				bad("%s.do: %w", at, err)
			}
		}
	}
	return errors.Join(errs...)
}

// maxTableSize is the largest dynamic table that a server offers.
const maxTableSize = 1 << 16

func (a *Action) check() error {
	n := 0
	for _, set := range []bool{
		a.GoAway != nil, a.Close != "", a.Freeze, a.StopReading, a.Thaw, a.Mute,
		a.Settings != nil, a.Wedge, a.Ping, len(a.Raw) > 0,
	} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("exactly one action must be set, got %d", n)
	}
	switch a.Close {
	case "", "tls", "fin", "rst":
	default:
		return fmt.Errorf("close: must be tls, fin or rst, got %q", a.Close)
	}
	if s := a.Settings; s != nil {
		if s.InitialWindowSize != nil && *s.InitialWindowSize > 1<<31-1 {
			return fmt.Errorf("settings.initial_window_size: must be at most %d, got %d", 1<<31-1, *s.InitialWindowSize)
		}
		if s.MaxFrameSize != nil && (*s.MaxFrameSize < 1<<14 || *s.MaxFrameSize >= 1<<24) {
			return fmt.Errorf("settings.max_frame_size: must be from %d to %d, got %d", 1<<14, 1<<24-1, *s.MaxFrameSize)
		}
		if s.HeaderTableSize != nil && *s.HeaderTableSize > maxTableSize {
			return fmt.Errorf("settings.header_table_size: must be at most %d, got %d", maxTableSize, *s.HeaderTableSize)
		}
	}
	g := a.GoAway
	if g == nil {
		return nil
	}
	if _, err := errorCode(g.Code); err != nil {
		return fmt.Errorf("goaway.code: %w", err)
	}
	switch g.Last {
	case "", "processed", "max", "zero":
	default:
		return fmt.Errorf("goaway.last: must be processed, max or zero, got %q", g.Last)
	}
	switch g.Then {
	case "", "drain", "close", "stay":
	default:
		return fmt.Errorf("goaway.then: must be drain, close or stay, got %q", g.Then)
	}
	if g.Back < 0 || g.Hold < 0 || g.TwoPhase < 0 {
		return errors.New("goaway: back, hold and two_phase must not be negative")
	}
	if g.Reason != "" && g.Debug != "" {
		return errors.New("goaway: at most one of reason and debug may be set")
	}
	return nil
}

// errorCode reads an HTTP/2 error code by its name in RFC 9113; "" is NO_ERROR.
func errorCode(name string) (http2.ErrCode, error) {
	if name == "" {
		return http2.ErrCodeNo, nil
	}
	for code := http2.ErrCodeNo; code <= http2.ErrCodeHTTP11Required; code++ {
		if code.String() == name {
			return code, nil
		}
	}
	return 0, fmt.Errorf("unknown HTTP/2 error code %q", name)
}
