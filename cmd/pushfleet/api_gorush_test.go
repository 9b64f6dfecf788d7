package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What gorush's README shows, sent to an API process by a caller without a key, and
// what the simulator receives of it.
func TestGorushExamples(t *testing.T) {
	r := newRig(t)
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	key := r.key("--app", "shop", "--scope", "send") // shop-dev comes later
	other := strings.Replace(string(text[strings.Index(string(text), "  shop:"):]), "  shop:", "  shop-dev:\n    environment: sandbox", 1)
	if err := os.WriteFile(r.config, append(text, other...), 0o600); err != nil {
		t.Fatal(err)
	}
	both := r.key("--app", "shop", "--app", "shop-dev", "--scope", "send")
	if err := os.WriteFile(filepath.Join(r.dir, "key"), []byte(both+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + freePort(t)
	base := "http://" + addr
	p := r.start([]string{
		"PUSHFLEET_API_LISTEN=" + addr, "PUSHFLEET_API_GORUSH_ENABLED=true", "PUSHFLEET_API_GORUSH_APP=shop",
		"PUSHFLEET_API_GORUSH_API_KEY_FILE=" + filepath.Join(r.dir, "key"),
	}, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error {
		text, err := r.get(base + "/readyz")
		if err == nil && strings.Contains(string(text), "JetStream") {
			err = fmt.Errorf("/readyz: %s", text)
		}
		return err
	})
	w1 := r.worker("w1")

	examples, err := os.ReadFile(filepath.Join("..", "..", "api", "testdata", "gorush.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name     string
		Request  json.RawMessage
		Counts   int
		Payloads []json.RawMessage
	}
	if err := json.Unmarshal(examples, &list); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for n, tt := range list {
		if tt.Counts == 0 {
			continue
		}
		accepted += tt.Counts
		a, b := fmt.Sprintf("a%d%s", n, strings.Repeat("1c", 31)), fmt.Sprintf("b%d%s", n, strings.Repeat("1c", 31))
		body := strings.NewReplacer("token_a", a, "token_b", b).Replace(string(tt.Request))
		status, reply := r.http(http.DefaultClient, http.MethodPost, base+"/api/push", "", body)
		if want := fmt.Sprintf(`{"success":"ok","counts":%d,`, tt.Counts); status != http.StatusOK || !strings.HasPrefix(reply, want) {
			t.Errorf("%s: got %d %s, want 200 %s…", tt.Name, status, reply, want)
		}
		for _, tok := range []string{a, b} {
			var got []any
			r.until(tt.Name, func() error {
				text, err := r.get(r.adminURL + "/ledger?token=" + tok)
				if err != nil {
					return err
				}
				var ledger []struct{ Body, Topic string }
				if err := json.Unmarshal(text, &ledger); err != nil {
					return err
				}
				got = nil
				for _, n := range ledger {
					var body any
					if err := json.Unmarshal([]byte(n.Body), &body); err != nil || n.Topic != "com.example.shop" {
						return fmt.Errorf("body %s, topic %s: %w", n.Body, n.Topic, err)
					}
					got = append(got, body)
				}
				if len(got) < len(tt.Payloads) {
					return fmt.Errorf("%d requests", len(got))
				}
				return nil
			})
			for _, payload := range tt.Payloads { // their order is APNs's affair
				var want any
				if err := json.Unmarshal(payload, &want); err != nil {
					t.Fatal(err)
				}
				found := false
				for _, one := range got {
					found = found || reflect.DeepEqual(one, want)
				}
				if !found || len(got) != len(tt.Payloads) {
					t.Errorf("%s: got %v, want %s among them", tt.Name, got, payload)
				}
			}
		}
	}
	if status, reply := r.http(http.DefaultClient, http.MethodPost, base+"/api/push", key, `{"notifications":[{"tokens":["ab"],"platform":1,"topic":"com.example.shop","development":true,"message":"m"}]}`); status != http.StatusBadRequest {
		t.Errorf("an API key of shop alone: got %d %s, want the sandbox refused", status, reply)
	}
	counts := func(accepted int) {
		t.Helper()
		r.until("the counts", func() error {
			status, reply := r.http(http.DefaultClient, http.MethodGet, base+"/api/stat/app", "", "")
			if want := fmt.Sprintf(`"total_count":%d,"ios":{"push_success":%d,"push_error":0}`, accepted, accepted); status != http.StatusOK || !strings.Contains(reply, want) {
				return fmt.Errorf("got %d %s, want %s", status, reply, want)
			}
			return nil
		})
	}
	counts(accepted)
	// They stay, and go on, when workers come and go.
	if err := w1.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w2 := r.worker("w2")
	more := `{"notifications":[{"tokens":["ab` + strings.Repeat("1d", 31) + `"],"platform":1,"topic":"com.example.shop","production":true,"message":"m"}]}`
	if status, reply := r.http(http.DefaultClient, http.MethodPost, base+"/api/push", "", more); status != http.StatusOK {
		t.Fatalf("one more: got %d %s, want 200", status, reply)
	}
	counts(accepted + 1)
	if err := r.stop(w2); err != nil {
		t.Errorf("second worker: %v", err)
	}
	counts(accepted + 1)
	if !p.out.contains("gorush's door is open") || p.out.contains(both) {
		t.Errorf("got %s, want a warning, and not the key", p.out)
	}
}
