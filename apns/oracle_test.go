package apns_test

import (
	"cmp"
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// apns2Client returns apns2's client of srv.
func apns2Client(t testing.TB, srv *apnstest.Server) *apns2.Client {
	t.Helper()
	pem, err := srv.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.AuthKeyFromBytes(pem)
	if err != nil {
		t.Fatal(err)
	}
	c := apns2.NewTokenClient(&token.Token{AuthKey: key, KeyID: srv.KeyID(), TeamID: srv.TeamID()})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: srv.CAPool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	c.HTTPClient = &http.Client{Transport: transport}
	c.Host = srv.URL()
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

// The same notifications by apns2 and by our client are the same to APNs, and so
// are its answers to both.
func TestSameAsAPNs2(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{DeadShare: 0.2, BadShare: 0.1, WrongTopicShare: 0.1, DeadTimestamp: time.UnixMilli(1_790_000_000_000)})
	ours, theirs := connect(t, srv, apns.ClientConfig{}), apns2Client(t, srv)

	ns := batch(0, 200)
	for i := range ns {
		n := &ns[i]
		n.Priority = []uint8{10, 5, 1, 0}[i%4]
		n.PushType = []job.PushType{job.PushAlert, job.PushBackground, job.PushVoIP, job.PushLiveActivity}[i/4%4]
		switch n.PushType {
		case job.PushBackground:
			n.Priority = 5
		case job.PushVoIP:
			n.Topic += ".voip"
		case job.PushLiveActivity:
			n.Topic += ".push-type.liveactivity"
			n.Priority = 10
		}
		if i%3 == 0 {
			n.Expiration = 1_900_000_000 + int64(i) // apns2 has no expiration 0
		}
		if i%5 == 0 {
			n.CollapseID = strings.Repeat("c", i%64+1)
		}
		if i%7 == 0 {
			n.DeviceToken = device.TokenFromRaw(strings.Repeat(n.DeviceToken.Raw(), 2) + "\x80")
		}
		n.Payload = []byte(`{"aps":{"alert":"` + strings.Repeat("ü", 10*i) + `"}}`)
	}
	ns[199].Payload = []byte(`{"aps":{"alert":"` + strings.Repeat("x", 4097) + `"}}`)
	ns[198].CollapseID = strings.Repeat("c", 65)
	ns[197].Topic = "com.example.app.bad suffix"
	ns[196].PushType = "nonsense"

	rs := send(t, ours, job.Bulk, ns)
	records := func() []apnstest.Record {
		all := srv.Ledger(apnstest.Filter{})
		for i := range all {
			all[i].Connection, all[i].Stream, all[i].ReceivedAt, all[i].Duplicate = 0, 0, time.Time{}, false
			if e := all[i].Expiration; e == nil {
				all[i].Expiration = new(int64(-1))
			}
		}
		slices.SortFunc(all, func(a, b apnstest.Record) int { return cmp.Compare(a.APNsID, b.APNsID) })
		return all
	}
	got := records()
	srv.Reset()
	for i := range ns {
		n := &ns[i]
		note := &apns2.Notification{
			DeviceToken: n.DeviceToken.Hex(), ApnsID: n.APNsID.String(), Topic: n.Topic, PushType: apns2.EPushType(n.PushType),
			Priority: int(n.Priority), CollapseID: n.CollapseID, Payload: n.Payload,
		}
		if n.Expiration >= 0 {
			note.Expiration = time.Unix(n.Expiration, 0)
		}
		r, err := theirs.Push(note)
		if err != nil {
			t.Fatalf("apns2: %v", err)
		}
		want := apns.Response{Status: r.StatusCode, Reason: apns.Reason(r.Reason), APNsID: n.APNsID}
		if !r.Timestamp.IsZero() {
			want.Timestamp = r.Timestamp.UnixMilli()
		}
		rs[i].Connection = 0 // apns2 does not tell
		if rs[i] != want {
			t.Errorf("response %d: got %+v, apns2 %+v", i, rs[i], want)
		}
	}
	want := records()
	if len(got) != len(ns) || len(want) != len(ns) {
		t.Fatalf("records: got %d, by apns2 %d, want %d", len(got), len(want), len(ns))
	}
	for i := range got {
		g, w := got[i], want[i]
		if *g.Expiration != *w.Expiration {
			t.Errorf("expiration of %s: got %d, by apns2 %d", g.APNsID, *g.Expiration, *w.Expiration)
		}
		g.Expiration, w.Expiration = nil, nil
		if g != w {
			t.Errorf("record: got %+v, by apns2 %+v", g, w)
		}
	}
}
