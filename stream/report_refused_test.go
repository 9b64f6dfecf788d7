package stream_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/stream"
)

// Who may not report or listen is told so, with an error for each time.
func TestReportsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(`no_auth_user: old
accounts: {A: {jetstream: enabled, users: [{user: old, password: old, permissions: {publish: {deny: ["push.workers.*"]}, subscribe: {deny: ["push.workers.*"]}}}]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	js, err := stream.Attach(testenv.Connect(t, testenv.StartNATS(t, embedded.NATSConfig{File: file}).URL()))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.ReportRefused("w1"); err != nil {
		t.Errorf("before any report: got %v, want none", err)
	}
	var refused [2]error
	for i := range refused {
		if err := js.Report(&stream.Report{Worker: "w1"}); err != nil {
			t.Fatal(err)
		}
		if err := js.Flush(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		if refused[i] = js.ReportRefused("w1"); !errors.Is(refused[i], nats.ErrPermissionViolation) {
			t.Errorf("report %d: got %v, want %v", i, refused[i], nats.ErrPermissionViolation)
		}
	}
	if refused[0] == refused[1] { //nolint:errorlint // that is the question
		t.Error("got one error for both reports, want one for each")
	}
	for range 2 {
		if err := js.Reports(t.Context(), func() { t.Error("got to listen, want it refused") }, nil); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("listen: got %v, want %v", err, nats.ErrPermissionViolation)
		}
	}
}
