// Package deploy_test holds the files of deploy, docker-compose.yml and the
// Makefile to each other and to the code: what they say twice must be the same.
// What Docker would say of them is checked in deploy/check.
package deploy_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pushfleet/pushfleet/config"
)

type compose struct {
	Services map[string]struct {
		Image           string
		Command         []string
		Volumes         []string
		Environment     map[string]string
		StopGracePeriod string `yaml:"stop_grace_period"`
		Configs         []struct{ Source, Target string }
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, "../docker-compose.yml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func fleet(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Load("compose/pushfleet.yaml", nil)
	if err != nil {
		t.Fatalf("compose/pushfleet.yaml:\n%v", err)
	}
	return cfg
}

// one returns the only submatch of a pattern.
func one(t *testing.T, text, pattern string) string {
	t.Helper()
	all := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if len(all) != 1 {
		t.Fatalf("got %d matches of %s, want 1", len(all), pattern)
	}
	return all[0][1]
}

func TestFleetFindsItsParts(t *testing.T) {
	t.Parallel()
	c, cfg := readCompose(t), fleet(t)
	demo, ok := cfg.Apps["demo"]
	if !ok || demo.Endpoint == nil {
		t.Fatalf("got apps %v, want demo with an endpoint", cfg.Apps)
	}
	for what, host := range map[string]string{
		cfg.NATS.URL:           "nats://nats:4222",
		demo.Endpoint.URL:      "https://sim:2197",
		cfg.Redis.Addresses[0]: "redis:6379",
	} {
		if what != host {
			t.Errorf("got %s, want %s", what, host)
		}
		name := one(t, host, `^(?:[a-z]+://)?([a-z]+):[0-9]+$`)
		if _, ok := c.Services[name]; !ok {
			t.Errorf("%s: got no service %s", host, name)
		}
	}

	// The worker reads what the simulator writes, by way of one volume.
	volume := func(service string) (from, to string) {
		for _, v := range c.Services[service].Volumes {
			if parts := strings.Split(v, ":"); parts[0] == "sim" {
				return parts[0], parts[1]
			}
		}
		t.Fatalf("%s: got no volume sim", service)
		return "", ""
	}
	_, out := volume("sim")
	if i := slices.Index(c.Services["sim"].Command, "--out"); i < 0 || c.Services["sim"].Command[i+1] != out {
		t.Errorf("the simulator writes elsewhere than to %s: %q", out, c.Services["sim"].Command)
	}
	_, in := volume("worker")
	for _, file := range []string{demo.Credentials[0].Key.Path, demo.Endpoint.CAFile} {
		if path.Dir(file) != in {
			t.Errorf("the worker looks for %s, want it in %s", file, in)
		}
	}

	// The image's own directory decides who owns the volume.
	if dockerfile := read(t, "Dockerfile"); !strings.Contains(dockerfile, "--chown=65532:65532 /out/data "+out+"\n") {
		t.Errorf("the image has no %s of its user", out)
	}
	for _, name := range []string{"api", "sim", "worker"} {
		if got := c.Services[name].Command[0]; got != name {
			t.Errorf("%s: got command %s", name, got)
		}
	}
}

func TestVersionsThatWeNeed(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	minor, err := strconv.Atoi(one(t, c.Services["nats"].Image, `^nats:2\.(\d+)-alpine$`))
	if err != nil || minor < 14 {
		t.Errorf("got image %s, want NATS 2.14 or newer", c.Services["nats"].Image)
	}
	want := one(t, read(t, "../go.mod"), `(?m)^go (\d+\.\d+)`)
	if got := one(t, read(t, "Dockerfile"), `FROM --platform=\$BUILDPLATFORM golang:([0-9.]+)-alpine`); got != want {
		t.Errorf("Dockerfile: got Go %s, want %s of go.mod", got, want)
	}
	for _, name := range []string{"check", "check-helm"} {
		if got := one(t, read(t, name+"/go.mod"), `(?m)^go (\d+\.\d+)`); got != want {
			t.Errorf("deploy/%s: got Go %s, want %s of go.mod", name, got, want)
		}
	}
}

func TestRedisKeepsTheTokenSet(t *testing.T) {
	t.Parallel()
	command := strings.Join(readCompose(t).Services["redis"].Command, " ")
	for _, want := range []string{
		"--appendonly yes", "--maxmemory-policy noeviction", "--hash-max-listpack-entries 512", "--hash-max-listpack-value 64",
	} {
		if !strings.Contains(command, want) {
			t.Errorf("got %s, want %s", command, want)
		}
	}
}

func TestDrainFitsIntoTheGracePeriod(t *testing.T) {
	t.Parallel()
	cfg := fleet(t)
	for name, drain := range map[string]time.Duration{"worker": cfg.Worker.DrainTimeout, "api": cfg.API.DrainTimeout} {
		got, err := time.ParseDuration(readCompose(t).Services[name].StopGracePeriod)
		if err != nil {
			t.Fatal(err)
		}
		if got <= drain {
			t.Errorf("%s: got a grace period of %s, want more than %s to drain", name, got, drain)
		}
	}
}

func TestDockerfileSaysWhatTheCodeSays(t *testing.T) {
	t.Parallel()
	dockerfile, makefile := read(t, "Dockerfile"), read(t, "../Makefile")
	port := strings.TrimPrefix(fleet(t).Worker.Listen, ":")
	if got := one(t, dockerfile, `(?m)^EXPOSE (\d+)$`); got != port {
		t.Errorf("exposed: got %s, want %s", got, port)
	}
	if got, want := one(t, dockerfile, `"probe", "([^"]+)"`), "http://127.0.0.1:"+port+"/readyz"; got != want {
		t.Errorf("health check: got %s, want %s", got, want)
	}
	for _, flag := range []string{"CGO_ENABLED=0", "-trimpath", "-buildvcs=false", "-tags timetzdata", "-s -w -buildid= -X main.version="} {
		for name, text := range map[string]string{"Dockerfile": dockerfile, "Makefile": makefile} {
			if !strings.Contains(text, flag) {
				t.Errorf("%s: got no %s, want the same build everywhere", name, flag)
			}
		}
	}
}
