package worker_test

import (
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// asked counts how often a sender is asked what it does: for each report, and before.
type asked struct {
	worker.Sender
	times *atomic.Int64
}

func (a asked) State() apns.State {
	a.times.Add(1)
	return apns.State{}
}

// A worker that may not report says so once, asks no more for a while, and works all the
// same.
func TestReportsThatAreRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(`no_auth_user: old
accounts: {A: {jetstream: enabled, users: [{user: old, password: old, permissions: {publish: {deny: ["push.workers.*"]}}}]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	server := testenv.StartNATS(t, embedded.NATSConfig{File: file})
	nc := testenv.Connect(t, server.URL())
	streams, err := stream.Open(t.Context(), nc, stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	f := setupOn(t, &testenv.JetStream{Streams: streams, NC: nc, Server: server}, nil)
	var times atomic.Int64
	f.apps[0].Routes[0].Sender = asked{f.sender, &times}
	core, lines := observer.New(zap.WarnLevel)
	f.start(options{change: func(c *worker.Config) { often(c); c.Logger = zap.New(core) }})
	told := func() int { return lines.FilterMessageSnippet("may not tell the fleet what this worker does").Len() }
	f.eventually("the worker to say so", func() (string, bool) { return strconv.Itoa(lines.Len()), told() > 0 })
	until := times.Load() + 40
	f.eventually("twenty more", func() (string, bool) { return strconv.FormatInt(times.Load(), 10), times.Load() >= until })
	if n := told(); n != 1 {
		t.Errorf("got it said %d times, want once a minute", n)
	}
	f.publish(job.Transactional, newJob("a", token(1)))
	f.completed("a")
}
