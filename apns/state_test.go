package apns_test

import (
	"errors"
	"testing"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

func TestState(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Connections: 1})
	if st := c.State(); st.Wanted != 0 || st.Connections != 0 || st.Answered != 0 {
		t.Errorf("before the first: got %+v, want nothing", st)
	}
	send(t, c, job.Bulk, batch(0, 20))
	st := c.State()
	if st.Wanted != 1 || st.Connections != 1 || st.InFlight != 0 || st.Answered != 20 || st.AnsweredWithin[30] != 20 || st.Stopped != nil || st.Dial != nil {
		t.Errorf("after 20: got %+v, want a connection and 20 answers", st)
	}

	// A credential that is no good, and nobody there.
	other := serve(t, apnstest.Config{})
	refused := connect(t, srv, apns.ClientConfig{Credential: keyOf(t, other), URL: srv.URL()})
	for range 5 {
		send(t, refused, job.Bulk, batch(0, 1))
	}
	if st := refused.State(); st.Stopped == nil {
		t.Errorf("a strange key: got %+v, want it stopped", st)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	lonely := connect(t, srv, apns.ClientConfig{URL: other.URL(), RequestTimeout: 300_000_000})
	if rs := send(t, lonely, job.Bulk, batch(0, 1)); !errors.Is(rs[0].Err, apns.ErrNotSent) {
		t.Fatalf("nobody there: got %+v, want it not sent", rs[0])
	}
	if st := lonely.State(); st.Dial == nil || st.Connections != 0 || st.Wanted == 0 {
		t.Errorf("nobody there: got %+v, want why", st)
	}
}
