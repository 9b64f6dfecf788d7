package apnstest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// The empty frame that ends a split body waits for the window that its padding
// needs (found by the engine's soak: it panicked).
func TestPaddingOfAnEmptyFrame(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{
		BadShare: 1,
		Faults:   apnstest.Faults{Responses: apnstest.ResponseFaults{SplitBody: true, Padding: 255}},
	})
	client, bearer := srv.Client(), "bearer "+srv.ProviderToken(time.Now())
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("%s/3/device/%064x", srv.URL(), i), strings.NewReader(`{"aps":{}}`))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("authorization", bearer)
			req.Header.Set("apns-topic", "com.example.app")
			resp, err := client.Do(req)
			if err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.Contains(string(body), "BadDeviceToken") {
				t.Errorf("request %d: got %s, %v", i, body, err)
			}
		})
	}
	wg.Wait()
}
