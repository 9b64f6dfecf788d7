package apnstest_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func raw(t *testing.T, token string) []byte {
	t.Helper()
	b, err := hex.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJournal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	j := apnstest.NewJournal(&out)
	srv := newServer(t, apnstest.Config{Ledger: apnstest.LedgerHash, Journal: j})
	dead := time.Now().Add(-time.Hour)
	if err := srv.SetDevice(tokenN(2), apnstest.Device{DeadSince: &dead}); err != nil {
		t.Fatal(err)
	}
	if err := srv.SetDevice(tokenN(3), apnstest.Device{NeverAnswer: true}); err != nil {
		t.Fatal(err)
	}
	c := ready(t, srv)
	begin := time.Now()
	one := c.push(tokenN(1), "apns-id", someID)
	c.answer(one)
	two := c.push(tokenN(2))
	c.answer(two)
	three := c.push(tokenN(3))
	c.push(tokenN(1), "apns-topic", "-") // judged after three, and answered
	waitFor(t, srv, "five requests", func(s apnstest.Stats) bool { return s.Received >= 5 })
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Flush(); err != nil {
		t.Fatal(err)
	}

	text := out.String()
	pair := apnstest.PairHash(raw(t, tokenN(1)), uuid.MustParse(someID))
	for _, want := range []string{
		`^o 1 \d+ 127\.0\.0\.1:\d+$`,
		fmt.Sprintf(`^r 1 %d \d+ 200 %x %x 0 %x$`, one, pair, apnstest.TokenHash(raw(t, tokenN(1))), apnstest.PayloadHash([]byte(payload))),
		fmt.Sprintf(`^a 1 %d \d+$`, one),
		fmt.Sprintf(`^r 1 %d \d+ 410 [0-9a-f]+ %x %d [0-9a-f]+$`, two, apnstest.TokenHash(raw(t, tokenN(2))), dead.UnixMilli()),
		fmt.Sprintf(`^r 1 %d \d+ 200 `, three),
		`^r 1 \d+ \d+ 400 `,
		`^e 1 \d+$`,
	} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(text) {
			t.Errorf("no line is like %s in\n%s", want, text)
		}
	}
	if regexp.MustCompile(fmt.Sprintf(`(?m)^a 1 %d `, three)).MatchString(text) {
		t.Errorf("stream %d is answered, want that it is not, in\n%s", three, text)
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); f[0] == "r" {
			var at int64
			if _, err := fmt.Sscan(f[3], &at); err != nil || at < begin.Add(-time.Minute).UnixMicro() || at > time.Now().UnixMicro() {
				t.Errorf("time of %q: got %d, want microseconds of now", strings.TrimSpace(line), at)
			}
		}
	}
}

// A GOAWAY takes back what it disowns.
func TestJournalWithdraws(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	j := apnstest.NewJournal(&out)
	srv := newServer(t, apnstest.Config{Ledger: apnstest.LedgerHash, Journal: j})
	c := ready(t, srv)
	if err := srv.SetFaults(apnstest.Faults{Latency: apnstest.Latency{Constant: apnstest.Duration(time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	id := c.push(tokenN(1))
	waitFor(t, srv, "the request", func(s apnstest.Stats) bool { return s.Received >= 2 })
	if _, err := srv.Do(apnstest.Action{GoAway: &apnstest.GoAway{Last: "zero", Then: "close"}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, srv, "the withdrawal", func(s apnstest.Stats) bool { return s.Withdrawn == 1 })
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("\nw 1 %d\n", id); !strings.Contains(out.String(), want) {
		t.Errorf("no line %q in\n%s", want, out.String())
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestJournalTellsOfErrors(t *testing.T) {
	t.Parallel()
	j := apnstest.NewJournal(brokenWriter{})
	srv := newServer(t, apnstest.Config{Journal: j})
	c := ready(t, srv)
	c.answer(c.push(tokenN(1)))
	if err := j.Flush(); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
}
