package apnstest_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// adminClient calls an admin interface.
type adminClient struct {
	t   *testing.T
	url string
	hc  *http.Client
}

func newAdmin(t *testing.T, srv *apnstest.Server) *adminClient {
	t.Helper()
	hs := httptest.NewServer(srv.Admin())
	t.Cleanup(hs.Close)
	return &adminClient{t, hs.URL, hs.Client()}
}

func (a *adminClient) call(method, path, body string) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := a.hc.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// get reads a JSON answer into v.
func (a *adminClient) get(path string, v any) {
	a.t.Helper()
	status, text := a.call(http.MethodGet, path, "")
	if status != http.StatusOK {
		a.t.Fatalf("GET %s: got %d %s", path, status, text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		a.t.Fatalf("GET %s: got %s: %v", path, text, err)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	a := newAdmin(t, srv)
	c := ready(t, srv)

	var info apnstest.Info
	a.get("/", &info)
	if info.URL != srv.URL() || info.KeyID != srv.KeyID() || info.CAPEM != string(srv.CAPEM()) || info.Environment != apnstest.Production {
		t.Errorf("info: got %+v", info)
	}
	if status, text := a.call(http.MethodPut, "/devices/"+tokenN(1), `{"dead_since":"2026-01-02T03:04:05Z"}`); status != http.StatusNoContent {
		t.Fatalf("set device: got %d %s", status, text)
	}
	if got := string(c.answer(c.push(tokenN(1), "apns-id", someID)).body); got != `{"reason":"Unregistered","timestamp":1767323045000}` {
		t.Errorf("dead device: got %s", got)
	}
	var dev apnstest.Device
	a.get("/devices/"+tokenN(1), &dev)
	if dev.DeadSince == nil || dev.DeadSince.Year() != 2026 {
		t.Errorf("device: got %+v", dev)
	}
	if status, _ := a.call(http.MethodDelete, "/devices/"+tokenN(1), ""); status != http.StatusNoContent {
		t.Errorf("delete device: got %d", status)
	}
	if status, _ := a.call(http.MethodGet, "/devices/"+tokenN(1), ""); status != http.StatusNotFound {
		t.Errorf("device that is not set: got %d, want 404", status)
	}
	c.answer(c.push(tokenN(1)))

	var records []apnstest.Record
	a.get("/ledger?token="+tokenN(1), &records)
	if len(records) != 2 || records[0].Status != 410 || records[1].Status != 200 || records[1].Body != payload {
		t.Errorf("ledger by token: got %+v", records)
	}
	a.get("/ledger?apns_id="+someID, &records)
	if len(records) != 1 {
		t.Errorf("ledger by apns-id: got %+v", records)
	}
	a.get("/ledger?limit=2", &records)
	if len(records) != 2 {
		t.Errorf("ledger with a limit: got %d records, want 2", len(records))
	}
	a.get("/ledger?token=ff", &records)
	if records == nil || len(records) != 0 {
		t.Errorf("ledger of nothing: got %+v, want an empty list", records)
	}
	_, text := a.call(http.MethodGet, "/ledger?format=ndjson", "")
	lines := 0
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); lines++ {
		var r apnstest.Record
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Errorf("ledger line: got %s: %v", sc.Text(), err)
		}
	}
	if lines != 3 {
		t.Errorf("ledger in lines: got %d, want 3", lines)
	}

	var st apnstest.Stats
	a.get("/stats", &st)
	if want := srv.Stats(); st.Received != 3 || st.Sums != want.Sums || st.Statuses["410"] != 1 {
		t.Errorf("stats: got %+v, want %+v", st, want)
	}
	var sl apnstest.Slot
	a.get("/slots/"+tokenN(1)+"/"+bundle, &sl)
	if sl.Accepted != 1 || len(sl.Shown) != 1 {
		t.Errorf("slot: got %+v", sl)
	}
	var conns []apnstest.Connection
	a.get("/connections", &conns)
	if len(conns) != 1 || conns[0].Received != 3 {
		t.Errorf("connections: got %+v", conns)
	}

	if status, text := a.call(http.MethodPut, "/faults", `{"flip":"environment","latency":{"constant":"1ms"}}`); status != http.StatusNoContent {
		t.Errorf("set faults: got %d %s", status, text)
	}
	var f apnstest.Faults
	a.get("/faults", &f)
	if f.Flip != "environment" || f.Latency.Constant != ms(1) {
		t.Errorf("faults: got %+v", f)
	}
	if got := c.answer(c.push(tokenN(2))).reason(); got != "BadDeviceToken" {
		t.Errorf("fault: got %q, want BadDeviceToken", got)
	}
	if status, text := a.call(http.MethodPost, "/actions", `{"goaway":{"reason":"Shutdown"},"connections":[1,99]}`); text != `{"connections":1}` {
		t.Errorf("action: got %d %s, want 1 connection", status, text)
	}
	if err := c.drain(); !isEOF(err) || len(c.goAways) != 1 {
		t.Errorf("action: got %v, %+v, want GOAWAY", err, c.goAways)
	}
	var events []apnstest.Event
	a.get("/events", &events)
	if len(events) == 0 || events[len(events)-1].What != "goaway" {
		t.Errorf("events: got %+v", events)
	}
	if status, _ := a.call(http.MethodPost, "/reset", ""); status != http.StatusNoContent {
		t.Errorf("reset: got %d", status)
	}
	if got := srv.Stats().Received; got != 0 {
		t.Errorf("after reset: got %d received, want 0", got)
	}
}

func TestAdminRefuses(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	hash := newServer(t, apnstest.Config{Ledger: apnstest.LedgerHash})
	for _, tt := range []struct {
		srv                *apnstest.Server
		method, path, body string
		status             int
		want               string
	}{
		{srv, "PUT", "/devices/" + tokenN(1), `{"topics":"x"}`, 400, `unknown field \"topics\"`},
		{srv, "PUT", "/devices/" + tokenN(1), `{"topic":7}`, 400, "topic"},
		{srv, "PUT", "/devices/" + tokenN(1), `{}{}`, 400, "something follows"},
		{srv, "PUT", "/devices/" + tokenN(1), ``, 400, "EOF"},
		{srv, "PUT", "/devices/xyz", `{}`, 400, "hex digits"},
		{srv, "PUT", "/devices/" + tokenN(1), `{"answer":{"status":7}}`, 400, "answer.status"},
		{srv, "PUT", "/faults", `{"flip":"coin"}`, 400, "flip"},
		{srv, "PUT", "/faults", `{"latency":{"constant":"fast"}}`, 400, "fast"},
		{srv, "PUT", "/faults", `{"requests":[{"match":{"tokens":"a"}}]}`, 400, "tokens"},
		{srv, "POST", "/actions", `{"freeze":true,"mute":true}`, 400, "exactly one"},
		{srv, "GET", "/ledger?limit=-1", "", 400, "limit"},
		{srv, "GET", "/ledger?format=xml", "", 400, "format"},
		{srv, "GET", "/ledger?tokne=ab", "", 400, "tokne"},
		{hash, "GET", "/ledger", "", 409, "hash"},
		{srv, "GET", "/nowhere", "", 404, ""},
		{srv, "POST", "/stats", "", 405, ""},
	} {
		status, text := newAdmin(t, tt.srv).call(tt.method, tt.path, tt.body)
		if status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s %s: got %d %s, want %d and %q", tt.method, tt.path, tt.body, status, text, tt.status, tt.want)
		}
		if tt.want != "" && !strings.HasPrefix(text, `{"error":"`) {
			t.Errorf("%s %s: got %s, want an error in JSON", tt.method, tt.path, text)
		}
	}
}
