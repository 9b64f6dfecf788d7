package h2

// limits decides how many streams may be open at once. It is guarded by the
// connection's mu.
type limits struct {
	own     int  // our cap, whatever the peer allows
	peer    int  // SETTINGS_MAX_CONCURRENT_STREAMS
	known   bool // the peer's SETTINGS have arrived
	warming bool // no authenticated answer yet
	refused int  // what a REFUSED_STREAM taught us; 0: nothing
	stopped bool // no new streams: GOAWAY, retired, or out of ids
}

// now returns the limit of this moment. It may be less than what is open.
//
// Before SETTINGS arrive, and with a provider token before the first answer that
// was not about authentication, it is 1: APNs admits one stream until it has
// seen a valid provider token (Apple, Sending notification requests to APNs;
// observed: golang/go#17265).
func (l *limits) now() int {
	switch {
	case l.stopped:
		return 0
	case !l.known:
		return 1
	}
	n := min(l.own, l.peer)
	if l.refused > 0 {
		n = min(n, l.refused)
	}
	if l.warming {
		n = min(n, 1)
	}
	return n
}

// onSettings takes the peer's new limit.
func (l *limits) onSettings(n int) { l.peer, l.refused = n, 0 }

// onRefused takes note that the peer refused a stream while active others were
// open: it does not always say with SETTINGS what it allows.
func (l *limits) onRefused(active int) { l.refused = max(1, min(active, l.now())) }

// onAnswer takes note of an answer: after a refusal each one allows a stream more.
func (l *limits) onAnswer(status int) {
	if l.warming && status != 403 && status < 500 {
		l.warming = false
	}
	if l.refused > 0 {
		if l.refused++; l.refused >= min(l.own, l.peer) {
			l.refused = 0
		}
	}
}
