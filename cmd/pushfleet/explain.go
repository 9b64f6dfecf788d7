package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

type explainFlags struct {
	app, campaign, job, lane string
	user, install, token     string
	since                    time.Duration
	output                   string
}

func newExplain(g *globals) *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say what became of a device in a campaign or in a job, and why",
		Long: `explain says, for a device token, an installation or each device of a user, whether it
was in a campaign or in a job, when, what was decided and why, and what APNs said.

It goes by the campaign's entry, by the device as it is registered now, and by
OUTCOMES, which keeps a week. Of a campaign to an audience it reads the one range that
the device is in; a campaign to a file and the jobs of a lane are searched.`,
		Example: `  pushfleet explain --app shop --campaign spring-sale --user ada
  pushfleet explain --app shop --campaign spring-sale --token 8f3a…
  pushfleet explain --app shop --job order-4711-shipped --user ada --since 48h --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := f.explainer(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return withStore(cmd.Context(), g, f.app, func(ctx context.Context, cfg *config.Config, set *store.Store) error {
				return e.run(ctx, cfg, set, cmd.OutOrStdout())
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.app, "app", "", "app, as configured (required)")
	fl.StringVar(&f.campaign, "campaign", "", "id of the campaign")
	fl.StringVar(&f.job, "job", "", "id of the job")
	fl.StringVar(&f.lane, "lane", "transactional", "lane of the job: transactional or bulk")
	fl.StringVar(&f.user, "user", "", "each device of this user")
	fl.StringVar(&f.install, "install", "", "the device of this installation of the app")
	fl.StringVar(&f.token, "token", "", "device token in hex")
	fl.DurationVar(&f.since, "since", 24*time.Hour, "how far back to search for a job")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	_ = cmd.MarkFlagRequired("app") // the flag exists: it was defined above
	cmd.MarkFlagsMutuallyExclusive("campaign", "job")
	cmd.MarkFlagsOneRequired("campaign", "job")
	cmd.MarkFlagsMutuallyExclusive("user", "install", "token")
	cmd.MarkFlagsOneRequired("user", "install", "token")
	return cmd
}

// explainer explains one campaign or job to one user, installation or device token.
type explainer struct {
	flags explainFlags
	lane  job.Lane
	token device.Token // zero: a user or an installation was given
	now   time.Time
	talk  io.Writer

	streams *stream.Streams
	set     *store.Store
}

func (f *explainFlags) explainer(talk io.Writer) (*explainer, error) {
	e := &explainer{flags: *f, now: time.Now(), talk: talk}
	var err error
	if e.lane, err = job.ParseLane(f.lane); err != nil {
		return nil, usagef("--lane: %v", err)
	}
	if f.token != "" {
		if e.token, err = device.ParseToken(f.token); err != nil {
			return nil, usagef("--token: %v", err)
		}
	}
	switch {
	case f.campaign+f.job == "":
		return nil, usagef("--campaign, --job: must not be empty")
	case f.user+f.install+f.token == "":
		return nil, usagef("--user, --install, --token: must not be empty")
	case f.since <= 0:
		return nil, usagef("--since: must be above 0, got %s", f.since)
	case f.output != "text" && f.output != "json":
		return nil, usagef("--output: must be text or json, got %q", f.output)
	}
	return e, nil
}

func (e *explainer) run(ctx context.Context, cfg *config.Config, set *store.Store, out io.Writer) error {
	nc, streams, err := connectNATS(ctx, cfg, "explain", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	e.set, e.streams = set, streams
	cases, err := e.cases(ctx)
	if err != nil {
		return err
	}
	x := &explanation{App: e.flags.app, Campaign: e.flags.campaign, Job: e.flags.job}
	if e.flags.campaign != "" {
		cases, err = e.explainCampaign(ctx, x, cases)
	} else {
		cases, err = e.explainJob(ctx, x, cases)
	}
	if err != nil {
		return err
	}
	for _, c := range cases {
		x.Devices = append(x.Devices, c.explained)
	}
	if e.flags.output == "json" {
		return printJSON(out, x)
	}
	x.print(out)
	return nil
}

// explanation is what explain prints.
type explanation struct {
	App      string            `json:"app"`
	Campaign string            `json:"campaign,omitempty"`
	Job      string            `json:"job,omitempty"`
	Lane     string            `json:"lane,omitempty"`
	State    string            `json:"state"` // of the campaign, or of the job: complete, open, unknown
	Text     string            `json:"text"`
	Devices  []explainedDevice `json:"devices"`
}

// explainedDevice is what is said of one device, or of a user who has none.
type explainedDevice struct {
	Token   string          `json:"token,omitempty"` // whole only if it was given
	User    string          `json:"user,omitempty"`
	Install string          `json:"install_id,omitempty"`
	Range   *int            `json:"range,omitempty"`
	Verdict string          `json:"verdict"` // a result, or one of the verdicts
	Text    string          `json:"text"`
	Until   *time.Time      `json:"until,omitempty"` // of waiting, where it is known
	Told    []explainedTold `json:"outcomes,omitempty"`
}

// Verdicts on what has no outcome.
const (
	verdictOutside = "not in the audience"
	verdictWaiting = "waiting"
	verdictSettled = "settled" // how, is not known any more
	verdictNothing = "nothing told"
)

// explainedTold is one outcome.
type explainedTold struct {
	At        time.Time  `json:"at"`
	Worker    string     `json:"worker"`
	Attempt   int        `json:"attempt"`
	Result    job.Result `json:"result"`
	Reason    string     `json:"reason,omitempty"`
	Status    int        `json:"status,omitempty"`
	DeadSince *time.Time `json:"dead_since,omitempty"` // by APNs
}

func (t *explainedTold) sentence() string {
	s := fmt.Sprintf("%s %s by worker %s", t.Result, instant(t.At), t.Worker)
	if t.Result == job.Accepted {
		s = fmt.Sprintf("accepted by APNs %s, sent by worker %s", instant(t.At), t.Worker)
	}
	if t.Result == job.Rejected {
		s = fmt.Sprintf("rejected by APNs %s, sent by worker %s", instant(t.At), t.Worker)
	}
	if t.Attempt > 1 {
		s += fmt.Sprintf(", retry round %d", t.Attempt)
	}
	if t.Reason != "" {
		s += ": " + t.Reason
	}
	if t.Status != 0 {
		s += fmt.Sprintf(" (%d)", t.Status)
	}
	if t.DeadSince != nil {
		s += ", the device token is dead since " + instant(*t.DeadSince)
	}
	return s
}

func instant(t time.Time) string { return t.UTC().Truncate(time.Second).String() }

func (x *explanation) print(out io.Writer) {
	fmt.Fprintln(out, printable(x.Text))
	for i := range x.Devices {
		d := &x.Devices[i]
		fmt.Fprintf(out, "%s: %s\n", printable(d.name()), printable(d.Text))
		for j := range d.Told[:max(0, len(d.Told)-1)] {
			fmt.Fprintf(out, "  before: %s\n", printable(d.Told[j].sentence()))
		}
	}
}

func (d *explainedDevice) name() string {
	switch {
	case d.Token == "" && d.User != "":
		return "user " + d.User
	case d.Token == "":
		return "install " + d.Install
	case d.User != "":
		return "device " + d.Token + " of user " + d.User
	}
	return "device " + d.Token
}

// explained is one case: a device, or a user or an installation without one.
type explained struct {
	device    device.Device
	known     bool // the token set has it
	explained explainedDevice
}

// cases finds the devices that are meant.
func (e *explainer) cases(ctx context.Context) ([]*explained, error) {
	if !e.token.IsZero() {
		c, err := e.caseOf(ctx, e.token)
		return []*explained{c}, err
	}
	find, ids := e.set.ByUsers, []string{e.flags.user}
	if e.flags.install != "" {
		find, ids = e.set.ByInstalls, []string{e.flags.install}
	}
	found, err := find(ctx, e.flags.app, ids)
	if err != nil {
		return nil, err
	}
	var cases []*explained
	for _, entry := range found[0] {
		c, err := e.caseOf(ctx, entry.Token)
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	// What was sent to users names those who had no device.
	if len(cases) == 0 || e.flags.user != "" {
		cases = append(cases, &explained{explained: explainedDevice{User: e.flags.user, Install: e.flags.install}})
	}
	return cases, nil
}

func (e *explainer) caseOf(ctx context.Context, t device.Token) (*explained, error) {
	d, known, err := e.set.Device(ctx, e.flags.app, t)
	if err != nil {
		return nil, err
	}
	d.Token = t
	c := &explained{device: d, known: known, explained: explainedDevice{Token: t.String(), User: d.User, Install: d.InstallID}}
	if t == e.token {
		c.explained.Token = t.Hex()
	}
	return c, nil
}

// note takes from a message of OUTCOMES what it tells of a case; of says which of its
// jobs are meant.
func (c *explained) note(o *job.Outcomes, of func(*job.JobOutcome) bool) {
	for i := range o.Jobs {
		jo := &o.Jobs[i]
		if !of(jo) {
			continue
		}
		told := explainedTold{At: o.At, Worker: o.Worker, Attempt: jo.Attempt}
		if r := c.in(jo); r != nil {
			told.Result, told.Reason, told.Status = r.Result, r.Reason, r.Status
			if r.Timestamp != 0 {
				since := time.UnixMilli(r.Timestamp).UTC()
				told.DeadSince = &since
			}
			c.explained.Told = append(c.explained.Told, told)
			c.explained.Verdict, c.explained.Text = string(told.Result), told.sentence()
			if jo.Campaign != "" {
				c.explained.Range = &jo.Range
			}
		}
	}
}

// in returns what an outcome tells of the case, or nil.
func (c *explained) in(jo *job.JobOutcome) *job.Recipient {
	if !c.device.Token.IsZero() {
		for _, t := range jo.Accepted {
			if t == c.device.Token {
				return &job.Recipient{Result: job.Accepted, Status: 200}
			}
		}
	}
	for i := range jo.Others {
		r := &jo.Others[i]
		switch {
		case !r.DeviceToken.IsZero():
			if r.DeviceToken == c.device.Token {
				return r
			}
		case c.explained.Token == "" && (r.User != "" && r.User == c.explained.User || r.Install != "" && r.Install == c.explained.Install):
			return r
		}
	}
	return nil
}

// open reports whether nothing is told of the case.
func (c *explained) open() bool { return len(c.explained.Told) == 0 }

func (c *explained) say(verdict, format string, args ...any) {
	c.explained.Verdict, c.explained.Text = verdict, fmt.Sprintf(format, args...)
}

// waits says that a case is to wait, until a time where that is known.
func (c *explained) waits(until time.Time, format string, args ...any) {
	c.say(verdictWaiting, format, args...)
	if !until.IsZero() {
		until = until.UTC()
		c.explained.Until = &until
	}
}

// hash is what progress knows the case by.
func (c *explained) hash() uint64 {
	switch {
	case c.explained.Token != "":
		return job.RecipientHash(c.device.Token)
	case c.explained.User != "":
		return job.UserHash(c.explained.User)
	default:
		return job.InstallHash(c.explained.Install)
	}
}

// byProgress says of a case what progress knows, and reports whether that is anything.
func (c *explained) byProgress(p *store.Progress) bool {
	h := c.hash()
	if marked, ok := p.Marked[h]; ok {
		c.say(string(marked.Result), "%s, which a worker has noted and not told yet", marked.Result)
		return true
	}
	if _, ok := p.Settled[h]; ok {
		c.say(verdictSettled, "settled, but OUTCOMES does not have any more how")
		return true
	}
	if w, ok := p.Waiting[h]; ok {
		c.waits(w.RetryAt, "waits until %s: tried %d times in vain", instant(w.RetryAt), w.Attempts)
		return true
	}
	return false
}

// dropUserWithDevices leaves out a user's own case where there are devices, unless
// something was told of it.
func dropUserWithDevices(cases []*explained) []*explained {
	if last := len(cases) - 1; last > 0 && cases[last].explained.Token == "" && cases[last].open() {
		return cases[:last]
	}
	return cases
}

// search reads OUTCOMES and notes what is told of the cases, with a bar.
func (e *explainer) search(cases []*explained, of func(*job.JobOutcome) bool, read func(each func(data []byte, left uint64) error) error) error {
	var b *bar
	err := read(func(data []byte, left uint64) error {
		if b == nil {
			b = newBar(e.talk, int(left)+1, "searching", "messages of OUTCOMES", e.flags.output == "json")
		}
		b.add(1)
		return note(cases, data, of)
	})
	if b != nil {
		b.finish()
	}
	return err
}

func note(cases []*explained, data []byte, of func(*job.JobOutcome) bool) error {
	o, err := job.ParseOutcomes(data)
	if err != nil {
		return nil //nolint:nilerr // of a newer version, or somebody else's: nothing to explain by
	}
	for _, c := range cases {
		c.note(o, of)
	}
	return nil
}
