package campaign

import (
	"time"
)

// dayMinutes are those of a clock's round, which may be more or fewer than those
// of a day when clocks change.
const dayMinutes = 24 * 60

// parseClock reads a time of day such as 09:00, in minutes.
func parseClock(s string) (minutes int, ok bool) {
	if len(s) != len("00:00") || s[2] != ':' {
		return 0, false
	}
	for _, i := range [...]int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	return h*60 + m, h < 24 && m < 60
}

// wallOf returns what a clock in loc shows at t, as if it were UTC.
func wallOf(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// firstAt returns the first instant at which a clock in loc shows wall, which is
// given as if it were UTC: of a time that exists twice the first, of one that is
// jumped over the instant of the jump. Package time does not promise which of the
// two it takes, nor that it is one of the jump's ends.
func firstAt(loc *time.Location, wall time.Time) time.Time {
	const furthest = 26 * time.Hour // from UTC that any zone ever was, with room
	for t := wall.Add(-furthest).In(loc); ; {
		_, offset := t.Zone()
		start, end := t.ZoneBounds()
		at := wall.Add(-time.Duration(offset) * time.Second)
		switch {
		case !start.IsZero() && at.Before(start):
			return start.UTC()
		case end.IsZero() || at.Before(end):
			return at
		}
		t = end
	}
}

// window is a part of a clock's round, in minutes: from up to, but without, to,
// which may be past midnight.
type window struct{ from, to int }

func newWindow(q *QuietHours) (window, bool) {
	from, ok1 := parseClock(q.From)
	to, ok2 := parseClock(q.To)
	return window{from, to}, ok1 && ok2
}

// holds reports whether the clock's minute is in it.
func (w window) holds(minute int) bool {
	if w.from <= w.to {
		return w.from <= minute && minute < w.to
	}
	return minute >= w.from || minute < w.to
}

// at reports whether a clock in loc is in the window at now, and the first instant
// after now at which that changes. What the clock shows counts, also where it
// shows a time twice, or jumps.
func (w window) at(loc *time.Location, now time.Time) (inside bool, until time.Time) {
	inside = w.holds(minuteOf(now, loc))
	edge := w.from
	if inside {
		edge = w.to
	}
	for t := now.Truncate(time.Second).In(loc); ; {
		_, end := t.ZoneBounds()
		seconds := ((edge-minuteOf(t, loc)+dayMinutes)%dayMinutes)*60 - secondOf(t, loc)
		if seconds <= 0 {
			seconds += dayMinutes * 60
		}
		until = t.Add(time.Duration(seconds) * time.Second)
		if end.IsZero() || until.Before(end) {
			return inside, until.UTC()
		}
		if w.holds(minuteOf(end, loc)) != inside {
			return inside, end.UTC()
		}
		t = end
	}
}

// minuteOf and secondOf return what a clock in loc shows.
func minuteOf(t time.Time, loc *time.Location) int {
	wall := wallOf(t, loc)
	return wall.Hour()*60 + wall.Minute()
}

func secondOf(t time.Time, loc *time.Location) int { return wallOf(t, loc).Second() }
