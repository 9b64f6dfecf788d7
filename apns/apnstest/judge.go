package apnstest

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Limits of a request (Apple, Generating a remote notification; Sending
// notification requests to APNs).
const (
	maxPayload     = 4096
	maxVoIPPayload = 5120
	maxCollapseID  = 64
	// tokenUpdateInterval is how often a connection's provider token may change.
	tokenUpdateInterval = 20 * time.Minute
	// defaultMaxFuture is how far ahead of the server an iat may be.
	//
	// choice: APNs's tolerance is unknown.
	defaultMaxFuture = 5 * time.Minute
)

// judge decides what one connection's requests are answered with: the checks in
// their order, and what the connection is bound to. Guarded by its connection's
// work.
type judge struct {
	c    *conn
	cert *clientCertificate // nil with provider tokens

	// The connection is bound by its first valid provider token: to its team, its
	// key, and the topics that were allowed then.
	bound     bool
	team      string
	firstKey  *Key
	topics    *topicSet
	current   *providerToken
	changedAt time.Time // when current came

	lastAuth  []byte // the authorization header last looked at,
	lastToken *providerToken
	lastUse   *topicUse // and the pair of topic and push type
	uses      map[[2]string]*topicUse

	expiration int64  // of the request at hand; -1 is absent
	priority   int    // 0 is absent
	badID      bool   // its apns-id is no UUID
	raw        []byte // its device token
	pair       []byte // scratch
	content    []byte // scratch
}

// maxTopicUses bounds judge.uses against clients that make topics up.
const maxTopicUses = 4096

func (j *judge) init(c *conn) {
	j.c = c
	j.uses = make(map[[2]string]*topicUse)
}

// replan forgets what may have changed with the faults.
func (j *judge) replan() { j.lastAuth = nil }

func (j *judge) keyID() string {
	if j.firstKey == nil {
		return ""
	}
	return j.firstKey.ID
}

// finish handles a request whose end has come. length is the body's, of which
// body may hold only the beginning; it is negative if the answer must not wait
// for the body.
func (c *conn) finish(stream uint32, r *request, body []byte, length int) {
	c.requests++
	a := answer{received: c.now, stream: stream}
	c.answerID(&a, r)

	path := r.get(fieldPath)
	var rule *requestRule
	if len(c.plan.requests) > 0 {
		if rule = c.plan.matchRequest(c, r, stream); rule != nil && c.ruleBefore(rule, &a) {
			return
		}
	}
	if c.management || bytes.HasPrefix(path, []byte("/4/")) {
		c.channelRequest(&a, r, rule, body, length)
		return
	}
	j := &c.judge
	v, tok := j.device(r, length, body)
	out, silent := c.srv.outcomes.fixed[v], false
	var dev *device
	if v == accepted {
		if rule != nil && rule.out != nil {
			out, a.timestamp = rule.out, rule.timestamp(c.wall)
		} else if dev = c.srv.devices.get(tok); dev != nil && dev.out != nil {
			out, a.timestamp = dev.out, dev.Answer.Timestamp
			if a.timestamp == 0 {
				a.timestamp = c.wall.UnixMilli()
			}
		} else {
			v, a.timestamp = j.deviceToken(tok, dev)
			out = c.srv.outcomes.fixed[v]
			if out.status == 410 && dev != nil && dev.DeadReason != "" {
				out = c.srv.outcomes.named(410, dev.DeadReason)
			}
		}
		silent = dev != nil && dev.NeverAnswer
	} else if out.status == 410 {
		a.timestamp = c.wall.UnixMilli()
	}
	a.out = out
	if v == methodNotAllowed && string(r.get(fieldMethod)) == "HEAD" {
		a.more = &special{noBody: true}
	}
	c.account(&a, r, tok, body, length)
	if c.plan.silentShare > 0 && len(tok) > 0 && shareOf(xxhash.Sum64(tok), silentSalt) < c.plan.silentShare {
		silent = true
	}
	c.decide(&a, rule, silent)
	if c.plan.scores {
		c.errorScore(out)
	}
	if rule != nil {
		c.ruleAfter(rule)
	}
}

// answerID sets the apns-id to answer with: the client's, or a made-up one.
func (c *conn) answerID(a *answer, r *request) {
	c.judge.badID = false
	if s := r.get(fieldAPNsID); s != nil {
		var ok bool
		if a.id, a.upper, ok = parseUUID(s); ok {
			return
		}
		c.judge.badID = true
	}
	a.id, a.upper = c.srv.newID(), !c.srv.cfg.LowerCaseIDs
}

// account counts a request that was judged, and records it.
func (c *conn) account(a *answer, r *request, tok, body []byte, length int) {
	l, cfg, j := &c.local, &c.srv.cfg, &c.judge
	c.judgedID = max(c.judgedID, a.stream)
	l.received++
	if l.last = c.now; l.first == 0 {
		l.first = c.now
	}
	l.bodyBytes += int64(max(length, 0))
	ok := a.out.status == 200 && !c.management
	if !ok {
		if l.rejected == nil {
			l.rejected = make(map[*outcome]int64)
		}
		l.rejected[a.out]++
	} else {
		l.accepted++
		a.counted = true
	}
	if ok && len(tok) > 0 && cfg.Ledger != LedgerOff {
		j.pair = append(append(j.pair[:0], tok...), a.id[:]...)
		a.tokenHash = xxhash.Sum64(tok)
		a.pairHash = xxhash.Sum64(j.pair)
		j.content = appendContent(j.content[:0], tok, &a.id, r.get(fieldTopic), r.get(fieldPushType),
			j.priority, j.expiration, r.get(fieldCollapseID), body)
		a.contentHash = xxhash.Sum64(j.content)
		l.tokens += a.tokenHash
		l.pairs += a.pairHash
		l.content += a.contentHash
	}
	if cfg.Journal != nil && len(tok) > 0 {
		j.pair = append(append(j.pair[:0], tok...), a.id[:]...)
		c.journal = appendJudged(c.journal, c.id, c.srv.journalTime(a.received), a, xxhash.Sum64(j.pair), xxhash.Sum64(tok), PayloadHash(body))
	}
	if cfg.Ledger == LedgerFull {
		c.findDuplicate(a)
		c.record(a, r, tok, body)
	}
}

// findDuplicate looks whether an accepted pair was there before.
func (c *conn) findDuplicate(a *answer) {
	if a.pairHash != 0 && !a.looked && !c.srv.cfg.IgnoreDuplicates {
		a.looked = true
		if c.srv.pairs.add(a.pairHash) {
			c.local.duplicates++
			a.duplicate = true
		}
	}
}

// findDuplicates does so for all of a batch.
func (c *conn) findDuplicates() {
	c.pairs = c.pairs[:0]
	for i := range c.fresh {
		if a := &c.fresh[i]; a.pairHash != 0 && !a.looked {
			c.pairs = append(c.pairs, a.pairHash)
		}
	}
	if len(c.pairs) == 0 || c.srv.cfg.IgnoreDuplicates {
		return
	}
	c.known = slices.Grow(c.known[:0], len(c.pairs))[:len(c.pairs)]
	c.srv.pairs.addAll(c.pairs, c.known)
	k := 0
	for i := range c.fresh {
		a := &c.fresh[i]
		if a.pairHash == 0 || a.looked {
			continue
		}
		a.looked = true
		if c.known[k] {
			c.local.duplicates++
			a.duplicate = true
		}
		k++
	}
}

// record writes a request into the full ledger.
func (c *conn) record(a *answer, r *request, tok, body []byte) {
	rec := &entry{raw: string(tok)}
	rec.APNsID = string(appendUUID(nil, &a.id, a.upper))
	rec.DeviceToken = hex.EncodeToString(tok)
	rec.Topic, rec.PushType = string(r.get(fieldTopic)), string(r.get(fieldPushType))
	rec.Priority, _ = strconv.Atoi(string(r.get(fieldPriority)))
	if n, err := strconv.ParseInt(string(r.get(fieldExpiration)), 10, 64); err == nil {
		rec.Expiration = &n
	}
	rec.CollapseID, rec.ChannelID = string(r.get(fieldCollapseID)), string(r.get(fieldChannelID))
	rec.Body = string(body)
	rec.Connection, rec.Stream, rec.ReceivedAt = c.id, a.stream, c.wall
	if a.out != nil {
		rec.Status, rec.Reason = a.out.status, a.out.reason
		if rec.Status == 410 {
			rec.Timestamp = a.timestamp
		}
	}
	rec.Duplicate = a.duplicate
	offline := false
	if rec.Status == 200 && len(tok) > 0 {
		rec.bundle = judgeTopic(rec.Topic, rec.PushType, nil).bundle
		if d := c.srv.devices.get(tok); d != nil {
			offline = d.Offline
		}
	}
	a.rec = rec
	c.srv.ledger.add(rec, offline, c.wall)
}

// decide hands an answer to the queue, for when the latency is over.
func (c *conn) decide(a *answer, rule *requestRule, silent bool) {
	a.due = a.received + c.plan.latency(c, a.stream)
	if rule != nil {
		a.due += int64(rule.Delay)
		if rule.reset != nil {
			a.more = rule.reset
		}
		silent = silent || rule.NeverAnswer
	}
	if silent {
		a.due = never
	}
	c.fresh = append(c.fresh, *a)
}

// device judges a request to /3/device up to the device token: the checks in
// the order of their numbers, the first failure wins. tok is the device token
// in bytes, as soon as it is known.
func (j *judge) device(r *request, length int, body []byte) (v verdict, tok []byte) {
	// 1. The method.
	if string(r.get(fieldMethod)) != "POST" {
		return methodNotAllowed, nil
	}
	// 2. The path.
	const prefix = "/3/device/"
	path := r.get(fieldPath)
	if len(path) <= len(prefix) || string(path[:len(prefix)]) != prefix {
		if s := string(path); s == prefix || s == prefix[:len(prefix)-1] {
			return missingDeviceToken, nil
		}
		return badPath, nil
	}
	text := path[len(prefix):]
	if bytes.IndexByte(text, '/') >= 0 {
		return badPath, nil
	}
	badToken := len(text) > maxTokenChars
	if !badToken {
		var ok bool
		if j.raw, ok = appendUnhex(j.raw[:0], text); ok {
			tok = j.raw
		} else {
			badToken = true
		}
	}
	// 3. Repeated headers.
	if r.duplicate {
		return duplicateHeaders, tok
	}
	// 4 to 6. The credential.
	if v := j.authorize(r); v != accepted {
		return v, tok
	}
	// 7. The other headers.
	if v := j.headers(r); v != accepted {
		return v, tok
	}
	// 8. The topic.
	use, v := j.topic(r)
	if v != accepted {
		return v, tok
	}
	// 9. The body.
	limit := maxPayload
	if use.pushType == "voip" {
		limit = maxVoIPPayload
	}
	switch enc := r.get(fieldContentEncoding); {
	case length == 0, enc != nil && string(enc) != "identity":
		return payloadEmpty, tok
	case length > limit:
		return payloadTooLarge, tok
	case j.c.plan.faults.StrictPayload && length > 0 && !strictPayload(body):
		return badRequestPayload, tok
	}
	// 10. The device token; what it is to us comes later.
	if badToken {
		return badDeviceToken, nil
	}
	return accepted, tok
}

// authorize judges the credential: checks 4 to 6.
func (j *judge) authorize(r *request) verdict {
	c := j.c
	if j.cert != nil { // the authorization header is ignored then
		if !j.bound {
			j.bound, j.topics = true, c.srv.topics.Load()
		}
		return accepted
	}
	auth := r.get(fieldAuthorization)
	if auth == nil {
		return missingProviderToken
	}
	t := j.lastToken
	if j.lastAuth == nil || !bytes.Equal(auth, j.lastAuth) {
		const scheme = "bearer "
		if len(auth) <= len(scheme) || !bytes.EqualFold(auth[:len(scheme)], []byte(scheme)) {
			return missingProviderToken
		}
		t = c.srv.tokens.look(auth[len(scheme):])
		j.lastAuth, j.lastToken = append(j.lastAuth[:0], auth...), t
	}
	f := &c.plan.faults.Auth
	if c.wedged {
		return expiredProviderToken
	}
	if !t.valid || f.OnlyKeyID != "" && t.key.ID != f.OnlyKeyID {
		return invalidProviderToken
	}
	now := c.wall.Add(time.Duration(f.ClockSkew)).Unix()
	if now-t.iat > int64(providerTokenLife/time.Second) {
		c.wedged = f.WedgeExpired
		return expiredProviderToken
	}
	ahead := defaultMaxFuture
	if f.MaxFuture != 0 {
		ahead = time.Duration(f.MaxFuture)
	}
	if t.iat-now > int64(ahead/time.Second) {
		return invalidProviderToken
	}
	if c.plan.revoked[t.key.ID] {
		return forbidden
	}
	if t.key.Environment != "" && t.key.Environment != c.srv.cfg.Environment {
		if f.DocumentedSpelling {
			return badEnvironmentKeyIDInToken
		}
		return badEnvironmentKeyInToken
	}
	if t == j.current {
		return accepted
	}
	if j.bound {
		switch {
		case t.key.TeamID != j.team:
			return invalidProviderToken
		case t.key.ID != j.firstKey.ID && t.key.RelatedTo != j.firstKey.ID && j.firstKey.RelatedTo != t.key.ID:
			return unrelatedKeyIDInToken
		}
		every := tokenUpdateInterval
		if f.UpdateInterval != 0 {
			every = time.Duration(f.UpdateInterval)
		}
		if t.text != j.current.text && c.wall.Sub(j.changedAt) < every {
			return tooManyProviderTokenUpdates
		}
	} else {
		j.bound, j.team, j.firstKey, j.topics = true, t.key.TeamID, t.key, c.srv.topics.Load()
		c.authenticated()
	}
	if j.current == nil || t.text != j.current.text {
		j.changedAt = c.wall
	}
	j.current = t
	return accepted
}

// authenticated raises the stream limit, once the first valid provider token
// has come.
func (c *conn) authenticated() {
	raise := func() {
		c.setStreams(uint32(c.srv.cfg.Streams))
		c.startFlapping()
	}
	if d := c.srv.cfg.StreamsDelay; d > 0 {
		c.after(d, raise)
		return
	}
	raise()
}

// headers judges apns-id, apns-expiration, apns-priority, apns-collapse-id and
// apns-push-type.
func (j *judge) headers(r *request) verdict {
	j.expiration, j.priority = -1, 0
	if j.badID {
		return badMessageID
	}
	if s := r.get(fieldExpiration); s != nil {
		n, ok := parseDecimal(s)
		if !ok {
			return badExpirationDate
		}
		j.expiration = n
	}
	pushType := r.get(fieldPushType)
	if s := r.get(fieldPriority); s != nil {
		switch string(s) {
		case "10":
			if string(pushType) == "background" {
				return badPriority
			}
			j.priority = 10
		case "5":
			j.priority = 5
		case "1":
			// choice: Apple says 5 or 10 only and names no reason.
			if string(pushType) == "liveactivity" {
				return badPriority
			}
			j.priority = 1
		default:
			return badPriority
		}
	}
	if len(r.get(fieldCollapseID)) > maxCollapseID {
		return badCollapseID
	}
	if pushType != nil && (j.lastUse == nil || string(pushType) != j.lastUse.pushType) {
		if _, ok := pushTypes[string(pushType)]; !ok {
			return invalidPushType
		}
	}
	return accepted
}

func parseDecimal(s []byte) (n int64, ok bool) {
	if len(s) == 0 || len(s) > 18 { // more is no date
		return 0, false
	}
	for _, ch := range s {
		if ch < '0' || ch > '9' {
			return 0, false
		}
		n = n*10 + int64(ch-'0')
	}
	return n, true
}

// topic judges apns-topic.
func (j *judge) topic(r *request) (*topicUse, verdict) {
	topic, pushType := r.get(fieldTopic), r.get(fieldPushType)
	if len(topic) == 0 && j.cert != nil && j.cert.defaultTopic != "" {
		topic = []byte(j.cert.defaultTopic + pushTypes[string(pushType)])
	}
	if len(topic) == 0 {
		return nil, missingTopic
	}
	use := j.lastUse
	if use == nil || use.topic != string(topic) || use.pushType != string(pushType) {
		key := [2]string{string(topic), string(pushType)}
		if use = j.uses[key]; use == nil {
			if len(j.uses) >= maxTopicUses {
				clear(j.uses)
			}
			use = judgeTopic(key[0], key[1], j.topics.allowed)
			j.uses[key] = use
		}
		j.lastUse = use
	}
	switch {
	case !use.wellFormed:
		return use, badTopic
	case len(j.topics.allowed) > 0 && !j.topics.allowed[use.bundle]:
		return use, topicDisallowed
	case j.cert != nil && !j.cert.allows(use):
		return use, topicDisallowed
	case j.cert == nil && j.current != nil && len(j.current.key.Topics) > 0 && !contains(j.current.key.Topics, use.bundle):
		return use, topicDisallowed
	}
	return use, accepted
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// deviceToken judges what a device token is to the server: checks 10 and 11.
func (j *judge) deviceToken(tok []byte, dev *device) (v verdict, timestamp int64) {
	c := j.c
	switch c.plan.faults.Flip {
	case "environment":
		return badDeviceToken, 0
	case "topic":
		return deviceTokenNotForTopic, 0
	}
	fate, at := Healthy, c.srv.cfg.DeadTimestamp
	switch {
	case dev != nil:
		switch {
		case dev.Bad || dev.Environment != "" && dev.Environment != c.srv.cfg.Environment:
			fate = Bad
		case dev.Topic != "" && dev.Topic != j.lastUse.topic && dev.Topic != j.lastUse.bundle:
			fate = WrongTopic
		case dev.DeadSince != nil && (dev.SilentUntil == nil || !c.wall.Before(*dev.SilentUntil)):
			fate, at = Dead, *dev.DeadSince
		}
	case c.srv.cfg.Unknown == Reject:
		fate = Bad
	case c.srv.shared:
		fate = c.srv.shares.Fate(tok)
	}
	switch fate {
	case Bad:
		return badDeviceToken, 0
	case WrongTopic:
		return deviceTokenNotForTopic, 0
	case Dead:
		if at.IsZero() {
			at = c.wall
		}
		return unregistered, at.UnixMilli()
	}
	if rl := c.plan.faults.RateLimit; rl.Burst > 0 && !c.srv.buckets.take(tok, c.now, rl) {
		return tooManyRequests, 0
	}
	return accepted, 0
}
