package producer_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newJob(id string) *job.Job {
	return &job.Job{ID: id, To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "Hello"}}
}

// connect returns a producer for the time of a test.
func connect(t *testing.T, url string, opts ...nats.Option) *producer.Producer {
	t.Helper()
	p, err := producer.Connect(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p, err := producer.New(t.Context(), js.NC)
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("a"))
	if err != nil || first.ID != "a" || first.App != "shop" || first.Lane != job.Bulk || first.Duplicate || first.Sequence == 0 || time.Since(first.At) > time.Minute {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("a")); err != nil || !again.Duplicate {
		t.Errorf("again: got %+v, %v, want a duplicate", again, err)
	}
	// The connection is the caller's.
	if err := p.Close(); err != nil || js.NC.IsClosed() {
		t.Errorf("close: got %v, connection closed: %t", err, js.NC.IsClosed())
	}
}

func TestConnect(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	named := make(chan string, 1)
	p := connect(t, js.Server.URL(), nats.Name("shop backend"), nats.ConnectHandler(func(nc *nats.Conn) { named <- nc.Opts.Name }))
	if got := <-named; got != "shop backend" {
		t.Errorf("got the name %q, want that of the options", got)
	}
	if _, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("a")); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("b")); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("after close: got %v, want %v", err, nats.ErrConnectionClosed)
	}

	ended, cancel := context.WithCancelCause(t.Context())
	because := errors.New("because")
	cancel(because)
	if _, err := producer.Connect(ended, js.Server.URL()); !errors.Is(err, because) {
		t.Errorf("with a context that has ended: got %v, want %v", err, because)
	}
	if _, err := producer.Connect(t.Context(), "nats://127.0.0.1:1"); !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("without a server: got %v, want %v", err, nats.ErrNoServers)
	}
}

// Whoever starts before the first worker is told so, and makes nothing.
func TestNoStreams(t *testing.T) {
	t.Parallel()
	srv := testenv.StartNATS(t, embedded.NATSConfig{})
	p := connect(t, srv.URL())
	if _, err := p.Enqueue(t.Context(), "shop", job.Bulk, newJob("a")); !errors.Is(err, producer.ErrNoStream) || !strings.Contains(err.Error(), "push.jobs.shop.bulk: start a worker first") {
		t.Errorf("enqueue: got %v, want %v and what to do", err, producer.ErrNoStream)
	}
	for _, err := range p.Outcomes(t.Context(), producer.Filter{}) {
		if !errors.Is(err, producer.ErrNoStream) {
			t.Errorf("outcomes: got %v, want %v", err, producer.ErrNoStream)
		}
	}
	api, err := jetstream.New(testenv.Connect(t, srv.URL()))
	if err != nil {
		t.Fatal(err)
	}
	for name := range api.StreamNames(t.Context()).Name() {
		t.Errorf("got the stream %s, want none", name)
	}
}

// What docs/producer.md says that a producer must be allowed is enough, and less is
// told.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	publish := []string{"push.jobs.shop.*"}
	follow := append([]string{"$JS.API.CONSUMER.CREATE.OUTCOMES.>", "$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.>"}, publish...)
	mourn := append([]string{"$JS.API.CONSUMER.CREATE.DEAD.*.push.dead.shop", "$JS.API.CONSUMER.MSG.NEXT.DEAD.>"}, follow...)
	user := func(name string, publish ...string) *server.User {
		return &server.User{Username: name, Password: name, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{user("publisher", publish...), user("follower", follow...), user("mourner", mourn...), {Username: "worker", Password: "worker"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	as := func(user string) string {
		u, err := url.Parse(srv.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, user)
		return u.String()
	}
	if err := makeStreams(as("worker")); err != nil {
		t.Fatal(err)
	}
	publisher, follower := connect(t, as("publisher")), connect(t, as("follower"))
	first, err := publisher.Enqueue(t.Context(), "shop", job.Bulk, newJob("a"))
	if err != nil {
		t.Errorf("publisher: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := publisher.Enqueue(ctx, "news", job.Bulk, newJob("a")); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("publisher to another app: got %v, want %v", err, nats.ErrPermissionViolation)
	}
	receipt, err := follower.Enqueue(t.Context(), "shop", job.Bulk, newJob("b"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := stream.Dial(as("worker"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s, err := stream.Attach(nc)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, s, job.Bulk, complete(receipt, "0a"))
	if final, err := follower.Wait(t.Context(), receipt); err != nil || !final.Accepted() {
		t.Errorf("follower: got %+v, %v, want it accepted", final, err)
	}
	c, err := s.StrayConsumer(t.Context(), []string{stream.JobsSubject("shop", job.Bulk)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(10 * time.Second)
	if err != nil || m == nil {
		t.Fatalf("got %v, %v, want a job", m, err)
	}
	if err := s.Bury(t.Context(), m, stream.Letter{Reason: "unknown app", Root: "a", Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	mourner := connect(t, as("mourner"))
	if final, err := mourner.Wait(t.Context(), first); err != nil || !slices.Equal(said(&final), []string{" failed"}) {
		t.Errorf("mourner: got %+v, %v, want the job given up", final, err)
	}
}

func TestEnqueueBatch(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := producer.FromStreams(js.Streams)
	var jobs []*job.Job
	for n := range 3000 {
		jobs = append(jobs, newJob(fmt.Sprintf("j-%d", n)))
	}
	jobs[7], jobs[2500] = &job.Job{ID: "bad"}, &job.Job{ID: "worse"}
	receipts, err := p.EnqueueBatch(t.Context(), "shop", job.Bulk, jobs)
	var failed *producer.BatchError
	if !errors.As(err, &failed) || len(failed.Jobs) != 2 || failed.Of != 3000 || failed.Jobs[0].Index != 7 || failed.Jobs[1].Index != 2500 {
		t.Fatalf("got %v, want what is wrong with jobs 7 and 2500", err)
	}
	var invalid *job.Invalid
	if !errors.As(err, &invalid) || !errors.As(failed.Jobs[1], &invalid) {
		t.Errorf("got %v, want a *job.Invalid", err)
	}
	for _, want := range []string{"2 of 3000 jobs", "job 7: ", "job 2500: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
	for i, r := range receipts {
		if stored := r.Sequence > 0; stored != (i != 7 && i != 2500) || (stored && r.ID != jobs[i].ID) {
			t.Errorf("receipt %d: got %+v", i, r)
		}
	}
	if _, err := p.EnqueueBatch(t.Context(), "shop", job.Bulk, nil); err != nil {
		t.Errorf("of none: got %v", err)
	}
}

// A server that stands still is not sent more than what may be on its way.
func TestEnqueueBatchIsBounded(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	server, err := url.Parse(js.Server.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.StartProxy(t, server.Host)
	p := connect(t, "nats://"+proxy.Addr)
	var jobs []*job.Job
	for n := range 1500 {
		jobs = append(jobs, newJob(fmt.Sprint(n)))
	}
	proxy.Stall(true)
	defer proxy.Stall(false)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	receipts, err := p.EnqueueBatch(ctx, "shop", job.Bulk, jobs)
	var failed *producer.BatchError
	if !errors.As(err, &failed) || len(failed.Jobs) != len(jobs) || len(receipts) != len(jobs) {
		t.Fatalf("got %v, want an error of each job", err)
	}
	onWay := 0
	for _, one := range failed.Jobs {
		if errors.Is(one, producer.ErrUnanswered) {
			onWay++
		}
		if !errors.Is(one, context.DeadlineExceeded) {
			t.Fatalf("got %v, want %v", one, context.DeadlineExceeded)
		}
	}
	if onWay != 1024 {
		t.Errorf("got %d on their way, want 1024", onWay)
	}
}
