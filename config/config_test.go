package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// defaults is what an empty file means.
func defaults() config.Config {
	return config.Config{
		NATS: config.NATS{
			URL: "nats://127.0.0.1:4222", Replicas: 1, ConnectTimeout: 5 * time.Second,
			JobsBytes: 16 << 30, OutcomesBytes: 8 << 30, DevicesBytes: 1 << 30, DeadBytes: 2 << 30, CampaignsBytes: 256 << 20,
		},
		Redis: config.Redis{Addresses: []string{"127.0.0.1:6379"}, KeepJobs: 24 * time.Hour},
		API:   config.API{Listen: ":8080", Dashboard: true, RateLimit: 5000, MaxBatchBytes: 1 << 20, DrainTimeout: 10 * time.Second, Gorush: config.Gorush{MaxNotifications: 100}},
		Worker: config.Worker{
			Listen: ":9090", MaxInFlight: 20000, StartTimeout: 2 * time.Minute, DrainTimeout: 25 * time.Second,
			Connections: 2, MaxConnections: 8, RequestTimeout: 30 * time.Second, Recorder: true,
		},
		Log: config.Log{Level: "info", Format: "console"},
	}
}

func parse(t *testing.T, yaml string, environ ...string) *config.Config {
	t.Helper()
	cfg, err := config.Parse([]byte(yaml), environ)
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return cfg
}

func TestNothingMeansDefaults(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{"", "\n", "# a comment\n", "---\n", "null\n", "{}", "nats:\nworker: {}\ntelemetry: {}\napps:\n", "worker: {name: , max_in_flight: ~}"} {
		want := defaults()
		if got := parse(t, yaml); !reflect.DeepEqual(*got, want) {
			t.Errorf("%q: got %+v, want %+v", yaml, *got, want)
		}
	}
}

func TestEveryKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("redis-password", "p4\n")
	write("webhook-secrets", webhookSecret+"\n"+webhookSecret+"\n")
	write("key.b64", "AAEC\nAwQF\r\n")
	write("c.yaml", `
nats:
  url: "tls://a:4222, tls://b:4222"
  user: u
  password: 0123
  tls: {ca_file: ca.pem, cert_file: /abs/c.pem, key_file: sub/k.pem}
  replicas: 3
  connect_timeout: 1m30s
  jobs_bytes: 1_000_000_000_000
  outcomes_bytes: 16777216
  devices_bytes: 16777217
  dead_bytes: 16777218
  campaigns_bytes: 16777219
redis:
  addresses: [a:1, "[::1]:2"]
  username: ru
  password_file: redis-password
  tls: {enabled: false, ca_file: ca.pem}
  master_name: m
  sentinel_username: su
  sentinel_password: sp
  keep_jobs: 48h
api: {listen: "127.0.0.1:0", cert_file: api.pem, key_file: /abs/api-key.pem, client_ca_file: clients.pem, rate_limit: 0, max_batch_bytes: 65536, drain_timeout: 0s, dashboard: false, gorush: {enabled: true, api_key: k, app: shop, max_notifications: 5}}
worker:
  name: w-1.example
  listen: 127.0.0.1:9091
  max_in_flight: 1_000
  start_timeout: 0s
  drain_timeout: 5m
  connections: 3
  max_connections: 3
  request_timeout: 1s
  recorder: false
log: {level: debug, format: json}
telemetry: {endpoint: "https://otel:4318/custom", headers: "Authorization=Bearer%20hunter2, X-B=", sample_ratio: 0}
apps:
  shop:
    bundle_id: com.example.shop
    environment: sandbox
    key: {base64_file: key.b64, key_id: ABCDEFGHIJ, team_id: 1234567890}
    canaries: [A1b2, "0c"]
    prune_after: 270d
    webhook:
      url: http://10.0.0.1:8080/hook?key=x
      secrets_file: webhook-secrets
      lanes: [bulk]
      results: [rejected, suppressed]
      timeout: 1m
      batch: 2000
      allow_private: true
      ca_file: hook.pem
    endpoint: {url: "https://sim:2197", ca_file: sim.pem}
  classic:
    bundle_id: com.example.classic
    certificate: {path: c.p12, password: hunter2}
  news:
    bundle_id: com.example.news
    credentials:
    - environment: production
      key: &k {path: p.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}
    - environment: production
      topics: [com.example.news.voip]
      key: *k
    - environment: sandbox
      certificate: {path: s.pem}
`)
	got, err := config.Load(filepath.Join(dir, "c.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	tok := func(hex string) device.Token {
		parsed, err := device.ParseToken(hex)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	check := func(name string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", name, got, want)
		}
	}
	check("nats", got.NATS, config.NATS{
		URL: "tls://a:4222, tls://b:4222", User: "u", Password: config.NewSecret("0123"), Replicas: 3, ConnectTimeout: 90 * time.Second,
		JobsBytes: 1_000_000_000_000, OutcomesBytes: 16777216, DevicesBytes: 16777217, DeadBytes: 16777218, CampaignsBytes: 16777219,
		TLS: config.TLS{Enabled: true, CAFile: in("ca.pem"), CertFile: "/abs/c.pem", KeyFile: in("sub/k.pem")},
	})
	check("redis", got.Redis, config.Redis{
		Addresses: []string{"a:1", "[::1]:2"}, Username: "ru", Password: config.NewSecret("p4"), MasterName: "m", SentinelUsername: "su", SentinelPassword: config.NewSecret("sp"), KeepJobs: 48 * time.Hour,
		TLS: config.TLS{CAFile: in("ca.pem")},
	})
	check("redis.password", got.Redis.Password.Reveal(), "p4")
	check("api", got.API, config.API{
		Listen: "127.0.0.1:0", CertFile: in("api.pem"), KeyFile: "/abs/api-key.pem", ClientCAFile: in("clients.pem"), MaxBatchBytes: 64 << 10,
		Gorush: config.Gorush{Enabled: true, APIKey: config.NewSecret("k"), App: "shop", MaxNotifications: 5},
	})
	check("worker", got.Worker, config.Worker{
		Name: "w-1.example", Listen: "127.0.0.1:9091", MaxInFlight: 1000, DrainTimeout: 5 * time.Minute,
		Connections: 3, MaxConnections: 3, RequestTimeout: time.Second,
	})
	check("log", got.Log, config.Log{Level: "debug", Format: "json"})
	check("telemetry", got.Telemetry, config.Telemetry{
		Endpoint: "https://otel:4318/custom", Headers: config.NewSecret("Authorization=Bearer%20hunter2, X-B="), HasSampleRatio: true,
	})
	headers, err := config.ParseHeaders(got.Telemetry.Headers.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	check("telemetry.headers", headers, map[string]string{"Authorization": "Bearer hunter2", "X-B": ""})

	shop := got.Apps["shop"]
	check("shop's credentials", len(shop.Credentials), 1)
	check("shop's key", *shop.Credentials[0].Key, config.Key{Base64: config.NewSecret("AAEC\nAwQF"), KeyID: "ABCDEFGHIJ", TeamID: "1234567890"})
	check("shop's environment", shop.Environment, device.Sandbox)
	check("shop's canaries", shop.Canaries, []device.Token{tok("a1b2"), tok("0c")})
	check("shop's prune_after", shop.PruneAfter, 270*24*time.Hour)
	check("shop's webhook", *shop.Webhook, config.Webhook{
		URL: "http://10.0.0.1:8080/hook?key=x", Secrets: config.NewSecret(webhookSecret + "\n" + webhookSecret), Lanes: []job.Lane{job.Bulk},
		Results: []job.Result{job.Rejected, job.Suppressed}, Timeout: time.Minute, Batch: 2000, AllowPrivate: true, CAFile: in("hook.pem"),
	})
	check("shop's endpoint", *shop.Endpoint, config.Endpoint{URL: "https://sim:2197", CAFile: in("sim.pem")})
	classic := got.Apps["classic"]
	check("classic's environment", classic.Environment, device.Production)
	check("classic's certificate", *classic.Credentials[0].Certificate, config.Certificate{Path: in("c.p12"), Password: config.NewSecret("hunter2")})
	key := &config.Key{Path: in("p.p8"), KeyID: "ABCDEFGHIJ", TeamID: "ABCDEFGHIJ"}
	check("news's credentials", got.Apps["news"].Credentials, []config.Credential{
		{Environment: device.Production, Key: key},
		{Environment: device.Production, Topics: []string{"com.example.news.voip"}, Key: key},
		{Environment: device.Sandbox, Certificate: &config.Certificate{Path: in("s.pem")}},
	})
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "s")
	if err := os.WriteFile(secret, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml := `
nats: {user: u, password: from-yaml}
redis: {password: from-yaml}
worker: {max_in_flight: 0}
apps:
  my-shop:
  news:
    bundle_id: com.example.news
    credentials:
    - key: {path: a.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}
`
	cfg := parse(t, yaml,
		"HOME=/root",
		"PUSHFLEET_NATS_URL=nats://elsewhere:4222",
		"PUSHFLEET_NATS_URL=nats://last-one-counts:4222",
		"PUSHFLEET_NATS_PASSWORD_FILE="+secret,
		"PUSHFLEET_REDIS_ADDRESSES=a:1, b:2",
		"PUSHFLEET_REDIS_PASSWORD=from-environment",
		"PUSHFLEET_REDIS_TLS_ENABLED=true",
		"PUSHFLEET_WORKER_MAX_IN_FLIGHT=7",
		"PUSHFLEET_WORKER_NAME=",
		"PUSHFLEET_APPS_MY_SHOP_BUNDLE_ID=com.example.shop",
		"PUSHFLEET_APPS_MY_SHOP_KEY_PATH=/k.p8",
		"PUSHFLEET_APPS_MY_SHOP_KEY_KEY_ID=ABCDEFGHIJ",
		"PUSHFLEET_APPS_MY_SHOP_KEY_TEAM_ID=ABCDEFGHIJ",
		"PUSHFLEET_APPS_NEWS_CREDENTIALS_0_ENVIRONMENT=sandbox",
		// Kubernetes, for a Service named pushfleet-worker, and neighbours.
		"PUSHFLEET_WORKER_SERVICE_HOST=10.0.0.1",
		"PUSHFLEET_WORKER_SERVICE_PORT_HTTP=9090",
		"PUSHFLEET_WORKER_PORT=tcp://10.0.0.1:9090",
		"PUSHFLEET_WORKER_PORT_9090_TCP_ADDR=10.0.0.1",
		"PUSHFLEET_PORT=tcp://10.0.0.1:9090",
		"PUSHFLEET_CONFIG=/etc/pushfleet.yaml",
		"PUSHFLEET_TEST_REQUIRE_REDIS=1",
		"without-an-equals-sign",
	)
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"nats.url", cfg.NATS.URL, "nats://last-one-counts:4222"},
		{"nats.password", cfg.NATS.Password.Reveal(), "from-file"},
		{"redis.addresses", cfg.Redis.Addresses, []string{"a:1", "b:2"}},
		{"redis.password", cfg.Redis.Password.Reveal(), "from-environment"},
		{"redis.tls", cfg.Redis.TLS, config.TLS{Enabled: true}},
		{"worker.max_in_flight", cfg.Worker.MaxInFlight, 7},
		{"worker.name", cfg.Worker.Name, ""},
		{"my-shop's bundle id", cfg.Apps["my-shop"].BundleID, "com.example.shop"},
		{"my-shop's key", *cfg.Apps["my-shop"].Credentials[0].Key, config.Key{Path: "/k.p8", KeyID: "ABCDEFGHIJ", TeamID: "ABCDEFGHIJ"}},
		{"news's credential", cfg.Apps["news"].Credentials[0].Environment, device.Sandbox},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %#v, want %#v", c.name, c.got, c.want)
		}
	}
}

// webhookSecret is a secret of the shortest length.
const webhookSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"

func TestWebhookByEnvironment(t *testing.T) {
	t.Parallel()
	cfg := parse(t, "apps: {a: {bundle_id: b, certificate: {path: p.pem}}}\n",
		"PUSHFLEET_APPS_A_WEBHOOK_URL=https://example.com/x", "PUSHFLEET_APPS_A_WEBHOOK_SECRETS="+webhookSecret)
	want := config.Webhook{URL: "https://example.com/x", Secrets: config.NewSecret(webhookSecret), Timeout: 15 * time.Second, Batch: 200}
	if got := cfg.Apps["a"].Webhook; got == nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parse(t, "apps: {a: {bundle_id: b, certificate: {path: p.pem}}}\n").Apps["a"].Webhook; got != nil {
		t.Errorf("without a webhook: got %+v, want nil", got)
	}
}

// TestProblems holds each complaint to its place and its words. A line of want
// is a whole problem; there must be no others.
func TestProblems(t *testing.T) {
	t.Parallel()
	const app = "apps: {a: {bundle_id: b, key: {path: k, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}}}\n"
	tests := []struct {
		name, yaml string
		environ    []string
		want       []string
	}{
		{"not a section", "- a\n", nil, []string{"1:1: must be a section with keys of its own, got a list"}},
		{"syntax", "nats:\n  url: a\n bad\n", nil, []string{"2:1: not YAML: did not find expected key"}},
		{"tab", "nats:\n\turl: a\n", nil, []string{"2:1: not YAML: found character that cannot start any token"}},
		{"not UTF-8", "nats: \xff\xfe", nil, []string{"1:1: not YAML: invalid leading UTF-8 octet"}},
		{
			"a password that looks like an alias", "redis:\n  password: *hunter2\n", nil,
			[]string{"1:1: not YAML: an unquoted '*' must be followed by the name of an anchor"},
		},
		{"two documents", "log: {}\n---\nlog: {}\n", nil, []string{"2:1: must be one YAML document, this begins a second one"}},
		{"key that is a list", "[a]: b\n", nil, []string{"1:1: a key must be a text, got a list"}},
		{"merge", "log: &l {level: info}\nworker:\n  <<: *l\n", nil, []string{"3:3: worker: merge keys (<<) are not supported: write the keys out"}},
		{
			"unknown keys",
			"worker:\n  max_in_fligth: 1\n  maxInFlight: 1\n  Name: x\n  zzz: 1\nwroker: {}\ntelemetry:\n  otlp_endpoint: x\n" + strings.Repeat("k", 100) + ": 1\n", nil,
			[]string{
				"2:3: worker.max_in_fligth: unknown key, did you mean max_in_flight?",
				"3:3: worker.maxInFlight: unknown key, did you mean max_in_flight?",
				"4:3: worker.Name: unknown key, did you mean name?",
				"5:3: worker.zzz: unknown key",
				"6:1: wroker: unknown key, did you mean worker?",
				"8:3: telemetry.otlp_endpoint: unknown key",
				`9:1: "` + strings.Repeat("k", 40) + `"…: unknown key`,
			},
		},
		{"what belongs together", "nats: {token: hunter2, user: u, password: hunter2}\nredis: {sentinel_username: u}\napi: {client_ca_file: c}\n", nil, []string{
			"1:15: nats.token: at most one of credentials_file, nkey_seed_file, user and token may be given, got user and token",
			"2:28: redis.sentinel_username: needs redis.master_name too",
			"2:28: redis.sentinel_username: needs redis.sentinel_password too",
			"3:23: api.client_ca_file: needs api.cert_file too",
		}},
		{"gorush's app", "api: {gorush: {enabled: true, app: shp, max_notifications: 0}}\n", nil, []string{
			`1:36: api.gorush.app: must be the name of an app, got "shp"`,
			"1:60: api.gorush.max_notifications: must be at least 1, got 0",
		}},
		{"twice", "log:\n  level: info\n  level: warn\nlog: {}\n", nil, []string{
			"3:3: log.level: is set twice, first on line 2",
			"4:1: log: is set twice, first on line 1",
		}},
		{"wrong shapes", "nats: x\nredis: {addresses: x, db: [1]}\nworker: {name: {}}\napps:\n- a\n", nil, []string{
			"1:7: nats: must be a section with keys of its own, got a single value",
			"2:20: redis.addresses: must be a list, got a single value",
			"2:27: redis.db: must be a single value, got a list",
			"3:16: worker.name: must be a single value, got a section",
			"5:1: apps: must be a section with keys of its own, got a list",
		}},
		{
			"wrong values",
			"worker:\n  max_in_flight: 0\n  drain_timeout: 25\n  connections: many\n  max_connections: 65\n  request_timeout: 1ms\n  recorder: yes\n  listen: \"9090\"\n  name: a b\n" +
				"log:\n  level: trace\n  format: \"\"\n", nil,
			[]string{
				"2:18: worker.max_in_flight: must be at least 1, got 0",
				`3:18: worker.drain_timeout: must be a duration such as 30s or 5m, got "25"`,
				`4:16: worker.connections: must be a whole number, got "many"`,
				"5:20: worker.max_connections: must be at most 64, got 65",
				"6:20: worker.request_timeout: must be at least 1s, got 1ms",
				`7:13: worker.recorder: must be true or false, got "yes"`,
				`8:11: worker.listen: must be host:port or :port, such as 127.0.0.1:9090, got "9090"`,
				`9:9: worker.name: must be up to 128 letters, digits, '-', '_' and inner '.', got "a b"`,
				`11:10: log.level: must be one of debug, info, warn, error, got "trace"`,
				`12:11: log.format: must be one of console, json, got ""`,
			},
		},
		{"numbers without end", "worker: {max_in_flight: 99999999999999999999, connections: -99999999999999999999, drain_timeout: 11m}\n", nil, []string{
			"1:25: worker.max_in_flight: must be at most 1000000, got 99999999999999999999",
			`1:60: worker.connections: must be at least 1, got "-99999999999999999999"`,
			"1:98: worker.drain_timeout: must be at most 10m, got 11m",
		}},
		{"contradictions", "worker:\n  connections: 9\nnats:\n  user: u\n  nkey_seed_file: s\n  tls: {cert_file: c}\nredis:\n  username: u\n  db: 1\n  addresses: [a:1, b:1]\n  tls: {key_file: k}\n", nil, []string{
			"2:16: worker.connections: worker.max_connections must be at least worker.connections, got 8 and 9",
			"4:9: nats.user: at most one of credentials_file, nkey_seed_file, user and token may be given, got nkey_seed_file and user",
			"4:9: nats.user: needs nats.password too",
			"6:20: nats.tls.cert_file: needs nats.tls.key_file too",
			"8:13: redis.username: needs redis.password too",
			"9:7: redis.db: must be 0 with several addresses: a cluster has one database (sentinels need redis.master_name)",
			"11:19: redis.tls.key_file: needs redis.tls.cert_file too",
		}},
		{"addresses", "nats: {url: http://x}\nredis:\n  addresses:\n  - redis://u:hunter2@h:1\n  -\n  - [a]\n  - h:0\n", nil, []string{
			"1:13: nats.url: must begin with nats://, tls://, ws:// or wss://, got http://",
			"4:5: redis.addresses[0]: must be host:port, such as 127.0.0.1:6379",
			"5:4: redis.addresses[1]: must be a single value, got nothing",
			"6:5: redis.addresses[2]: must be a single value, got a list",
			"7:5: redis.addresses[3]: must be host:port, such as 127.0.0.1:6379",
		}},
		{"telemetry", "telemetry: {endpoint: grpc://h:4317, headers: hunter2, sample_ratio: 1.1}\n", []string{"PUSHFLEET_TELEMETRY_SAMPLE_RATIO=NaN"}, []string{
			"1:23: telemetry.endpoint: must be a URL such as http://127.0.0.1:4318",
			"1:47: telemetry.headers: must be name=value, several of them separated by commas, with percent-encoded values",
			`PUSHFLEET_TELEMETRY_SAMPLE_RATIO: telemetry.sample_ratio: must be a number from 0 to 1, got "NaN"`,
		}},
		{"password in the URL of telemetry", "telemetry: {endpoint: \"http://u:hunter2@h\", headers: \"a b=hunter2\", sample_ratio: -1}\n", nil, []string{
			"1:23: telemetry.endpoint: must not hold a user or password: telemetry.headers is for those",
			"1:54: telemetry.headers: must be name=value, several of them separated by commas, with percent-encoded values",
			`1:83: telemetry.sample_ratio: must be a number from 0 to 1, got "-1"`,
		}},
		{"telemetry's line ends", "telemetry: {endpoint: \"http://h/?q\", headers: \"a=%0d%0aX-Evil:1\"}\n", nil, []string{
			"1:23: telemetry.endpoint: must end after the path",
			"1:47: telemetry.headers: must be name=value, several of them separated by commas, with percent-encoded values",
		}},
		{"no addresses", "redis: {addresses: []}\n", nil, []string{"1:20: redis.addresses: must name at least one"}},
		{"password in a URL", "nats: {url: \"nats://u:hunter2@h\"}\n", nil, []string{
			"1:13: nats.url: must not hold a user or password: they have keys of their own, URLs are logged",
		}},
		{
			"apps",
			"apps:\n  a.b: {bundle_id: x, key: {}}\n  none:\n  both:\n    bundle_id: a b\n    environment: prod\n    key: {path: '', base64: hunter2, key_id: abc, team_id: ABCDEFGHIJ}\n    certificate: {password: hunter2}\n    canaries: [abc, xx]\n    endpoint: {url: http://sim}\n", nil,
			[]string{
				`2:3: apps."a.b": an app's name must be up to 64 letters, digits, '-' and '_'`,
				`2:28: apps."a.b".key.key_id: is required`,
				`2:28: apps."a.b".key.team_id: is required`,
				`2:28: apps."a.b".key: needs one of path and base64`,
				"3:8: apps.none.bundle_id: is required",
				"3:8: apps.none: needs one of key, certificate and credentials",
				`5:16: apps.both.bundle_id: must be letters, digits, '-' and '.', such as com.example.shop, got "a b"`,
				`6:18: apps.both.environment: must be production or sandbox, got "prod"`,
				"7:17: apps.both.key.path: must not be empty",
				"7:29: apps.both.key.base64: must be the .p8 file's bytes in base64",
				"7:29: apps.both.key.base64: exactly one of path and base64 must be given, got path and base64",
				`7:46: apps.both.key.key_id: must be 10 capital letters or digits, as Apple shows it, got "abc"`,
				"8:18: apps.both.certificate.path: is required",
				"8:18: apps.both.certificate: exactly one of key, certificate and credentials must be given, got key and certificate",
				"9:16: apps.both.canaries[0]: device token has an odd number of hex digits",
				"9:21: apps.both.canaries[1]: device token holds something other than hex digits",
				"10:21: apps.both.endpoint.url: must be an https URL such as https://127.0.0.1:2197",
			},
		},
		{"prune_after", "apps:\n  a: {bundle_id: a, certificate: {path: p.pem}, prune_after: 90}\n  b: {bundle_id: b, certificate: {path: p.pem}, prune_after: 29d}\n  c: {bundle_id: c, certificate: {path: p.pem}, prune_after: 3651d}\n  d: {bundle_id: c, certificate: {path: p.pem}, prune_after: 24h}\n", nil, []string{
			`2:62: apps.a.prune_after: must be a number of days such as 270d, got "90"`,
			"3:62: apps.b.prune_after: must be at least 30d, got 29d",
			"4:62: apps.c.prune_after: must be at most 3650d, got 3651d",
			`5:62: apps.d.prune_after: must be a number of days such as 270d, got "24h"`,
		}},
		{
			"webhooks",
			"apps:\n" +
				"  a: {bundle_id: a, certificate: {path: p.pem}, webhook: {}}\n" +
				"  b: {bundle_id: a, certificate: {path: p.pem}, webhook: {url: 'ftp://hunter2', secrets: hunter2, lanes: [fast], results: [delivered], timeout: 2m, batch: 0}}\n" +
				"  c: {bundle_id: a, certificate: {path: p.pem}, webhook: {url: 'http://example.com/hunter2', secrets: " + webhookSecret + "}}\n" +
				"  d: {bundle_id: a, certificate: {path: p.pem}, webhook: {url: 'https://[::ffff:10.0.0.1]:8443/hunter2', secrets: " + webhookSecret + " hunter2}}\n" +
				"  e: {bundle_id: a, certificate: {path: p.pem}, webhook: {url: 'https://u:hunter2@example.com', secrets: ''}}\n" +
				"  f: {bundle_id: a, certificate: {path: p.pem}, webhook: {url: 'https://localhost/hunter2', secrets: " + webhookSecret + "}}\n", nil,
			[]string{
				"2:58: apps.a.webhook.url: is required",
				"2:58: apps.a.webhook.secrets: is required",
				"3:64: apps.b.webhook.url: must be an https URL such as https://example.com/pushfleet",
				"3:90: apps.b.webhook.secrets: must be whsec_ and the base64 of 24 to 64 random bytes; several are separated by white space",
				`3:107: apps.b.webhook.lanes[0]: must be transactional or bulk, got "fast"`,
				`3:124: apps.b.webhook.results[0]: must be one of accepted, rejected, expired, suppressed, skipped, unknown, failed, duplicate, got "delivered"`,
				"3:145: apps.b.webhook.timeout: must be at most 1m, got 2m",
				"3:156: apps.b.webhook.batch: must be at least 1, got 0",
				"4:64: apps.c.webhook.url: must be https: plain http needs allow_private, and a private address",
				"5:64: apps.d.webhook.url: is not on the public Internet, which needs allow_private",
				"5:115: apps.d.webhook.secrets: must be whsec_ and the base64 of 24 to 64 random bytes; several are separated by white space",
				"6:64: apps.e.webhook.url: must not hold a user or password: requests are signed",
				"6:106: apps.e.webhook.secrets: must not be empty",
				"7:64: apps.f.webhook.url: is not on the public Internet, which needs allow_private",
			},
		},
		{"credentials", "apps:\n  a:\n    bundle_id: a\n    credentials:\n    - x\n    -\n    - certificate: {path: p.pem}\n    - {topics: [t], certificate: {path: p.pem}}\n    - certificate: {path: q.pem}\n  b: {bundle_id: b, credentials: []}\n  c: {bundle_id: c, credentials: x}\n", nil, []string{
			"5:7: apps.a.credentials[0]: must be a section with keys of its own, got a single value",
			"6:6: apps.a.credentials[1]: needs one of key and certificate",
			"10:34: apps.b.credentials: must name at least one",
			"11:34: apps.c.credentials: must be a list, got a single value",
		}},
		{"the same credential twice", "apps:\n  a:\n    bundle_id: a\n    credentials:\n    - certificate: {path: p.pem}\n    - {topics: [t], certificate: {path: p.pem}}\n    - certificate: {path: q.pem}\n", nil, []string{
			"7:7: apps.a.credentials[2]: serves the same as credentials[0]: give them different environments or topics",
		}},
		{"certificate of no known format", "apps: {a: {bundle_id: a, certificate: {path: c.der}}}\n", nil, []string{
			"1:46: apps.a.certificate.path: must end in .p12, .pfx or .pem, which tells its format",
		}},
		{"endpoint with a path", app, []string{"PUSHFLEET_APPS_A_ENDPOINT_URL=https://h/3/device"}, []string{
			"PUSHFLEET_APPS_A_ENDPOINT_URL: apps.a.endpoint.url: must end after the port: the path is APNs's own",
		}},
		{"secrets", "redis:\n  password: hunter2\n  password_file: p\nnats:\n  user: u\n  password_file: /nowhere/at/all\n", nil, []string{
			"2:13: redis.password: is also given by password_file: leave one of them out",
			"6:18: nats.password_file: stat /nowhere/at/all: no such file or directory",
		}},
		{"secrets of the environment", "", []string{"PUSHFLEET_REDIS_PASSWORD=hunter2", "PUSHFLEET_REDIS_PASSWORD_FILE=x"}, []string{
			"PUSHFLEET_REDIS_PASSWORD: redis.password: is also given by PUSHFLEET_REDIS_PASSWORD_FILE: leave one of them out",
		}},
		{"a device as secret", "redis: {password_file: /dev/zero}\n", nil, []string{"1:24: redis.password_file: /dev/zero is not a regular file"}},
		{"secret file without a name", "redis: {password_file: ''}\n", nil, []string{"1:24: redis.password_file: must not be empty"}},
		{"environment", app, []string{
			"PUSHFLEET_WORKER_MAX_IN_FLIGHT=0", "PUSHFLEET_WORKER_MAX_IN_FLIGTH=5", "PUSHFLEET_APPS_B_BUNDLE_ID=x",
			"PUSHFLEET_REDIS_ADDRESSES=a:1,b", "PUSHFLEET_APPS_A_CERTIFICATE_PATH=c.P12", "PUSHFLEET_NATS_PASSWORD=hunter2",
		}, []string{
			"PUSHFLEET_APPS_A_CERTIFICATE_PATH: apps.a.certificate: exactly one of key, certificate and credentials must be given, got key and certificate",
			"PUSHFLEET_APPS_B_BUNDLE_ID: is the variable of no key, did you mean PUSHFLEET_APPS_A_BUNDLE_ID?",
			"PUSHFLEET_NATS_PASSWORD: nats.password: needs nats.user too",
			"PUSHFLEET_REDIS_ADDRESSES: redis.addresses: must be host:port, such as 127.0.0.1:6379",
			"PUSHFLEET_WORKER_MAX_IN_FLIGHT: worker.max_in_flight: must be at least 1, got 0",
			"PUSHFLEET_WORKER_MAX_IN_FLIGTH: is the variable of no key, did you mean PUSHFLEET_WORKER_MAX_IN_FLIGHT?",
		}},
		{"an app of the environment only", "", []string{"PUSHFLEET_APPS_SHOP_BUNDLE_ID=x"}, []string{
			"PUSHFLEET_APPS_SHOP_BUNDLE_ID: is the variable of no key (apps, and the entries of credentials, must be named in the file)",
		}},
		{"part of a key by the environment", "apps: {a: {bundle_id: a}}\n", []string{"PUSHFLEET_APPS_A_KEY_PATH=p"}, []string{
			"PUSHFLEET_APPS_A_KEY_PATH: apps.a.key.key_id: is required",
			"PUSHFLEET_APPS_A_KEY_PATH: apps.a.key.team_id: is required",
		}},
		{
			"a variable of two apps",
			"apps:\n  x-y: {bundle_id: b, certificate: {path: p.pem}}\n  x_y: {bundle_id: b, certificate: {path: p.pem}}\n",
			[]string{"PUSHFLEET_APPS_X_Y_ENVIRONMENT=sandbox"},
			[]string{"PUSHFLEET_APPS_X_Y_ENVIRONMENT: apps.x_y.environment: this variable is also that of apps.x-y.environment: rename one of the apps"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse([]byte(tt.yaml), tt.environ)
			var bad *config.Invalid
			if !errors.As(err, &bad) {
				t.Fatalf("got error %v, want *config.Invalid", err)
			}
			if got, want := err.Error(), strings.Join(tt.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in the complaint: %v", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte("log: {level: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(path, nil)
	if want := path + `:1:14: log.level: must be one of debug, info, warn, error, got "x"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	var p config.Problem
	if !errors.As(err, &p) || p.Line != 1 || p.Path != "log.level" {
		t.Errorf("got problem %+v, want log.level on line 1", p)
	}

	if _, err := config.Load(filepath.Join(dir, "absent.yaml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: got %v, want os.ErrNotExist", err)
	}
	if _, err := config.Load(dir, nil); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("directory: got %v, want a complaint", err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path, nil); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("huge file: got %v, want a complaint", err)
	}
	cfg, err := config.Load("", []string{"PUSHFLEET_LOG_LEVEL=debug"})
	if err != nil || cfg.Log.Level != "debug" {
		t.Errorf("no file: got %+v and %v, want level debug", cfg, err)
	}
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "\n", "crlf": "a b \r\n", "large": strings.Repeat("x", 64<<10+1), "bad": "hunter2",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(yaml string) (*config.Config, error) {
		path := filepath.Join(dir, fmt.Sprintf("%x.yaml", yaml))
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(path, nil)
	}
	cfg, err := load("redis: {password_file: crlf}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Redis.Password.Reveal(), "a b "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for yaml, want := range map[string]string{
		"redis: {password_file: empty}\n": "redis.password_file: the file is empty",
		"redis: {password_file: large}\n": "has more than 65536 bytes",
		"apps: {a: {bundle_id: b, key: {base64_file: bad, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}}}\n": "apps.a.key.base64_file: what the file holds must be the .p8 file's bytes in base64",
	} {
		if _, err := load(yaml); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", yaml, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is in the complaint: %v", err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	yaml := "nats:\n  nkey_seed_file: here\nredis:\n  tls:\n    ca_file: gone\n"
	for name, content := range map[string]string{"c.yaml": yaml, "here": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(path, []string{"PUSHFLEET_NATS_TLS_CA_FILE=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	err = cfg.CheckFiles()
	want := path + ":5:14: redis.tls.ca_file: stat " + filepath.Join(dir, "gone") + ": no such file or directory\n" +
		"PUSHFLEET_NATS_TLS_CA_FILE: nats.tls.ca_file: " + dir + " is not a regular file"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "gone"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, err = config.Load(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := cfg.CheckFiles(); err != nil {
		t.Errorf("all files are there: got %v, want nil", err)
	}
}
