package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// documented returns the blocks of a language in docs/security.md, as one text.
func documented(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		all.WriteString(m[1])
	}
	if all.Len() == 0 {
		t.Fatalf("docs/security.md has no block of %s", language)
	}
	return all.String()
}

// secured is a fleet on a NATS and a Redis with exactly the documented permissions.
type secured struct {
	*rig
	url, redisPort string
	env            []string // of every process of pushfleet's
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	r := newRig(t)
	s := &secured{rig: r, redisPort: freePort(t)}
	natsPort := freePort(t)
	s.url = "nats://127.0.0.1:" + natsPort
	conf := filepath.Join(r.dir, "nats.conf")
	if err := os.WriteFile(conf, []byte(documented(t, "nats")), 0o600); err != nil {
		t.Fatal(err)
	}
	var passwords []string
	for _, user := range []string{"worker", "api", "webhooks", "operators", "shop", "campaigns", "billing", "operator"} {
		passwords = append(passwords, strings.ToUpper(user)+"_PASSWORD=of-"+user)
	}
	r.start(passwords, filepath.Join(r.bin, "nats-server"), "-c", conf, "-a", "127.0.0.1", "-p", natsPort, "-js", "-sd", filepath.Join(r.dir, "secured"))
	r.redisOf(s.redisPort, "redis.conf", documented(t, "redis")+"user auditor on >auditor +acl|log\nport "+s.redisPort+"\n")
	r.until("nats", func() error {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+natsPort, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	s.env = []string{"PUSHFLEET_NATS_URL=" + s.url, "PUSHFLEET_REDIS_ADDRESSES=127.0.0.1:" + s.redisPort, "PUSHFLEET_REDIS_USERNAME=pushfleet", "PUSHFLEET_REDIS_PASSWORD=secret"}
	return s
}

// as is the environment of a process with a user of NATS.
func (s *secured) as(user string, more ...string) []string {
	return append(append(more, "PUSHFLEET_NATS_USER="+user, "PUSHFLEET_NATS_PASSWORD=of-"+user), s.env...)
}

// connect connects as a user of NATS. What the server refuses goes to denied.
func (s *secured) connect(user, inbox string, denied chan<- error) *nats.Conn {
	s.t.Helper()
	opts := []nats.Option{nats.UserInfo(user, "of-"+user), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if denied != nil {
			denied <- err
		}
	})}
	if inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(inbox))
	}
	nc, err := nats.Connect(s.url, opts...)
	if err != nil {
		s.t.Fatalf("connect as %s: %v", user, err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// received waits until the simulator has received a text for a device token.
func (s *secured) received(hex, text string) {
	s.t.Helper()
	s.until(text, func() error {
		ledger, err := s.get(s.adminURL + "/ledger?token=" + hex)
		if err == nil && !strings.Contains(string(ledger), text) {
			err = fmt.Errorf("ledger: %s", ledger)
		}
		return err
	})
}

// The documented permissions are enough for all that these users are for, and nobody is
// refused anything on the way.
func TestDocumentedPermissions(t *testing.T) {
	s := newSecured(t)
	hex := strings.Repeat("0a1b2c3d", 8)
	tok, err := device.ParseToken(hex)
	if err != nil {
		t.Fatal(err)
	}
	w := s.workerWith("w1", s.as("worker")...)
	apiAddr := "127.0.0.1:" + freePort(t)
	base := "http://" + apiAddr
	a := s.start(s.as("api", "PUSHFLEET_API_LISTEN="+apiAddr, "PUSHFLEET_API_GORUSH_ENABLED=true"), filepath.Join(s.bin, "pushfleet"), "api", "-c", s.config)
	s.until("the API", func() error {
		text, err := s.get(base + "/readyz")
		if err == nil && strings.Contains(string(text), "JetStream") {
			err = fmt.Errorf("/readyz: %s", text)
		}
		return err
	})
	key := s.keyWith(s.as("operator"), "--app", "shop", "--scope", "admin")
	call := func(method, path, body string, want int) string {
		t.Helper()
		status, text := s.http(http.DefaultClient, method, base+path, key, body)
		if status != want {
			t.Fatalf("%s %s: got %d %s, want %d", method, path, status, text, want)
		}
		return text
	}

	// A follower, live and by a durable.
	denied := make(chan error, 100)
	billing := s.connect("billing", "_INBOX_billing", denied)
	live, err := billing.SubscribeSync("push.outcomes.shop.>")
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(billing)
	if err != nil {
		t.Fatal(err)
	}
	durable, err := js.CreateOrUpdateConsumer(s.ctx, "OUTCOMES", jetstream.ConsumerConfig{Durable: "shop-billing", FilterSubject: "push.outcomes.shop.>", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatalf("durable of a follower: %v", err)
	}

	// A producer sends.
	jobs, err := producer.New(t.Context(), s.connect("shop", "_INBOX_shop", denied))
	if err != nil {
		t.Fatal(err)
	}
	j := &job.Job{ID: "one", To: job.Recipients{Tokens: []device.Token{tok}}, Notification: &job.Notification{Title: "from the producer"}}
	if _, err := jobs.Enqueue(s.ctx, "shop", job.Transactional, j); err != nil {
		t.Fatalf("enqueue: %v", err)
	}
	s.received(hex, "from the producer")
	if msg, err := live.NextMsgWithContext(s.ctx); err != nil || !strings.Contains(string(msg.Data), `"one"`) {
		t.Errorf("a follower, live: got %v, %v, want the job's outcome", msg, err)
	}
	msg, err := durable.Next(jetstream.FetchContext(s.ctx))
	if err != nil || !strings.Contains(string(msg.Data()), `"one"`) {
		t.Fatalf("a follower's durable: got %v, want the job's outcome", err)
	}
	if err := msg.DoubleAck(s.ctx); err != nil {
		t.Errorf("acknowledge: %v", err)
	}

	// The API: devices, jobs and what became of them, campaigns, gorush's counts.
	call(http.MethodPut, "/v1/apps/shop/devices/"+hex, `{"user":"ada","tags":["vip"]}`, 200)
	call(http.MethodPost, "/v1/apps/shop/notifications", `{"id":"two","to":{"users":["ada"]},"notification":{"title":"from the API"}}`, 202)
	s.received(hex, "from the API")
	s.until("the status", func() error {
		if text := call(http.MethodGet, "/v1/apps/shop/notifications/two", "", 200); !strings.Contains(text, `"state":"done"`) {
			return errors.New(text)
		}
		return nil
	})
	call(http.MethodGet, "/api/stat/app", "", 200)

	// What the fleet does: the workers are heard, and nothing of it is unknown.
	s.until("the fleet", func() error {
		text := call(http.MethodGet, "/v1/fleet", "", 200)
		if !strings.Contains(text, `"seen_at"`) || !strings.Contains(text, `"accepted":2`) || !strings.Contains(text, `"tripped":false`) || strings.Contains(text, `"unknown"`) {
			return errors.New(text)
		}
		return nil
	})
	const spring = `{"id":"spring","audience":{"tags":{"any":["vip"]}},"notification":{"title":"spring"},"start_at":"2100-01-01T00:00:00Z"}`
	call(http.MethodPost, "/v1/apps/shop/campaigns", spring, 200)
	call(http.MethodPost, "/v1/apps/shop/campaigns/spring/pause", "", 200)
	call(http.MethodGet, "/v1/apps/shop/campaigns", "", 200)
	call(http.MethodPost, "/v1/apps/shop/campaigns/spring/cancel", "", 200)

	// A campaign over the queue, and one that is cancelled while its ranges wait.
	campaigns := s.connect("campaigns", "_INBOX_campaigns", denied)
	publish := func(body string) {
		t.Helper()
		reply, err := campaigns.RequestWithContext(s.ctx, "push.campaigns.shop", []byte(body))
		if err != nil || !strings.Contains(string(reply.Data), `"stream":"JOBS"`) {
			t.Fatalf("publish a campaign: got %v, want it stored", err)
		}
	}
	publish(`{"id":"summer","audience":{"all":true},"notification":{"title":"summer"}}`)
	s.received(hex, "summer")
	publish(`{"id":"winter","audience":{"all":true},"notification":{"title":"winter"},"local_time":"00:00"}`)
	s.until("the campaign", func() error {
		_, text := s.http(http.DefaultClient, http.MethodGet, base+"/v1/apps/shop/campaigns/winter", key, "")
		if !strings.Contains(text, `"state":"running"`) && !strings.Contains(text, `"state":"scheduled"`) {
			return errors.New(text)
		}
		return nil
	})
	call(http.MethodPost, "/v1/apps/shop/campaigns/winter/cancel", "", 200)

	// What is no job is buried; devices over the queue are registered.
	shop := s.connect("operator", "", nil)
	letters, err := shop.SubscribeSync("push.dead.shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shop.RequestWithContext(s.ctx, "push.jobs.shop.bulk", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if _, err := letters.NextMsgWithContext(s.ctx); err != nil {
		t.Errorf("dead letter: %v", err)
	}
	other := strings.Repeat("0b", 32)
	if _, err := shop.RequestWithContext(s.ctx, "push.devices.shop", []byte(`{"action":"register","token":"`+other+`"}`)); err != nil {
		t.Fatal(err)
	}
	s.until("the device", func() error {
		if status, text := s.http(http.DefaultClient, http.MethodGet, base+"/v1/apps/shop/devices/"+other, key, ""); status != 200 {
			return errors.New(text)
		}
		return nil
	})

	for name, p := range map[string]*process{"worker": w, "api": a} {
		if err := s.stop(p); err != nil {
			t.Errorf("%s: %v, want a clean end", name, err)
		}
		if text := p.out.String(); strings.Contains(strings.ToLower(text), "violation") || strings.Contains(text, "NOPERM") {
			t.Errorf("%s was refused something:\n%s", name, text)
		}
	}
	select {
	case err := <-denied:
		t.Errorf("a user was refused something: %v", err)
	default:
	}
	text, err := s.redisLog()
	if err != nil || text != "[]" {
		t.Errorf("Redis refused something: %s, %v", text, err)
	}
}

// The documented permissions are enough for an API that tells webhooks.
func TestDocumentedPermissionsOfWebhooks(t *testing.T) {
	s := newSecured(t)
	bodies := make(chan string, 10)
	tries := 0 // of one POST, one after the other
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if tries++; err != nil || tries == 1 {
			w.WriteHeader(http.StatusInternalServerError) // it is handed back, and comes again
			return
		}
		bodies <- string(body)
	}))
	t.Cleanup(backend.Close)
	addr := "127.0.0.1:" + freePort(t)
	a := s.start(s.as("webhooks", "PUSHFLEET_API_LISTEN="+addr, "PUSHFLEET_APPS_SHOP_WEBHOOK_URL="+backend.URL,
		"PUSHFLEET_APPS_SHOP_WEBHOOK_SECRETS=whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "PUSHFLEET_APPS_SHOP_WEBHOOK_ALLOW_PRIVATE=true"),
		filepath.Join(s.bin, "pushfleet"), "api", "-c", s.config)
	s.until("the webhook", func() error {
		text, err := s.get("http://" + addr + "/metrics")
		if err == nil && !strings.Contains(string(text), `pushfleet_webhook_lag_seconds{app="shop"} 0`) {
			err = errors.New("no lag is told")
		}
		return err
	})
	s.workerWith("w1", s.as("worker")...)
	denied := make(chan error, 100)
	body := `{"id":"one","to":{"tokens":["` + strings.Repeat("0a1b2c3d", 8) + `"]},"notification":{"title":"x"}}`
	if _, err := s.connect("shop", "_INBOX_shop", denied).RequestWithContext(s.ctx, "push.jobs.shop.transactional", []byte(body)); err != nil {
		t.Fatalf("publish a job: %v", err)
	}
	select {
	case body := <-bodies:
		if !strings.Contains(body, `"one"`) {
			t.Errorf("got %s, want the job's outcome", body)
		}
	case <-s.ctx.Done():
		t.Fatal("no POST came")
	}
	// What takes a day to be given up.
	nc := s.connect("webhooks", "", denied)
	if reply, err := nc.RequestWithContext(s.ctx, "push.dead.shop", []byte("x")); err != nil || !strings.Contains(string(reply.Data), `"stream":"DEAD"`) {
		t.Errorf("a dead letter: got %v, want it stored", err)
	}
	if err := s.stop(a); err != nil {
		t.Errorf("api: %v, want a clean end", err)
	}
	if text := a.out.String(); strings.Contains(strings.ToLower(text), "violation") || strings.Contains(text, "cannot") {
		t.Errorf("it was refused something:\n%s", text)
	}
	select {
	case err := <-denied:
		t.Errorf("a user was refused something: %v", err)
	default:
	}
}

// redisLog is what Redis has refused, as JSON.
func (s *secured) redisLog() (string, error) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + s.redisPort, Username: "auditor", Password: "auditor"})
	defer client.Close()
	entries, err := client.ACLLog(s.ctx, 10).Result()
	if err != nil {
		return "", err
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Reason+" "+e.Object)
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// What the documented users must not, they cannot.
func TestDocumentedPermissionsRefuse(t *testing.T) {
	s := newSecured(t)
	s.workerWith("w1", s.as("worker")...) // there is something to be refused
	for _, tt := range []struct {
		user, inbox        string
		publish, subscribe []string
	}{
		{
			"shop", "_INBOX_shop",
			[]string{
				"push.workers.w1", "push.jobs.news.transactional", "push.campaigns.shop", "push.devices.shop", "push.outcomes.shop.transactional", "push.dead.shop", "push.ranges.shop.spring",
				"$JS.API.STREAM.INFO.JOBS", "$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.JOBS", "$JS.API.STREAM.MSG.GET.JOBS", "$JS.API.DIRECT.GET.OUTCOMES",
				"$JS.API.CONSUMER.MSG.NEXT.JOBS.shop-transactional", "$JS.ACK.JOBS.shop-transactional.1.1.1.1.0", "$KV.pushfleet-campaigns.shop.spring", "$KV.pushfleet.fuse.shop.production",
			},
			[]string{"push.jobs.>", "push.outcomes.shop.>", "push.dead.shop", "push.workers.*", "_INBOX.>", ">", "$KV.>"},
		},
		{
			"campaigns", "_INBOX_campaigns",
			[]string{"push.jobs.shop.bulk", "push.campaigns.news", "push.ranges.shop.spring", "$KV.pushfleet-campaigns.shop.spring", "$JS.API.STREAM.INFO.JOBS"},
			[]string{"push.campaigns.shop", "_INBOX.>", "_INBOX_shop.>"},
		},
		{
			"billing", "_INBOX_billing",
			[]string{
				"push.jobs.shop.transactional", "push.outcomes.shop.transactional", "$JS.API.CONSUMER.CREATE.OUTCOMES.shop-billing.push.outcomes.news.>",
				"$JS.API.CONSUMER.CREATE.OUTCOMES.other.push.outcomes.shop.>", "$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.recorder", "$JS.ACK.OUTCOMES.recorder.1.1.1.1.0",
				"$JS.API.CONSUMER.DELETE.OUTCOMES.recorder", "$JS.API.STREAM.MSG.GET.OUTCOMES", "$JS.API.CONSUMER.MSG.NEXT.JOBS.shop-transactional",
			},
			[]string{"push.outcomes.news.>", "push.outcomes.>", "_INBOX.>"},
		},
		{
			"worker", "",
			[]string{
				"push.jobs.shop.transactional", "push.campaigns.shop", "push.devices.shop", "$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.OUTCOMES",
				"$JS.API.STREAM.MSG.DELETE.DEAD", "$JS.API.STREAM.DELETE.KV_pushfleet",
			},
			[]string{"push.jobs.>", "push.workers.*", "_INBOX_shop.>", ">"},
		},
		{
			"api", "",
			[]string{
				"push.outcomes.shop.transactional", "push.dead.shop", "push.ranges.shop.spring", "push.devices.shop", "push.workers.w1", "$KV.pushfleet.fuse.shop.production",
				"$JS.API.CONSUMER.MSG.NEXT.JOBS.shop-transactional", "$JS.ACK.JOBS.shop-transactional.1.1.1.1.0", "$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.JOBS",
				"$JS.API.CONSUMER.CREATE.JOBS.thief.push.jobs.shop.transactional",
			},
			[]string{"push.jobs.>", "push.outcomes.>", "_INBOX_shop.>"},
		},
		{
			"operators", "",
			[]string{
				"push.outcomes.shop.transactional", "push.dead.shop", "push.ranges.shop.spring", "push.devices.shop", "push.workers.w1", "$KV.pushfleet-workers.w1", "$KV.pushfleet.other",
				"$JS.API.CONSUMER.MSG.NEXT.JOBS.shop-transactional", "$JS.ACK.JOBS.shop-transactional.1.1.1.1.0", "$JS.API.STREAM.DELETE.DEAD", "$JS.API.STREAM.PURGE.JOBS", "$JS.API.STREAM.PURGE.OUTCOMES",
				"$JS.API.STREAM.MSG.DELETE.JOBS", "$JS.API.STREAM.MSG.DELETE.OUTCOMES", "$JS.API.CONSUMER.CREATE.JOBS.thief.push.jobs.shop.transactional",
				"$JS.API.CONSUMER.CREATE.OUTCOMES.recorder.push.outcomes.>", "$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.recorder", "$JS.API.CONSUMER.DELETE.OUTCOMES.recorder", "$JS.ACK.OUTCOMES.recorder.1.1.1.1.0",
				"$JS.API.CONSUMER.MSG.NEXT.WEBHOOKS.shop",
			},
			[]string{"push.jobs.>", "push.outcomes.>", "push.dead.>", "push.webhooks.>", "_INBOX_shop.>"},
		},
		{
			"webhooks", "",
			[]string{
				"push.webhooks.news", "push.dead.news", "push.outcomes.shop.transactional", "$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.recorder", "$JS.ACK.OUTCOMES.recorder.1.1.1.1.0",
				"$JS.API.CONSUMER.CREATE.OUTCOMES.thief.push.outcomes.shop.>", "$JS.API.CONSUMER.MSG.NEXT.WEBHOOKS.news", "$JS.API.CONSUMER.MSG.NEXT.JOBS.shop-transactional",
			},
			[]string{"push.webhooks.>", "push.outcomes.>", "_INBOX_shop.>"},
		},
	} {
		denied := make(chan error, 1)
		nc := s.connect(tt.user, tt.inbox, denied)
		refused := func(what, subject string, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if err := nc.FlushWithContext(s.ctx); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-denied:
				if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
					t.Errorf("%s, %s %s: got %v, want it refused", tt.user, what, subject, err)
				}
			case <-time.After(2 * time.Second): // the server said it before it answered the flush
				t.Errorf("%s, %s %s: got it done, want it refused", tt.user, what, subject)
			}
		}
		for _, subject := range tt.publish {
			refused("publish", subject, nc.Publish(subject, []byte("{}")))
		}
		for _, subject := range tt.subscribe {
			_, err := nc.SubscribeSync(subject)
			refused("subscribe", subject, err)
		}
	}
	if nc, err := nats.Connect(s.url); err == nil {
		nc.Close()
		t.Error("nobody: got a connection, want it refused")
	}

	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + s.redisPort, Username: "pushfleet", Password: "secret"})
	defer client.Close()
	for _, args := range [][]any{
		{"FLUSHALL"},
		{"FLUSHDB"},
		{"KEYS", "*"},
		{"SCAN", "0"},
		{"CONFIG", "SET", "maxmemory", "1"},
		{"SHUTDOWN"},
		{"ACL", "LIST"},
		{"GET", "other"},
		{"HGETALL", "other"},
		{"EVAL", "return redis.call('GET', KEYS[1])", "1", "other"},
		{"EVAL", "return redis.call('FLUSHALL')", "0"},
		{"SUBSCRIBE", "x"},
		{"PUBLISH", "x", "y"},
		{"CLIENT", "KILL", "TYPE", "normal"},
		{"SCRIPT", "FLUSH"},
		{"REPLICAOF", "NO", "ONE"},
		{"MIGRATE", "h", "1", "k", "0", "1"},
	} {
		if err := client.Do(s.ctx, args...).Err(); err == nil || !regexp.MustCompile("NOPERM|permission|can't run this command").MatchString(err.Error()) {
			t.Errorf("%v: got %v, want it refused", args, err)
		}
	}
	anybody := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + s.redisPort})
	defer anybody.Close()
	if err := anybody.Ping(s.ctx).Err(); err == nil {
		t.Error("nobody: got an answer, want it refused")
	}
}
