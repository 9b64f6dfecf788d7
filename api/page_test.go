package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/api"
)

// The page needs no key, and whatever it asks for does.
func TestPage(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		f := setup(t, func(c *api.Config) { c.Dashboard = on })
		ask := func(method, at string) (int, string, string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, f.server.URL+at, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := f.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, resp.Header.Get("Content-Type"), string(body)
		}
		for at, want := range map[string]string{"/": "text/html", "/page/app.js": "text/javascript", "/page/page.css": "text/css"} {
			status, kind, body := ask(http.MethodGet, at)
			if !on {
				if status != http.StatusNotFound || !strings.Contains(body, "no_route") {
					t.Errorf("%s, switched off: got %d %s, want no route", at, status, body)
				}
				continue
			}
			if status != http.StatusOK || !strings.HasPrefix(kind, want) {
				t.Errorf("%s: got %d, %s, want 200, %s", at, status, kind, want)
			}
		}
		for at, want := range map[string]int{"/page/none.js": 404, "/nothing": 404, "/v1/apps/shop/devices/8f3a": 401, "/openapi.json": 200} {
			if status, kind, body := ask(http.MethodGet, at); status != want || !strings.Contains(kind, "json") {
				t.Errorf("dashboard %t, %s: got %d %s %s, want %d and JSON", on, at, status, kind, body, want)
			}
		}
		if on {
			if status, _, body := ask(http.MethodPost, "/"); status != http.StatusMethodNotAllowed || !strings.Contains(body, "GET") {
				t.Errorf("POST /: got %d %s, want 405", status, body)
			}
		}
	}
}
