package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/stream"
)

// A tripped fuse is seen by the command line and by readiness, and reset.
func TestFuseCommands(t *testing.T) {
	r := newRig(t)
	ops := "127.0.0.1:" + freePort(t)
	r.start([]string{"PUSHFLEET_WORKER_NAME=w1", "PUSHFLEET_WORKER_LISTEN=" + ops}, r.bin+"/pushfleet", "worker", "-c", r.config)
	r.until("the worker", func() error { _, err := r.get("http://" + ops + "/readyz"); return err })
	must := func(want string, args ...string) {
		t.Helper()
		if out, err := r.cli(args...); err != nil || !strings.Contains(out, want) {
			t.Fatalf("pushfleet %s: %v: %s; want %q", strings.Join(args, " "), err, out, want)
		}
	}
	shows := func(path, want string) {
		t.Helper()
		r.until(path, func() error {
			body, err := r.get("http://" + ops + path)
			if err == nil && !strings.Contains(string(body), want) {
				err = fmt.Errorf("got %s, want %q", body, want)
			}
			return err
		})
	}
	must("closed", "fuse", "list")
	shows("/metrics", `pushfleet_fuse_tripped{app="shop",environment="production"} 0`)

	nc, err := stream.Connect(stream.ConnectConfig{URL: r.natsURL}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	streams, err := stream.Open(r.ctx, nc, stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tripped := stream.Fuse{App: "shop", Environment: device.Production, Tripped: true, TrippedAt: time.Now(), Rejected: 200, Sent: 210}
	if _, err := streams.SetFuse(r.ctx, tripped); err != nil {
		t.Fatal(err)
	}
	must("TRIPPED", "fuse", "list")
	must(`"rejected": 200`, "fuse", "list", "--output", "json")
	shows("/readyz", "fuse of shop, production has tripped") // and is ready
	shows("/metrics", `pushfleet_fuse_tripped{app="shop",environment="production"} 1`)
	must("reset the fuse of shop, production", "fuse", "reset", "--app", "shop")
	must("closed", "fuse", "list")
	shows("/metrics", `pushfleet_fuse_tripped{app="shop",environment="production"} 0`)
	if out, err := r.cli("fuse", "reset", "--app", "shop", "--environment", "sandbox"); err == nil || !strings.Contains(out, "is not tripped") {
		t.Errorf("reset of one that is not tripped: got %v, %s", err, out)
	}
}
