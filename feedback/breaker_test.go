package feedback_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/feedback"
)

// The breaker is nobody's but the webhooks', and its pauses are too long to wait for.
func TestBreaker(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	fail := func(b *feedback.Breaker, probe bool) bool { return b.Failed(now, probe, 0, false) }
	var b feedback.Breaker
	for n := 1; n < feedback.BreakAfter; n++ {
		if fail(&b, false) || b.Open() {
			t.Fatalf("after %d failures: got it open, want it closed", n)
		}
	}
	if b.Took() {
		t.Error("taken while closed: got told that it closed")
	}
	for n := 1; n < feedback.BreakAfter; n++ {
		fail(&b, false)
	}
	if b.Open() {
		t.Error("failures before a success count")
	}
	if !fail(&b, false) || !b.Open() {
		t.Fatalf("after %d failures in a row: got it closed, want it open", feedback.BreakAfter)
	}
	first := b.Pause()
	if fail(&b, false) || b.Pause() != first {
		t.Errorf("what was on its way before: got pause %s, want %s still", b.Pause(), first)
	}
	for want := 2 * first; want < feedback.MostPause; want *= 2 {
		if fail(&b, true); b.Pause() != want {
			t.Errorf("after a probe: got pause %s, want %s", b.Pause(), want)
		}
		if wait := b.Until().Sub(now); wait < want*9/10 || wait > want*11/10 {
			t.Errorf("after a probe: got probed again in %s, want about %s", wait, want)
		}
	}
	for range 3 {
		fail(&b, true)
	}
	if b.Pause() != feedback.MostPause {
		t.Errorf("after many probes: got pause %s, want %s", b.Pause(), feedback.MostPause)
	}
	if !b.Took() || b.Open() {
		t.Error("taken: got it open, want it closed")
	}
	if !b.Failed(now, false, time.Minute, false) || b.Pause() != time.Minute {
		t.Errorf("asked to wait: got pause %s, want a minute at once", b.Pause())
	}
	b = feedback.Breaker{}
	if !b.Failed(now, false, 0, true) || b.Pause() != feedback.MostPause {
		t.Errorf("gone: got pause %s, want %s at once", b.Pause(), feedback.MostPause)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"7", 7 * time.Second},
		{"86400", feedback.MostPause},
		{"-1", 0},
		{"99999999999999999999", 0},
		{"soon", 0},
		{now.Add(9 * time.Second).UTC().Format(http.TimeFormat), 9 * time.Second},
		{now.Add(-time.Hour).UTC().Format(http.TimeFormat), 0},
		{now.Add(48 * time.Hour).UTC().Format(http.TimeFormat), feedback.MostPause},
	} {
		if got := feedback.RetryAfter(tt.value, now); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.value, got, tt.want)
		}
	}
}

// A day has some thirty tries in it, the first ones soon.
func TestRetryDelay(t *testing.T) {
	t.Parallel()
	var all time.Duration
	tries := 1
	for n := uint64(1); all < feedback.WebhookFor; n++ {
		d := feedback.RetryDelay(n)
		if least := feedback.WebhookRetry << min(n-1, 12) * 9 / 10; d < min(least, feedback.WebhookRetryMost*9/10) || d > feedback.WebhookRetryMost*11/10 {
			t.Errorf("after try %d: got %s", n, d)
		}
		all += d
		tries++
	}
	if tries < 30 || tries > 45 {
		t.Errorf("tries in a day: got %d", tries)
	}
	if d := feedback.RetryDelay(1 << 60); d > feedback.WebhookRetryMost*11/10 || d < feedback.WebhookRetryMost*9/10 {
		t.Errorf("after very many: got %s, want about %s", d, feedback.WebhookRetryMost)
	}
}
