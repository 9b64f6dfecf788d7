package apns_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// Connections are there before the first notification, and it needs no other.
func TestConnect(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Connections: 3})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	// The client's end of a handshake is over first.
	await(t, srv, "three connections", func(st apnstest.Stats) bool { return st.ConnectionsTotal == 3 })
	ns := batch(0, 10)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if got := srv.Stats().ConnectionsTotal; got != 3 {
		t.Errorf("connections after sending: got %d, want 3", got)
	}
}

// What cannot be connected to is told with its reason.
func TestConnectTellsWhyNot(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{})
	url := srv.URL()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	c := connect(t, srv, apns.ClientConfig{})
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	err := c.Connect(ctx)
	if err == nil || !strings.Contains(err.Error(), "0 of 2 connections are open") || !strings.Contains(err.Error(), strings.TrimPrefix(url, "https://")) {
		t.Errorf("got %v, want how many are open, and the address that refuses", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the cause instead of the deadline", err)
	}
}

// A client takes over the labels of another one.
func TestShowAndHide(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{})
	reg := prometheus.NewRegistry()
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"app": "shop"}, reg)
	former := connect(t, srv, apns.ClientConfig{Metrics: labelled})
	next := connect(t, srv, apns.ClientConfig{})
	if err := next.Show(labelled); err == nil {
		t.Fatal("show beside the former: got no error")
	}
	former.Hide()
	if err := next.Show(labelled); err != nil {
		t.Fatal(err)
	}
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := reg.Gather(); err != nil || len(n) == 0 {
		t.Errorf("metrics after the former was closed: got %d families, %v", len(n), err)
	}
	next.Hide()
	if n, err := reg.Gather(); err != nil || len(n) != 0 {
		t.Errorf("metrics after hiding: got %d families, %v, want none", len(n), err)
	}
}
