package config

import (
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Config is the whole configuration, defaults filled in. It is not changed
// after [Load] or [Parse] has returned it, and is then safe for concurrent use.
type Config struct {
	NATS      NATS
	Redis     Redis
	API       API
	Worker    Worker
	Log       Log
	Telemetry Telemetry
	Apps      map[string]App // by the name that subjects carry; empty if there are none

	files []fileRef // what [Config.CheckFiles] looks at
}

// NATS says how to reach JetStream.
type NATS struct {
	URL string // one or more servers, comma separated; without user or password

	// At most one way to authenticate: credentials file, seed file, user, or token.
	CredentialsFile string
	NKeySeedFile    string
	User            string
	Password        Secret
	Token           Secret

	TLS            TLS // a tls:// or wss:// URL asks for TLS by itself
	Replicas       int // of streams and buckets, 1 to 5
	ConnectTimeout time.Duration

	// Bytes that the streams, and the bucket of campaigns, reserve where they do not
	// exist yet.
	JobsBytes, OutcomesBytes, DevicesBytes, DeadBytes, CampaignsBytes int
}

// Redis says how to reach the token set.
type Redis struct {
	// Addresses are host:port. One: a single server. Several: the seeds of a
	// cluster, or, with MasterName, the sentinels.
	Addresses  []string
	Username   string
	Password   Secret
	DB         int // 0 with a cluster
	TLS        TLS
	MasterName string

	// Of the sentinels, which have users of their own; both empty: none is needed.
	SentinelUsername string
	SentinelPassword Secret

	KeepJobs time.Duration // what is known of a job, after its last change
}

// TLS is the client's side of a TLS connection.
type TLS struct {
	Enabled  bool   // also set by the mere presence of the section
	CAFile   string // PEM; empty: the system's roots
	CertFile string // PEM, with KeyFile; empty: no client certificate
	KeyFile  string
}

// API is the HTTP API.
type API struct {
	Listen   string // host:port
	CertFile string // PEM, with KeyFile; empty: HTTP without TLS
	KeyFile  string
	// ClientCAFile, if not empty, has the authorities of the certificates that clients
	// must have.
	ClientCAFile string

	Dashboard bool // serve the page
	Gorush    Gorush

	RateLimit     int           // requests a second of one API key; 0: no limit
	MaxBatchBytes int           // of the body of a batch
	DrainTimeout  time.Duration // patience with what is being answered at SIGTERM
}

// Gorush is the door for callers of gorush.
type Gorush struct {
	Enabled          bool
	APIKey           Secret // of requests that bring none; empty: they must
	App              string // of notifications without a topic; empty: the API key's only one
	MaxNotifications int    // of one request
}

// Worker is what takes jobs and sends.
type Worker struct {
	Name   string // unique in the fleet; empty: the host's name
	Listen string // host:port of /livez, /readyz and /metrics

	MaxInFlight    int           // notifications taken and not yet settled
	StartTimeout   time.Duration // patience with JetStream at the start; 0: one try
	DrainTimeout   time.Duration // patience with what is in flight at SIGTERM
	Connections    int           // to APNs, per route, kept open
	MaxConnections int           // to APNs, per route, at the most
	RequestTimeout time.Duration // patience with APNs's answer to one notification
	Recorder       bool          // apply outcomes to the token set in this process
}

// Log is what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // console (for people) or json
}

// Telemetry says where traces go.
type Telemetry struct {
	Endpoint string // http or https URL of an OTLP receiver; empty: as the standard environment says, else nowhere
	Headers  Secret // sent with each export, as OTEL_EXPORTER_OTLP_HEADERS spells them: key=value,key=value

	// SampleRatio is the share of traces that begin here and are recorded, 0 to 1.
	SampleRatio    float64
	HasSampleRatio bool // else it is not configured
}

// App is one app that is pushed to.
type App struct {
	BundleID string

	// Environment is that of inline device tokens, and the default at
	// registration.
	Environment device.Environment

	// Credentials has at least one, whichever of the keys key, certificate and
	// credentials they came from.
	Credentials []Credential

	Canaries []device.Token // our own devices, sent to while the fuse is open
	Endpoint *Endpoint      // nil: Apple

	Webhook *Webhook // nil: outcomes are told on NATS only

	// PruneAfter is after how long without a registration a device is removed; 0:
	// never.
	PruneAfter time.Duration

	key         *Key
	certificate *Certificate
}

// Webhook is where outcomes of an app are told over HTTP.
type Webhook struct {
	URL          string
	Secrets      Secret       // one or more, separated by white space
	Lanes        []job.Lane   // empty: all
	Results      []job.Result // empty: all
	Timeout      time.Duration
	Batch        int // the most outcomes in one POST
	AllowPrivate bool
	CAFile       string // PEM; empty: the system's roots
}

// Credential is one way to authenticate to APNs: a Key or a Certificate, the
// other one is nil.
type Credential struct {
	Environment device.Environment // unset: both
	Topics      []string           // empty: every topic of the app

	Key         *Key
	Certificate *Certificate
}

// Key is a signing key for provider tokens (a .p8 file).
type Key struct {
	Path   string // either Path
	Base64 Secret // or the same file's bytes in base64, on one line
	KeyID  string
	TeamID string
}

// Certificate is a client certificate with its private key.
type Certificate struct {
	Path     string // .p12 or .pem
	Password Secret // empty: none
}

// Endpoint stands in for Apple: the simulator.
type Endpoint struct {
	URL    string // https://host:port
	CAFile string // PEM; empty: the system's roots
}
