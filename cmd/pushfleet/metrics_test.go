package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/clock"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// description reads what a prometheus.Desc prints.
var description = regexp.MustCompile(`fqName: "(pushfleet_\w+)", help: "(.*)", constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// described adds to a table what a registry has of ours: labels by name.
func described(t *testing.T, reg *prometheus.Registry, into map[string]string) {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		reg.Describe(descs)
	}()
	for d := range descs {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			continue // Go's own
		}
		labels := strings.FieldsFunc(m[4], func(r rune) bool { return r == ',' })
		for _, label := range strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' }) {
			name, _, _ := strings.Cut(label, "=")
			labels = append(labels, name)
		}
		slices.Sort(labels)
		into[m[1]] = strings.Join(labels, ", ")
	}
}

// keyFile writes a signing key.
func keyFile(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "AuthKey.p8")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// registered are the metrics of a worker and of an API process, with their labels.
func registered(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	set := store.New(testenv.Redis(t), store.Config{})
	log := zap.NewNop()

	reg := newRegistry()
	newRedisWatch(set, log, reg)
	newReloader(reloaderConfig{source: config.NewSource("", nil), first: &config.Config{}, log: log, reg: reg})
	f, err := newFleet(&config.Config{
		Worker: config.Worker{Name: "w1", Recorder: true, DrainTimeout: time.Second, Connections: 1, MaxConnections: 1},
		Apps: map[string]config.App{"shop": {BundleID: "com.example.shop", Credentials: []config.Credential{
			{Key: &config.Key{Path: keyFile(t), KeyID: "ABCDEFGHIJ", TeamID: "ABCDEFGHIJ"}},
		}}},
	}, testenv.NewJetStream(t).Streams, set, nil, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	described(t, reg, all)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}

	reg = newRegistry()
	clock.New(clock.Config{Logger: log, Metrics: reg})
	if _, err := newWebhooks(&config.Config{}, log, reg, nil); err != nil {
		t.Fatal(err)
	}
	queue := new(apiQueue)
	door, err := api.New(api.Config{
		Keys: set, Registrations: set, TokenSet: set, Campaigns: queue, Totals: set, Queue: queue, Jobs: set,
		Apps: map[string]api.App{"shop": {Environment: device.Production}}, RateLimit: 1, MaxBatchBytes: 1 << 20, Logger: log, Metrics: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	described(t, reg, all)
	if err := door.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// metricRow is a row of the tables in docs/metrics.md.
var metricRow = regexp.MustCompile("(?m)^\\| `(pushfleet_\\w+)` \\| ([^|]*) \\|")

// Every metric stands in docs/metrics.md with its labels, and none that there is not.
func TestDocsMetrics(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, m := range metricRow.FindAllStringSubmatch(string(page), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("docs/metrics.md has %s twice", m[1])
		}
		labels := strings.FieldsFunc(m[2], func(r rune) bool { return strings.ContainsRune(" ,`", r) })
		slices.Sort(labels)
		rows[m[1]] = strings.Join(labels, ", ")
	}
	all := registered(t)
	if len(all) < 40 {
		t.Fatalf("got %d metrics, want those of a whole fleet", len(all))
	}
	for name, labels := range all {
		got, ok := rows[name]
		if !ok {
			t.Errorf("docs/metrics.md lacks %s, labels %s", name, labels)
		} else if got != labels {
			t.Errorf("docs/metrics.md: %s: got labels %s, want %s", name, got, labels)
		}
	}
	for name := range rows {
		if _, ok := all[name]; !ok {
			t.Errorf("docs/metrics.md has %s, which nobody registers", name)
		}
	}
}
