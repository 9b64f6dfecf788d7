package campaign

import (
	"cmp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/pushfleet/pushfleet/device"
)

// runSuffix is what the id of a run has after that of its campaign: the minute, in
// UTC.
const runSuffix = "-20060102T1504Z"

// NextRun returns when the next run of a recurring campaign after a time is to
// start, not before its own start; false: there is none. It goes by the clock of
// the recurrence's time zone: a time that the clock jumps over is the jump, and of
// one that it shows twice the first counts.
func (c *Campaign) NextRun(after time.Time, z *device.Zones) (time.Time, bool) {
	if c.Recurrence == nil {
		return time.Time{}, false
	}
	loc, ok := z.Location(cmp.Or(c.Recurrence.Timezone, "UTC"))
	if !ok {
		return time.Time{}, false
	}
	schedule, err := parseCron(c.Recurrence.Cron)
	if err != nil {
		return time.Time{}, false
	}
	if c.StartAt.After(after) {
		after = c.StartAt.Add(-1)
	}
	// The schedule is asked in UTC, for what the clock is to show: it leaves out
	// what a clock jumps over.
	for wall := wallOf(after, loc); ; {
		if wall = schedule.Next(wall); wall.IsZero() {
			return time.Time{}, false
		}
		if at := firstAt(loc, wall); at.After(after) {
			return at, true
		}
	}
}

// RunAt returns the run of a recurring campaign that starts at t: the same without
// recurrence, its id with the minute of t, such as news-20261124T0900Z. It shares
// what c points to.
func (c *Campaign) RunAt(t time.Time) *Campaign {
	run := *c
	run.ID += t.UTC().Format(runSuffix)
	run.StartAt, run.Recurrence = t.UTC(), nil
	return &run
}

// parseCron reads five fields, in UTC.
func parseCron(s string) (cron.Schedule, error) {
	return cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse("TZ=UTC " + s)
}

// cronRule checks a cron expression, without what the parser takes beyond one.
func cronRule(s string) string {
	const problem = "must be five fields: minute, hour, day of month, month, day of week, such as 0 9 * * 1"
	if strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(" *?/,-", r))
	}) {
		return problem
	}
	schedule, err := parseCron(s)
	if err != nil {
		return problem
	}
	if schedule.Next(time.Unix(0, 0)).IsZero() {
		return "never comes, such as the 30th of February"
	}
	return ""
}
