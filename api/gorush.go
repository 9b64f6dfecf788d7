package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Gorush opens the door for callers of gorush: POST /api/push and GET /api/stat/app.
type Gorush struct {
	// Key is the API key of requests that bring none, as gorush's callers do. Whoever
	// reaches the API may then do what it may. Empty: each request needs one.
	Key string
	// App is that of notifications without a topic. Empty: the one app that the API
	// key is for.
	App string
	// MaxNotifications is how many one request may have. Zero is
	// [DefaultMaxNotifications].
	MaxNotifications int
}

// DefaultMaxNotifications is gorush's max_notification.
const DefaultMaxNotifications = 100

// check finds what is wrong with the door. Its errors never hold the key.
func (g *Gorush) check(apps map[string]App) (errs []error) {
	if g.Key != "" {
		if _, _, ok := splitKey(g.Key); !ok {
			errs = append(errs, errors.New("api: the API key for gorush's callers must be pf_<id>_<secret>, as it was shown when it was made"))
		}
	}
	if _, ok := apps[g.App]; g.App != "" && !ok {
		errs = append(errs, fmt.Errorf("api: the app of gorush's callers must be configured, got %q", g.App))
	}
	if g.MaxNotifications < 0 {
		errs = append(errs, errors.New("api: limits must not be negative"))
	}
	return errs
}

// Fleet is what waits for the workers; see [stream.Streams].
type Fleet interface {
	Backlog(ctx context.Context) (stream.Backlog, error)
}

// maxGorushLogs bounds the entries of a reply, and maxGorushMessage the text in each,
// which would otherwise come back for each device token.
const (
	maxGorushLogs    = 1000
	maxGorushMessage = 256
)

// gorushJob is one job of a request.
type gorushJob struct {
	of   int // index of the notification
	app  string
	job  *job.Job
	done bool // stored
}

// postPush hands in what a gorush request asks for. What is wrong with one
// notification, or with one of its device tokens, concerns that alone, as in gorush.
func (a *API) postPush(c *call) (int, any, *Problem) {
	var f faults
	lane := c.lane(&f)
	if f.any() {
		return 0, nil, gorushProblem("%s: %s", f.list[0].Path, f.list[0].Message)
	}
	list, p := a.readPush(c.body, c.live.Gorush.MaxNotifications)
	if p != nil {
		return 0, nil, p
	}
	if p := c.chargeMore(len(list) - 1); p != nil { // the request itself has been counted
		return 0, nil, p
	}
	jobs := a.gorushJobs(c, list)
	if len(jobs) == 0 {
		return 0, nil, gorushRefused(list)
	}
	if !a.publishing.take(len(jobs)) {
		return 0, nil, overloaded()
	}
	defer a.publishing.give(len(jobs))
	if p := a.publishPush(c, lane, list, jobs); p != nil {
		return 0, nil, p
	}
	reply := GorushReply{Success: "ok", Logs: []GorushLog{}}
	for _, j := range jobs {
		if j.done {
			reply.Counts += j.job.To.Len()
		}
	}
	for i := range list {
		reply.Logs = list[i].appendLogs(reply.Logs)
	}
	a.gorushCount.Add(int64(reply.Counts))
	return http.StatusOK, reply, nil
}

// publishPush publishes the jobs, and waits for all answers. If none of them could be
// stored because of the queue, that is the problem of the whole.
func (a *API) publishPush(c *call, lane job.Lane, list []gorushNotification, jobs []gorushJob) *Problem {
	pending := make([]*stream.Pending, len(jobs))
	var last *Problem
	refuse := func(j *gorushJob, err error) {
		c.appName = j.app
		last = a.jobRefused(c, lane, publishProblem(err, j.job))
		n := &list[j.of]
		for _, t := range j.job.To.Tokens {
			n.refused = append(n.refused, gorushRefusal{token: t.String(), why: last.Detail})
		}
	}
	for i := range jobs {
		var err error
		if pending[i], err = a.cfg.Queue.PublishParsed(c.ctx, jobs[i].app, lane, jobs[i].job, nil); err != nil {
			refuse(&jobs[i], err)
		}
	}
	stored := false
	for i, p := range pending {
		if p == nil {
			continue
		}
		got, err := p.Wait(c.ctx)
		if err != nil {
			refuse(&jobs[i], err)
			continue
		}
		stored, jobs[i].done = true, true
		c.appName = jobs[i].app
		a.jobStored(c, lane, got)
	}
	if !stored {
		return last
	}
	return nil
}

// gorushJobs makes jobs of the notifications, and notes what keeps it from it.
func (a *API) gorushJobs(c *call, list []gorushNotification) []gorushJob {
	var jobs []gorushJob
	ids := make(map[[2]string]int)
	for i := range list {
		n := &list[i]
		if len(n.faults) > 0 {
			continue
		}
		app, push := a.gorushApp(c, n)
		if len(n.faults) > 0 {
			continue
		}
		j := n.job(push, c.live.Apps[app].BundleID)
		if len(n.faults) > 0 {
			continue
		}
		if id := j.ID; id != "" {
			if first, twice := ids[[2]string{app, id}]; twice {
				n.fault("notif_id", "is that of notifications[%d] too: it names one notification", first)
				continue
			}
			ids[[2]string{app, id}] = i
		}
		for _, part := range n.parts(j) {
			jobs = append(jobs, gorushJob{of: i, app: app, job: part})
		}
	}
	return jobs
}

// gorushApp finds the app that a notification is for, and the push type that its
// topic stands for, if any.
func (a *API) gorushApp(c *call, n *gorushNotification) (name string, push job.PushType) {
	named, topic, where := c.r.URL.Query().Get("app"), n.topic, "{app}"
	if named == "" && topic == "" {
		topic, where = c.live.Apps[c.live.Gorush.App].BundleID, "topic"
	}
	var found []string
	topics := 0
	for app, cfg := range c.live.Apps {
		if !c.mine(app) || named != "" && app != named {
			continue
		}
		p, ok := pushTypeOf(cfg.BundleID, topic)
		if !ok {
			continue
		}
		push = p
		topics++
		if n.environment == 0 || cfg.Environment == n.environment {
			found = append(found, app)
		}
	}
	slices.Sort(found)
	if len(found) > 1 && slices.Contains(found, c.live.Gorush.App) {
		found = []string{c.live.Gorush.App}
	}
	switch {
	case len(found) == 1:
		return found[0], push
	case len(found) > 1 && n.topic == "":
		n.fault("topic", "is required: the API key is for several apps")
	case len(found) > 1:
		n.fault("topic", "is that of several apps (%s): say production or development, or ?app= in the URL", strings.Join(found, ", "))
	case topics > 0:
		n.fault(n.environmentName(), "no app of this topic sends to %s", n.environment)
	case n.topic != "":
		n.fault("topic", "must be the bundle id of an app that the API key is for, or one with the suffix of a push type")
	default:
		n.fault(where, "there is no such app that the API key is for")
	}
	return "", ""
}

// pushTypeOf reports whether a topic is one of the app with a bundle id, and the push
// type that its suffix stands for; "" where it is the bundle id itself. An empty
// topic is of every app.
func pushTypeOf(bundleID, topic string) (push job.PushType, ok bool) {
	if topic == "" || topic == bundleID {
		return "", true
	}
	for _, p := range job.PushTypes() {
		if p.Topic(bundleID) == topic {
			return p, true
		}
	}
	return "", false
}

// gorushProblem is a problem of a whole request, with a message that gorush would give
// too.
func gorushProblem(format string, args ...any) *Problem {
	return problemf(http.StatusBadRequest, codeInvalid, format, args...)
}

// gorushRefused is the problem of a request of which nothing can be sent.
func gorushRefused(list []gorushNotification) *Problem {
	const most = 10
	var all []string
	for i := range list {
		n := &list[i]
		for _, f := range append(n.faults, n.tokenFaults()...) {
			all = append(all, strings.TrimSuffix(fmt.Sprintf("notifications[%d].%s", i, f.Path), ".")+": "+f.Message)
		}
	}
	if more := len(all) - most; more > 0 {
		all = append(all[:most], fmt.Sprintf("and %d more", more))
	}
	return gorushProblem("%s", strings.Join(all, "; "))
}

// gorushError is the answer to a mistake in gorush's form.
func gorushError(p *Problem) any { return GorushError{Code: p.Status, Message: p.Detail} }

// getStatApp tells the counts that gorush has, as far as there are any here.
func (a *API) getStatApp(c *call) (int, any, *Problem) {
	backlog, err := a.cfg.Fleet.Backlog(c.ctx)
	if err != nil {
		return 0, nil, countsProblem("the queue cannot be reached", err)
	}
	counts, err := a.cfg.Jobs.AppCounts(c.ctx)
	if err != nil {
		return 0, nil, countsProblem("the counts cannot be read now", err)
	}
	out := GorushStatus{Version: a.cfg.Version, QueueMax: backlog.Most, TotalCount: a.gorushCount.Load()}
	for app, jobs := range backlog.Jobs {
		if c.mine(app) {
			out.QueueUsage += jobs
		}
	}
	for app, n := range counts {
		if c.mine(app) {
			out.IOS.PushSuccess += n.Accepted
			out.IOS.PushError += n.Failed
		}
	}
	return http.StatusOK, out, nil
}

func countsProblem(what string, cause error) *Problem {
	p := problemf(http.StatusServiceUnavailable, codeUnavailable, "%s: repeat the request later", what)
	p.retryAfter, p.cause = retryWhenDown, cause
	return p
}
