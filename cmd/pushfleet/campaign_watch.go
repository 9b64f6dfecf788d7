package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// watchEvery is how often a campaign is looked at.
	watchEvery = time.Second
	// watchPatience is how long that may fail: whoever watches for hours survives a
	// restart of Redis or NATS.
	watchPatience = time.Minute
)

// watch follows the campaign until it has ended, or until ctx does: then it says that
// the campaign goes on, and reports that it left.
func (s *campaignShow) watch(ctx context.Context, output string, out, talk io.Writer) (left bool, err error) {
	var show watcher
	switch f, ok := talk.(*os.File); {
	case output == "json":
		show = &watchJSON{out}
	case ok && term.IsTerminal(int(f.Fd())):
		show = newWatchBar(talk)
	default:
		show = &watchLines{out: talk}
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var meter api.Meter
	var good time.Time
	for {
		st, err := s.get(ctx, s.id)
		switch {
		case ctx.Err() != nil:
			show.leave()
			fmt.Fprintf(talk, "campaign %s goes on without being watched\n", s.id)
			return true, nil
		case err == nil && st.Recurring:
			return false, usagef("campaign %s recurs and is not sent itself: watch one of its runs, see campaign list", s.id)
		case err == nil:
			good = time.Now()
			if err := show.see(&watched{
				CampaignSummary: st.CampaignSummary, Counts: st.Counts,
				Pace: api.PaceOf(&meter, good, statusOf(&st.CampaignSummary), &st.Counts), status: statusOf(&st.CampaignSummary),
			}); err != nil || ended(&st.CampaignSummary) {
				return false, err
			}
		case errors.Is(err, stream.ErrNoCampaign), time.Since(good) > watchPatience:
			show.leave()
			return false, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// watched is what is seen of a campaign at a time.
type watched struct {
	api.CampaignSummary
	Counts api.CampaignCounts `json:"counts"`
	api.Pace

	status *campaign.Status
}

// statusOf is as much of a status as its speed and what is left are made of.
func statusOf(s *api.CampaignSummary) *campaign.Status {
	st := &campaign.Status{App: s.App, ID: s.ID, State: campaign.State(s.State), Rate: s.Rate, Devices: s.Devices, Expanded: s.Expanded}
	if s.StartAt != nil {
		st.StartAt = *s.StartAt
	}
	return st
}

// words says where it stands.
func (w *watched) words() string {
	s := fmt.Sprintf("%s: %d settled", w.State, w.Counts.Settled())
	if w.status.Ended() {
		return s
	}
	switch left, known := w.Counts.Left(w.status); {
	case w.status.State == campaign.Scheduled || w.status.State == campaign.Loading:
		return fmt.Sprintf("%s: starts %s", w.State, w.status.StartAt.Local().Format(time.DateTime))
	case known:
		s += fmt.Sprintf(", about %d to go", left)
	default:
		s += ", its audience is still being divided"
	}
	return s + w.speed()
}

// speed is the pace in words, after a comma; empty where it is not known.
func (w *watched) speed() (s string) {
	if w.PerSecond != nil {
		s = fmt.Sprintf(", %.0f/s", *w.PerSecond)
	}
	if w.SecondsLeft != nil {
		s += fmt.Sprintf(", about %s left", time.Duration(*w.SecondsLeft)*time.Second)
	}
	return s
}

// watcher shows what is seen of a campaign: see is called every watchEvery, for the
// last time when it has ended, or else leave.
type watcher interface {
	see(w *watched) error
	leave()
}

// watchJSON prints an object a line.
type watchJSON struct{ out io.Writer }

func (j *watchJSON) see(w *watched) error {
	if err := json.NewEncoder(j.out).Encode(w); err != nil {
		return fmt.Errorf("print campaign: %w", err)
	}
	return nil
}

func (*watchJSON) leave() {}

// watchLines prints a line every sayEvery, and where the state changes.
type watchLines struct {
	out   io.Writer
	said  time.Time
	state string
}

func (l *watchLines) see(w *watched) error {
	if l.state != w.State || time.Since(l.said) >= sayEvery {
		fmt.Fprintln(l.out, w.words())
		l.said, l.state = time.Now(), w.State
	}
	return nil
}

func (*watchLines) leave() {}

// watchBar moves a bar.
type watchBar struct {
	out io.Writer
	bar *progressbar.ProgressBar
}

func newWatchBar(out io.Writer) *watchBar {
	return &watchBar{out, progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(30), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
	)}
}

func (b *watchBar) see(w *watched) error {
	done := w.Counts.Settled()
	total := done
	if !w.status.Ended() {
		left, _ := w.Counts.Left(w.status)
		total += max(1, left) // a bar that is full is over
	}
	text := w.State + w.speed()
	if w.status.State == campaign.Scheduled {
		text = w.words()
	}
	// A bar that cannot be drawn is not worth failing for.
	b.bar.ChangeMax64(max(1, total))
	b.bar.Describe(strings.TrimSpace(text))
	_ = b.bar.Set64(done)
	if w.status.Ended() {
		b.leave()
	}
	return nil
}

func (b *watchBar) leave() { fmt.Fprintln(b.out) }
