package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// expirySoon is how long before its end a certificate is worth a warning: a new one
// wants somebody with an account at Apple.
const expirySoon = 30 * 24 * time.Hour

// nonsense is a device token of the usual length that APNs gives to nobody.
func nonsense() device.Token { return device.TokenFromRaw(strings.Repeat("\x00", 32)) }

// apnsTime is how long a connection to APNs and its answer may take.
const apnsTime = 8 * time.Second

// credentials looks at each credential of each app, in each environment that it is
// used in.
func (d *doctor) credentials(ctx context.Context) []finding {
	var checks []check
	for _, name := range d.apps {
		app := d.cfg.Apps[name]
		for i, cred := range app.Credentials {
			checks = append(checks, func(ctx context.Context) []finding { return d.credential(ctx, name, i, app, cred) })
		}
	}
	return together(ctx, checks...)
}

func (d *doctor) credential(ctx context.Context, name string, i int, app config.App, cred config.Credential) []finding {
	what := fmt.Sprintf("credential %d of %s", i+1, name)
	loaded, err := loadCredential(cred)
	if err != nil {
		return []finding{failed(what, "Put the file there that Apple gave you, readable for this user, with its own key id and team id, or password.", "%v", err)}
	}
	found := []finding{judgeExpiry(what, loaded, d.now())}
	target, roots, err := endpoint(app)
	if err != nil {
		return append(found, failed(what, "Mend endpoint.ca_file.", "%v", err))
	}
	var checks []check
	for _, env := range environments(app, cred) {
		checks = append(checks, func(ctx context.Context) []finding {
			p := probe{
				name: fmt.Sprintf("apns of %s, %s", name, env), credential: loaded, environment: env,
				topic: probeTopic(app, cred), standIn: app.Endpoint != nil, spare: cred.Environment == device.EnvironmentUnset && env != app.Environment,
			}
			return []finding{p.run(ctx, apns.ClientConfig{
				Credential: loaded, Environment: env, URL: target, RootCAs: roots, Proxy: proxy(),
				Connections: 1, MaxConnections: 1, RequestTimeout: apnsTime,
			})}
		})
	}
	return append(found, together(ctx, checks...)...)
}

func judgeExpiry(name string, cred apns.Credential, now time.Time) finding {
	const remedy = "Renew the certificate at developer.apple.com, or go to a signing key, which does not expire."
	ends := cred.Expires()
	switch left := ends.Sub(now); {
	case ends.IsZero():
		return ok(name, "%s", cred)
	case left <= 0:
		return failed(name, remedy, "%s expired at %s", cred, ends.UTC().Format(time.RFC3339))
	case left < expirySoon:
		return warning(name, remedy, "%s expires in %d days", cred, int(left.Hours()/24))
	default:
		return ok(name, "%s, good until %s", cred, ends.UTC().Format(time.DateOnly))
	}
}

// probeTopic is a topic that the credential is for.
func probeTopic(app config.App, cred config.Credential) string {
	if len(cred.Topics) == 0 || slices.Contains(cred.Topics, app.BundleID) {
		return app.BundleID
	}
	return cred.Topics[0]
}

// probePushType is the push type that goes with a topic, by its suffix.
func probePushType(topic string) job.PushType {
	for _, t := range job.PushTypes() {
		if suffix := t.Topic(""); suffix != "" && strings.HasSuffix(topic, suffix) {
			return t
		}
	}
	return job.PushAlert
}

// probe is one notification to a device token that cannot exist.
type probe struct {
	name        string
	credential  apns.Credential
	environment device.Environment
	topic       string
	standIn     bool // it does not go to Apple
	spare       bool // the app says neither of it nor of the credential that it uses this environment
}

func (p *probe) run(ctx context.Context, cfg apns.ClientConfig) finding {
	client, err := apns.New(cfg)
	if err != nil {
		return failed(p.name, remedyUnreachable, "%v", err)
	}
	defer client.Close()
	var answer apns.Response
	client.Send(ctx, job.Transactional, []apns.Notification{{
		DeviceToken: nonsense(), APNsID: uuid.New(), Topic: p.topic, PushType: probePushType(p.topic), Priority: 10,
		Payload: []byte(`{"aps":{"alert":"pushfleet doctor"}}`),
	}}, func(_ int, r apns.Response) { answer = r })
	return p.judge(answer)
}

const remedyUnreachable = "Open the way to api.push.apple.com (sandbox: api.sandbox.push.apple.com), port 443, or set HTTPS_PROXY; with an endpoint, mend endpoint.url or ca_file."

// The remedies for what APNs says against a credential.
const (
	remedyKey         = "See at developer.apple.com that key_id and team_id are those of this .p8 file, and that the key is not revoked."
	remedyEnvironment = "The credential is for the other environment: give credentials[n].environment, or use one that is good for this environment."
	remedyTopic       = "See that bundle_id is right, and that the key or certificate is for it (topics of the key, bundle id of the certificate)."
	remedyClock       = "Set this machine's clock by NTP: provider tokens carry its time, and may be an hour old."
	remedyLater       = "Try again in some minutes; see developer.apple.com/system-status."
)

// apnsRemedies say what to do about an answer. Those that are about the device token
// show that the credential is good.
func apnsRemedies() map[apns.Reason]string {
	return map[apns.Reason]string{
		apns.InvalidProviderToken:        remedyKey,
		apns.Forbidden:                   remedyKey,
		apns.MissingProviderToken:        remedyKey,
		apns.UnrelatedKeyIDInToken:       remedyKey,
		apns.ExpiredProviderToken:        remedyClock,
		apns.TooManyProviderTokenUpdates: remedyClock,
		apns.BadCertificate:              "Renew the certificate, or see that it is one for push notifications.",
		apns.BadCertificateEnvironment:   remedyEnvironment,
		apns.BadEnvironmentKeyIDInToken:  remedyEnvironment,
		apns.BadEnvironmentKeyInToken:    remedyEnvironment,
		apns.TopicDisallowed:             remedyTopic,
		apns.BadTopic:                    remedyTopic,
		apns.MissingTopic:                remedyTopic,
	}
}

// judge says what an answer means.
func (p *probe) judge(r apns.Response) finding {
	var stopped *apns.RouteError
	if errors.As(r.Err, &stopped) && stopped.Reason != "" {
		r = apns.Response{Status: http.StatusForbidden, Reason: stopped.Reason}
	}
	said := fmt.Sprintf("%d %s", r.Status, r.Reason)
	remedy, known := apnsRemedies()[r.Reason]
	switch {
	case r.Err != nil:
		return failed(p.name, remedyUnreachable, "%v", r.Err)
	case r.Status == http.StatusOK && p.standIn:
		return warning(p.name, "Have the stand-in reject device tokens that it does not know (pushfleet sim --unknown reject), or take endpoint away to send to Apple.",
			"it accepts the credential, and even a device token that cannot exist")
	case r.Status == http.StatusOK:
		return failed(p.name, "See that the way to APNs leads to Apple (DNS, HTTPS_PROXY).", "a device token that cannot exist was accepted: this is not Apple")
	case r.Reason == apns.BadDeviceToken:
		return ok(p.name, "%s accepts %s for %s", p.where(), p.credential, p.topic)
	case known:
		if remedy == remedyEnvironment && p.spare {
			return warning(p.name, "Say credentials[n].environment; add a credential for this environment if devices register in it.", "%s answers %s", p.where(), said)
		}
		return failed(p.name, remedy, "%s answers %s", p.where(), said)
	case r.Reason.Verdict() != apns.Keep:
		return warning(p.name, "See that bundle_id is right: the credential is accepted, and the answer should be BadDeviceToken.", "%s answers %s", p.where(), said)
	case r.Status == http.StatusTooManyRequests || r.Status >= http.StatusInternalServerError:
		return warning(p.name, remedyLater, "%s answers %s", p.where(), said)
	default:
		return failed(p.name, "The answer should be BadDeviceToken; upgrade pushfleet, or report this.", "%s answers %s", p.where(), said)
	}
}

func (p *probe) where() string {
	if p.standIn {
		return "the endpoint"
	}
	return "APNs"
}
