package check_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// load reads a compose file as `docker compose config` does: schema, anchors,
// references between services, volumes and configs.
func load(t *testing.T, path string, profiles ...string) (*types.Project, error) {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{path}, cli.WithInterpolation(true), cli.WithResolvedPaths(true), cli.WithProfiles(profiles))
	if err != nil {
		t.Fatal(err)
	}
	return opts.LoadProject(t.Context())
}

func TestCompose(t *testing.T) {
	t.Parallel()
	project, err := load(t, "../../docker-compose.yml", "sim", "observe")
	if err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	if got, want := project.ServiceNames(), []string{"api", "grafana", "nats", "prometheus", "redis", "sim", "worker"}; !slices.Equal(got, want) {
		t.Errorf("got services %q, want %q", got, want)
	}
	for name, service := range project.Services {
		// Ours takes its health check from the image, unless it is no worker.
		if service.HealthCheck == nil && name != "worker" {
			t.Errorf("%s: got no health check", name)
		}
		if !service.ReadOnly && name != "nats" && name != "redis" { // which are not ours
			t.Errorf("%s: its file system can be written to", name)
		}
		for _, v := range service.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s: mounts %s: %v, read only %t, want it to be there and read only", name, v.Source, err, v.ReadOnly)
			}
		}
		for dependency, how := range service.DependsOn {
			if how.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s: waits for %s to be %s, want %s", name, dependency, how.Condition, types.ServiceConditionHealthy)
			}
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: publishes %s on %q, want 127.0.0.1 only", name, port.Published, port.HostIP)
			}
		}
		if service.Build != nil {
			dockerfile := service.Build.Dockerfile
			if !filepath.IsAbs(dockerfile) {
				dockerfile = filepath.Join(service.Build.Context, dockerfile)
			}
			if _, err := os.Stat(dockerfile); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, one := range project.Configs {
		if _, err := os.Stat(one.File); err != nil {
			t.Errorf("config %s: %v", name, err)
		}
	}
	worker := project.Services["worker"]
	if got := worker.GetScale(); got != 2 {
		t.Errorf("got %d workers, want 2", got)
	}
	// Two of either would keep a second worker from starting.
	if worker.ContainerName != "" || len(worker.Ports) != 0 {
		t.Errorf("worker: got container name %q and ports %v, want none", worker.ContainerName, worker.Ports)
	}
}

// Without profiles there is what it takes to send to Apple.
func TestComposeWithoutTheSimulator(t *testing.T) {
	t.Parallel()
	project, err := load(t, "../../docker-compose.yml")
	if err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	if got, want := project.ServiceNames(), []string{"api", "nats", "redis", "worker"}; !slices.Equal(got, want) {
		t.Errorf("got services %q, want %q", got, want)
	}
}

// TestComposeIsChecked: a loader that takes everything would prove nothing.
func TestComposeIsChecked(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"unknown key":       "services: {a: {image: x, helthcheck: {}}}",
		"unknown volume":    "services: {a: {image: x, volumes: ['data:/x']}}",
		"unknown config":    "services: {a: {image: x, configs: [c]}}",
		"unknown service":   "services: {a: {image: x, depends_on: [b]}}",
		"no such condition": "services: {a: {image: x, depends_on: {b: {condition: soon}}}, b: {image: x}}",
	} {
		path := filepath.Join(t.TempDir(), "compose.yml")
		if err := os.WriteFile(path, []byte("name: x\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(t, path); err == nil {
			t.Errorf("%s: got no complaint", name)
		}
	}
}

// lint parses a Dockerfile as BuildKit does, and returns its warnings as well.
func lint(data []byte) (stages []instructions.Stage, warnings []string, err error) {
	parsed, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	for _, w := range parsed.Warnings {
		warnings = append(warnings, w.Short)
	}
	l := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		warnings = append(warnings, rule+": "+message)
	}})
	stages, _, err = instructions.Parse(parsed.AST, l)
	return stages, warnings, err
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, warnings, err := lint(data)
	if err != nil {
		t.Fatalf("Dockerfile: %v", err)
	}
	for _, w := range warnings {
		t.Errorf("Dockerfile: %s", w)
	}
	if len(stages) != 2 {
		t.Fatalf("got %d stages, want a build and an image", len(stages))
	}
	image := stages[1]
	if image.BaseName != "scratch" {
		t.Errorf("got base %s, want scratch: no shell in the image", image.BaseName)
	}
	var user, health, entrypoint, certificates, licence bool
	for _, command := range image.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User != "" && c.User != "0" && c.User != "root"
		case *instructions.HealthCheckCommand:
			health = len(c.Health.Test) > 1 && c.Health.Test[0] == "CMD"
		case *instructions.EntrypointCommand:
			entrypoint = !c.PrependShell
		case *instructions.CmdCommand:
			if c.PrependShell {
				t.Errorf("got CMD %q in shell form, there is no shell", c.CmdLine)
			}
		case *instructions.RunCommand:
			t.Error("got RUN in the image, there is nothing to run it with")
		case *instructions.CopyCommand:
			certificates = certificates || slices.ContainsFunc(c.SourcePaths, func(p string) bool { return strings.HasSuffix(p, "ca-certificates.crt") })
			if c.From != stages[0].Name {
				t.Errorf("got COPY from %q, want %q", c.From, stages[0].Name)
			}
		case *instructions.LabelCommand:
			licence = licence || slices.ContainsFunc(c.Labels, func(kv instructions.KeyValuePair) bool {
				return kv.Key == "org.opencontainers.image.licenses" && strings.Trim(kv.Value, `"`) == "Apache-2.0"
			})
		}
	}
	for what, there := range map[string]bool{
		"a user that is not root": user, "a health check without shell": health, "an entrypoint without shell": entrypoint,
		"CA certificates": certificates, "the licence as a label": licence,
	} {
		if !there {
			t.Errorf("the image lacks %s", what)
		}
	}
}

// TestDockerfileIsChecked: the same for Dockerfiles.
func TestDockerfileIsChecked(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"unknown instruction": "FROM scratch\nCOPPY a b\n",
		"deprecated":          "FROM scratch\nMAINTAINER x\n",
		"shell form":          "FROM scratch AS Image\nCMD worker\n",
	} {
		_, warnings, err := lint([]byte(text))
		if err == nil && len(warnings) == 0 {
			t.Errorf("%s: got no complaint", name)
		}
	}
}
