package apnstest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Config says what kind of APNs to be. The zero value is a production server on
// a free loopback port with an authority and a key of its own, which accepts
// every well-formed notification.
type Config struct {
	// Addr is where to listen; empty is 127.0.0.1:0. Aliases are more addresses
	// that serve the same, as APNs has 443 and 2197.
	Addr    string
	Aliases []string
	// ManagementAddr is where to serve channel management; empty is nowhere.
	ManagementAddr string
	// Hosts are further names and addresses for the certificate, beyond localhost,
	// 127.0.0.1, ::1 and those of Addr and Aliases.
	Hosts []string

	Environment Environment // empty: Production

	// Identity is the authority and provider key. If it is nil, Dir is where to find
	// them, and where new ones are written if it holds none; without either they
	// are new and written nowhere.
	Identity *Identity
	Dir      string
	// Keys are provider keys in addition to the Identity's.
	Keys []Key
	// ClientCAs signs the certificates that authenticate clients; nil is the
	// Identity's authority (see [Server.ClientCertificate]).
	ClientCAs *x509.CertPool

	// Topics are the bundle ids that may be sent to, without suffixes. Empty: any.
	Topics []string

	// NoBroadcast are bundle ids without the broadcast capability: FeatureNotEnabled.
	NoBroadcast []string

	// Unknown says what device tokens are that were not set with
	// [Server.SetDevice]. With Accept, the shares of them that are dead (410
	// Unregistered), bad (BadDeviceToken) or of another topic
	// (DeviceTokenNotForTopic), each 0 to 1, are picked by a hash of the token: see
	// [Shares.Fate].
	Unknown         UnknownPolicy
	DeadShare       float64
	BadShare        float64
	WrongTopicShare float64
	// DeadTimestamp is the timestamp of the 410s of DeadShare; zero is the time of
	// the answer.
	DeadTimestamp time.Time

	Ledger LedgerMode
	// LedgerLimit is how many records a full ledger keeps, the newest; 0 is a
	// million. Each takes about a kilobyte. Slots reach back as far.
	LedgerLimit int
	// IgnoreDuplicates spares the memory of duplicates: up to 26 bytes for each
	// accepted notification.
	IgnoreDuplicates bool

	// Streams is MAX_CONCURRENT_STREAMS once a client has authenticated; 0 is 1000.
	// StreamsDelay is how long after that it is raised from 1.
	Streams      int
	StreamsDelay time.Duration

	// Latency is how long each answer takes: short for Faults.Latency.Constant.
	Latency time.Duration
	// Faults are those at the start.
	Faults Faults

	// LowerCaseIDs: an apns-id that the server makes up is in lower case. APNs was
	// seen to use upper case (observed: jchambers/pushy#184).
	LowerCaseIDs bool

	// Journal is where requests and answers are written down; nil is nowhere.
	Journal *Journal

	// Now is the server's clock for provider tokens and timestamps; nil is time.Now.
	// Latencies do not use it. It must be safe for concurrent use.
	Now func() time.Time
	// Logger gets what faults did and how connections ended, at debug level; nil is
	// nothing. Device tokens and payloads are never logged.
	Logger *slog.Logger
}

// Shares returns the shares of device tokens that are not healthy.
func (c Config) Shares() Shares {
	return Shares{Dead: c.DeadShare, Bad: c.BadShare, WrongTopic: c.WrongTopicShare}
}

func (c *Config) check() error {
	var errs []error
	if err := c.Environment.check(); err != nil {
		errs = append(errs, fmt.Errorf("environment: %w", err))
	}
	if err := c.Shares().check(); err != nil {
		errs = append(errs, err)
	}
	if c.Streams < 0 || c.Streams > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("streams: must not be negative, got %d", c.Streams))
	}
	if c.Latency < 0 || c.StreamsDelay < 0 || c.LedgerLimit < 0 {
		errs = append(errs, errors.New("latency, streams delay and ledger limit must not be negative"))
	}
	if c.Ledger > LedgerOff {
		errs = append(errs, fmt.Errorf("ledger: unknown mode %d", c.Ledger))
	}
	if c.Unknown > Reject {
		errs = append(errs, fmt.Errorf("unknown: unknown policy %d", c.Unknown))
	}
	for _, t := range c.Topics {
		if !isTopic(t) {
			errs = append(errs, fmt.Errorf("topics: %q is no bundle id", t))
		}
	}
	return errors.Join(errs...)
}

// Server is an APNs simulator. Its methods are safe for concurrent use.
type Server struct {
	cfg       Config
	id        *Identity
	shares    Shares
	shared    bool // some shares are not zero
	started   time.Time
	tlsConfig *tls.Config
	clientCAs *x509.CertPool
	outcomes  *outcomes
	tokens    *tokenBook
	devices   devices
	ledger    ledger
	pairs     pairSet
	buckets   buckets
	channels  channels
	plan      atomic.Pointer[plan]
	topics    atomic.Pointer[topicSet]
	events    eventLog

	inFlight    atomic.Int64
	maxInFlight atomic.Int64

	listeners  []net.Listener
	management net.Listener
	wg         sync.WaitGroup // accept loops and connections

	waiters atomic.Int64

	mu             sync.Mutex
	closed         bool
	conns          map[uint64]*conn
	pending        map[net.Conn]struct{} // in their handshake, or stalled
	lastConn       uint64
	ended          []Connection
	base           Stats // what is not counted by connections
	closedCounters counters
	rate           connectRate
	guard          map[string]*guarded
	waiting        []chan struct{}
}

// topicSet is the bundle ids that may be sent to; empty is any. Immutable.
type topicSet struct{ allowed map[string]bool }

// guarded is what the reconnect guard knows of a source address.
type guarded struct {
	rate         connectRate
	blockedUntil time.Duration
}

// New starts a server. Close it.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("apnstest: %w", err)
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Environment == "" {
		cfg.Environment = Production
	}
	if cfg.Streams == 0 {
		cfg.Streams = defaultStreams
	}
	if cfg.LedgerLimit == 0 {
		cfg.LedgerLimit = 1_000_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Latency > 0 {
		cfg.Faults.Latency.Constant = Duration(cfg.Latency)
	}
	s := &Server{
		cfg: cfg, id: cfg.Identity, shares: cfg.Shares(), started: time.Now(),
		outcomes: newOutcomes(),
		conns:    make(map[uint64]*conn),
		pending:  make(map[net.Conn]struct{}),
		guard:    make(map[string]*guarded),
	}
	s.shared = s.shares != Shares{}
	s.devices.m = make(map[string]*device)
	s.ledger = ledger{limit: cfg.LedgerLimit, slots: make(map[slotKey]*slot)}
	s.channels.m = make(map[string]map[string]int)
	s.setTopics(cfg.Topics)
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("apnstest: %w", err)
	}
	return s, nil
}

func (s *Server) start() (err error) {
	switch {
	case s.id != nil:
	case s.cfg.Dir != "":
		s.id, err = loadOrCreate(s.cfg.Dir)
	default:
		s.id, err = NewIdentity()
	}
	if err != nil {
		return err
	}
	if s.tokens, err = newTokenBook(append([]Key{s.id.Key}, s.cfg.Keys...)); err != nil {
		return err
	}
	p, err := s.compile(s.cfg.Faults)
	if err != nil {
		return err
	}
	s.plan.Store(p)
	s.clientCAs = s.cfg.ClientCAs
	if s.clientCAs == nil {
		s.clientCAs = s.id.CAPool()
	}
	hosts := append([]string(nil), s.cfg.Hosts...)
	for _, addr := range append([]string{s.cfg.Addr, s.cfg.ManagementAddr}, s.cfg.Aliases...) {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, host)
		}
	}
	cert, err := s.id.serverCertificate(hosts)
	if err != nil {
		return err
	}
	s.tlsConfig = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{http2.NextProtoTLS},
		Certificates: []tls.Certificate{cert},
		// What is wrong with a client's certificate is told in GOAWAY, not by TLS
		// (observed: sideshow/apns2#93).
		ClientAuth:                  tls.RequestClientCert,
		DynamicRecordSizingDisabled: true,
	}
	for _, addr := range append([]string{s.cfg.Addr}, s.cfg.Aliases...) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return s.abandon(err)
		}
		s.listeners = append(s.listeners, l)
	}
	if s.cfg.ManagementAddr != "" {
		l, err := net.Listen("tcp", s.cfg.ManagementAddr)
		if err != nil {
			return s.abandon(err)
		}
		s.management = l
	}
	for _, l := range s.listeners {
		s.wg.Go(func() { s.accept(l, false) })
	}
	if l := s.management; l != nil {
		s.wg.Go(func() { s.accept(l, true) })
	}
	return nil
}

// abandon closes what a start that did not succeed had opened.
func (s *Server) abandon(cause error) error {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	return cause
}

// Close ends all connections and listeners and waits for them. Only the first
// call does anything.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	conns := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	for tcp := range s.pending {
		_ = tcp.Close()
	}
	s.mu.Unlock()
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	if s.management != nil {
		errs = append(errs, s.management.Close())
	}
	for _, c := range conns {
		c.end("server closed", true)
	}
	s.wg.Wait()
	return errors.Join(errs...)
}

// Addr returns the address that the server listens on, host and port.
func (s *Server) Addr() string { return s.listeners[0].Addr().String() }

// URL returns the base of all push requests: https://host:port.
func (s *Server) URL() string { return "https://" + s.Addr() }

// AliasURLs returns the URLs of [Config.Aliases], in their order.
func (s *Server) AliasURLs() []string {
	var out []string
	for _, l := range s.listeners[1:] {
		out = append(out, "https://"+l.Addr().String())
	}
	return out
}

// ManagementURL returns the base of channel management requests, empty if they
// are not served.
func (s *Server) ManagementURL() string {
	if s.management == nil {
		return ""
	}
	return "https://" + s.management.Addr().String()
}

// Environment returns which APNs this is.
func (s *Server) Environment() Environment { return s.cfg.Environment }

// Identity returns the server's identity, for another server or a restart.
func (s *Server) Identity() *Identity { return s.id }

// CAPool returns a pool with the authority that signed the server's certificate.
func (s *Server) CAPool() *x509.CertPool { return s.id.CAPool() }

// CAPEM returns that authority's certificate in PEM.
func (s *Server) CAPEM() []byte { return s.id.CAPEM() }

// KeyPEM returns the provider key as a .p8 file's content.
func (s *Server) KeyPEM() ([]byte, error) { return s.id.KeyPEM() }

// KeyID returns the provider key's id.
func (s *Server) KeyID() string { return s.id.Key.ID }

// TeamID returns the provider key's team.
func (s *Server) TeamID() string { return s.id.Key.TeamID }

// WriteFiles writes ca.pem, AuthKey_<key id>.p8 and what a restart needs into
// dir: see [Identity.WriteFiles].
func (s *Server) WriteFiles(dir string) error { return s.id.WriteFiles(dir) }

// AddKey makes another provider key known, at once and on all connections.
func (s *Server) AddKey(k Key) error {
	if err := s.tokens.add(k); err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	// Connections forget what they know of tokens when the plan changes.
	old := s.plan.Load()
	fresh := *old
	s.plan.CompareAndSwap(old, &fresh)
	return nil
}

// SetTopics replaces [Config.Topics]. Connections go on with the topics that
// were allowed at their first request.
func (s *Server) SetTopics(bundleIDs ...string) error {
	for _, t := range bundleIDs {
		if !isTopic(t) {
			return fmt.Errorf("set topics: %q is no bundle id", t)
		}
	}
	s.setTopics(bundleIDs)
	return nil
}

func (s *Server) setTopics(bundleIDs []string) {
	set := &topicSet{allowed: make(map[string]bool)}
	for _, b := range bundleIDs {
		set.allowed[b] = true
	}
	s.topics.Store(set)
}

func (s *Server) noBroadcast(bundle string) bool { return contains(s.cfg.NoBroadcast, bundle) }

// Client returns an HTTP client that trusts the server and speaks HTTP/2, as
// httptest.Server's does. Close its idle connections before the server.
func (s *Server) Client() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.CAPool(), MinVersion: tls.VersionTLS12},
		Protocols:       protocols,
	}}
}

// Reset forgets what was received, counted and set: ledger, duplicates,
// statistics, devices, channels, events. Connections, faults and keys stay. It
// is for when nothing is open: the end of a request that was judged before is
// counted without its beginning.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.mu.Lock()
		c.shared = counters{}
		c.mu.Unlock()
	}
	s.closedCounters = counters{}
	s.base = Stats{}
	s.ended = nil
	s.rate = connectRate{}
	s.maxInFlight.Store(s.inFlight.Load())
	s.ledger.reset()
	s.pairs.reset()
	s.buckets.reset()
	s.channels.reset()
	s.events.reset()
	s.devices.mu.Lock()
	clear(s.devices.m)
	s.devices.some.Store(false)
	s.devices.mu.Unlock()
}

// Wait returns once ok is true of the statistics, or ctx is done, with its
// cause. ok is called from Wait only, whenever something may have changed.
func (s *Server) Wait(ctx context.Context, ok func(Stats) bool) error {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	s.waiting = append(s.waiting, ch)
	s.waiters.Add(1)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiters.Add(-1)
		for i, w := range s.waiting {
			if w == ch {
				s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
				break
			}
		}
	}()
	for !ok(s.Stats()) {
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// changed tells who waits that the statistics may have changed.
func (s *Server) changed() {
	if s.waiters.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.waiting {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// mono is the server's monotonic clock in nanoseconds.
func (s *Server) mono() int64 { return int64(time.Since(s.started)) }

// newID makes up an apns-id.
func (s *Server) newID() (id [16]byte) {
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562: version 4
	return id
}

// flight counts requests that began.
func (s *Server) flight(n int64) {
	now := s.inFlight.Add(n)
	for top := s.maxInFlight.Load(); now > top; top = s.maxInFlight.Load() {
		if s.maxInFlight.CompareAndSwap(top, now) {
			return
		}
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener, management bool) {
	for {
		tcp, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, or gone before it was taken: the next one may do,
			// but not at once.
			time.Sleep(5 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = tcp.Close()
			return
		}
		s.lastConn++
		id := s.lastConn
		refuse := s.guards(tcp)
		s.pending[tcp] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.wg.Done()
			s.serve(tcp, id, management, refuse)
		}()
	}
}

// guards counts a connect and reports whether the reconnect guard refuses it.
// mu is held.
func (s *Server) guards(tcp net.Conn) bool {
	now := time.Since(s.started)
	s.rate.add(now)
	s.base.MaxConnectsPerMinute = s.rate.max
	f := s.plan.Load().faults.Reconnects
	if f.PerMinute <= 0 {
		return false
	}
	host, _, err := net.SplitHostPort(tcp.RemoteAddr().String())
	if err != nil {
		host = tcp.RemoteAddr().String()
	}
	g := s.guard[host]
	if g == nil {
		g = &guarded{}
		s.guard[host] = g
	}
	if now < g.blockedUntil {
		return true
	}
	g.rate.add(now)
	if len(g.rate.at) <= f.PerMinute {
		return false
	}
	block := time.Duration(f.Block)
	if block == 0 {
		block = time.Minute
	}
	g.blockedUntil = now + block
	g.rate = connectRate{}
	s.base.GuardBlocks++
	return true
}

// serve serves one connection until it is over.
func (s *Server) serve(tcp net.Conn, id uint64, management, refuse bool) {
	forget := func() {
		s.mu.Lock()
		delete(s.pending, tcp)
		s.mu.Unlock()
	}
	defer forget()
	rules := s.plan.Load().matchConn(s.mono(), id)
	stall, mute := false, false
	for _, r := range rules {
		refuse, stall, mute = refuse || r.Refuse, stall || r.StallHandshake, mute || r.NoSettings
	}
	switch {
	case refuse:
		s.event(id, 0, "", "connection refused")
		if t, ok := tcp.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = tcp.Close()
		s.mu.Lock()
		s.base.ConnectionsRefused++
		s.mu.Unlock()
		s.changed()
		return
	case stall:
		s.event(id, 0, "", "handshake stalled")
		s.sink(tcp)
		return
	}
	c := newConn(s, tcp, id, management)
	_ = tcp.SetDeadline(time.Now().Add(handshakeTime))
	err := c.tls.Handshake()
	if err == nil && c.tls.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		err = errors.New("client did not negotiate h2")
	}
	if err != nil {
		_ = tcp.Close()
		s.mu.Lock()
		s.base.HandshakesFailed++
		s.mu.Unlock()
		s.cfg.Logger.Debug("handshake", "connection", id, "cause", err.Error())
		s.changed()
		return
	}
	_ = tcp.SetDeadline(time.Time{})
	if s.cfg.Journal != nil {
		line := appendFields([]byte{'o'}, id, uint64(s.journalTime(s.mono())))
		s.cfg.Journal.write(fmt.Appendf(line, " %s\n", tcp.RemoteAddr()))
	}
	if mute {
		s.event(id, 0, "", "no settings")
		s.sink(tcp)
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = tcp.Close()
		return
	}
	delete(s.pending, tcp)
	s.conns[id] = c
	s.base.ConnectionsTotal++
	s.base.MaxConnectionsOpen = max(s.base.MaxConnectionsOpen, int64(len(s.conns)))
	s.mu.Unlock()
	s.changed()

	c.work.Lock()
	c.tick()
	c.work.Unlock()
	reason := c.certificate()
	c.begin(c.judge.cert != nil)
	if reason != "" {
		c.goAwayNow(http2.ErrCodeNo, 0, []byte(`{"reason":"`+reason+`"}`))
	}
	c.startTimers(rules)
	var writer sync.WaitGroup
	writer.Go(c.write)
	err = c.read()
	var ce connError
	if errors.As(err, &ce) {
		c.goAwayNow(ce.code, c.judgedID, []byte(ce.text))
		c.discard()
	}
	c.mu.Lock()
	cause := c.why
	c.mu.Unlock()
	if cause == "" {
		cause = describe(err)
	}
	c.end(cause, false)
	writer.Wait()
	s.remove(c)
}

// goAwayNow sends GOAWAY and has the writer close at once.
func (c *conn) goAwayNow(code http2.ErrCode, last uint32, debug []byte) {
	c.work.Lock()
	defer c.work.Unlock()
	c.ignoreAbove = 0
	c.local.goAways++
	c.control = appendGoAway(c.control, last, code, debug)
	c.finishAt(c.now, false, false, "goaway "+string(debug))
}

// discard reads on until the client has closed, too.
func (c *conn) discard() {
	_ = c.wire.SetReadDeadline(time.Now().Add(lingerTime))
	var buf [4096]byte
	for {
		if _, err := c.tls.Read(buf[:]); err != nil {
			return
		}
	}
}

// startTimers begins what happens to a connection by itself.
func (c *conn) startTimers(rules []*connRule) {
	c.work.Lock()
	defer c.work.Unlock()
	for _, r := range rules {
		if r.Do == nil {
			continue
		}
		c.after(time.Duration(r.After), func() {
			c.srv.event(c.id, 0, r.Name, r.Do.what())
			c.act(r.Do)
		})
	}
	c.watchIdle()
}

// watchIdle sends GOAWAY once nothing has come for too long.
func (c *conn) watchIdle() {
	limit := time.Duration(c.plan.faults.IdleTimeout)
	if limit <= 0 {
		return
	}
	var look func()
	look = func() {
		limit := time.Duration(c.plan.faults.IdleTimeout)
		switch left := c.idleSince + int64(limit) - c.now; {
		case limit <= 0:
		case left <= 0 && c.opened == c.closed.Load():
			c.srv.event(c.id, 0, "", "idle timeout")
			c.startGoAway(&GoAway{Reason: "IdleTimeout"}, 0)
		default:
			c.after(max(time.Duration(left), time.Millisecond), look)
		}
	}
	c.after(limit, look)
}

// sink holds a connection without serving it, until the client goes away or the
// server is closed.
func (s *Server) sink(tcp net.Conn) {
	defer tcp.Close()
	var buf [4096]byte
	for {
		if _, err := tcp.Read(buf[:]); err != nil {
			return
		}
	}
}

// remove takes over what a connection counted.
func (s *Server) remove(c *conn) {
	info := c.info()
	c.mu.Lock()
	info.LastAnswers = c.recent.sum(s.mono())
	shared := c.shared
	c.mu.Unlock()
	info.ClosedAt, info.Cause = s.cfg.Now(), c.cause
	if s.cfg.Journal != nil {
		s.cfg.Journal.write(append(appendFields([]byte{'e'}, c.id, uint64(s.journalTime(s.mono()))), '\n'))
	}
	s.inFlight.Add(c.closed.Load() - c.counted)
	s.cfg.Logger.Debug("connection ended", "connection", c.id, "cause", c.cause,
		"received", info.Received, "unanswered", info.Unanswered)
	s.mu.Lock()
	delete(s.conns, c.id)
	s.closedCounters.add(&shared)
	s.base.AnswersLost += max(0, info.Unanswered-shared.given)
	s.base.AnsweredLate += info.LastAnswers
	if len(s.ended) >= maxEnded {
		s.ended = append(s.ended[:0:0], s.ended[maxEnded/10:]...)
	}
	s.ended = append(s.ended, info)
	s.mu.Unlock()
	s.changed()
}
