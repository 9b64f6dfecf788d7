package check_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestImages makes the pictures of the documentation, where PUSHFLEET_IMAGES is set:
//
//	cd web/check && PUSHFLEET_IMAGES=1 PUSHFLEET_SCREENSHOTS=../../docs/images go test -run Images -timeout 10m
func TestImages(t *testing.T) {
	if os.Getenv("PUSHFLEET_IMAGES") == "" {
		t.Skip("PUSHFLEET_IMAGES is not set")
	}
	f := setup(t)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	second, err := startProcess(f.bin, []string{"worker", "-c", f.config}, []string{"PUSHFLEET_WORKER_NAME=worker-2", "PUSHFLEET_WORKER_LISTEN=127.0.0.1:" + port})
	if err != nil {
		t.Fatal(err)
	}
	defer second.stop()
	answer := func(prefix string, status int, reason string) map[string]any {
		return map[string]any{"match": map[string]any{"token_prefix": prefix}, "answer": map[string]any{"status": status, "reason": reason, "timestamp": time.Now().Add(time.Hour).UnixMilli()}}
	}
	f.faults(t, map[string]any{
		"latency":  map[string]any{"median": "24ms", "sigma": 0.4},
		"requests": []any{answer("de", 410, "Unregistered"), answer("ba", 400, "BadDeviceToken"), answer("ec", 413, "PayloadTooLarge")},
	})
	defer f.faults(t, nil)
	urgent := f.devices(t, "a1000000", 2000, nil)
	for i := range 59 {
		f.devices(t, fmt.Sprintf("c%07x", i), 1000, nil)
	}
	f.devices(t, "de000000", 931, nil)
	f.devices(t, "ba000000", 17, nil)
	large := f.devices(t, "ec000000", 3, nil)
	create := func(id string, more map[string]any) {
		body := map[string]any{"id": id, "audience": map[string]any{"all": true}, "notification": map[string]any{"title": "x"}}
		for name, v := range more {
			body[name] = v
		}
		f.must(t, http.MethodPost, "/v1/apps/demo/campaigns", body, nil)
	}
	create("autumn-catalogue", map[string]any{"rate": 20_000})
	p := open(t, f, f.admin, "#/campaigns")
	p.until("the first campaign to be done", `document.querySelector("tr[data-campaign=autumn-catalogue] .badge")?.innerText === "done"`)
	create("new-year", map[string]any{"start_at": time.Now().AddDate(0, 1, 0).UTC().Format(time.RFC3339)})
	create("loyalty-reminder", map[string]any{"rate": 200})
	create("spring-sale", map[string]any{"rate": 400})

	// Urgent ones beside them, for long enough that the lines have something to show.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sending := make(chan error, 1)
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				sending <- nil
				return
			case <-tick.C:
			}
			n := 40 + (i*i)%90
			if err := f.ask(http.MethodPost, "/v1/apps/demo/notifications", map[string]any{
				"to": map[string]any{"tokens": urgent[:n]}, "notification": map[string]any{"title": "x"},
			}, nil); err != nil {
				sending <- err
				return
			}
		}
	}()
	for i, token := range large {
		f.must(t, http.MethodPost, "/v1/apps/demo/notifications", map[string]any{
			"id": fmt.Sprintf("invoice-%d", 4711+i), "to": map[string]any{"tokens": []string{token}}, "notification": map[string]any{"title": "x"},
		}, nil)
	}
	p.look(1280, 880, "light")
	p.goTo("#/fleet")
	select { // so that the lines are long
	case <-time.After(80 * time.Second):
	case err := <-sending:
		t.Fatal(err)
	}
	p.until("removals", `document.querySelector(".reasons li")`)
	p.shoot("dashboard-fleet")
	f.must(t, http.MethodPost, "/v1/apps/demo/campaigns/loyalty-reminder/pause", nil, nil)
	p.look(1280, 440, "dark")
	p.goTo("#/campaigns")
	p.until("a paused one", `document.querySelector("tr[data-campaign=loyalty-reminder] .badge")?.innerText === "paused"`)
	p.until("how fast another one is", `Math.abs(parseInt(document.querySelector("tr[data-campaign=spring-sale] [data-label=Rate]").innerText) - 400) < 40`)
	p.shoot("dashboard-campaigns")
	p.goTo("#/dead-letters")
	p.until("dead letters", `document.querySelectorAll("tr[data-letter]").length === 3`)
	p.shoot("dashboard-dead-letters")
	cancel()
	if err := <-sending; err != nil {
		t.Fatal(err)
	}
}
