package apnstest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

// Limits of broadcasts (Apple, Sending channel management requests to APNs;
// Sending broadcast push notification requests to APNs).
const (
	maxBroadcastPayload = 5120
	maxChannels         = 10_000 // of an app in an environment
)

// Channel is a broadcast channel.
type Channel struct {
	ID       string `json:"id"`
	BundleID string `json:"bundle_id"`
	// Policy is its message-storage-policy: 0 stores nothing, 1 the most recent.
	Policy int `json:"message_storage_policy"`
}

// channels are those of a server. Safe for concurrent use.
type channels struct {
	mu sync.Mutex
	m  map[string]map[string]int // by bundle id and channel id: the policy
}

func (ch *channels) reset() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	clear(ch.m)
}

// add makes a channel; ok is false if the app has too many.
func (ch *channels) add(bundle string, policy int) (id string, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.m[bundle]) >= maxChannels {
		return "", false
	}
	if ch.m[bundle] == nil {
		ch.m[bundle] = make(map[string]int)
	}
	for {
		// The ids are opaque, of no fixed size.
		raw := make([]byte, 16)
		_, _ = rand.Read(raw)
		id = base64.StdEncoding.EncodeToString(raw[:12+raw[0]%5])
		if _, taken := ch.m[bundle][id]; !taken {
			ch.m[bundle][id] = policy
			return id, true
		}
	}
}

func (ch *channels) get(bundle, id string) (policy int, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	policy, ok = ch.m[bundle][id]
	return policy, ok
}

func (ch *channels) remove(bundle, id string) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	_, ok := ch.m[bundle][id]
	delete(ch.m[bundle], id)
	return ok
}

func (ch *channels) list(bundle string) []string {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ids := make([]string, 0, len(ch.m[bundle]))
	for id := range ch.m[bundle] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// AddChannel makes a broadcast channel, as its management API does.
func (s *Server) AddChannel(bundleID string, policy int) (Channel, error) {
	if !isTopic(bundleID) || policy != 0 && policy != 1 {
		return Channel{}, errors.New("add channel: want a bundle id and a policy of 0 or 1")
	}
	id, ok := s.channels.add(bundleID, policy)
	if !ok {
		return Channel{}, errors.New("add channel: the app has 10000")
	}
	return Channel{ID: id, BundleID: bundleID, Policy: policy}, nil
}

// Channels returns an app's broadcast channels, in order of their ids.
func (s *Server) Channels(bundleID string) []Channel {
	var out []Channel
	for _, id := range s.channels.list(bundleID) {
		if policy, ok := s.channels.get(bundleID, id); ok {
			out = append(out, Channel{ID: id, BundleID: bundleID, Policy: policy})
		}
	}
	return out
}

// channelRequest handles broadcasts and, on the management listener, channels.
func (c *conn) channelRequest(a *answer, r *request, rule *requestRule, body []byte, length int) {
	// apns-request-id stands for apns-id here.
	if s := r.get(fieldRequestID); s != nil {
		if id, upper, ok := parseUUID(s); ok {
			a.id, a.upper = id, upper
		}
	}
	more := &special{fields: []headerField{{"apns-request-id", string(appendUUID(nil, &a.id, a.upper))}}}
	var v verdict
	if c.management {
		v = c.judge.manage(r, body, length, more)
	} else {
		v = c.judge.broadcast(r, body, length)
	}
	a.out = c.srv.outcomes.fixed[v]
	if rule != nil && rule.out != nil && a.out.status < 300 {
		a.out, more.body = rule.out, nil
	}
	a.more = more
	c.account(a, r, nil, body, length)
	c.decide(a, rule, false)
	if c.plan.scores {
		c.errorScore(a.out)
	}
	if rule != nil {
		c.ruleAfter(rule)
	}
}

// appOf takes the bundle id out of a path: prefix + bundle + suffix.
func appOf(path []byte, prefix, suffix string) (bundle string, ok bool) {
	s, ok := strings.CutPrefix(string(path), prefix)
	if !ok {
		return "", false
	}
	s, ok = strings.CutSuffix(s, suffix)
	return s, ok && s != "" && !strings.Contains(s, "/")
}

// broadcast judges POST /4/broadcasts/apps/<bundle>.
//
// choice: the order, after public clients' mocks (observed:
// kylebrowning/APNSwift#254); Apple says none.
func (j *judge) broadcast(r *request, body []byte, length int) verdict {
	if string(r.get(fieldMethod)) != "POST" {
		return methodNotAllowed
	}
	bundle, ok := appOf(r.get(fieldPath), "/4/broadcasts/apps/", "")
	if !ok {
		return badPath
	}
	if r.duplicate {
		return duplicateHeaders
	}
	if v := j.authorize(r); v != accepted {
		return v
	}
	if v := j.app(bundle); v != accepted {
		return v
	}
	if v := requestID(r); v != accepted {
		return v
	}
	policy, v := j.channel(r, bundle)
	if v != accepted && v != channelNotRegistered {
		return v
	}
	pushType := r.get(fieldPushType)
	switch {
	case pushType == nil:
		return missingPushType
	case !bytes.EqualFold(pushType, []byte("liveactivity")):
		return invalidPushType
	}
	expiration, ok := parseDecimal(r.get(fieldExpiration))
	if !ok || policy == 0 && v == accepted && expiration != 0 {
		return badExpirationDate
	}
	switch string(r.get(fieldPriority)) {
	case "1", "5", "10":
	default: // it is required
		return badPriority
	}
	switch {
	case v != accepted:
		return v
	case length == 0:
		return payloadEmpty
	case length > maxBroadcastPayload:
		return payloadTooLarge
	case j.c.plan.faults.StrictPayload && length > 0 && !strictPayload(body):
		return badRequestPayload
	}
	return accepted
}

// app judges whether the credential may act for a bundle id.
func (j *judge) app(bundle string) verdict {
	switch {
	case !isTopic(bundle), judgeTopic(bundle, "alert", j.topics.allowed).bundle != bundle:
		return topicDisallowed // a suffix is none of a bundle id
	case len(j.topics.allowed) > 0 && !j.topics.allowed[bundle]:
		return topicMismatch
	case j.cert != nil && j.cert.bundle != bundle:
		return topicMismatch
	case j.cert == nil && len(j.current.key.Topics) > 0 && !contains(j.current.key.Topics, bundle):
		return topicMismatch
	case j.c.srv.noBroadcast(bundle):
		return featureNotEnabled
	}
	return accepted
}

func requestID(r *request) verdict {
	for _, id := range []fieldID{fieldRequestID, fieldAPNsID} {
		if s := r.get(id); s != nil {
			if _, _, ok := parseUUID(s); !ok {
				return badMessageID
			}
		}
	}
	return accepted
}

// channel judges apns-channel-id.
func (j *judge) channel(r *request, bundle string) (policy int, v verdict) {
	id := r.get(fieldChannelID)
	if len(id) == 0 {
		return 0, missingChannelID
	}
	if raw, err := base64.StdEncoding.DecodeString(string(id)); err != nil || len(raw) > 64 {
		return 0, badChannelID // choice: some bound on an opaque id
	}
	policy, ok := j.c.srv.channels.get(bundle, string(id))
	if !ok {
		return 0, channelNotRegistered
	}
	return policy, accepted
}

// manage judges and does a channel management request. The credential comes
// first there.
func (j *judge) manage(r *request, body []byte, length int, more *special) verdict {
	if v := j.authorize(r); v != accepted {
		return v
	}
	path, method := r.get(fieldPath), string(r.get(fieldMethod))
	const prefix = "/1/apps/"
	bundle, all := appOf(path, prefix, "/all-channels")
	if !all {
		var ok bool
		if bundle, ok = appOf(path, prefix, "/channels"); !ok {
			return badPath
		}
	}
	switch {
	case all && method == "GET":
	case !all && (method == "GET" || method == "POST" || method == "DELETE"):
	default:
		return methodNotAllowed
	}
	if v := j.app(bundle); v != accepted {
		return v
	}
	if v := requestID(r); v != accepted {
		return v
	}
	chans := &j.c.srv.channels
	switch {
	case all:
		more.body, _ = json.Marshal(map[string][]string{"channels": chans.list(bundle)}) // strings always encode
		return accepted
	case method == "POST":
		policy, v := parseChannelBody(body, length)
		if v != accepted {
			return v
		}
		id, ok := chans.add(bundle, policy)
		if !ok {
			return cannotCreateChannelConfig
		}
		more.fields = append(more.fields, headerField{"apns-channel-id", id})
		return created
	}
	policy, v := j.channel(r, bundle)
	if v != accepted {
		return v
	}
	if method == "DELETE" {
		if !chans.remove(bundle, string(r.get(fieldChannelID))) {
			return channelNotRegistered // somebody was faster
		}
		return deleted
	}
	more.body, _ = json.Marshal(struct { // numbers and strings always encode
		Policy   int    `json:"message-storage-policy"`
		PushType string `json:"push-type"`
	}{policy, "LiveActivity"})
	return accepted
}

// parseChannelBody reads {"message-storage-policy":0,"push-type":"LiveActivity"}.
func parseChannelBody(body []byte, length int) (policy int, v verdict) {
	if length == 0 {
		return 0, payloadEmpty
	}
	if length > maxBroadcastPayload {
		return 0, payloadTooLarge
	}
	var fields map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(body))
	if dec.Decode(&fields) != nil || fields == nil {
		return 0, badRequestPayload
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return 0, badRequestPayload
	}
	for key := range fields {
		if key != "message-storage-policy" && key != "push-type" {
			return 0, badRequestParams
		}
	}
	var pushType string
	switch raw, ok := fields["push-type"]; {
	case !ok:
		return 0, missingPushType
	case json.Unmarshal(raw, &pushType) != nil, !strings.EqualFold(pushType, "LiveActivity"):
		return 0, invalidPushType
	}
	raw, ok := fields["message-storage-policy"]
	if !ok || json.Unmarshal(raw, &policy) != nil || policy != 0 && policy != 1 {
		return 0, missingChannelQueueSize // undocumented; seen for a missing or bad policy
	}
	return policy, accepted
}
