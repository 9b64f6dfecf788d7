package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/overview"
)

// What the fleet does, at the command line and over HTTP; the API stops within its drain
// timeout though somebody follows, and a worker that is killed is told of.
func TestFleetShow(t *testing.T) {
	r := newRig(t)
	w1, w2 := r.worker("w1"), r.worker("w2")
	addr := "127.0.0.1:" + freePort(t)
	a := r.start([]string{"PUSHFLEET_API_LISTEN=" + addr, "PUSHFLEET_API_DRAIN_TIMEOUT=5s"}, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error {
		text, err := r.get("http://" + addr + "/readyz")
		if err == nil && strings.Contains(string(text), "JetStream") {
			err = errors.New(string(text))
		}
		return err
	})
	key := r.key("--app", "shop", "--scope", "admin")
	for _, hex := range []string{"0a", "0b", "0c"} {
		if out, err := r.cli("send", "--app", "shop", "--token", strings.Repeat(hex, 32), "--title", "x"); err != nil {
			t.Fatalf("send: %v: %s", err, out)
		}
	}
	fleet := func() (f overview.Fleet, text string, err error) {
		if text, err = r.cli("fleet", "--output", "json"); err == nil {
			err = json.Unmarshal([]byte(text), &f)
		}
		return f, text, err
	}
	r.until("what was sent", func() error {
		f, text, err := fleet()
		if err != nil {
			return err
		}
		accepted := int64(0)
		for _, w := range f.Workers {
			accepted += w.Apps["shop"].Accepted
		}
		if len(f.Workers) != 2 || accepted != 3 || len(f.Unknown) > 0 {
			return errors.New(text)
		}
		return nil
	})
	out, err := r.cli("fleet", "--app", "shop")
	if err != nil || !strings.Contains(out, "w1") || !strings.Contains(out, "w2") || !strings.Contains(out, "closed") || strings.Contains(out, "not known") {
		t.Errorf("fleet: %v: %s; want both workers and a closed fuse", err, out)
	}
	if out, err := r.cli("fleet", "--app", "nosuch"); err == nil {
		t.Errorf("fleet of an app that there is not: got %s, want it refused", out)
	}

	if err := w1.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.until("that one was killed", func() error {
		f, text, err := fleet()
		if err == nil && (len(f.Workers) != 2 || f.Workers[0].Problem == "") && len(f.Workers) != 1 {
			err = errors.New(text)
		}
		return err
	})
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://"+addr+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
		continue
	}
	if !strings.Contains(lines.Text(), `"w2"`) {
		t.Errorf("events: got %s, want what the fleet does", lines.Text())
	}
	begun := time.Now()
	if err := r.stop(a); err != nil {
		t.Errorf("api: %v, want a clean end though somebody follows", err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("api: it took %s to end, want less than its drain timeout", took)
	}
	for lines.Scan() {
		continue
	}
	if err := lines.Err(); err != nil {
		t.Errorf("events: got %v, want a clean end", err)
	}
	if err := r.stop(w2); err != nil {
		t.Errorf("worker: %v", err)
	}
}
