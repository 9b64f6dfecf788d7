package apnstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxAdminBody bounds what the admin interface reads.
const maxAdminBody = 1 << 20

// ActionRequest is the body of POST /actions.
type ActionRequest struct {
	Action
	// Connections are the ids of those it is done to; empty is all open ones.
	Connections []uint64 `json:"connections,omitempty"`
}

// Info is the answer to GET /: what a client needs to know.
type Info struct {
	URL           string      `json:"url"`
	ManagementURL string      `json:"management_url,omitempty"`
	Environment   Environment `json:"environment"`
	KeyID         string      `json:"key_id"`
	TeamID        string      `json:"team_id"`
	CAPEM         string      `json:"ca_pem"`
}

// Admin returns the server's admin interface. It has no protection: serve it on
// loopback only. Bodies are JSON; what is unknown in them is refused, with 400
// and {"error": "…"}.
//
//	GET    /                  Info
//	GET    /stats             Stats
//	GET    /ledger            []Record; ?token= ?apns_id= ?limit= (1000), ?format=ndjson for a line each
//	GET    /connections       []Connection
//	GET    /events            []Event
//	GET    /slots/{token}/{bundle}   Slot
//	GET    /devices/{token}   Device, 404 if it was not set
//	PUT    /devices/{token}   Device
//	DELETE /devices/{token}
//	GET    /faults            Faults
//	PUT    /faults            Faults, all of them at once
//	POST   /actions           ActionRequest
//	POST   /reset
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, Info{
			URL: s.URL(), ManagementURL: s.ManagementURL(), Environment: s.Environment(),
			KeyID: s.KeyID(), TeamID: s.TeamID(), CAPEM: string(s.CAPEM()),
		})
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Stats()) })
	mux.HandleFunc("GET /ledger", s.getLedger)
	mux.HandleFunc("GET /connections", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, nonNil(s.Connections()))
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, nonNil(s.Events())) })
	mux.HandleFunc("GET /slots/{token}/{bundle}", func(w http.ResponseWriter, r *http.Request) {
		sl := s.Slot(r.PathValue("token"), r.PathValue("bundle"))
		sl.Shown = nonNil(sl.Shown)
		reply(w, http.StatusOK, sl)
	})
	mux.HandleFunc("GET /devices/{token}", func(w http.ResponseWriter, r *http.Request) {
		d, ok := s.Device(r.PathValue("token"))
		if !ok {
			refuse(w, http.StatusNotFound, errors.New("device: not set"))
			return
		}
		reply(w, http.StatusOK, d)
	})
	mux.HandleFunc("PUT /devices/{token}", func(w http.ResponseWriter, r *http.Request) {
		var d Device
		do(w, r, &d, func() (any, error) { return nil, s.SetDevice(r.PathValue("token"), d) })
	})
	mux.HandleFunc("DELETE /devices/{token}", func(w http.ResponseWriter, r *http.Request) {
		s.DeleteDevice(r.PathValue("token"))
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Faults()) })
	mux.HandleFunc("PUT /faults", func(w http.ResponseWriter, r *http.Request) {
		var f Faults
		do(w, r, &f, func() (any, error) { return nil, s.SetFaults(f) })
	})
	mux.HandleFunc("POST /actions", func(w http.ResponseWriter, r *http.Request) {
		var a ActionRequest
		do(w, r, &a, func() (any, error) {
			n, err := s.Do(a.Action, a.Connections...)
			return map[string]int{"connections": n}, err
		})
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func (s *Server) getLedger(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := Filter{DeviceToken: q.Get("token"), APNsID: q.Get("apns_id"), Limit: 1000}
	for key := range q {
		switch key {
		case "token", "apns_id", "limit", "format":
		default:
			refuse(w, http.StatusBadRequest, fmt.Errorf("ledger: unknown parameter %q: must be token, apns_id, limit or format", key))
			return
		}
	}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("limit: must be a whole number from 0 (all), got %q", v))
			return
		}
		f.Limit = n
	}
	if s.cfg.Ledger != LedgerFull {
		refuse(w, http.StatusConflict, fmt.Errorf("ledger: mode is %v: only full keeps records", s.cfg.Ledger))
		return
	}
	records := s.Ledger(f)
	switch format := q.Get("format"); format {
	case "", "json":
		reply(w, http.StatusOK, nonNil(records))
	case "ndjson":
		w.Header().Set("content-type", "application/x-ndjson")
		enc := json.NewEncoder(w)
		for i := range records {
			if enc.Encode(&records[i]) != nil {
				return // the client has gone
			}
		}
	default:
		refuse(w, http.StatusBadRequest, fmt.Errorf("format: must be json or ndjson, got %q", format))
	}
}

// do reads a body into v, strictly, and replies with what then returns.
func do(w http.ResponseWriter, r *http.Request, v any, then func() (any, error)) {
	if err := decodeStrict(http.MaxBytesReader(w, r.Body, maxAdminBody), v); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out, err := then()
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, err)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		reply(w, http.StatusOK, out)
	}
}

// decodeStrict reads one JSON value with no unknown keys and nothing after it.
func decodeStrict(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("body: something follows the JSON value")
	}
	return nil
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

func refuse(w http.ResponseWriter, status int, err error) {
	reply(w, status, map[string]string{"error": err.Error()})
}

// nonNil makes an empty list [] instead of null.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
