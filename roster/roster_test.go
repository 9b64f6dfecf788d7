package roster_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/roster"
)

// hexOf is the device token of which every digit is the given one.
func hexOf(digit string) string { return strings.Repeat(digit, 64) }

func tok(t *testing.T, digit string) device.Token {
	t.Helper()
	tk, err := device.ParseToken(hexOf(digit))
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// readAll reads a whole file.
func readAll(t *testing.T, src io.Reader, opt roster.Options) (roster.Format, []roster.Line) {
	t.Helper()
	r, err := roster.NewReader(src, opt)
	if err != nil {
		t.Fatalf("NewReader: %v", err)
	}
	var list []roster.Line
	for {
		var line roster.Line
		err := r.Next(&line)
		if errors.Is(err, io.EOF) {
			return r.Format(), list
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		list = append(list, line)
	}
}

func same(a, b roster.Line) bool {
	return a.Number == b.Number && a.Skip == b.Skip && fmt.Sprint(a.Err) == fmt.Sprint(b.Err) && reflect.DeepEqual(a.Device, b.Device)
}

// The samples of every format, each with a device that has everything, say the
// same as JSON and as CSV.
func TestFormats(t *testing.T) {
	t.Parallel()
	registered := time.Date(2026, 3, 1, 10, 20, 30, 456e6, time.UTC)
	created := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	of := func(digit string, env device.Environment, kind device.Kind) roster.Device {
		return roster.Device{Registration: device.Registration{Token: tok(t, digit), Environment: env, Kind: kind}}
	}
	own := of("1", device.Production, device.Alert)
	own.User, own.InstallID, own.Locale, own.Timezone, own.AppVersion = "ada", "i-17", "de-AT", "Europe/Vienna", "4.2.0"
	own.Tags, own.Attributes = []string{"a,b", `"quoted"`}, map[string]string{"note": "two\nlines", "plan": "gold"}
	own.RegisteredAt, own.CreatedAt, own.Generation, own.Accepted = registered, created, 7, true
	sns := of("1", device.Production, device.Alert)
	sns.Attributes = map[string]string{"custom_user_data": "ada"}
	pin := of("1", device.Production, device.Alert)
	pin.User, pin.Locale, pin.Timezone, pin.AppVersion = "ada", "de-AT", "Europe/Vienna", "4.2.0"
	pin.Attributes = map[string]string{
		"country": "AT", "city": "Vienna", "postal_code": "1010", "model": "iPhone15,2", "os_version": "18.1",
		"interests": "shoes,hats", "user.plan": "gold",
	}
	pin.RegisteredAt, pin.CreatedAt = registered, created
	one := of("1", device.EnvironmentUnset, device.Alert)
	one.User, one.Locale, one.Timezone, one.AppVersion = "ada", "de", "Europe/Vienna", "4.2.0"
	one.Attributes = map[string]string{"plan": "gold", "country": "AT", "model": "iPhone15,2", "os_version": "18.1"}
	one.RegisteredAt, one.CreatedAt = registered.Truncate(time.Second), created
	two := of("2", device.Sandbox, device.Alert)
	two.Locale, two.AppVersion = "en", "4.2.0"
	two.Attributes = map[string]string{"model": "iPhone15,2", "os_version": "18.1"}
	two.RegisteredAt, two.CreatedAt = registered.Truncate(time.Second), created
	take := func(list ...roster.Device) (lines []roster.Line) {
		for _, d := range list {
			lines = append(lines, roster.Line{Device: d})
		}
		return lines
	}
	skip := func(list ...string) (lines []roster.Line) {
		for _, why := range list {
			lines = append(lines, roster.Line{Skip: why})
		}
		return lines
	}
	sandbox, voip := of("2", device.Sandbox, device.Alert), of("3", device.Production, device.VoIP)
	pinWant := append(take(pin, sandbox, voip), skip(roster.SkipDisabled, roster.SkipOptedOut, roster.SkipOtherPlatform, roster.SkipOtherPlatform)...)
	snsWant := append(take(sns, sandbox, voip), skip(roster.SkipDisabled, roster.SkipOtherPlatform)...)
	ownWant := append(take(own, of("2", device.Sandbox, device.VoIP)), skip(roster.SkipRemoved, roster.SkipQuarantined)...)
	for _, tt := range []struct {
		file   string
		format roster.Format
		want   []roster.Line
	}{
		{"pushfleet.ndjson", roster.NDJSON, ownWant},
		{"pushfleet.csv", roster.CSV, ownWant},
		{"sns.ndjson", roster.SNS, snsWant},
		{"sns.csv", roster.SNS, snsWant},
		{"pinpoint.ndjson", roster.Pinpoint, pinWant},
		{"pinpoint.csv", roster.Pinpoint, pinWant},
		{"onesignal.csv", roster.OneSignal, append(take(one, two), skip(
			roster.SkipDisabled, roster.SkipOptedOut, roster.SkipOptedOut, roster.SkipOtherPlatform)...)},
	} {
		text, err := os.ReadFile("testdata/" + tt.file)
		if err != nil {
			t.Fatal(err)
		}
		first := int64(1)
		if strings.HasSuffix(tt.file, ".csv") {
			first = 2
		}
		for name, text := range map[string]string{
			"": string(text), " with CRLF": strings.ReplaceAll(string(text), "\n", "\r\n"), " with BOM": "\ufeff" + string(text),
			" without last end": strings.TrimSuffix(string(text), "\n"), " with empty lines": strings.ReplaceAll(string(text), "\n", "\n\n"),
		} {
			format, got := readAll(t, strings.NewReader(text), roster.Options{})
			if format != tt.format || len(got) != len(tt.want) {
				t.Errorf("%s%s: got %d lines of %s, want %d of %s", tt.file, name, len(got), format, len(tt.want), tt.format)
				continue
			}
			for i := range got {
				want := tt.want[i]
				if want.Number = first + int64(i); name == " with empty lines" {
					want.Number = first + int64(i) + want.Number - 1
				}
				if got[i].Device.Attributes == nil {
					want.Device.Attributes = nil
				}
				if !same(got[i], want) {
					t.Errorf("%s%s, line %d: got\n%+v\nwant\n%+v", tt.file, name, i, got[i], want)
				}
			}
		}
	}
}

// What is wrong with a line is said, concerns that line alone, and never shows a
// device token.
func TestBadLines(t *testing.T) {
	t.Parallel()
	good, rest := `{"token":"`+hexOf("a")+`"}`, hexOf("b")
	for _, tt := range []struct{ name, line, want string }{
		{"odd", `{"token":"` + rest + `b"}`, "odd number"},
		{"not hex", `{"token":"z` + rest[1:] + `"}`, "other than hex"},
		{"300 bytes", `{"token":"` + strings.Repeat("b", 600) + `"}`, "longer than 256 bytes"},
		{"cut off inside", `{"token":"` + rest[:40] + `"}`, "fewer than 32"},
		{"none", `{"user":"ada"}`, "device token is empty"},
		{"environment", `{"token":"` + rest + `","environment":"staging"}`, "production or sandbox"},
		{"kind", `{"token":"` + rest + `","kind":"pager"}`, "unknown kind"},
		{"state", `{"token":"` + rest + `","state":"odd"}`, "must be live"},
		{"unknown member", `{"token":"` + rest + `","usr":"ada"}`, "usr: is no known member"},
		{"twice", `{"token":"` + rest + `","token":"` + rest + `"}`, "twice"},
		{"type", `{"token":"` + rest + `","tags":"` + rest + `"}`, "tags: is not what belongs there"},
		{"not UTF-8", `{"token":"` + rest + "\",\"user\":\"\xff\"}", "not UTF-8"},
		{"cut off", `{"token":"` + rest + `","us`, "not JSON"},
		{"not JSON", rest, "not JSON"},
		{"1 MB", `{"token":"` + rest + `","user":"` + strings.Repeat("u", 1<<20) + `"}`, "longer than 256 KiB"},
	} {
		for name, text := range map[string]string{"": good + "\n" + tt.line + "\n" + good + "\n", ", last": good + "\n" + tt.line} {
			_, got := readAll(t, strings.NewReader(text), roster.Options{})
			if want := strings.Count(text, "\n") + 1 - strings.Count(text[len(text)-1:], "\n"); len(got) != want {
				t.Errorf("%s%s: got %d lines, want %d", tt.name, name, len(got), want)
				continue
			}
			if got[0].Err != nil || got[len(got)-1].Err != nil && name == "" {
				t.Errorf("%s%s: good lines: got %v, %v", tt.name, name, got[0].Err, got[len(got)-1].Err)
			}
			err := got[1].Err
			if err == nil || !strings.Contains(err.Error(), tt.want) || got[1].Number != 2 {
				t.Errorf("%s%s: got %v at line %d, want %q at line 2", tt.name, name, err, got[1].Number, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), rest[:8]) {
				t.Errorf("%s%s: shows the device token: %v", tt.name, name, err)
			}
		}
	}
}

// Quoted fields may hold commas, quotes and line ends; one that is not closed
// costs no other line.
func TestCSVQuotes(t *testing.T) {
	t.Parallel()
	a, b, c := hexOf("a"), hexOf("b"), hexOf("c")
	long := strings.Repeat(c+",x\n", 2*roster.MaxLineBytes/len(c))
	for _, tt := range []struct {
		name, text string
		users      []string // "!" is a bad line
		numbers    []int64
	}{
		{"plain", a + ",ada\n" + b + ",bob\n", []string{"ada", "bob"}, []int64{2, 3}},
		{"comma and quote", a + `,"a,""d"""` + "\n" + b + ",bob\n", []string{`a,"d"`, "bob"}, []int64{2, 3}},
		{"line end inside", a + ",\"a\nd\n\"\n" + b + ",bob\n", []string{"a\nd\n", "bob"}, []int64{2, 5}},
		{"CRLF inside", a + ",\"a\r\nd\"\r\n" + b + ",bob\r\n", []string{"a\nd", "bob"}, []int64{2, 4}},
		{"not closed at the end", a + ",\"ada\n" + b + ",bob\n" + c + ",cy\n", []string{"!", "bob", "cy"}, []int64{2, 3, 4}},
		{"after the end", a + `,"ada"x` + "\n" + b + ",bob\n", []string{"!", "bob"}, []int64{2, 3}},
		{"inside", a + `,a"d"a` + "\n" + b + ",bob\n", []string{"!", "bob"}, []int64{2, 3}},
		{"too few and many fields", a + "\n" + b + ",bob,x\n" + c + ",cy\n", []string{"!", "!", "cy"}, []int64{2, 3, 4}},
		{"not closed in a large file", a + ",\"ada\n" + long, nil, nil},
		{"not closed before a line that is too long", a + ",\"ada\n" + b + "," + strings.Repeat("x", 1<<20) + "\n" + c + ",cy\n", []string{"!", "!", "cy"}, []int64{2, 3, 4}},
	} {
		_, got := readAll(t, strings.NewReader("token,user\n"+tt.text), roster.Options{})
		if tt.users == nil {
			if want := strings.Count(tt.text, "\n"); len(got) != want || got[0].Err == nil || got[1].Err != nil || got[want-1].Number != int64(want+1) {
				t.Errorf("%s: got %d lines, %v, %v, want %d and only the first one bad", tt.name, len(got), got[0].Err, got[1].Err, want)
			}
			continue
		}
		var users []string
		var numbers []int64
		for _, line := range got {
			numbers = append(numbers, line.Number)
			if line.Err != nil {
				users = append(users, "!")
			} else {
				users = append(users, line.Device.User)
			}
		}
		if !reflect.DeepEqual(users, tt.users) || !reflect.DeepEqual(numbers, tt.numbers) {
			t.Errorf("%s: got %q at %v, want %q at %v", tt.name, users, numbers, tt.users, tt.numbers)
		}
	}
}

func TestTokenForms(t *testing.T) {
	t.Parallel()
	want := tok(t, "a")
	for name, text := range map[string]string{
		"lower": hexOf("a"), "upper": hexOf("A"), "spaces around": " " + hexOf("a") + " ",
		"NSData": "<" + strings.TrimSpace(strings.Repeat("aaaaaaaa ", 8)) + ">", "base64": strings.Repeat("qqqq", 10) + "qqo=",
	} {
		_, got := readAll(t, strings.NewReader("token\n"+text), roster.Options{})
		if len(got) != 1 || got[0].Err != nil || got[0].Device.Token != want {
			t.Errorf("%s: got %+v, want %v", name, got, want)
		}
	}
	_, got := readAll(t, strings.NewReader("token\nAPA91b"+strings.Repeat("qQ12", 30)), roster.Options{})
	if len(got) != 1 || !errors.Is(got[0].Err, device.ErrTokenNotHex) {
		t.Errorf("an id of another service: got %+v, want %v", got, device.ErrTokenNotHex)
	}
}

func TestNewReaderRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text, want string
		format           roster.Format
	}{
		{"empty", "", "empty", roster.Unknown},
		{"only line ends", "\n\r\n\n", "empty", roster.Unknown},
		{"only a BOM", "\ufeff", "empty", roster.Unknown},
		{"UTF-16", "\xff\xfet\x00o\x00", "UTF-16", roster.Unknown},
		{"not UTF-8", "token,\xff\n", "not UTF-8", roster.Unknown},
		{"no header", hexOf("a") + "\n", "header with the column token", roster.Unknown},
		{"unknown column", "token,usr\n", `unknown column "usr"`, roster.Unknown},
		{"column twice", "token,token\n", "twice", roster.Unknown},
		{"an array", "[{\n", "jq -c", roster.Unknown},
		{"pretty JSON", "{\n  \"Endpoints\": [\n", "one line", roster.Unknown},
		{"other JSON", `{"device":"x"}`, "none of the members", roster.Unknown},
		{"CSV as NDJSON", "token\n", "JSON object a line", roster.NDJSON},
		{"JSON as OneSignal", `{"token":"x"}`, "which format onesignal is not", roster.OneSignal},
		{"CSV as Pinpoint", "Address\n", "needs the column ChannelType", roster.Pinpoint},
		{"quote in the header", "token,\"user\n", "quote", roster.Unknown},
		{"first line too long", strings.Repeat("x", 1<<20), "longer than", roster.Unknown},
	} {
		_, err := roster.NewReader(strings.NewReader(tt.text), roster.Options{Format: tt.format})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "aaaaaaaa") {
			t.Errorf("%s: shows the device token: %v", tt.name, err)
		}
	}
}

func TestUserData(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/sns.csv")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"user": "ada", "ignore": "", "attribute": ""} {
		data, err := roster.ParseUserData(name)
		if err != nil {
			t.Fatal(err)
		}
		_, got := readAll(t, strings.NewReader(string(text)), roster.Options{UserData: data})
		if u, n := got[0].Device.User, len(got[0].Device.Attributes); u != want || (n == 1) != (name == "attribute") {
			t.Errorf("%s: got user %q and %d attributes, want user %q", name, u, n, want)
		}
	}
	if _, err := roster.ParseUserData("x"); err == nil {
		t.Error("x: got no error")
	}
}

// A reader that skips what another one read goes on with the same lines.
func TestSkip(t *testing.T) {
	t.Parallel()
	text := "token,user\n"
	for i := range 20 {
		text += fmt.Sprintf("%064x,\"user\n%d\"\n", i, i)
	}
	text += hexOf("c") + ",\"not closed\n" + hexOf("d") + ",dora\n"
	_, all := readAll(t, strings.NewReader(text), roster.Options{})
	for n := range all {
		first, err := roster.NewReader(strings.NewReader(text), roster.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var line roster.Line
		for range n {
			if err := first.Next(&line); err != nil {
				t.Fatal(err)
			}
		}
		second, err := roster.NewReader(strings.NewReader(text), roster.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Skip(first.Done()); err != nil {
			t.Fatal(err)
		}
		if err := second.Next(&line); err != nil || !same(line, all[n]) {
			t.Errorf("after %d: got %+v, %v, want %+v", n, line, err, all[n])
		}
	}
	r, err := roster.NewReader(strings.NewReader(text), roster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Skip(1000); !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: got %v, want %v", err, io.EOF)
	}
}

// What is written is read as the same devices.
func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	full := device.Device{
		Registration: device.Registration{
			Token: tok(t, "e"), User: "a\"d,a", InstallID: " i ", Locale: "de-AT", Timezone: "Europe/Vienna", AppVersion: "1",
			Tags: []string{"=x", "a,b", "ü"}, Attributes: map[string]string{"b": "\n", "a": "'"},
		},
		Record:    device.Record{RegisteredAt: 1_800_000_000_123, Generation: 3, Environment: device.Sandbox, Kind: device.VoIP, Accepted: true},
		CreatedAt: time.UnixMilli(1_700_000_000_001),
	}
	bare := device.Device{Registration: device.Registration{Token: tok(t, "f")}, Record: device.Record{Environment: device.Production}}
	for _, format := range []roster.Format{roster.NDJSON, roster.CSV} {
		var text strings.Builder
		w, err := roster.NewWriter(&text, format, true)
		if err == nil {
			err = w.Write([]device.Device{full, bare})
		}
		if err != nil {
			t.Fatal(err)
		}
		got, lines := readAll(t, strings.NewReader(text.String()), roster.Options{})
		if got != format || len(lines) != 2 {
			t.Fatalf("%s: got %d lines of %s", format, len(lines), got)
		}
		want := roster.Device{
			Registration: full.Registration, RegisteredAt: time.UnixMilli(1_800_000_000_123).UTC(),
			CreatedAt: full.CreatedAt.UTC(), Generation: 3, Accepted: true,
		}
		want.Environment, want.Kind = device.Sandbox, device.VoIP
		if !reflect.DeepEqual(lines[0].Device, want) {
			t.Errorf("%s: got\n%+v, %v\nwant\n%+v", format, lines[0].Device, lines[0].Err, want)
		}
		if d := lines[1].Device; d.Token != bare.Token || !d.RegisteredAt.IsZero() || d.User != "" {
			t.Errorf("%s, bare: got %+v, %v", format, d, lines[1].Err)
		}
	}
	if _, err := roster.NewWriter(io.Discard, roster.SNS, true); err == nil {
		t.Error("sns: got no error")
	}
}

// A failing file is told from a line that is wrong.
func TestReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	r, err := roster.NewReader(io.MultiReader(strings.NewReader("token\n"+hexOf("a")+"\n\""+hexOf("b")), brokenReader{broken}), roster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var line roster.Line
	if err := r.Next(&line); err != nil || line.Err != nil {
		t.Fatalf("first: got %v, %v", err, line.Err)
	}
	if err := r.Next(&line); !errors.Is(err, broken) {
		t.Errorf("second: got %v, want %v", err, broken)
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// Whatever the bytes: the reader ends, counts on, and never shows a long run of
// what may be a device token.
func FuzzReader(f *testing.F) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		text, err := os.ReadFile("testdata/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("token,user\n\"" + hexOf("a") + "\",\"x\n\"\"y\"\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := roster.NewReader(strings.NewReader(text), roster.Options{})
		if err != nil {
			return
		}
		last := int64(0)
		for range strings.Count(text, "\n") + 2 {
			var line roster.Line
			if err := r.Next(&line); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("got %v, want %v", err, io.EOF)
				}
				return
			}
			if line.Number <= last {
				t.Fatalf("line %d after %d", line.Number, last)
			}
			last = line.Number
			if line.Err == nil && line.Skip == "" && line.Device.Token.Len() < 32 {
				t.Fatalf("line %d: took a device token of %d bytes", line.Number, line.Device.Token.Len())
			}
			if line.Err != nil && line.Device.Token.Len() > 0 {
				t.Fatalf("line %d: a device beside the error", line.Number)
			}
		}
		t.Fatal("more lines than there are")
	})
}
