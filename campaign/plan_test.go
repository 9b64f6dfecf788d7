package campaign_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

const start = "2026-11-24T09:00:00Z"

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		audience string
		change   func(*device.Device)
		want     bool
	}{
		{`"all":true`, nil, true},
		{`"all":true`, func(d *device.Device) { d.Record.State = device.Quarantined }, false},
		{`"all":true`, func(d *device.Device) { d.Record.State = device.Removed }, false},
		{`"all":true`, func(d *device.Device) { d.Record.Kind = device.VoIP }, false},
		{`"environment":"production"`, nil, true},
		{`"environment":"sandbox"`, nil, false},
		// Registered on 2026-10-01 at 08:00.
		{`"registered_after":"2026-10-01T08:00:00Z"`, nil, true},
		{`"registered_after":"2026-10-01T08:00:00.001Z"`, nil, false},
		{`"registered_before":"2026-10-01T08:00:00.001Z"`, nil, true},
		{`"registered_before":"2026-10-01T08:00:00Z"`, nil, false},

		{`"tags":{"any":["culture","sports"]}`, nil, true},
		{`"tags":{"any":["culture","sport"]}`, nil, false},
		{`"tags":{"all":["news","sports"]}`, nil, true},
		{`"tags":{"all":["news","culture"]}`, nil, false},
		{`"tags":{"none":["culture"]}`, nil, true},
		{`"tags":{"none":["culture","news"]}`, nil, false},
		{`"tags":{"any":["news"],"all":["sports"],"none":["muted"]}`, nil, true},
		{`"tags":{"none":["news"]}`, func(d *device.Device) { d.Tags = nil }, true},

		{`"locales":["de"]`, nil, true},
		{`"locales":["de-AT"]`, nil, true},
		{`"locales":["DE_at"]`, nil, true},
		{`"locales":["de-DE"]`, nil, false},
		{`"locales":["de-AT-1996"]`, nil, false},
		{`"locales":["fr","de"]`, nil, true},
		{`"locales":["de"]`, func(d *device.Device) { d.Locale = "den-CA" }, false},
		{`"locales":["de-AT"]`, func(d *device.Device) { d.Locale = "de_AT@currency=EUR" }, true},
		{`"locales":["de"]`, func(d *device.Device) { d.Locale = "de.UTF-8" }, true},
		{`"locales":["zh-Hant"]`, func(d *device.Device) { d.Locale = "zh_Hant_TW" }, true},
		{`"locales":["de"]`, func(d *device.Device) { d.Locale = "" }, false},
		{`"locales":["de"]`, func(d *device.Device) { d.Locale = "de-" + strings.Repeat("x", 100) }, true},

		{`"timezones":["Europe/Berlin","Europe/Vienna"]`, nil, true},
		{`"timezones":["Europe/Berlin"]`, nil, false},

		{`"attributes":{"plan":"gold"}`, nil, true},
		{`"attributes":{"plan":["silver","gold"]}`, nil, true},
		{`"attributes":{"plan":"silver"}`, nil, false},
		{`"attributes":{"plan":"gold","first_name":"Grace"}`, nil, false},
		{`"attributes":{"team":"red"}`, nil, false},

		// Of version 2.10.1.
		{`"app_version":{"min":"2.9"}`, nil, true},
		{`"app_version":{"min":"2.10.1"}`, nil, true},
		{`"app_version":{"min":"2.10.2"}`, nil, false},
		{`"app_version":{"max":"2.10.1"}`, nil, true},
		{`"app_version":{"max":"2.10.1.0"}`, nil, true},
		{`"app_version":{"max":"2.10"}`, nil, false},
		{`"app_version":{"min":"2","max":"3"}`, nil, true},
		{`"app_version":{"min":"002.0010"}`, nil, true},
		{`"app_version":{"min":"99999999999999999999999"}`, nil, false},
		{`"app_version":{"max":"3"}`, func(d *device.Device) { d.AppVersion = "3-beta" }, true},
		{`"app_version":{"max":"3"}`, func(d *device.Device) { d.AppVersion = "3.1 (77)" }, false},
		{`"app_version":{"max":"3"}`, func(d *device.Device) { d.AppVersion = "" }, false},
		{`"app_version":{"max":"3"}`, func(d *device.Device) { d.AppVersion = "v2" }, false},

		{`"tags":{"any":["news"]},"locales":["de"],"attributes":{"plan":"gold"}`, nil, true},
		{`"tags":{"any":["news"]},"locales":["fr"],"attributes":{"plan":"gold"}`, nil, false},
	} {
		p := compile(t, `{"id":"c","audience":{`+tt.audience+`},"notification":{"body":"b"}}`, at(t, start))
		d := phone(tt.change)
		if got := p.Matches(d); got != tt.want {
			t.Errorf("%s, record %+v, %+v: got %t, want %t", tt.audience, d.Record, d.Registration, got, tt.want)
		}
	}
}

// TestMatchesTheKindOfDeviceToken: what the push type is sent to.
func TestMatchesTheKindOfDeviceToken(t *testing.T) {
	t.Parallel()
	live := `"event":"%s","timestamp":1700000000,"content_state":{},"attributes_type":"T","attributes":{},"title":"t"`
	for message, want := range map[string]device.Kind{
		`"notification":{"body":"b"}`:                                                                                     device.Alert,
		`"notification":{"content_available":true}`:                                                                       device.Alert,
		`"push_type":"voip","payload":{"x":1}`:                                                                            device.VoIP,
		`"push_type":"widgets","notification":{"content_changed":true}`:                                                   device.Widget,
		`"notification":{` + fmt.Sprintf(live, "start") + `}`:                                                             device.LiveActivityStart,
		`"notification":{"event":"end","timestamp":1700000000,"content_state":{}}`:                                        device.LiveActivity,
		`"notification":{"event":"update","timestamp":1700000000,"content_state":{}},"localizations":{"de":{"body":"b"}}`: device.LiveActivity,
	} {
		for _, audience := range []string{`"audience":{"all":true}`, `"recipients":{}`} {
			p := compile(t, `{"id":"c",`+audience+`,`+message+`}`, at(t, start))
			for kind := range device.KindNames() {
				d := phone(func(d *device.Device) { d.Record.Kind = device.Kind(kind) })
				if got := p.Matches(d); got != (device.Kind(kind) == want) {
					t.Errorf("%s, %s: kind %s got %t, want only %s", audience, message, device.Kind(kind), got, want)
				}
			}
		}
	}
}

// TestMatchesRecipientsOfAFile: their record has the last word, if there is one.
func TestMatchesRecipientsOfAFile(t *testing.T) {
	t.Parallel()
	p := compile(t, `{"id":"c","recipients":{},"push_type":"voip","payload":{"x":1}}`, at(t, start))
	for name, tt := range map[string]struct {
		record device.Record
		want   bool
	}{
		"not registered": {device.Record{}, true},
		"registered":     {device.Record{Generation: 1, Kind: device.VoIP}, true},
		"another kind":   {device.Record{Generation: 1, Kind: device.Alert}, false},
		"quarantined":    {device.Record{Generation: 1, Kind: device.VoIP, State: device.Quarantined}, false},
		"removed":        {device.Record{State: device.Removed}, false},
	} {
		if got := p.Matches(&device.Device{Registration: device.Registration{Token: device.TokenFromRaw("x")}, Record: tt.record}); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
}

func TestNeedsDetails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		member(`"rate":5`): false,
		member(`"control_group":{"percent":5},"frequency_cap":{"max":1,"per":"24h"}`):                                          false,
		`{"id":"c","audience":{"environment":"production","registered_after":"` + start + `"},"notification":{"body":"b"}}`:    false,
		`{"id":"c","audience":{"tags":{"none":["a"]}},"notification":{"body":"b"}}`:                                            true,
		`{"id":"c","audience":{"locales":["de"]},"notification":{"body":"b"}}`:                                                 true,
		`{"id":"c","audience":{"timezones":["UTC"]},"notification":{"body":"b"}}`:                                              true,
		`{"id":"c","audience":{"attributes":{"a":"b"}},"notification":{"body":"b"}}`:                                           true,
		`{"id":"c","audience":{"app_version":{"min":"1"}},"notification":{"body":"b"}}`:                                        true,
		`{"id":"c","audience":{"all":true},"notification":{"body":"{{user}}"}}`:                                                true,
		member(`"localizations":{"de":{"body":"B"}}`):                                                                          true,
		member(`"local_time":"09:00"`):                                                                                         true,
		member(`"quiet_hours":{"from":"22:00","to":"08:00"}`):                                                                  true,
		`{"id":"c","recipients":{"variables":["a"]},"notification":{"body":"{{a}} {{user}}"}}`:                                 false,
		`{"id":"c","recipients":{"variables":["a"]},"notification":{"body":"{{a}}"},"localizations":{"de":{"title":"{{a}}"}}}`: true,
		`{"id":"c","recipients":{},"notification":{"body":"b"},"local_time":"09:00"}`:                                          true,
	} {
		if got := compile(t, text, at(t, start)).NeedsDetails(); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}

// TestDetailsAreNotLookedAt: where they are not needed, a device without them is
// decided, matched and rendered the same.
func TestDetailsAreNotLookedAt(t *testing.T) {
	t.Parallel()
	bare := phone(nil)
	bare.Registration = device.Registration{Token: bare.Token}
	for name, data := range good() {
		p := compile(t, data, at(t, start))
		if p.NeedsDetails() {
			continue
		}
		whole := phone(nil)
		whole.User = "" // a recipient's, which its range has
		vars := map[string]string{"name": "Ada"}
		a, errA := p.Payload(nil, whole, vars)
		b, errB := p.Payload(nil, bare, vars)
		if p.Matches(whole) != p.Matches(bare) || p.Decide(whole, at(t, start)) != p.Decide(bare, at(t, start)) ||
			string(a) != string(b) || (errA == nil) != (errB == nil) {
			t.Errorf("%s: got another answer for a device without details, want the same", name)
		}
	}
}

func TestPlanSaysWhatTheCampaignSays(t *testing.T) {
	t.Parallel()
	p := compile(t, `{"id":"c","audience":{"tags":{"any":["a","b"],"all":["d"],"none":["e"]}},"notification":{"content_available":true},
		"collapse_id":"x","ttl":"4h","on_unknown":"drop","frequency_cap":{"max":3,"per":"24h"}}`, at(t, start))
	anyOf, all := p.LeadingTags()
	if !slices.Equal(anyOf, []string{"a", "b"}) || !slices.Equal(all, []string{"d"}) {
		t.Errorf("leading tags: got %q, %q, want a and b, d", anyOf, all)
	}
	if j := p.Job(); j.ID != "c" || j.PushType != job.PushBackground || j.Priority != 5 || j.CollapseID != "x" || j.OnUnknown != job.Drop || j.To.Len() != 0 {
		t.Errorf("job: got %+v, want the content", j)
	}
	if limit, ok := p.Cap(); !ok || limit != (campaign.Cap{Max: 3, Per: 24 * time.Hour, Kind: "default"}) {
		t.Errorf("cap: got %+v, %t, want it", limit, ok)
	}
	if got, want := string(p.Shared()), `{"aps":{"content-available":1}}`; got != want {
		t.Errorf("shared: got %s, want %s", got, want)
	}
	for _, text := range []string{
		`{"id":"c","audience":{"all":true},"notification":{"body":"{{user}}"}}`,
		member(`"localizations":{"de":{"body":"B"}}`),
	} {
		none := compile(t, text, at(t, start))
		if _, ok := none.Cap(); ok || none.Shared() != nil {
			t.Errorf("%s: got a cap: %t, shared %s, want neither", text, ok, none.Shared())
		}
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	const localized = `{"id":"c","audience":{"all":true},"notification":{"title":"Hi {{attributes.first_name|you}}","body":"b","badge":1},
		"localizations":{"de":{"title":"Hallo {{attributes.first_name}}"},"de-AT":{"body":"Servus","badge":0},"pt-BR":{"title":"Oi"}}}`
	locale := func(s string) func(*device.Device) { return func(d *device.Device) { d.Locale = s } }
	const (
		usual    = `{"aps":{"alert":{"title":"Hi Ada","body":"b"},"badge":1}}`
		german   = `{"aps":{"alert":{"title":"Hallo Ada","body":"b"},"badge":1}}`
		austrian = `{"aps":{"alert":{"title":"Hallo Ada","body":"Servus"},"badge":0}}`
		brazil   = `{"aps":{"alert":{"title":"Oi","body":"b"},"badge":1}}`
	)
	for _, tt := range []struct {
		name, json string
		change     func(*device.Device)
		vars       map[string]string
		want       string
	}{
		{"de-AT", localized, nil, nil, austrian},
		{"de-AT and more", localized, locale("de-AT-1996"), nil, austrian},
		{"de_at", localized, locale("de_at@calendar=iso"), nil, austrian},
		{"de-CH", localized, locale("de-CH"), nil, german},
		{"de", localized, locale("DE"), nil, german},
		{"pt", localized, locale("pt"), nil, usual},
		{"pt-BR", localized, locale("pt_BR"), nil, brazil},
		{"den", localized, locale("den"), nil, usual},
		{"none", localized, locale(""), nil, usual},
		{"not a locale", localized, locale("--"), nil, usual},

		{
			"every variable", `{"id":"c","audience":{"all":true},"notification":{"title":"{{user}} {{install_id}} {{locale}}","body":"{{ timezone }}{{app_version|}}{{attributes.plan}}"}}`, nil, nil,
			`{"aps":{"alert":{"title":"ada i-17 de-AT","body":"Europe/Vienna2.10.1gold"}}}`,
		},
		{
			"defaults", `{"id":"c","audience":{"all":true},"notification":{"title":"Hi {{attributes.x| \"you\" }}","body":"b{{attributes.y|}}{{attributes.z|a|b}}"}}`, nil, nil,
			`{"aps":{"alert":{"title":"Hi \"you\"","body":"ba|b"}}}`,
		},
		{"an empty value is none", `{"id":"c","audience":{"all":true},"notification":{"body":"{{user|you}}"}}`, func(d *device.Device) { d.User = "" }, nil, `{"aps":{"alert":{"body":"you"}}}`},
		{
			"in a list and in data", `{"id":"c","audience":{"all":true},"notification":{"loc_key":"k","loc_args":["{{user}}","x"]},"data":{"a":["{{user}}",1.50,{"b":"\u00e9{{user}}"}],"c":"\u00e9"}}`, nil, nil,
			`{"aps":{"alert":{"loc-key":"k","loc-args":["ada","x"]}},"a":["ada",1.50,{"b":"éada"}],"c":"\u00e9"}`,
		},
		{
			"a payload as it was written", `{"id":"c","audience":{"all":true},"payload":{ "aps": {"alert":"\u007b{user}}","sound":"\u0064"}, "n":1e2 }}`, nil, nil,
			`{"aps":{"alert":"ada","sound":"\u0064"},"n":1e2}`,
		},
		{"values are not looked at again", `{"id":"c","audience":{"all":true},"notification":{"body":"{{user}}"}}`, func(d *device.Device) { d.User = "{{install_id}}" }, nil, `{"aps":{"alert":{"body":"{{install_id}}"}}}`},
		{
			"a file's", `{"id":"c","recipients":{"variables":["name","code"]},"notification":{"title":"{{name|you}}","body":"{{code}} {{user}}"}}`, nil,
			map[string]string{"code": "4711"},
			`{"aps":{"alert":{"title":"you","body":"4711 ada"}}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := compile(t, tt.json, at(t, start))
			got, err := p.Payload([]byte("before "), phone(tt.change), tt.vars)
			if err != nil || string(got) != "before "+tt.want {
				t.Errorf("got %s, %v, want %s behind what was there", got, err, tt.want)
			}
		})
	}
}

func TestPayloadThatCannotBe(t *testing.T) {
	t.Parallel()
	p := compile(t, `{"id":"c","audience":{"all":true},"notification":{"title":"{{attributes.first_name}}","body":"{{attributes.last_name}}"}}`, at(t, start))
	got, err := p.Payload([]byte("x"), phone(nil), nil)
	var missing *campaign.MissingError
	if !errors.As(err, &missing) || missing.Variable != "attributes.last_name" || err.Error() != "no value for attributes.last_name" || string(got) != "x" {
		t.Errorf("got %s, %v, want x and what is missing", got, err)
	}
	// {"aps":{"alert":{"body":"…"}}} leaves 4067 bytes.
	p = compile(t, `{"id":"c","audience":{"all":true},"notification":{"body":"{{user}}"}}`, at(t, start))
	for size, want := range map[int]error{4067: nil, 4068: campaign.ErrTooLarge} {
		got, err := p.Payload([]byte("x"), phone(func(d *device.Device) { d.User = strings.Repeat("u", size) }), nil)
		if !errors.Is(err, want) || (want != nil && string(got) != "x") {
			t.Errorf("a user of %d bytes: got %d bytes, %v, want %v", size, len(got), err, want)
		}
	}
}

// TestPayloadIsJSON puts any value into any place and reads it back.
func TestPayloadIsJSON(t *testing.T) {
	t.Parallel()
	p := compile(t, `{"id":"c","recipients":{"variables":["a","b"]},"push_type":"voip","payload":{"aps":{"alert":{"title":"<{{a}}>","body":"{{b|none}}{{a|\"}}"}},"x":[{"y":"\"{{b|\\}}\u00e9"}]}}`, at(t, start))
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return strings.ToValidUTF8(s, "\ufffd")
	}
	check := func(a, b string) bool {
		payload, err := p.Payload(nil, phone(nil), map[string]string{"a": a, "b": b})
		if a == "" {
			return err != nil
		}
		if errors.Is(err, campaign.ErrTooLarge) {
			return len(a)+len(b) > 300
		}
		var got struct {
			APS struct {
				Alert struct{ Title, Body string }
			}
			X []struct{ Y string }
		}
		if err != nil || json.Unmarshal(payload, &got) != nil || len(got.X) != 1 {
			t.Errorf("a %q, b %q: got %s, %v, want JSON", a, b, payload, err)
			return false
		}
		// Each byte that is not UTF-8 becomes one replacement; ToValidUTF8 makes one of a run.
		flat := func(s string) string {
			for strings.Contains(s, "\ufffd\ufffd") {
				s = strings.ReplaceAll(s, "\ufffd\ufffd", "\ufffd")
			}
			return s
		}
		want := [3]string{"<" + or(a, "") + ">", or(b, "none") + or(a, `"`), `"` + or(b, `\`) + "é"}
		if have := [3]string{got.APS.Alert.Title, got.APS.Alert.Body, got.X[0].Y}; flat(have[0]) != flat(want[0]) || flat(have[1]) != flat(want[1]) || flat(have[2]) != flat(want[2]) {
			t.Errorf("a %q, b %q: got %q, want %q", a, b, have, want)
			return false
		}
		return true
	}
	for _, s := range []string{`"`, `\`, "\x00", "\n", "\u2028", "</script>", "\xff\xfe", "👩‍👩‍👧", "}}", "{{a}}", `","x":"`} {
		for _, other := range []string{"", "x", s} {
			if !check(s, other) {
				t.Errorf("value %q and %q: not as it was", s, other)
			}
		}
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
}

// draws are which of n users are in the control group.
func draws(t *testing.T, members string, n int) []bool {
	t.Helper()
	p := compile(t, member(members), at(t, start))
	out := make([]bool, n)
	for i := range out {
		d := phone(func(d *device.Device) { d.Record.User = device.KeyOf(fmt.Sprint("user ", i)) })
		got := p.Decide(d, at(t, start))
		out[i] = got == campaign.Decision{Action: campaign.Skip, Reason: campaign.ReasonControl}
		if !out[i] && got != (campaign.Decision{}) {
			t.Fatalf("user %d: got %+v, want skipped or sent", i, got)
		}
	}
	return out
}

func TestControlGroup(t *testing.T) {
	t.Parallel()
	const n = 100_000
	count := func(draws []bool) (drawn int) {
		for _, d := range draws {
			if d {
				drawn++
			}
		}
		return drawn
	}
	for _, percent := range []float64{0.5, 5, 50, 99} {
		got := float64(count(draws(t, fmt.Sprintf(`"control_group":{"percent":%g}`, percent), n)))
		want, deviation := n*percent/100, math.Sqrt(n*percent/100*(1-percent/100))
		if math.Abs(got-want) > 5*deviation {
			t.Errorf("%g percent: got %g of %d, want %g, give or take %g", percent, got, n, want, 5*deviation)
		}
	}
	small, large := draws(t, `"control_group":{"percent":5,"seed":"autumn"}`, n), draws(t, `"control_group":{"percent":10,"seed":"autumn"},"rate":5`, n)
	other := draws(t, `"control_group":{"percent":10,"seed":"winter"}`, n)
	both := make([]bool, n)
	for i := range small {
		if small[i] && !large[i] {
			t.Fatalf("user %d: got drawn for 5 percent and not for 10, want the same users for the same seed", i)
		}
		both[i] = large[i] && other[i]
	}
	if got := count(both); got < 800 || got > 1200 {
		t.Errorf("drawn for two seeds: got %d, want about 1000: one says nothing of the other", got)
	}
	// Without a seed the campaign's id is it.
	if same := draws(t, `"control_group":{"percent":5,"seed":"c"}`, 1000); !slices.Equal(same, draws(t, `"control_group":{"percent":5}`, 1000)) {
		t.Error("the campaign's id as seed: got other users, want the same as without a seed")
	}
}

// TestControlGroupGoesByTheUser: and else by the install, and else by the device
// token.
func TestControlGroupGoesByTheUser(t *testing.T) {
	t.Parallel()
	p, again := compile(t, member(`"control_group":{"percent":50}`), at(t, start)), compile(t, member(`"control_group":{"percent":50},"rate":5`), at(t, start))
	random := rand.New(rand.NewPCG(1, 2))
	anything := func() string { return fmt.Sprintf("%032x", random.Uint64()) }
	for range 500 {
		user, install, token := device.KeyOf(anything()), device.KeyOf(anything()), device.TokenFromRaw(anything())
		decide := func(d device.Device) campaign.Action { return p.Decide(&d, at(t, start)).Action }
		of := func(user, install device.Key, token device.Token) device.Device {
			return device.Device{Registration: device.Registration{Token: token}, Record: device.Record{User: user, Install: install}}
		}
		if decide(of(user, install, token)) != decide(of(user, device.KeyOf(anything()), device.TokenFromRaw(anything()))) {
			t.Fatal("two devices of one user: got two answers, want one")
		}
		if decide(of(device.Key{}, install, token)) != decide(of(device.Key{}, install, device.TokenFromRaw(anything()))) {
			t.Fatal("two device tokens of one install: got two answers, want one")
		}
		bare := of(device.Key{}, device.Key{}, token)
		if decide(bare) != again.Decide(&bare, at(t, start)).Action {
			t.Fatal("one device token in two plans: got two answers, want one")
		}
	}
}

// TestNoAllocations is about what is asked for each of millions of devices. It is
// not parallel: it counts what the process allocates.
func TestNoAllocations(t *testing.T) {
	p := compile(t, `{"id":"c","audience":{"tags":{"any":["news"]},"locales":["de"],"attributes":{"plan":"gold"},"app_version":{"min":"2"}},
		"notification":{"title":"{{attributes.first_name}} é"},"localizations":{"de":{"body":"{{user}}"}},"ttl":"4h","local_time":"09:00",
		"quiet_hours":{"from":"22:00","to":"08:00"},"control_group":{"percent":0.001}}`, at(t, start))
	now, dst := at(t, "2026-11-25T08:00:00Z"), make([]byte, 0, 4096)
	for name, d := range map[string]*device.Device{
		"usual": phone(nil),
		"longest device token": phone(func(d *device.Device) {
			d.Token, d.Record.User, d.Record.Install = device.TokenFromRaw(strings.Repeat("x", device.MaxTokenBytes)), device.Key{}, device.Key{}
		}),
		"not ASCII": phone(func(d *device.Device) { d.User = "Zoë \"Müller\"" }),
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, err := p.Payload(dst, d, nil); err != nil || !p.Matches(d) || p.Decide(d, now).Action != campaign.Send {
				t.Errorf("%s: got %v, want it sent", name, err)
			}
		})
		if n > 0 {
			t.Errorf("%s: got %g allocations, want none", name, n)
		}
	}
}

func TestActionString(t *testing.T) {
	t.Parallel()
	for action, want := range map[campaign.Action]string{campaign.Send: "send", campaign.Skip: "skip", campaign.Later: "later", 9: "action(9)"} {
		if got := action.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
