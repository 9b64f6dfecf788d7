package config

import (
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
)

func (c *Config) fields() []field {
	return []field{
		{key: "nats", value: nested(&c.NATS), doc: "JetStream, which holds the jobs."},
		{key: "redis", value: nested(&c.Redis), doc: "Redis, which holds the token set."},
		{key: "api", value: nested(&c.API), doc: "The HTTP API."},
		{key: "worker", value: nested(&c.Worker), doc: "The worker, which sends."},
		{key: "log", value: nested(&c.Log), doc: "What is logged, to standard error."},
		{key: "telemetry", value: nested(&c.Telemetry), doc: "Traces. Where neither this section nor `OTEL_EXPORTER_OTLP_ENDPOINT` is given, there are none."},
		{key: "apps", value: mapOf(&c.Apps), doc: "The apps that are pushed to. An app's name (letters, digits, `-` and `_`) is the one in subjects and URLs."},
	}
}

func (c *Config) check(s *scope) {
	for _, name := range s.children("apps") {
		if !appName.MatchString(name) {
			s.reportChild("apps", name, "an app's name must be up to 64 letters, digits, '-' and '_'")
		}
	}
	if app := c.API.Gorush.App; app != "" && !slices.Contains(s.children("apps"), app) {
		s.reportBelow("api.gorush.app", "must be the name of an app, got %s", quote(app))
	}
}

func (c *NATS) fields() []field {
	return []field{
		{key: "url", value: text(&c.URL, checkNATSURL), def: "nats://127.0.0.1:4222", doc: "One or more servers of one cluster, separated by commas."},
		{key: "credentials_file", value: file(&c.CredentialsFile), doc: "A `.creds` file. It is read again at each connection. At most one of `credentials_file`, `nkey_seed_file`, `user` and `token`."},
		{key: "nkey_seed_file", value: file(&c.NKeySeedFile), doc: "A file with an nkey seed."},
		{key: "user", value: text(&c.User, checkNotEmpty), doc: "User name."},
		{key: "password", value: secret(&c.Password, checkNotEmpty), doc: "The user's password."},
		{key: "token", value: secret(&c.Token, checkNotEmpty), doc: "The servers' authorization token."},
		{key: "tls", value: nested(&c.TLS), doc: "TLS to the servers; a `tls://` URL turns it on too."},
		{key: "replicas", value: integer(&c.Replicas, 1, 5), def: "1", doc: "Copies that a JetStream cluster keeps of each stream and bucket. Use 3 in production."},
		{key: "connect_timeout", value: duration(&c.ConnectTimeout, 100*time.Millisecond, 5*time.Minute), def: "5s", doc: "Patience with one try at a first connection to one server. A worker tries again, for `worker.start_timeout`."},
		{key: "jobs_bytes", value: integer(&c.JobsBytes, leastStreamBytes, mostStreamBytes), def: "17179869184", doc: "Bytes that JOBS reserves of the servers' file store, where it does not exist yet. Halved, but not below 1 GiB, where they have less. When it is full, publishers are told so."},
		{key: "outcomes_bytes", value: integer(&c.OutcomesBytes, leastStreamBytes, mostStreamBytes), def: "8589934592", doc: "The same for OUTCOMES, which keeps a week. When it is full, workers stop taking until there is room."},
		{key: "devices_bytes", value: integer(&c.DevicesBytes, leastStreamBytes, mostStreamBytes), def: "1073741824", doc: "The same for DEVICES, the queue of registrations. When it is full, publishers are told so."},
		{key: "dead_bytes", value: integer(&c.DeadBytes, leastStreamBytes, mostStreamBytes), def: "2147483648", doc: "The same for DEAD. When it is full, what should go there stays in JOBS and is tried again."},
		{key: "campaigns_bytes", value: integer(&c.CampaignsBytes, leastStreamBytes, mostStreamBytes), def: "268435456", doc: "The same for the bucket of campaigns. When three quarters of it are used, none can be created until some that have ended are deleted."},
	}
}

// Bounds of a stream's bytes: a few messages of the largest size, and no typo.
const (
	leastStreamBytes = 16 << 20
	mostStreamBytes  = 1 << 50
)

func (c *NATS) check(s *scope) {
	s.atMostOne("credentials_file", "nkey_seed_file", "user", "token")
	s.together("user", "password")
}

func (c *Redis) fields() []field {
	return []field{
		{key: "addresses", value: texts(&c.Addresses, checkAddress), def: "127.0.0.1:6379", doc: "One address: a single server. Several: members of a cluster or, with `master_name`, the sentinels."},
		{key: "username", value: text(&c.Username, checkNotEmpty), doc: "ACL user."},
		{key: "password", value: secret(&c.Password, checkNotEmpty), doc: "Password of that user, or of the default one."},
		{key: "db", value: integer(&c.DB, 0, 1023), def: "0", doc: "Database number; a cluster has only 0."},
		{key: "tls", value: nested(&c.TLS), doc: "TLS to the servers."},
		{key: "master_name", value: text(&c.MasterName, checkNotEmpty), doc: "The master's name at the sentinels."},
		{key: "sentinel_username", value: text(&c.SentinelUsername, checkNotEmpty), doc: "ACL user at the sentinels. Default: none."},
		{key: "sentinel_password", value: secret(&c.SentinelPassword, checkNotEmpty), doc: "Password of that user, or of the sentinels' default one. Default: none."},
		{key: "keep_jobs", value: duration(&c.KeepJobs, 24*time.Hour, 7*24*time.Hour), def: "24h", doc: "How long the status of a job can be asked for after its last change. It is some 200 bytes a job. The same in the whole fleet."},
	}
}

func (c *Redis) check(s *scope) {
	if s.given("addresses") && len(c.Addresses) == 0 && !s.bad("addresses") {
		s.report("addresses", "must name at least one")
	}
	if c.DB != 0 && len(c.Addresses) > 1 && c.MasterName == "" {
		s.report("db", "must be 0 with several addresses: a cluster has one database (sentinels need redis.master_name)")
	}
	for _, key := range []string{"sentinel_username", "sentinel_password"} {
		if s.given(key) && !s.given("master_name") {
			s.report(key, "needs redis.master_name too")
		}
	}
	if s.given("sentinel_username") && !s.given("sentinel_password") {
		s.report("sentinel_username", "needs redis.sentinel_password too")
	}
	if s.given("username") && !s.given("password") {
		s.report("username", "needs redis.password too")
	}
}

func (c *TLS) fields() []field {
	return []field{
		{key: "enabled", value: boolean(&c.Enabled), doc: "Use TLS. Default: true where the section `tls` is given, else false."},
		{key: "ca_file", value: file(&c.CAFile), doc: "Certificate authorities to trust, PEM. Default: the system's."},
		{key: "cert_file", value: file(&c.CertFile), doc: "Client certificate, PEM; with `key_file`."},
		{key: "key_file", value: file(&c.KeyFile), doc: "Private key of the client certificate, PEM."},
	}
}

func (c *TLS) check(s *scope) {
	s.together("cert_file", "key_file")
	if s.present() && !s.given("enabled") {
		c.Enabled = true
	}
}

func (c *API) fields() []field {
	return []field{
		{key: "listen", value: text(&c.Listen, checkListen), def: ":8080", doc: "Address of the HTTP API, and of its `/livez`, `/readyz` and `/metrics`."},
		{key: "cert_file", value: file(&c.CertFile), doc: "Certificate chain for HTTPS, PEM; with `key_file`. Both are read again when they change. Default: plain HTTP, for use behind something that ends TLS."},
		{key: "key_file", value: file(&c.KeyFile), doc: "Private key of the certificate, PEM."},
		{key: "client_ca_file", value: file(&c.ClientCAFile), doc: "Certificate authorities, PEM: who has no certificate of theirs is refused, also at `/livez` and its like. Read again when it changes."},
		{key: "rate_limit", value: integer(&c.RateLimit, 0, 1_000_000), def: "5000", doc: "Requests a second that each API key may make at each process, with bursts of a second's worth. Each device or job of a batch counts as one. 0: without limit."},
		{key: "max_batch_bytes", value: integer(&c.MaxBatchBytes, 64<<10, 64<<20), def: "1048576", doc: "The most bytes of a batch of registrations or of jobs. One registration may have 65536, one job 786432."},
		{key: "drain_timeout", value: duration(&c.DrainTimeout, 0, 10*time.Minute), def: "10s", doc: "How long SIGTERM waits for requests that are being answered."},
		{key: "dashboard", value: boolean(&c.Dashboard), def: "true", doc: "Serve the dashboard at `/`. It shows and does what the API key that is typed into it may."},
		{key: "gorush", value: nested(&c.Gorush), doc: "`POST /api/push` and `GET /api/stat/app` for callers of gorush."},
	}
}

func (c *API) check(s *scope) {
	s.together("cert_file", "key_file")
	if s.given("client_ca_file") && !s.given("cert_file") {
		s.report("client_ca_file", "needs api.cert_file too")
	}
}

func (c *Gorush) fields() []field {
	return []field{
		{key: "enabled", value: boolean(&c.Enabled), def: "false", doc: "Serve them."},
		{key: "api_key", value: secret(&c.APIKey, checkNotEmpty), doc: "API key of requests that bring none: whoever reaches the address may then send. Default: each request needs one of its own."},
		{key: "app", value: text(&c.App, checkNotEmpty), doc: "App of notifications without a topic. Default: the one that the API key is for."},
		{key: "max_notifications", value: integer(&c.MaxNotifications, 1, 1000), def: "100", doc: "How many notifications one request may have."},
	}
}

func (*Gorush) check(*scope) {}

func (c *Worker) fields() []field {
	return []field{
		{key: "name", value: text(&c.Name, checkWorkerName), doc: "Name of this worker, unique in the fleet. Default: the host's name."},
		{key: "listen", value: text(&c.Listen, checkListen), def: ":9090", doc: "Address of `/livez`, `/readyz` and `/metrics`."},
		{key: "max_in_flight", value: integer(&c.MaxInFlight, 1, 1_000_000), def: "20000", doc: "Notifications that are taken and not yet settled, at the most."},
		{key: "start_timeout", value: duration(&c.StartTimeout, 0, time.Hour), def: "2m", doc: "How long a worker that starts tries to reach JetStream, again and again, before it ends with what was wrong. 0s is one try. What waiting cannot mend ends it at once: a refused login, a foreign stream, a server that is too old."},
		{key: "drain_timeout", value: duration(&c.DrainTimeout, 0, 10*time.Minute), def: "25s", doc: "How long SIGTERM waits for what is in flight. Keep it below the grace period of whoever stops the process (30s in Kubernetes)."},
		{key: "connections", value: integer(&c.Connections, 1, 64), def: "2", doc: "Connections to APNs that each route (app, environment, credential) keeps open."},
		{key: "max_connections", value: integer(&c.MaxConnections, 1, 64), def: "8", doc: "Connections that a busy route may have."},
		{key: "request_timeout", value: duration(&c.RequestTimeout, time.Second, 10*time.Minute), def: "30s", doc: "Patience with the answer to one notification; then its fate is unknown."},
		{key: "recorder", value: boolean(&c.Recorder), def: "true", doc: "Write outcomes to the token set in this process. Some process of the fleet must."},
	}
}

func (c *Worker) check(s *scope) {
	if c.MaxConnections < c.Connections && !s.bad("connections") && !s.bad("max_connections") {
		key := "max_connections"
		if !s.given(key) {
			key = "connections"
		}
		s.report(key, "worker.max_connections must be at least worker.connections, got %d and %d", c.MaxConnections, c.Connections)
	}
}

func (c *Log) fields() []field {
	return []field{
		{key: "level", value: oneOf(&c.Level, "debug", "info", "warn", "error"), def: "info", doc: "The least that is logged."},
		{key: "format", value: oneOf(&c.Format, "console", "json"), def: "console", doc: "Lines for people, or one JSON object a line."},
	}
}

func (*Log) check(*scope) {}

func (c *Telemetry) fields() []field {
	return []field{
		{key: "endpoint", value: text(&c.Endpoint, checkTelemetryURL), doc: "Where traces are sent: a receiver of OTLP over HTTP. Without a path, `/v1/traces` is added. Default: what `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` says."},
		{key: "headers", value: secret(&c.Headers, checkHeaders), doc: "Headers of each export, as `name=value,name=value`; values are percent-encoded."},
		{key: "sample_ratio", value: ratio(&c.SampleRatio), doc: "Share of the traces that begin in pushfleet which are recorded. Whether one that comes with a job or a request is recorded, its beginner has decided. Default: what `OTEL_TRACES_SAMPLER` says, else 1."},
	}
}

func (c *Telemetry) check(s *scope) { c.HasSampleRatio = s.given("sample_ratio") }

func (c *App) fields() []field {
	return []field{
		{key: "bundle_id", value: text(&c.BundleID, checkBundleID), required: true, doc: "The app's bundle id; topics are made from it."},
		{key: "environment", value: environment(&c.Environment), def: "production", doc: "APNs environment of device tokens that come in a job, and of registrations that do not say."},
		{key: "key", value: optional(&c.key), doc: "A signing key. Exactly one of `key`, `certificate` and `credentials`."},
		{key: "certificate", value: optional(&c.certificate), doc: "A client certificate."},
		{key: "credentials", value: listOf(&c.Credentials), doc: "Several keys or certificates, by environment or topics."},
		{key: "canaries", value: tokens(&c.Canaries), doc: "Device tokens of your own, in hexadecimal. They get a silent push while the fuse is open, to learn when it may close."},
		{key: "prune_after", value: days(&c.PruneAfter, 30, 3650), doc: "Remove device tokens that were not registered for so long. They are remembered as removed for 30 days. Default: never."},
		{key: "webhook", value: optional(&c.Webhook), doc: "Where `pushfleet api` tells over HTTP what became of notifications (docs/webhooks.md)."},
		{key: "endpoint", value: optional(&c.Endpoint), doc: "What to send to in place of Apple, such as the simulator."},
	}
}

func (c *App) check(s *scope) {
	s.exactlyOne("key", "certificate", "credentials")
	if c.key != nil || c.certificate != nil {
		c.Credentials = append([]Credential{{Key: c.key, Certificate: c.certificate}}, c.Credentials...)
		return
	}
	if s.given("credentials") && len(c.Credentials) == 0 && !s.bad("credentials") {
		s.report("credentials", "must name at least one")
	}
	if s.bad("credentials") {
		return
	}
	// Which of two answers for a topic must not be a matter of chance.
	type claim struct {
		environment device.Environment
		topic       string
	}
	owner := make(map[claim]int)
	for i, one := range c.Credentials {
		topics := one.Topics
		if len(topics) == 0 {
			topics = []string{""}
		}
		for _, topic := range topics {
			if first, taken := owner[claim{one.Environment, topic}]; taken {
				s.reportItem("credentials", i, "serves the same as credentials[%d]: give them different environments or topics", first)
				break
			}
			owner[claim{one.Environment, topic}] = i
		}
	}
}

func (c *Credential) fields() []field {
	return []field{
		{key: "environment", value: environment(&c.Environment), doc: "The environment that it is good for. Default: both."},
		{key: "topics", value: texts(&c.Topics, checkBundleID), doc: "The topics that it is good for, where a key is bound to some. Default: all of the app."},
		{key: "key", value: optional(&c.Key), doc: "A signing key. Exactly one of `key` and `certificate`."},
		{key: "certificate", value: optional(&c.Certificate), doc: "A client certificate."},
	}
}

func (c *Credential) check(s *scope) { s.exactlyOne("key", "certificate") }

func (c *Key) fields() []field {
	return []field{
		{key: "path", value: file(&c.Path), doc: "The `.p8` file. Exactly one of `path` and `base64`."},
		{key: "base64", value: secret(&c.Base64, checkBase64), doc: "The `.p8` file's bytes in base64."},
		{key: "key_id", value: text(&c.KeyID, checkAppleID), required: true, doc: "The key's id, 10 characters."},
		{key: "team_id", value: text(&c.TeamID, checkAppleID), required: true, doc: "The team's id, 10 characters."},
	}
}

func (c *Key) check(s *scope) { s.exactlyOne("path", "base64") }

func (c *Certificate) fields() []field {
	return []field{
		{key: "path", value: certificateFile(&c.Path), required: true, doc: "Certificate and private key, `.p12` or `.pem`."},
		{key: "password", value: secret(&c.Password, nil), doc: "The file's password."},
	}
}

func (*Certificate) check(*scope) {}

func (c *Endpoint) fields() []field {
	return []field{
		{key: "url", value: text(&c.URL, checkEndpointURL), required: true, doc: "`https://host:port`; HTTP/2 over TLS."},
		{key: "ca_file", value: file(&c.CAFile), doc: "Certificate authorities to trust there, PEM. Default: the system's."},
	}
}

func (*Endpoint) check(*scope) {}

func (c *Webhook) fields() []field {
	return []field{
		{key: "url", value: text(&c.URL, feedback.CheckWebhookURL), required: true, doc: "Where to POST to: https, or with `allow_private` also http."},
		{key: "secrets", value: secret(&c.Secrets, checkSecrets), required: true, doc: "Signing secrets (`whsec_…`), separated by spaces or lines. Each signs: give the new one and the old one while you change them."},
		{key: "lanes", value: lanes(&c.Lanes), doc: "Whose outcomes are told: `transactional`, `bulk`. Default: both."},
		{key: "results", value: results(&c.Results), doc: "Which outcomes are told, such as `rejected`. Default: all."},
		{key: "timeout", value: duration(&c.Timeout, time.Second, time.Minute), def: "15s", doc: "Patience with the answer to one POST."},
		{key: "batch", value: integer(&c.Batch, 1, 2000), def: "200", doc: "The most outcomes in one POST; one is about 350 bytes."},
		{key: "allow_private", value: boolean(&c.AllowPrivate), def: "false", doc: "Allow addresses that are not on the public Internet, and plain http to those."},
		{key: "ca_file", value: file(&c.CAFile), doc: "Certificate authorities to trust there, PEM. Default: the system's."},
	}
}

func (c *Webhook) check(s *scope) {
	if c.URL == "" || c.AllowPrivate || s.bad("url") {
		return
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return // it was checked
	}
	if u.Scheme == "http" {
		s.report("url", "must be https: plain http needs allow_private, and a private address")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && feedback.CheckPublic(addr) != nil || u.Hostname() == "localhost" {
		s.report("url", "is not on the public Internet, which needs allow_private")
	}
}
