package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// natsCLI builds, once, the NATS command line.
var natsCLI = sync.OnceValues(func() (string, error) {
	bin, err := binaries()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(bin, "nats"), "github.com/nats-io/natscli/nats")
	cmd.Dir = filepath.Join("..", "..", "deploy", "drill")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the nats command line: %w\n%s", err, out)
	}
	return bin, nil
})

// Of the fleet that is backed up and restored.
const (
	drillDevices = 3000
	drillBusy    = "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1" // APNs ends requests for this one
	drillWrong   = "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1" // and finds its job at fault
)

// drill is a fleet whose servers are lost and restored.
type drill struct {
	*walk
	redisPort string
	workers   []*process

	devices, letters string // as they were at the backup
	shown            shown
}

// shown is what campaign show prints.
type shown struct {
	State   string
	Devices int
	Counts  struct {
		Matched int
		Results map[string]int
	}
}

// newDrill starts a fleet in the middle of its work: devices, one of them removed, a
// campaign paused half-way, a job that APNs is not ready for, a dead letter, an API key.
// Then it makes a backup, while the fleet runs.
func newDrill(t *testing.T) *drill {
	t.Helper()
	r := newRig(t)
	bin, err := natsCLI()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	r.ctx = ctx // a retry may have to wait for a while
	d := &drill{redisPort: freePort(t)}
	data := filepath.Join(r.dir, "redis")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := r.write("redis.conf", fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nlogfile log\nappendonly yes\nmaxmemory 256mb\nmaxmemory-policy noeviction\n", d.redisPort, data))
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.config = r.write("pushfleet.yaml", strings.ReplaceAll(string(text), r.redisAddr, "127.0.0.1:"+d.redisPort))
	d.walk = r.newWalk("backup.md", bin, "6379", d.redisPort, "/etc/redis/redis.conf", conf, "/var/lib/redis", data)
	t.Cleanup(func() { _ = exec.Command("redis-cli", "-p", d.redisPort, "shutdown", "nosave").Run() })
	if out, err := d.shell("redis-server /etc/redis/redis.conf --daemonize yes"); err != nil {
		t.Fatalf("redis-server: %v: %s", err, out)
	}
	r.until("redis-server", func() error { _, err := d.shell("redis-cli -p 6379 ping"); return err })
	d.workers = append(d.workers, r.worker("w1"))
	d.fill()
	d.run("backup")
	d.devices, d.letters, d.shown = d.export(), d.must("dead-letter", "list", "-o", "json"), d.show()
	return d
}

// fill brings the fleet to the middle of its work.
func (d *drill) fill() {
	d.t.Helper()
	d.must("device", "import", "--app", "shop", d.write("devices.ndjson", manyDevices(drillDevices)))
	d.must("key", "create", "--app", "shop", "--scope", "send")
	gone := fmt.Sprintf("%064x", 1<<40)
	d.dead(gone)
	d.must("send", "--app", "shop", "--token", gone, "--title", "Hello", "--id", "gone")
	d.until("the removal", func() error {
		out, err := d.cli("device", "show", "--app", "shop", gone)
		if err == nil && !strings.Contains(out, "removed since") {
			err = errors.New(out)
		}
		return err
	})
	d.must("campaign", "create", "-f", d.write("spring.json", `{"id":"spring","audience":{"all":true},"notification":{"title":"Hello"},"rate":500}`))
	d.until("a part of the campaign", func() error {
		st, err := d.stats()
		if err == nil && st.Accepted < 400 {
			err = fmt.Errorf("accepted %d", st.Accepted)
		}
		return err
	})
	d.must("campaign", "pause", "spring")
	d.still()
	d.faults(`{"requests":[{"match":{"token_prefix":"b1"},"reset":{"code":"INTERNAL_ERROR"}},
		{"match":{"token_prefix":"c1"},"answer":{"status":413,"reason":"PayloadTooLarge"}}]}`)
	for id, token := range map[string]string{"busy": drillBusy, "wrong": drillWrong} {
		d.must("send", "--app", "shop", "--token", token, "--title", "Hello", "--id", id)
	}
	_, js := d.jetStream()
	d.inStream(js, "DEAD", 1)
}

// still waits until nothing has been sent for a second longer than a pause may take.
func (d *drill) still() {
	d.t.Helper()
	last, since := int64(-1), time.Now()
	d.until("nothing to be sent", func() error {
		st, err := d.stats()
		if err != nil {
			return err
		}
		if st.Accepted != last {
			last, since = st.Accepted, time.Now()
		}
		if quiet := time.Since(since); quiet < 3*time.Second {
			return fmt.Errorf("quiet for %s", quiet)
		}
		return nil
	})
}

// export returns all devices, removed ones too, sorted.
func (d *drill) export() string {
	d.t.Helper()
	lines := strings.SplitAfter(d.must("device", "export", "--app", "shop", "--state", "all"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func (d *drill) show() (s shown) {
	d.t.Helper()
	out := d.must("campaign", "show", "spring", "--output", "json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		d.t.Fatalf("campaign show: %v: %s", err, out)
	}
	return s
}

// loseNATS ends nats-server, and all that it had; an empty one takes its place.
func (d *drill) loseNATS() {
	d.t.Helper()
	d.kill(d.nats)
	if err := os.RemoveAll(filepath.Join(d.dir, "js")); err != nil {
		d.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(d.natsURL, "nats://"))
	d.nats = d.start(nil, filepath.Join(d.bin, "nats-server"), "-a", "127.0.0.1", "-p", port, "-js", "-sd", filepath.Join(d.dir, "js"))
	d.until("an empty nats-server", func() error {
		_, err := d.shell("nats account info")
		return err
	})
}

// loseWorkers ends all workers.
func (d *drill) loseWorkers() {
	d.t.Helper()
	for _, w := range d.workers {
		d.kill(w)
	}
	d.workers = nil
}

// loseRedis ends redis-server, and all that it had.
func (d *drill) loseRedis() {
	d.t.Helper()
	if out, err := d.shell("redis-cli -p 6379 shutdown nosave; rm -r /var/lib/redis/appendonlydir"); err != nil {
		d.t.Fatalf("lose redis: %v: %s", err, out)
	}
}

func (d *drill) kill(p *process) {
	d.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	p.done <- <-p.done // for the clean-up
}

// goOn mends what was wrong at APNs, lets the fleet do the rest, and waits for it.
func (d *drill) goOn(name string) {
	d.t.Helper()
	d.faults("{}")
	d.workers = append(d.workers, d.worker(name))
	d.must("campaign", "resume", "spring")
	d.must("dead-letter", "redrive", "--all", "--yes")
	d.until("the campaign's end", func() error {
		if s := d.show(); s.State != "done" {
			return fmt.Errorf("it is %s: %+v", s.State, s.Counts)
		}
		return nil
	})
	_, js := d.jetStream()
	d.inStream(js, "JOBS", 0)
}

// once fails unless each device got the campaign once, and the two jobs were sent once.
func (d *drill) once() {
	d.t.Helper()
	st, err := d.stats()
	if err != nil {
		d.t.Fatal(err)
	}
	const want = drillDevices - 1 + 2
	if st.Accepted != want || st.Duplicates != 0 {
		d.t.Errorf("APNs accepted %d, %d of them twice; want %d, none twice", st.Accepted, st.Duplicates, want)
	}
	s := d.show()
	if s.Counts.Matched != drillDevices-1 || s.Counts.Results["accepted"] != drillDevices-1 {
		d.t.Errorf("the campaign counts %+v, want %d accepted", s.Counts, drillDevices-1)
	}
}

// All is lost: what the backup has comes back, and the fleet goes on to exactly the rest.
func TestAllIsRestored(t *testing.T) {
	d := newDrill(t)
	if n := d.shown.Counts.Results["accepted"]; d.shown.State != "paused" || n >= drillDevices-1 {
		t.Fatalf("at the backup the campaign is %s with %d accepted, want it paused half-way", d.shown.State, n)
	}
	if !strings.Contains(d.letters, "PayloadTooLarge") || !strings.Contains(d.devices, `"state":"removed"`) {
		t.Fatalf("at the backup: got letters %s, want a dead letter and a removed device", d.letters)
	}
	d.loseWorkers()
	d.loseRedis()
	d.loseNATS()
	d.run("restore redis")
	d.run("restore nats")
	if out := d.run("look"); !strings.Contains(out, "spring") || !strings.Contains(out, "PayloadTooLarge") {
		t.Errorf("look: got\n%s\nwant the campaign and the dead letter", out)
	}
	if got := d.export(); got != d.devices {
		t.Errorf("devices are others than at the backup: got %d bytes, want %d", len(got), len(d.devices))
	}
	if got := d.must("dead-letter", "list", "-o", "json"); got != d.letters {
		t.Errorf("dead letters: got %s, want %s", got, d.letters)
	}
	if got := d.show(); !reflect.DeepEqual(got, d.shown) {
		t.Errorf("campaign: got %+v, want %+v", got, d.shown)
	}
	if out := d.must("key", "list"); !strings.Contains(out, "send") {
		t.Errorf("keys: got %s, want the one that was made", out)
	}
	d.goOn("w2")
	d.once()
	d.done()
}

// JetStream is lost after all was sent, and is restored as it was before; Redis was not
// lost. Nothing is sent again.
func TestJetStreamIsRestoredAlone(t *testing.T) {
	d := newDrill(t)
	d.goOn("w2")
	d.once()
	d.loseWorkers()
	d.loseNATS()
	d.run("restore nats")
	if s := d.show(); s.State != "paused" {
		t.Fatalf("the campaign is %s, want it as it was at the backup", s.State)
	}
	d.goOn("w3")
	d.still()
	d.once()
}

// Redis is lost after all was sent, and is restored as it was before; JetStream was not
// lost. Nothing is sent again.
func TestRedisIsRestoredAlone(t *testing.T) {
	d := newDrill(t)
	d.goOn("w2")
	d.once()
	d.loseWorkers()
	d.loseRedis()
	d.run("restore redis")
	if got := d.export(); got != d.devices {
		t.Errorf("devices are others than at the backup: got %d bytes, want %d", len(got), len(d.devices))
	}
	d.worker("w3")
	d.still()
	d.once()
}
