package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newSetRig starts redis-server alone, for commands that use the token set only.
func newSetRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("this test needs redis-server: apt-get install redis-server")
	}
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, bin: bin, dir: t.TempDir()}
	port := freePort(t)
	r.redisAddr = "127.0.0.1:" + port
	r.start(nil, redis, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	r.until(r.redisAddr, func() error {
		conn, err := net.DialTimeout("tcp", r.redisAddr, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	r.config = r.configure("pushfleet.yaml", r.redisAddr)
	return r
}

// configure writes a configuration with a Redis at addr.
func (r *rig) configure(name, addr string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	const app = "{bundle_id: com.example.%s, key: {path: k.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}}"
	text := fmt.Sprintf("redis: {addresses: [%q]}\napps:\n  shop: "+app+"\n  news: "+app+"\n", addr, "shop", "news")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// want runs a command and expects an exit code and texts in what it prints.
func (r *rig) want(code int, args []string, texts ...string) string {
	r.t.Helper()
	out, err := r.cli(args...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		r.t.Fatal(err)
	}
	words := strings.Join(strings.Fields(out), " ") // columns are aligned
	for _, text := range texts {
		if !strings.Contains(words, text) {
			r.t.Errorf("pushfleet %s: got\n%s\nwant %q in it", strings.Join(args, " "), out, text)
		}
	}
	if got != code {
		r.t.Fatalf("pushfleet %s: exit %d, want %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// lines reads a file, sorted.
func (r *rig) lines(path string) []string {
	r.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.Sorted(strings.Lines(string(text)))
}

// manyDevices is a file of n invented devices.
func manyDevices(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"token":"%064x","registered_at":"2026-01-02T03:04:05.678Z","created_at":"2025-01-01T00:00:00Z","environment":"production","kind":"alert","user":"u%d","install_id":"i%d","tags":["a","b"]}`+"\n", i+1<<40, i/2, i)
	}
	return text.String()
}

// What is exported and imported into another app is the same there.
func TestDeviceExportAndImport(t *testing.T) {
	r := newSetRig(t)
	r.want(0, []string{"device", "import", "--app", "shop", r.write("in.ndjson", manyDevices(3000))}, "3000 registered")
	sample, err := filepath.Abs("../../roster/testdata/pushfleet.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	r.want(0, []string{"device", "import", "--app", "shop", "--position", filepath.Join(r.dir, "p"), sample},
		"4 devices read", "2 registered", "1 skipped: quarantined", "1 skipped: removed")
	first := filepath.Join(r.dir, "shop.ndjson")
	r.want(0, []string{"device", "export", "--app", "shop", "--output", first}, "exported 3002 devices")
	info, err := os.Stat(first)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the export: got %v, %v, want 0600", info.Mode(), err)
	}
	want := r.lines(first)
	if len(want) != 3002 {
		t.Fatalf("export: got %d lines, want 3002", len(want))
	}
	r.want(1, []string{"device", "export", "--app", "shop", "--output", first}, "--force")
	r.want(1, []string{"device", "export", "--app", "shop", "--output", first, "--resume"}, "complete")
	r.want(0, []string{"device", "import", "--app", "news", first}, "3002 registered")
	second := filepath.Join(r.dir, "news.csv")
	r.want(0, []string{"device", "export", "--app", "news", "--format", "csv", "--output", second}, "exported 3002 devices")
	r.want(0, []string{"device", "import", "--app", "news", second}, "3002 left as they are: known already")
	r.want(0, []string{"device", "prune", "--app", "news", "--unseen-for", "1d", "--yes"}, "removed 3001 device tokens")
	r.want(0, []string{"device", "import", "--app", "news", second}, "3001 left as they are: removed", "1 left as they are: known already")
	r.want(0, []string{"device", "import", "--app", "news", "--overwrite", second}, "3002 registered again")
	third := filepath.Join(r.dir, "again.ndjson")
	r.want(0, []string{"device", "export", "--app", "news", "--output", third}, "exported 3002 devices")
	for i, line := range r.lines(third) {
		// Registered and overwritten once.
		if line = strings.Replace(line, `"generation":2`, `"generation":1`, 1); line != want[i] {
			t.Fatalf("after shop, JSON, news, CSV and news: got\n%s\nwant\n%s", line, want[i])
		}
	}
	out := r.want(0, []string{"device", "export", "--app", "shop", "--kind", "voip", "--environment", "sandbox", "--state", "all"}, "exported 1 devices")
	if !strings.Contains(out, strings.Repeat("2", 64)) {
		t.Errorf("filtered export: got %s", out)
	}
	r.want(0, []string{"device", "export", "--app", "shop", "--state", "removed"}, "exported 0 devices")
}

// Bad lines are told, without device tokens, and the rest is imported.
func TestDeviceImportBadLines(t *testing.T) {
	r := newSetRig(t)
	token := strings.Repeat("ab", 32)
	file := r.write("in.csv", "token,user,timezone,environment\n"+
		token+",ada,Europe/Vienna,\n"+token+"0,odd,,\n"+strings.Repeat("cd", 32)+",bob,Mars/Olympus,sandbox\n"+strings.Repeat("ef", 32)+",cy,,staging\n")
	r.want(0, []string{"device", "import", "--app", "shop", "--dry-run", "--allow-bad", "2", file}, "2 good; nothing was written", "2 bad")
	r.want(1, []string{"device", "show", "--app", "shop", token}, "not known")
	bad := filepath.Join(r.dir, "bad.tsv")
	out := r.want(1, []string{"device", "import", "--app", "shop", "--bad", bad, file},
		"4 devices read", "2 registered", "2 bad", "1 without their time zone", "line 3: ", "odd number of hex digits", "line 5: ", "production or sandbox")
	if strings.Contains(out, token[:12]) || strings.Contains(out, "efefefefefef") {
		t.Errorf("shows a device token:\n%s", out)
	}
	text, err := os.ReadFile(bad)
	if err != nil || len(strings.Split(string(text), "\n")) != 3 || !strings.HasPrefix(string(text), "3\t") || strings.Contains(string(text), token[:12]) {
		t.Errorf("--bad: got %q, %v", text, err)
	}
	if _, err := os.Stat(file + ".position"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("position after the end: got %v, want none", err)
	}
	r.want(0, []string{"device", "show", "--app", "shop", "--user", "ada"}, "Europe/Vienna", "production")
	r.want(0, []string{"device", "show", "--app", "shop", "--user", "bob"}, "sandbox")
	r.want(1, []string{"device", "import", "--app", "shop", r.write("empty", "")}, "empty")
	r.want(2, []string{"device", "import", "--app", "shop", "--format", "xml", file}, "must be one of ndjson, csv")
	r.want(2, []string{"device", "import", "--app", "shop", "--resume"}, "--resume needs")
	r.want(1, []string{"device", "import", "--app", "shop", "--resume", file}, "never begun")
}

// Batches that are under way at once keep the order of what concerns one install.
func TestDeviceImportKeepsOrder(t *testing.T) {
	r := newSetRig(t)
	var text strings.Builder
	for i := range 8000 { // in turn, so that every batch meets every other
		fmt.Fprintf(&text, "%064x,i%d\n", i+1<<40, i%50)
	}
	file := r.write("in.csv", "token,install_id\n"+text.String())
	r.want(0, []string{"device", "import", "--app", "shop", file}, "50 registered", "7950 left as they are: their install has a newer one")
	first := filepath.Join(r.dir, "first")
	r.want(0, []string{"device", "export", "--app", "shop", "--format", "csv", "--output", first}, "exported 50 devices")
	for i, line := range r.lines(first)[:50] {
		if want := fmt.Sprintf("%064x,", i+1<<40); !strings.HasPrefix(line, want) {
			t.Fatalf("without --overwrite: got %s, want the first device token of each install", line)
		}
	}
	r.want(0, []string{"device", "import", "--app", "news", "--overwrite", file}, "8000 registered", "7950 older device tokens")
	last := filepath.Join(r.dir, "last")
	r.want(0, []string{"device", "export", "--app", "news", "--format", "csv", "--output", last}, "exported 50 devices")
	for i, line := range r.lines(last)[:50] {
		if want := fmt.Sprintf("%064x,", 7950+i+1<<40); !strings.HasPrefix(line, want) {
			t.Fatalf("with --overwrite: got %s, want the last device token of each install", line)
		}
	}
}

// An import that is killed goes on where it was, and everything is there once.
func TestDeviceImportKilled(t *testing.T) {
	r := newSetRig(t)
	const devices = 60_000
	lines := slices.Collect(strings.Lines(manyDevices(devices)))
	lines[10], lines[50_000] = "bad line\n", "another\n"
	position, bad := filepath.Join(r.dir, "position"), filepath.Join(r.dir, "bad")
	args := []string{"device", "import", "--app", "shop", "--position", position, "--bad", bad, "-c", r.config}
	killed := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), args...)
	in, err := killed.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	reached := func() int {
		var at struct{ Lines int }
		text, err := os.ReadFile(position)
		if err == nil {
			err = json.Unmarshal(text, &at)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return at.Lines
	}
	// It is fed until it has said how far it is, and never all of it.
	fed := 0
	r.until("the position", func() error {
		if reached() > 0 {
			return nil
		}
		if fed+500 <= devices-10_000 {
			if _, err := io.WriteString(in, strings.Join(lines[fed:fed+500], "")); err != nil {
				t.Fatal(err)
			}
			fed += 500
		}
		return errors.New("none so far")
	})
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	at := reached()
	t.Logf("killed after line %d of %d fed", at, fed)
	f, err := os.OpenFile(bad, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(strings.Repeat("half a line ", 100)) // as if it had been killed while writing
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	r.want(2, append(args[:len(args)-2:len(args)-2], "--resume", r.write("other", lines[0])), "another import")
	resumed := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append(args, "--resume")...)
	resumed.Stdin = strings.NewReader(strings.Join(lines, ""))
	out, err := resumed.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 { // two lines are bad
		t.Fatalf("resume: got %v, %s", err, out)
	}
	for _, want := range []string{fmt.Sprintf("%d devices read", devices), "2 bad"} {
		if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			t.Errorf("resume: got\n%s\nwant %q", out, want)
		}
	}
	if got := r.lines(bad); len(got) != 2 || !strings.HasPrefix(got[0], "11\t") || !strings.HasPrefix(got[1], "50001\t") {
		t.Errorf("--bad: got %q, want lines 11 and 50001 once", got)
	}
	export := filepath.Join(r.dir, "out")
	r.want(0, []string{"device", "export", "--app", "shop", "--output", export}, fmt.Sprintf("exported %d devices", devices-2))
	if got := len(slices.Compact(r.lines(export))); got != devices-2 {
		t.Errorf("export: got %d different lines, want %d", got, devices-2)
	}
	r.want(0, []string{"device", "show", "--app", "shop", "--user", "u7"}, fmt.Sprintf("%064x", 14+1<<40), fmt.Sprintf("%064x", 15+1<<40))
}

// cutProxy passes so many bytes from a server to its clients, and then refuses
// everybody.
func cutProxy(t *testing.T, server string, pass int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var left atomic.Int64
	left.Store(pass)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(up, client)
				up.Close()
			}()
			go func() {
				defer client.Close()
				defer up.Close()
				buf := make([]byte, 4096)
				for {
					n, err := up.Read(buf)
					if err != nil || left.Add(-int64(n)) < 0 {
						return
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// An export that is cut off goes on where it was, and has everything once.
func TestDeviceExportCutOff(t *testing.T) {
	r := newSetRig(t)
	const devices = 20_000
	r.want(0, []string{"device", "import", "--app", "shop", r.write("in", manyDevices(devices))}, fmt.Sprint(devices, " registered"))
	for _, format := range []string{"ndjson", "csv"} {
		whole, part := filepath.Join(r.dir, "whole."+format), filepath.Join(r.dir, "part."+format)
		r.want(0, []string{"device", "export", "--app", "shop", "--format", format, "--output", whole}, fmt.Sprint("exported ", devices))
		args := []string{"device", "export", "--app", "shop", "--format", format, "--output", part}
		good := r.config
		r.config = r.configure("cut.yaml", cutProxy(t, r.redisAddr, 1_500_000)) // of some three million
		r.want(1, args, "go on with --resume")
		r.config = good
		var at struct{ Bucket, Bytes, Devices int }
		text, err := os.ReadFile(part + ".position")
		if err == nil {
			err = json.Unmarshal(text, &at)
		}
		if err != nil || at.Bucket == 0 || at.Bucket >= 1024 || at.Devices == 0 || at.Devices >= devices {
			t.Fatalf("%s: position: got %+v, %v, want one in the middle", format, at, err)
		}
		f, err := os.OpenFile(part, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(`{"token":"half a li`) // as if it had been killed while writing
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		r.want(2, append(args[:len(args):len(args)], "--resume", "--kind", "voip"), "another export")
		r.want(0, append(args[:len(args):len(args)], "--resume"), fmt.Sprint("exported ", devices))
		got, want := r.lines(part), r.lines(whole)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d lines that are not the same %d", format, len(got), len(want))
		}
	}
}

// Pruning and its undo, from the command line.
func TestDevicePruneAndRestore(t *testing.T) {
	r := newSetRig(t)
	var text strings.Builder
	now := time.Now().UTC()
	for i := range 30 {
		fmt.Fprintf(&text, `{"token":"%064x","user":"u%d","registered_at":%q}`+"\n", i+1<<40, i, now.AddDate(0, 0, -20*i).Format(time.RFC3339))
	}
	r.want(0, []string{"device", "import", "--app", "shop", r.write("in", text.String())}, "30 registered")
	old := func(i int) string { return fmt.Sprintf("%064x", i+1<<40) }
	r.want(2, []string{"device", "prune", "--app", "shop"}, "--unseen-for is needed")
	r.want(2, []string{"device", "prune", "--app", "shop", "--unseen-for", "soon"}, "270d")
	r.want(0, []string{"device", "prune", "--app", "shop", "--unseen-for", "270d", "--dry-run"},
		"16 device tokens of shop to remove", "last registered in "+now.AddDate(0, 0, -20*29).Format("2006-01"))
	r.want(2, []string{"device", "prune", "--app", "shop", "--unseen-for", "270d"}, "no terminal to ask at")
	r.want(0, []string{"device", "show", "--app", "shop", old(29)}, "live")
	r.want(0, []string{"device", "prune", "--app", "shop", "--unseen-for", "270d", "--yes"}, "removed 16 device tokens")
	r.want(0, []string{"device", "show", "--app", "shop", old(29)}, "removed", "pruned")
	r.want(0, []string{"device", "show", "--app", "shop", old(13)}, "live")
	r.want(0, []string{"device", "remove", "--app", "shop", old(1)}, "removed")

	r.want(2, []string{"device", "restore", "--app", "shop"}, "--since is needed")
	r.want(2, []string{"device", "restore", "--app", "shop", "--since", "1h", "--reason", "whim"}, "unknown reason", "Unregistered", "never-registered")
	r.want(2, []string{"device", "restore", "--app", "shop", "--since", "1h", "--until", "2h"}, "must be after")
	r.want(0, []string{"device", "restore", "--app", "shop", "--since", "1h"}, "0 device tokens of shop to restore")
	r.want(0, []string{"device", "restore", "--app", "shop", "--since", "2h", "--until", "1h", "--reason", "pruned"}, "0 device tokens of shop to restore")
	r.want(0, []string{"device", "restore", "--app", "shop", "--since", "1h", "--reason", "pruned", "--state", "quarantined"}, "0 device tokens of shop to restore")
	r.want(0, []string{"device", "restore", "--app", "shop", "--since", "1h", "--reason", "pruned,deleted", "--dry-run"},
		"16 pruned, removed", "1 deleted, removed", "17 device tokens of shop to restore")
	r.want(2, []string{"device", "restore", "--app", "shop", "--since", "1h", "--reason", "pruned"}, "no terminal to ask at")
	r.want(0, []string{"device", "restore", "--app", "shop", "--since", "1h", "--reason", "pruned", "--yes"}, "restored 16 device tokens")
	r.want(0, []string{"device", "show", "--app", "shop", "--user", "u29"}, "live", "generation 2")
	r.want(0, []string{"device", "show", "--app", "shop", old(1)}, "deleted")
	r.want(0, []string{"device", "restore", "--app", "shop", "--since", "1h", "--reason", "pruned", "--yes"}, "0 device tokens of shop to restore")
}
