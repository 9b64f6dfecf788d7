package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/stream"
)

// served is an API, and a key for it in a file.
type served struct {
	*rig
	api     *process
	url     string
	key     string
	keyFile string
}

// serves starts an API for a rig, with more settings, and makes a key that may do
// everything.
func (r *rig) serves(env ...string) *served {
	r.t.Helper()
	addr := "127.0.0.1:" + freePort(r.t)
	s := &served{rig: r, url: "http://" + addr}
	env = append(env, "PUSHFLEET_API_LISTEN="+addr, "PUSHFLEET_LOG_FORMAT=json")
	s.api = r.start(env, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error {
		text, err := r.get(s.url + "/readyz")
		if err == nil && strings.Contains(string(text), "JetStream") {
			err = errors.New(string(text))
		}
		return err
	})
	s.key = r.key("--all-apps", "--scope", "admin", "--name", "operators")
	s.keyFile = r.write("key", s.key+"\n")
	return s
}

// ran is how a command ended.
type ran struct {
	code        int
	out, errors string
}

// runs runs a command with what is given alone: no configuration.
func (r *rig) runs(env []string, stdin string, args ...string) ran {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), env...)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// remotely runs a command through the API.
func (s *served) remotely(args ...string) ran {
	s.t.Helper()
	got := s.runs(nil, "", append(args, "--server", s.url, "--api-key-file", s.keyFile)...)
	if secret := s.key[20:]; strings.Contains(got.out+got.errors, secret) {
		s.t.Errorf("%s: got the API key in\n%s\n%s", strings.Join(args, " "), got.out, got.errors)
	}
	return got
}

// straight is what stands for {x} on the straight way, and through for it through the API.
// They are as long as each other, as columns are aligned.
const straight, through = "straight", "remotely"

// both runs a command both ways, and fails unless it ends alike and prints the same. What
// the one changes the other can not change again, so each may have a twin: {x} in the
// arguments, {hex} in a device token. Where there are twins, places and times are not
// looked at.
func (s *served) both(code int, args ...string) (out string) {
	s.t.Helper()
	with := func(x string) (list []string) {
		for _, arg := range args {
			list = append(list, strings.NewReplacer("{x}", x, "{hex}", fmt.Sprintf("%x", x)).Replace(arg))
		}
		return list
	}
	a := s.runs(nil, "", append(with(straight), "-c", s.config)...)
	b := s.remotely(with(through)...)
	one, other := a.out, b.out
	if all := strings.Join(args, " "); strings.Contains(all, "{x}") || strings.Contains(all, "{hex}") {
		one, other = twin(one, straight), twin(other, through)
	}
	what := strings.Join(args, " ")
	if a.code != code || b.code != code {
		s.t.Errorf("%s: exit %d straight and %d through the API, want %d:\n%s\n%s", what, a.code, b.code, code, a.errors, b.errors)
	}
	if one != other {
		s.t.Errorf("%s: straight\n%s\nthrough the API\n%s\nwant the same", what, one, other)
	}
	return b.out
}

// varying is what differs between twins.
var varying = regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?|sequence"?[: ]\d+`)

func twin(text, x string) string {
	hexOf := fmt.Sprintf("%x", x) // in a device token
	text = strings.ReplaceAll(strings.ReplaceAll(text, hexOf, "…twin…"), hexOf[:6], "…twi")
	return varying.ReplaceAllString(strings.ReplaceAll(text, x, "{x}"), "…")
}

// Each command that goes either way does and prints the same.
func TestBothWays(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	s := r.serves()
	for _, x := range []string{straight, through} { // device tokens begin with its letters
		r.must("device", "register", "--app", "shop", "--user", "pre-"+x, "--tag", x, fmt.Sprintf("%x%032d", x, 7))
	}

	t.Run("devices", func(t *testing.T) {
		s := s.within(t)
		tok := func(n int) string { return fmt.Sprintf("{hex}%032d", n) }
		s.bothOf(0, "registered …twi… (production, alert), generation 1", "device", "register", "--app", "shop", "--user", "ada-{x}", "--install", "i-{x}",
			"--locale", "de-AT", "--timezone", "Europe/Vienna", "--app-version", "4.2", "--tag", "a", "--tag", "b", "--attribute", "n=v", tok(1))
		s.bothOf(0, "generation 1", "device", "register", "--app", "shop", "--environment", "sandbox", "--kind", "voip", "--previous", tok(1), tok(2))
		s.bothOf(1, "", "device", "register", "--app", "shop", "--install", strings.Repeat("i", 300), tok(3))
		hex := fmt.Sprintf("%x%032d", straight, 1)
		for _, list := range [][]string{
			{hex}, {hex, "-o", "json"}, {"--user", "ada-" + through}, {"--user", "ada-" + through, "-o", "json"}, {"--user", "nobody"}, {"--user", ".."}, {"--user", "a/b c"},
		} {
			s.both(0, append([]string{"device", "show", "--app", "shop"}, list...)...)
		}
		s.both(1, "device", "show", "--app", "shop", strings.Repeat("ee", 32))
		s.both(2, "device", "show", "--app", "shop", "xyz")
		s.bothOf(0, "removed …twi", "device", "remove", "--app", "shop", tok(2))
		s.bothOf(0, "removed …twi", "device", "remove", "--app", "shop", tok(2)) // again
		s.both(1, "device", "remove", "--app", "shop", strings.Repeat("ee", 32))
		s.both(2, "device", "register", "--app", "nosuch", hex)
	})

	t.Run("send", func(t *testing.T) {
		s := s.within(t)
		dead := fmt.Sprintf("{hex}%032d", 9)
		for _, x := range []string{straight, through} {
			r.dies(strings.ReplaceAll(dead, "{hex}", fmt.Sprintf("%x", x)))
		}
		s.bothOf(0, "job {x}-1 is stored for 1 recipients (shop, bulk", "send", "--app", "shop", "--user", "pre-{x}", "--title", "x", "--id", "{x}-1", "--lane", "bulk")
		s.bothOf(0, `"duplicate":true`, "send", "--app", "shop", "--user", "pre-{x}", "--title", "x", "--id", "{x}-1", "--lane", "bulk", "-o", "json")
		s.bothOf(1, "user nobody", "send", "--app", "shop", "--user", "pre-{x}", "--user", "nobody", "--title", "x", "--id", "{x}-2", "--wait")
		s.bothOf(1, `"reason":"Unregistered"`, "send", "--app", "shop", "--token", dead, "--title", "x", "--id", "{x}-3", "--wait", "-o", "json")
		s.bothOf(1, "", "send", "--app", "shop", "--user", "pre-{x}", "--badge", "-1", "--id", "{x}-4") // no job
		s.both(2, "send", "--app", "nosuch", "--user", "ada", "--title", "x")
		var jobs [2]strings.Builder
		for i, x := range []string{straight, through} {
			for n := range 2500 {
				fmt.Fprintf(&jobs[i], `{"id":"%s-m%d","to":{"users":["pre-%s"]},"notification":{"title":"x"}}`+"\n", x, n, x)
				if n == 1 {
					jobs[i].WriteString("{\"id\":\"bad\"}\nno JSON\n\n")
				}
			}
			r.write(x+".ndjson", jobs[i].String())
		}
		out := s.bothOf(1, "", "send", "--app", "shop", "--lane", "bulk", "--file", "{x}.ndjson", "-o", "json")
		if n := strings.Count(out, `"sequence":`); n != 2500 || !strings.Contains(out, `{"line":3,`) {
			t.Errorf("many: got %d jobs stored, want 2500 and the bad lines told", n)
		}
		s.bothOf(1, "", "send", "--app", "shop", "--lane", "bulk", "--file", "{x}.ndjson") // again
		few := strings.Join(strings.SplitAfter(jobs[1].String(), "\n")[:40], "")
		r.write("few.ndjson", strings.ReplaceAll(strings.ReplaceAll(few, "-m", "-w"), "\"bad\"", "1"))
		if got := s.remotely("send", "--app", "shop", "--lane", "bulk", "--file", "few.ndjson", "--wait"); strings.Count(got.out, "accepted") != 37 {
			t.Errorf("--wait with many: exit %d, %s\n%s\nwant 37 accepted", got.code, got.out, got.errors)
		}
		got := s.runs(nil, `{"to":{"users":["pre-remotely"]},"notification":{"title":"x"}}`, "send", "--app", "shop", "-", "--server", s.url, "--api-key-file", s.keyFile)
		if got.code != 0 || !strings.Contains(got.out, "job seq-") {
			t.Errorf("from standard input: got %+v, want a job named after its place", got)
		}
		r.write("later.json", fmt.Sprintf(`{"id":"later","to":{"users":["ada"]},"notification":{"title":"x"},"send_after":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)))
		if got := s.remotely("send", "--app", "shop", "--lane", "bulk", "--file", "later.json", "--wait", "--timeout", "300ms"); got.code != 1 || !strings.Contains(got.errors, "0 recipients are settled: 300ms are over") {
			t.Errorf("--wait in vain: got %+v, want it said", got)
		}
	})

	t.Run("explain", func(t *testing.T) {
		s := s.within(t)
		for _, args := range [][]string{
			{"--job", through + "-2", "--user", "pre-" + through}, {"--job", straight + "-3", "--token", fmt.Sprintf("%x%032d", straight, 9), "-o", "json"}, {"--job", "none", "--install", "i"},
		} {
			s.both(0, append([]string{"explain", "--app", "shop"}, args...)...)
		}
		s.both(1, "explain", "--app", "shop", "--campaign", "none", "--user", "ada")
		s.both(2, "explain", "--app", "shop", "--job", "x")
	})

	t.Run("campaigns", func(t *testing.T) {
		s := s.within(t)
		s.both(0, "campaign", "list")
		r.write("straight.yaml", "id: straight\naudience: {all: true}\nnotification: {title: t}\n")
		r.write("remotely.yaml", "id: remotely\naudience: {all: true}\nnotification: {title: t}\n")
		for _, x := range []string{straight, through} {
			r.write("late-"+x+".json", `{"id":"late-`+x+`","audience":{"all":true},"notification":{"title":"t"},"start_at":"2199-01-01T00:00:00Z"}`)
			r.write("past-"+x+".yaml", "id: past-"+x+"\naudience: {all: true}\nnotification: {title: t}\n# a remark\nstart_at: 2020-01-01T00:00:00Z\n")
		}
		s.bothOf(0, "campaign {x} of shop is created", "campaign", "create", "-f", "{x}.yaml")
		s.bothOf(0, `"state": "scheduled"`, "campaign", "create", "--app", "shop", "-f", "late-{x}.json", "-o", "json")
		s.bothOf(0, "is there already", "campaign", "create", "-f", "late-{x}.json")
		s.bothOf(0, "late-{x} of shop is paused", "campaign", "pause", "late-{x}")
		s.bothOf(0, "late-{x} of shop is scheduled", "campaign", "resume", "late-{x}")
		s.bothOf(0, "7 notifications per second", "campaign", "pace", "late-{x}", "7")
		s.bothOf(2, "", "campaign", "cancel", "late-{x}") // no terminal to ask at
		s.bothOf(0, "is cancelled", "campaign", "cancel", "late-{x}", "--yes")
		s.bothOf(1, "", "campaign", "resume", "late-{x}")
		s.bothOf(1, "", "campaign", "pause", "nosuch-{x}")
		s.bothOf(0, "state        done", "campaign", "show", "{x}", "--watch")
		if got := s.remotely("campaign", "create", "-f", "past-remotely.yaml"); got.code != 1 || !strings.Contains(got.errors, "past-remotely.yaml:5:") {
			t.Errorf("one that is refused by the API: got %+v, want the line", got)
		}
		s.bothOf(1, "", "campaign", "create", "-f", "past-{x}.yaml")
		for _, id := range []string{straight, "late-" + through} {
			s.both(0, "campaign", "show", "--app", "shop", id)
			s.both(0, "campaign", "show", "--app", "shop", id, "-o", "json")
		}
		s.both(1, "campaign", "show", "nosuch")
		s.both(0, "campaign", "list", "-o", "json")
		s.both(0, "campaign", "list")
		s.both(0, "explain", "--app", "shop", "--campaign", through, "--user", "pre-"+through)
		r.until("campaigns to be closed", func() error {
			for _, x := range []string{straight, through} {
				if out, err := r.cli("campaign", "delete", x); err == nil || !strings.Contains(out, "no terminal to ask at") {
					return fmt.Errorf("%s: %w", out, err)
				}
			}
			return nil
		})
		s.bothOf(0, "campaign {x} of shop is deleted", "campaign", "delete", "{x}", "--yes")
		s.bothOf(1, "", "campaign", "delete", "{x}", "--yes")

		r.write("file.json", `{"id":"file","recipients":{},"notification":{"title":"t"}}`)
		r.write("people.csv", "user\nada\n")
		s.both(0, "campaign", "create", "--app", "shop", "-f", "file.json", "--recipients", "people.csv", "--dry-run")
		for _, args := range [][]string{{"-f", "file.json", "--recipients", "people.csv"}, {"-f", "remotely.yaml", "--dry-run"}} {
			if got := s.remotely(append([]string{"campaign", "create"}, args...)...); got.code != 2 || !strings.Contains(got.errors, "needs --config") {
				t.Errorf("campaign create %q: got %+v, want it refused", args, got)
			}
		}
	})

	t.Run("fuses", func(t *testing.T) {
		s := s.within(t)
		s.both(0, "fuse", "list")
		s.both(1, "fuse", "reset", "--app", "shop")
		s.both(2, "fuse", "reset", "--app", "nosuch")
		for _, env := range []device.Environment{device.Production, device.Sandbox} {
			r.trips(env)
		}
		s.both(0, "fuse", "list", "-o", "json")
		r.must("fuse", "reset", "--app", "shop", "--environment", "sandbox")
		if got := s.remotely("fuse", "reset", "--app", "shop"); got.code != 0 || got.out != "reset the fuse of shop, production\n" {
			t.Errorf("fuse reset: got %+v, want it reset", got)
		}
		s.both(0, "fuse", "list")
	})

	t.Run("dead letters", func(t *testing.T) {
		s := s.within(t)
		_, js := r.jetStream()
		s.both(0, "dead-letter", "list")
		s.both(0, "dead-letter", "list", "-o", "json")
		r.faults(`{"requests":[{"answer":{"status":413,"reason":"PayloadTooLarge"}}]}`)
		var lines strings.Builder
		for _, x := range []string{straight, through} {
			for n := range 600 {
				fmt.Fprintf(&lines, `{"id":"dead-%s-%d","to":{"tokens":["%x%032d"]},"notification":{"title":"x"}}`+"\n", x, n, x, n+100)
			}
		}
		r.write("dead.ndjson", lines.String())
		if got := s.remotely("send", "--app", "shop", "--lane", "bulk", "--file", "dead.ndjson"); got.code != 0 {
			t.Fatalf("send: got %+v", got)
		}
		r.inStream(js, stream.Dead, 1200)
		s.both(0, "dead-letter", "list", "--limit", "3")
		if out := s.both(0, "dead-letter", "list", "--app", "shop", "--reason", "payload", "--limit", "0"); strings.Count(out, "PayloadTooLarge") != 1200 {
			t.Errorf("list: got %d rows, want all 1200", strings.Count(out, "PayloadTooLarge"))
		}
		s.both(0, "dead-letter", "list", "--limit", "0", "-o", "json")
		s.both(0, "dead-letter", "list", "--older-than", "1h")
		s.both(0, "dead-letter", "show", "5")
		s.both(0, "dead-letter", "show", "5", "--full", "-o", "json")
		for _, args := range [][]string{{"show", "99999"}, {"redrive", "99999", "--yes"}, {"purge", "99999", "--yes"}} {
			s.both(1, append([]string{"dead-letter"}, args...)...)
		}
		for _, args := range [][]string{{"redrive"}, {"purge", "1", "--app", "shop"}, {"redrive", "--all"}, {"list", "--limit", "-1"}} {
			s.both(2, append([]string{"dead-letter"}, args...)...)
		}
		s.both(0, "dead-letter", "redrive", "--reason", "payloadtoolarge", "--dry-run")
		s.both(0, "dead-letter", "purge", "--all", "--dry-run")
		s.bothOf(0, "deleted 1 letter\n", "dead-letter", "purge", "--job", "dead-{x}-0", "--yes")
		r.faults(`{}`)
		s.bothOf(0, "redrove 1 letter to 1 recipient\n", "dead-letter", "redrive", "--job", "dead-{x}-1", "--yes")
		began := time.Now()
		if got := s.remotely("dead-letter", "redrive", "--app", "shop", "--rate", "400", "--yes"); got.code != 0 || !strings.Contains(got.out, "redrove 1196 letters to 1196 recipients\n") || !strings.Contains(got.errors, "redrive: 1196 of 1196 letters, done") {
			t.Errorf("redrive: got %+v, want all of them", got)
		}
		if took := time.Since(began); took < 2400*time.Millisecond {
			t.Errorf("1196 letters at 400 a second took %s, want 2.5 s at least", took)
		}
		r.inStream(js, stream.Dead, 0)
	})

	t.Run("keys", func(t *testing.T) {
		s := s.within(t)
		made := s.remotely("key", "create", "--app", "shop", "--scope", "send,read", "--name", "backend")
		if made.code != 0 || !strings.HasPrefix(made.out, "pf_") || !strings.Contains(made.errors, "created API key") || strings.Contains(made.errors, strings.TrimSpace(made.out)) {
			t.Fatalf("key create: got %+v, want a key, on standard output alone", made)
		}
		s.both(2, "key", "create", "--app", "shop", "--scope", "everything")
		s.both(0, "key", "list")
		s.both(0, "key", "list", "-o", "json")
		if got := s.remotely("key", "revoke", strings.TrimSpace(made.out)); got.code != 0 || !strings.Contains(got.out, "revoked API key "+made.out[3:19]) {
			t.Errorf("key revoke: got %+v, want it revoked", got)
		}
		s.both(1, "key", "revoke", "nosuch")
		s.both(0, "key", "list")
	})

	t.Run("fleet", func(t *testing.T) {
		s := s.within(t)
		s.both(2, "fleet", "--app", "nosuch")
		got := s.remotely("fleet", "--app", "shop")
		if a := r.must("fleet", "--app", "shop"); got.code != 0 || firstFields(a) != firstFields(got.out) {
			t.Errorf("fleet: straight\n%s\nthrough the API\n%s\nwant the same lines", a, got.out)
		}
		var f overview.Fleet
		if got = s.remotely("fleet", "-o", "json"); json.Unmarshal([]byte(got.out), &f) != nil || len(f.Workers) != 1 || f.Workers[0].Name != "w1" {
			t.Errorf("fleet as JSON: got %+v, want w1", got)
		}
	})

	s.audited()
}

// firstFields are the first words of lines: of the fleet, all that stands still.
func firstFields(text string) (words string) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "20") {
			words += f[0] + "\n"
		}
	}
	return words
}

// within is for a part of a test.
func (s *served) within(t *testing.T) *served {
	t.Helper()
	r := *s.rig
	r.t = t
	one := *s
	one.rig = &r
	return &one
}

// bothOf is both of twins, with what is to be printed of each.
func (s *served) bothOf(code int, want string, args ...string) string {
	s.t.Helper()
	out := s.both(code, args...)
	if got := twin(out, through); !strings.Contains(got, want) {
		s.t.Errorf("%s: got %s, want %q", strings.Join(args, " "), got, want)
	}
	return out
}

// trips makes the fuse of an environment trip.
func (r *rig) trips(env device.Environment) {
	r.t.Helper()
	nc, err := stream.Connect(stream.ConnectConfig{URL: r.natsURL}, zap.NewNop())
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	streams, err := stream.Open(r.ctx, nc, stream.Config{})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := streams.SetFuse(r.ctx, stream.Fuse{App: "shop", Environment: env, Tripped: true, TrippedAt: time.Now(), Rejected: 200, Sent: 210}); err != nil {
		r.t.Fatal(err)
	}
}

// audited fails unless the API's audit log names the key for what was changed through it.
func (s *served) audited() {
	s.t.Helper()
	seen := make(map[string]bool)
	for line := range strings.Lines(s.api.out.String()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) != nil || entry["logger"] != "audit" {
			continue
		}
		if id := s.key[3:19]; !strings.Contains(line, id) || strings.Contains(line, s.key[20:]) {
			s.t.Errorf("audit log: got %s, want it to name the key %s, and not the key itself", line, id)
		}
		seen[entry["msg"].(string)] = true
	}
	for _, what := range []string{
		"campaign.create", "campaign.pause", "campaign.resume", "campaign.pace", "campaign.cancel", "campaign.delete",
		"fuse.reset", "dead-letter.redrive", "dead-letter.purge", "key.create", "key.revoke",
	} {
		if !seen[what] {
			s.t.Errorf("audit log: got no line of %s", what)
		}
	}
}

// Who may not, or reaches nobody, is told so, and no key is ever printed.
func TestServerRefusals(t *testing.T) {
	r := newRig(t)
	r.worker("w1")
	s := r.serves("PUSHFLEET_API_RATE_LIMIT=20")
	reader := r.write("reader", r.key("--app", "shop", "--scope", "read"))
	other := s.key[:21] + strings.Repeat("a", len(s.key)-21)
	wrong := r.write("wrong", other)
	closed := "http://127.0.0.1:" + freePort(t)
	elsewhere := httptest.NewServer(http.RedirectHandler("https://example.com/", http.StatusFound))
	defer elsewhere.Close()
	file := func(name string) []string { return []string{"--server", s.url, "--api-key-file", name} }
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"a wrong key", nil, append([]string{"fuse", "list"}, file(wrong)...), 1, "not known, or was revoked (HTTP 401, unauthorized, request "},
		{"a missing scope", nil, append([]string{"fuse", "reset", "--app", "shop"}, file(reader)...), 1, "needs the scope admin (HTTP 403, missing_scope"},
		{"a missing scope to send", nil, append([]string{"send", "--app", "shop", "--user", "a", "--title", "x"}, file(reader)...), 1, "needs the scope send"},
		{"another app", nil, append([]string{"dead-letter", "list", "--app", "bank"}, file(reader)...), 2, `--app: "bank": the API key`},
		{"keys of all", nil, append([]string{"key", "list"}, file(reader)...), 1, "an API key for all apps is needed"},
		{"nobody there", nil, []string{"fuse", "list", "--server", closed, "--api-key-file", s.keyFile}, 1, "connect: connection refused"},
		{"sent elsewhere", nil, []string{"fuse", "list", "--server", elsewhere.URL, "--api-key-file", s.keyFile}, 1, "sends elsewhere"},
		{"no API", nil, []string{"fuse", "list", "--server", s.url + "/nowhere", "--api-key-file", s.keyFile}, 1, "HTTP 404"},
		{"no key", nil, []string{"fuse", "list", "--server", s.url}, 2, "needs an API key"},
		{"no file", nil, append([]string{"fuse", "list"}, file("nowhere")...), 1, "read API key: open nowhere"},
		{"what is no key", nil, append([]string{"fuse", "list"}, file(r.config)...), 2, "must hold an API key"},
		{"a key as a flag", nil, []string{"fuse", "list", "--server", s.url, "--api-key", s.key}, 2, "--api-key is no flag"},
		{"a key as a flag, together", nil, []string{"fuse", "list", "--server", s.url, "--api-key=" + s.key}, 2, "put the API key into a file"},
		{"plain HTTP", nil, []string{"fuse", "list", "--server", "http://push.example.com", "--api-key-file", s.keyFile}, 2, "could read the API key (--insecure-http allows it)"},
		{"a CA that is none", nil, append([]string{"fuse", "list", "--server-ca", r.config}, file(s.keyFile)...), 1, "--server-ca: read certificates"},
		{"both", nil, append([]string{"fuse", "list", "-c", r.config}, file(s.keyFile)...), 2, "--server and --config exclude one another"},
		{"a key for nothing", nil, []string{"fuse", "list", "-c", r.config, "--api-key-file", s.keyFile}, 2, "--api-key-file: is for --server"},
		{"both by the environment", []string{"PUSHFLEET_SERVER=" + s.url, "PUSHFLEET_CONFIG=" + r.config}, []string{"fuse", "list"}, 2, "say which is meant"},
		{"two keys", []string{"PUSHFLEET_SERVER=" + s.url, "PUSHFLEET_SERVER_KEY=" + s.key, "PUSHFLEET_SERVER_KEY_FILE=" + s.keyFile}, []string{"fuse", "list"}, 2, "are both set"},
		{"a command that cannot", []string{"PUSHFLEET_SERVER=" + s.url}, []string{"device", "export", "--app", "shop"}, 2, "device export goes by --config"},
		{"all by the environment", []string{"PUSHFLEET_SERVER=" + s.url, "PUSHFLEET_SERVER_KEY=" + s.key}, []string{"fuse", "list"}, 0, "closed"},
		{"the configuration all the same", []string{"PUSHFLEET_SERVER=" + closed, "PUSHFLEET_SERVER_KEY=" + s.key}, []string{"fuse", "list", "-c", r.config}, 0, "closed"},
		{"a process of the fleet by its configuration", []string{"PUSHFLEET_SERVER=" + s.url, "PUSHFLEET_SERVER_CA_FILE=x", "PUSHFLEET_CONFIG=" + r.config}, []string{"config", "check"}, 0, "configuration is good"},
		{"the shell", []string{"PUSHFLEET_SERVER=" + s.url, "PUSHFLEET_SERVER_KEY=" + s.key}, []string{"__complete", "send", "--app", ""}, 0, "shop\n:4\n"},
	} {
		got := r.runs(tt.env, "", tt.args...)
		if got.code != tt.code || !strings.Contains(got.out+got.errors, tt.want) {
			t.Errorf("%s: got exit %d, %s%s; want exit %d and %q", tt.name, got.code, got.out, got.errors, tt.code, tt.want)
		}
		for _, secret := range []string{s.key[20:], other[22:]} {
			if strings.Contains(got.out+got.errors, secret) {
				t.Errorf("%s: got a key in %s%s", tt.name, got.out, got.errors)
			}
		}
	}

	// More than the rate allows is waited for, and nothing of it is lost or sent twice.
	var jobs strings.Builder
	for n := range 100 {
		fmt.Fprintf(&jobs, `{"id":"j-%d","to":{"tokens":["%064x"]},"notification":{"title":"x"}}`+"\n", n, n+1)
	}
	r.write("jobs.ndjson", jobs.String())
	got := s.remotely("send", "--app", "shop", "--file", "jobs.ndjson", "--wait")
	if got.code != 0 || strings.Count(got.out, "accepted") != 100 || !strings.Contains(got.errors, "100 jobs are stored, 0 were published before, 0 are not stored") {
		t.Errorf("beyond the rate: got exit %d\n%s\n%s\nwant 100 accepted", got.code, got.out, got.errors)
	}
}
