package campaign_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
)

// zoneNames are all time zones of the IANA database, links among them, from
// testdata/zones.txt.
func zoneNames(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func location(t testing.TB, zone string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func in(zone string) *device.Device {
	return phone(func(d *device.Device) { d.Timezone = zone })
}

// localTime is what it should be, found by looking at the clock: from the
// beginning of the start's day on, minute by minute, the first at which the clock
// of a day shows the time or has passed it.
func localTime(loc *time.Location, start time.Time, hour, minute int) (at time.Time, nextDay bool) {
	y, m, d := start.In(loc).Date()
	for days := 0; ; days++ {
		want := time.Date(y, m, d+days, hour, minute, 0, 0, time.UTC)
		wall := func(t time.Time) int64 {
			_, offset := t.In(loc).Zone()
			return t.Unix() + int64(offset)
		}
		at = want.Add(-16 * time.Hour)
		for wall(at) < want.Unix() {
			at = at.Add(time.Minute)
		}
		if !at.Before(start) {
			return at, days > 0
		}
	}
}

// TestLocalTimeInEveryZone starts a campaign now and then over a year, around each
// change of a zone's clocks most of all, and holds the instant of each zone to
// what its clock shows.
func TestLocalTimeInEveryZone(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	year := at(t, "2026-06-01T00:00:00Z")
	// Random times of day, those that are skipped or shown twice somewhere, and the
	// day's ends.
	clocks := []string{"00:00", "00:30", "01:30", "02:00", "02:15", "02:30", "03:00", "09:00", "23:59"}
	changes, jumped := 0, 0
	for _, zone := range zoneNames(t) {
		loc := location(t, zone)
		starts := []time.Time{year.Add(time.Duration(random.IntN(365*24*60)) * time.Minute)}
		for change := year; ; {
			_, end := change.In(loc).ZoneBounds()
			if end.IsZero() || end.After(year.AddDate(1, 0, 0)) {
				break
			}
			changes++
			change = end
			for range 3 {
				starts = append(starts, change.Add(time.Duration(random.IntN(50*60)-26*60)*time.Minute))
			}
			starts = append(starts, change, change.Add(-time.Minute), change.Add(time.Hour))
		}
		for _, start := range starts {
			clock := clocks[random.IntN(len(clocks))]
			var hour, minute int
			if _, err := fmt.Sscanf(clock, "%d:%d", &hour, &minute); err != nil {
				t.Fatal(err)
			}
			want, nextDay := localTime(loc, start, hour, minute)
			if want.In(loc).Format("15:04") != clock {
				jumped++
				if begin, _ := want.In(loc).ZoneBounds(); !begin.Equal(want) {
					t.Fatalf("%s: the test's own instant for %s is %s, want the change", zone, clock, want.In(loc))
				}
			}
			for _, past := range []string{"next_day", "skip"} {
				p := compile(t, member(`"local_time":"`+clock+`","past_local_time":"`+past+`"`), start)
				got := p.Decide(in(zone), start)
				switch {
				case past == "skip" && nextDay:
					if got.Action != campaign.Skip || got.Reason != campaign.ReasonLocalPassed {
						t.Errorf("%s, %s, started at %s: got %+v, want skipped: %s", zone, clock, start.In(loc), got, campaign.ReasonLocalPassed)
					}
					continue
				case want.Equal(start):
					if got.Action != campaign.Send {
						t.Errorf("%s, %s, started at %s: got %+v, want sent at once", zone, clock, start.In(loc), got)
					}
				case got.Action != campaign.Later || !got.At.Equal(want) || got.Reason != campaign.ReasonLocalTime:
					t.Errorf("%s, %s, started at %s: got %+v, want later at %s", zone, clock, start.In(loc), got, want.In(loc))
				}
				// Exactly one instant: before it never, from it on always.
				for i, now := range []time.Time{want.Add(-time.Nanosecond), want, want.Add(time.Hour), want.Add(30 * time.Hour)} {
					if got := p.Decide(in(zone), now); (got.Action == campaign.Send) != (i > 0) {
						t.Errorf("%s, %s, started at %s: at %s got %+v, want sent: %t", zone, clock, start.In(loc), now.In(loc), got, i > 0)
					}
				}
			}
		}
	}
	if changes < 200 || jumped < 10 {
		t.Errorf("got %d changes and %d times that do not exist, want hundreds and tens", changes, jumped)
	}
}

func TestLocalTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, zone, clock, start, want string }{
		{"today", "Europe/Vienna", "09:00", "2026-11-24T07:00:00Z", "2026-11-24T08:00:00Z"},
		{"now", "Europe/Vienna", "09:00", "2026-11-24T08:00:00Z", ""},
		{"within the minute", "Europe/Vienna", "09:00", "2026-11-24T08:00:59Z", ""},
		{"tomorrow", "Europe/Vienna", "09:00", "2026-11-24T08:01:00Z", "2026-11-25T08:00:00Z"},
		{"where it is tomorrow already", "Pacific/Kiritimati", "09:00", "2026-11-24T12:00:00Z", "2026-11-24T19:00:00Z"},
		{"where it is yesterday still", "Pacific/Pago_Pago", "23:00", "2026-11-24T02:00:00Z", "2026-11-24T10:00:00Z"},
		{"jumped over", "Europe/Vienna", "02:30", "2026-03-28T20:00:00Z", "2026-03-29T01:00:00Z"},
		{"jumped over just now", "Europe/Vienna", "02:30", "2026-03-29T01:01:00Z", "2026-03-30T00:30:00Z"},
		{"twice", "Europe/Vienna", "02:30", "2026-10-24T20:00:00Z", "2026-10-25T00:30:00Z"},
		{"once already", "Europe/Vienna", "02:30", "2026-10-25T00:31:00Z", "2026-10-26T01:30:00Z"},
		{"a day of 23 hours", "America/New_York", "12:00", "2026-03-07T18:00:00Z", "2026-03-08T16:00:00Z"},
		{"a day of 25 hours", "America/New_York", "12:00", "2026-10-31T17:00:00Z", "2026-11-01T17:00:00Z"},
		{"a change of half an hour", "Australia/Lord_Howe", "02:15", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z"},
		{"no zone", "", "09:00", "2026-11-24T07:00:00Z", "2026-11-24T09:00:00Z"},
		{"a zone of none", "Mars/Olympus", "09:00", "2026-11-24T07:00:00Z", "2026-11-24T09:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := at(t, tt.start)
			p := compile(t, member(`"local_time":"`+tt.clock+`"`), start)
			want := campaign.Decision{}
			if tt.want != "" {
				want = campaign.Decision{Action: campaign.Later, Reason: campaign.ReasonLocalTime, At: at(t, tt.want)}
			}
			for range 2 { // learned, and remembered
				if got := p.Decide(in(tt.zone), start); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
	p := compile(t, member(`"local_time":"09:00","default_timezone":"Asia/Tokyo"`), at(t, "2026-11-23T23:00:00Z"))
	for _, zone := range []string{"", "Mars/Olympus", "Asia/Tokyo"} {
		if got, want := p.Decide(in(zone), at(t, "2026-11-23T23:00:00Z")).At, at(t, "2026-11-24T00:00:00Z"); !got.Equal(want) {
			t.Errorf("zone %q: got %s, want %s by the default zone", zone, got, want)
		}
	}
}

// TestQuietHoursOverAYear holds what is decided to the clock of the zone at a
// random minute, and the end of the quiet hours to being the first minute that is
// not quiet.
func TestQuietHoursOverAYear(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	year := at(t, "2026-06-01T00:00:00Z")
	deferred := 0
	for _, hours := range [][2]string{{"22:00", "08:00"}, {"01:30", "02:30"}, {"02:15", "02:45"}, {"23:30", "00:15"}, {"12:00", "13:00"}} {
		p := compile(t, member(`"quiet_hours":{"from":"`+hours[0]+`","to":"`+hours[1]+`"}`), year)
		skipping := compile(t, member(`"quiet_hours":{"from":"`+hours[0]+`","to":"`+hours[1]+`","action":"skip"}`), year)
		quiet := func(now time.Time, loc *time.Location) bool {
			clock := now.In(loc).Format("15:04")
			if hours[0] < hours[1] {
				return hours[0] <= clock && clock < hours[1]
			}
			return clock >= hours[0] || clock < hours[1]
		}
		for _, zone := range zoneNames(t) {
			loc := location(t, zone)
			nows := []time.Time{year.Add(time.Duration(random.IntN(365*24*60*60)) * time.Second)}
			for change := year; len(nows) < 10; {
				_, end := change.In(loc).ZoneBounds()
				if end.IsZero() || end.After(year.AddDate(1, 0, 0)) {
					break
				}
				change = end
				nows = append(nows, change.Add(time.Duration(random.IntN(6*60*60)-3*60*60)*time.Second), change, change.Add(-1))
			}
			for _, now := range nows {
				got := p.Decide(in(zone), now)
				if !quiet(now, loc) {
					if got.Action != campaign.Send {
						t.Errorf("%v in %s at %s: got %+v, want sent", hours, zone, now.In(loc), got)
					}
					continue
				}
				deferred++
				if got.Action != campaign.Later || got.Reason != campaign.ReasonQuiet || !got.At.After(now) || quiet(got.At, loc) {
					t.Fatalf("%v in %s at %s: got %+v, want later, and not quiet then", hours, zone, now.In(loc), got)
				}
				for m := now.Truncate(time.Minute); m.Before(got.At); m = m.Add(time.Minute) {
					if !quiet(m, loc) {
						t.Fatalf("%v in %s at %s: got %s, want %s", hours, zone, now.In(loc), got.At.In(loc), m.In(loc))
					}
				}
				if got := p.Decide(in(zone), got.At); got.Action != campaign.Send {
					t.Errorf("%v in %s at their end: got %+v, want sent", hours, zone, got)
				}
				if got := skipping.Decide(in(zone), now); got != (campaign.Decision{Action: campaign.Skip, Reason: campaign.ReasonQuiet}) {
					t.Errorf("%v in %s at %s: got %+v, want skipped", hours, zone, now.In(loc), got)
				}
			}
		}
	}
	if deferred < 500 {
		t.Errorf("got %d that were deferred, want hundreds", deferred)
	}
}

// TestDecideOrder is about rules that meet.
func TestDecideOrder(t *testing.T) {
	t.Parallel()
	const start = "2026-11-24T07:00:00Z" // 08:00 in Vienna
	var (
		send  = campaign.Decision{}
		skip  = func(reason string) campaign.Decision { return campaign.Decision{Action: campaign.Skip, Reason: reason} }
		later = func(reason, when string) campaign.Decision {
			return campaign.Decision{Action: campaign.Later, Reason: reason, At: at(t, when)}
		}
	)
	const night = `"quiet_hours":{"from":"22:00","to":"08:00"}`
	for _, tt := range []struct {
		name, members, now string
		want               campaign.Decision
	}{
		{"nothing", `"priority":5`, start, send},
		{"long after", `"priority":5`, "2027-11-24T07:00:00Z", send},
		{"a ttl", `"ttl":"4h"`, "2026-11-24T10:59:59Z", send},
		{"a ttl that is over", `"ttl":"4h"`, "2026-11-24T11:00:00Z", skip("expired")},
		{"one attempt never expires", `"ttl":"0s"`, "2027-11-24T11:00:00Z", send},
		{"an expiry that is over", `"expires_at":"2026-11-24T09:00:00Z"`, "2026-11-24T09:00:00Z", skip("expired")},
		{"a ttl counts from the local time", `"local_time":"12:00","ttl":"1h"`, "2026-11-24T11:59:59Z", send},
		{"and is over by it", `"local_time":"12:00","ttl":"1h"`, "2026-11-24T12:00:00Z", skip("expired")},
		{"an expiry before the local time", `"local_time":"12:00","expires_at":"2026-11-24T11:00:00Z"`, start, skip("expires before its time")},
		{"an expiry after the local time", `"local_time":"12:00","expires_at":"2026-11-24T11:00:01Z"`, start, later("local time", "2026-11-24T11:00:00Z")},
		{"late at night", `"local_time":"21:00",` + night, "2026-11-24T21:30:00Z", later("quiet hours", "2026-11-25T07:00:00Z")},
		{"late at night, too late", `"local_time":"21:00","ttl":"10h",` + night, "2026-11-24T21:30:00Z", skip("expires before its time")},
		{"late at night, in time", `"local_time":"21:00","ttl":"11h1s",` + night, "2026-11-24T21:30:00Z", later("quiet hours", "2026-11-25T07:00:00Z")},
		{"before the local time it matters not that it is quiet", `"local_time":"21:00","start_at":"2026-11-24T00:00:00Z",` + night, start, later("local time", "2026-11-24T20:00:00Z")},
		{"expired at night", `"ttl":"1h",` + night, "2026-11-24T22:00:00Z", skip("expired")},
		{"the control group first of all", `"local_time":"07:00","past_local_time":"skip","control_group":{"percent":99.999999}`, start, skip("control group")},
		{"a local time that has passed", `"local_time":"07:00","past_local_time":"skip","ttl":"1h"`, "2027-01-01T00:00:00Z", skip("local time has passed")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := compile(t, member(tt.members), at(t, start))
			if got := p.Decide(phone(nil), at(t, tt.now)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	start := at(t, "2026-11-24T07:00:00Z")
	for members, want := range map[string]int64{
		`"priority":5`:                                           -1,
		`"ttl":"0s","local_time":"12:00"`:                        0,
		`"ttl":"1h"`:                                             start.Add(time.Hour).Unix(),
		`"ttl":"1h","local_time":"12:00"`:                        at(t, "2026-11-24T12:00:00Z").Unix(),
		`"expires_at":"2026-11-30T00:00:00Z"`:                    at(t, "2026-11-30T00:00:00Z").Unix(),
		`"ttl":"1h","quiet_hours":{"from":"22:00","to":"08:00"}`: start.Add(time.Hour).Unix(),
	} {
		if got := compile(t, member(members), start).Expiry(phone(nil)).Header(); got != want {
			t.Errorf("%s: got %d, want %d", members, got, want)
		}
	}
}

// TestDecideAtOnce asks for many zones, known and unknown, from many goroutines.
func TestDecideAtOnce(t *testing.T) {
	t.Parallel()
	start := at(t, "2026-11-24T07:00:00Z")
	p := compile(t, member(`"local_time":"12:00","quiet_hours":{"from":"22:00","to":"08:00"}`), start)
	zones := zoneNames(t)
	done := make(chan error)
	const goroutines = 8
	for g := range goroutines {
		go func() {
			for i := range 4000 {
				zone := zones[(g*31+i)%len(zones)]
				if i%7 == 0 {
					zone = fmt.Sprintf("Nowhere/%d-%d", g, i)
				}
				if got := p.Decide(in(zone), start.Add(time.Duration(i)*time.Minute)); got.Action == campaign.Skip {
					done <- fmt.Errorf("%s: got %+v, want sent or later", zone, got)
					return
				}
			}
			done <- nil
		}()
	}
	for range goroutines {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// runs are the next n of a recurrence.
func runs(t *testing.T, c *campaign.Campaign, after time.Time, n int) (out []string) {
	t.Helper()
	for range n {
		next, ok := c.NextRun(after, new(device.Zones))
		if !ok {
			return append(out, "none")
		}
		out, after = append(out, next.Format(time.RFC3339)), next
	}
	return out
}

func TestNextRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, members, after string
		want                 []string
	}{
		{"in UTC", `"recurrence":{"cron":"0 9 * * *"}`, "2026-11-24T09:00:00Z", []string{"2026-11-25T09:00:00Z", "2026-11-26T09:00:00Z"}},
		{"in a zone", `"recurrence":{"cron":"30 9 * * MON","timezone":"Europe/Vienna"}`, "2026-10-20T00:00:00Z", []string{"2026-10-26T08:30:00Z", "2026-11-02T08:30:00Z"}},
		{"not before the start", `"start_at":"2026-12-01T09:00:00Z","recurrence":{"cron":"0 9 * * *"}`, "2026-11-24T09:00:00Z", []string{"2026-12-01T09:00:00Z", "2026-12-02T09:00:00Z"}},
		{"jumped over", `"recurrence":{"cron":"30 2 * * *","timezone":"Europe/Vienna"}`, "2026-03-28T00:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"jumped over, each quarter", `"recurrence":{"cron":"*/15 2 * * *","timezone":"Europe/Vienna"}`, "2026-03-29T00:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
		{"twice", `"recurrence":{"cron":"30 2 * * *","timezone":"Europe/Vienna"}`, "2026-10-24T01:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"twice, between", `"recurrence":{"cron":"30 2 * * *","timezone":"Europe/Vienna"}`, "2026-10-25T00:45:00Z", []string{"2026-10-26T01:30:00Z"}},
		{"twice, after the first", `"recurrence":{"cron":"30 2 * * *","timezone":"Europe/Vienna"}`, "2026-10-25T01:15:00Z", []string{"2026-10-26T01:30:00Z"}},
		{"each hour runs through", `"recurrence":{"cron":"0 * * * *","timezone":"Europe/Vienna"}`, "2026-10-24T23:30:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"}},
		{"a midnight that does not exist", `"recurrence":{"cron":"0 0 * * *","timezone":"Africa/Cairo"}`, "2027-04-29T12:00:00Z", []string{"2027-04-29T22:00:00Z", "2027-04-30T21:00:00Z"}},
		{"a day that does not exist", `"recurrence":{"cron":"0 9 * * *","timezone":"Pacific/Apia"}`, "2011-12-29T00:00:00Z", []string{"2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"}},
		{"the end of months", `"recurrence":{"cron":"0 0 31 * *"}`, "2026-01-31T00:00:00Z", []string{"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
		{"day of month or of week", `"recurrence":{"cron":"0 0 1 * FRI"}`, "2026-11-24T00:00:00Z", []string{"2026-11-27T00:00:00Z", "2026-12-01T00:00:00Z"}},
		{"none", `"priority":5`, "2026-11-24T00:00:00Z", []string{"none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := runs(t, parse(t, member(tt.members)), at(t, tt.after), len(tt.want)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestNextRunInEveryZone: once on each day of a year, by each zone's clock.
func TestNextRunInEveryZone(t *testing.T) {
	t.Parallel()
	year := at(t, "2026-06-01T00:00:00Z")
	var z device.Zones
	for _, zone := range zoneNames(t) {
		loc, days := location(t, zone), 365
		if _, end := year.In(loc).ZoneBounds(); end.IsZero() || end.After(year.AddDate(1, 0, 0)) {
			days = 10 // one is like the other
		}
		for _, clock := range [][2]int{{2, 30}, {0, 15}} {
			c := parse(t, member(fmt.Sprintf(`"recurrence":{"cron":"%d %d * * *","timezone":%q}`, clock[1], clock[0], zone)))
			seen, after := map[string]bool{}, year
			for after.Before(year.AddDate(0, 0, days)) {
				next, ok := c.NextRun(after, &z)
				if !ok || !next.After(after) || next.Sub(after) > 50*time.Hour {
					t.Fatalf("%s: after %s got %s, %t, want the next day's", zone, after, next, ok)
				}
				local := next.In(loc)
				begin, _ := local.ZoneBounds()
				if (local.Hour() != clock[0] || local.Minute() != clock[1]) && !begin.Equal(next) {
					t.Errorf("%s: got %s, want %v or the change", zone, local, clock)
				}
				if day := local.Format(time.DateOnly); seen[day] {
					t.Errorf("%s: got %s, want one on a day", zone, local)
				} else {
					seen[day] = true
				}
				after = next
			}
			if len(seen) < days {
				t.Errorf("%s: got %d runs, want one on each day", zone, len(seen))
			}
		}
	}
}

func TestRunAt(t *testing.T) {
	t.Parallel()
	c := parse(t, `{"id":"news","audience":{"all":true},"notification":{"body":"b"},"ttl":"4h","recurrence":{"cron":"0 9 * * *"}}`)
	run := c.RunAt(at(t, "2026-11-24T10:00:00+01:00"))
	data, err := run.AppendJSON(nil)
	want := `{"id":"news-20261124T0900Z","audience":{"all":true},"notification":{"body":"b"},"ttl":"4h","start_at":"2026-11-24T09:00:00Z"}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v, want %s", data, err, want)
	}
	if c.ID != "news" || c.Recurrence == nil || !c.StartAt.IsZero() {
		t.Errorf("the campaign itself: got %+v, want it as it was", c)
	}
	roundTrip(t, run)
}
