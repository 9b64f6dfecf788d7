package layers_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pushfleet/pushfleet"

// room is a directory and all below it, except what is a room of its own.
type room struct {
	dir  string
	may  []string // rooms that it may import, besides its own packages
	pure bool     // no I/O, no logging, no metrics
}

// rooms is the house. What is not in it has no place yet: put it where it belongs.
var rooms = []room{
	// layer 0: the contract, pure rules.
	{dir: "device", may: []string{"internal/strictjson"}, pure: true},
	{dir: "job", may: []string{"device", "internal/strictjson"}, pure: true},
	{dir: "internal/strictjson", pure: true},
	{dir: "internal/clock"},
	{dir: "internal/remote"},
	{dir: "campaign", may: []string{"device", "job", "internal/strictjson"}, pure: true},
	{dir: "web"},
	{dir: "roster", may: []string{"device", "campaign"}, pure: true},

	// layer 1: one outside system each; they never import each other.
	{dir: "stream", may: layer0},
	{dir: "store", may: layer0},
	{dir: "apns", may: append([]string{"apns/internal/h2"}, layer0...)},
	{dir: "apns/internal/h2", may: layer0},
	{dir: "apns/apnstest", may: append([]string{"apns"}, layer0...)},

	// between: what two outside systems tell together, for api and cmd.
	{dir: "explain", may: slices.Concat(layer0, []string{"stream", "store"})},
	{dir: "overview", may: slices.Concat(layer0, []string{"stream", "store"})},

	// layer 2: the roles; they never import each other.
	{dir: "producer", may: slices.Concat(layer0, []string{"stream", "roster"})},
	{dir: "worker", may: slices.Concat(layer0, layer1)},
	{dir: "feedback", may: slices.Concat(layer0, layer1)},
	{dir: "api", may: slices.Concat(layer0, layer1, []string{"explain", "overview"})},

	// layer 3 and 4: settings, wiring.
	{dir: "config", may: slices.Concat(layer0, layer1, layer2)},
	{dir: "cmd", may: slices.Concat(layer0, layer1, layer2, []string{"explain", "overview", "config", "apns/apnstest", "internal/clock", "internal/embedded", "internal/remote", "roster"})},

	// for tests, demo and dev.
	{dir: "internal/embedded"},
	{dir: "internal/testenv", may: slices.Concat(layer0, layer1, []string{"apns/apnstest", "internal/embedded"})},
	{dir: "internal/chaos", may: slices.Concat(layer0, layer1, []string{"producer", "apns/apnstest", "internal/testenv"})},
	{dir: "internal/layers"},
	{dir: "deploy"},
}

var (
	layer0 = []string{"device", "job", "campaign", "web", "internal/strictjson"}
	layer1 = []string{"stream", "store", "apns"}
	layer2 = []string{"producer", "worker", "feedback", "api"}
)

// keepers names, for what comes from outside, the rooms that may import it. All
// that begins with from is meant.
var keepers = []struct {
	from string
	in   []string
}{
	{"github.com/nats-io/nats.go", []string{"stream", "producer", "cmd", "internal/embedded", "internal/testenv"}},
	{"github.com/nats-io/nats-server/", []string{"internal/embedded", "internal/testenv"}},
	{"github.com/redis/go-redis/", []string{"store", "cmd", "internal/embedded", "internal/testenv"}},
	{"github.com/alicebob/miniredis/", []string{"internal/embedded", "internal/testenv"}},
	{"github.com/sideshow/apns2", []string{"apns", "apns/apnstest", "cmd"}}, // cmd: bench measures it beside the engine
	{"github.com/spf13/cobra", []string{"cmd"}},
	{"github.com/schollz/progressbar/", []string{"cmd"}},
	{"github.com/robfig/cron/", []string{"campaign"}},
	{"go.yaml.in/yaml/", []string{"config"}},
	{"go.opentelemetry.io/otel", []string{"stream", "producer", "worker", "api", "cmd"}},
	{"go.opentelemetry.io/otel/sdk", []string{"cmd"}}, // the others get what they need handed in
	{"go.opentelemetry.io/otel/exporters/", []string{"cmd"}},
}

// io is what a pure room does without. A name that ends in a slash, or that holds
// a dot, means all that begins with it.
var io = []string{
	"net", "net/http", "net/http/", "net/rpc", "net/smtp", "crypto/tls", "database/",
	"os", "os/", "io/ioutil", "syscall", "golang.org/x/sys/", "golang.org/x/net/",
	"log", "log/", "go.uber.org/zap", "github.com/prometheus/", "github.com/nats-io/", "github.com/redis/",
}

// reach is about what is imported at any distance, by way of the module's own
// packages: services link the producer, and must not get our server with it.
var reach = []struct {
	from  string
	never []string
}{
	{"producer", []string{
		module + "/store", module + "/apns", module + "/worker", module + "/feedback", module + "/api", module + "/config",
		"github.com/redis/", "github.com/sideshow/apns2", "github.com/nats-io/nats-server/", "github.com/alicebob/miniredis/",
		"github.com/prometheus/", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters/",
	}},
}

// calls are functions with a place of their own. Names that begin with a dot are
// methods, of whatever they are called on.
var calls = []struct {
	names []string
	in    []string
	why   string
}{
	{[]string{"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", ".Fatal", ".Fatalf"}, []string{"cmd"}, "only main ends the process"},
	{[]string{"os.Getenv", "os.LookupEnv", "os.Environ"}, []string{"cmd", "internal/testenv"}, "settings from the environment are read in cmd and handed down"},
}

// doors are the rooms that may take the time of day from time.Now themselves. All
// others may use it for what lies between two times, which is monotonic, and get the
// time of day handed down (internal/clock): a step of the machine's clock must not be
// able to expire everything at once.
var doors = []string{"internal/clock", "internal/embedded", "internal/testenv", "apns/apnstest", "cmd"}

// wallMethods are what makes a time of day of time.Now().
var wallMethods = []string{
	"AddDate", "Append", "AppendFormat", "Clock", "Date", "Day", "Format", "Hour", "In", "ISOWeek", "Local", "MarshalJSON",
	"Minute", "Month", "Round", "Second", "String", "Truncate", "Unix", "UnixMicro", "UnixMilli", "UnixNano", "UTC", "Weekday", "Year", "YearDay",
}

// hollow are package names that say nothing of what is inside.
var hollow = []string{"util", "utils", "common", "helper", "helpers", "types", "interfaces", "structs", "mocks", "misc", "shared", "base"}

// source is one Go file, as far as the rules go.
type source struct {
	path, dir, pkg string // path and dir from the module's root, with slashes
	test           bool
	imports        map[string]int // import path -> line
	calls          map[string]int // "os.Exit" or ".Fatal" -> line
	wall           map[string]int // method called on time.Now() -> line
}

// read parses one file; src nil reads it from disk.
func read(root, name string, src any) (source, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join(root, filepath.FromSlash(name)), src, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{
		path: name, dir: path.Dir(name), pkg: f.Name.Name,
		test:    strings.HasSuffix(name, "_test.go"),
		imports: make(map[string]int), calls: make(map[string]int), wall: make(map[string]int),
	}
	known := make(map[string]string) // the name in this file -> import path
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports[p] = fset.Position(spec.Pos()).Line
		local := path.Base(p)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		known[local] = p
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name := "." + sel.Sel.Name
		if x, ok := sel.X.(*ast.Ident); ok && known[x.Name] != "" {
			name = known[x.Name] + name
		}
		s.calls[name] = fset.Position(sel.Pos()).Line
		if call, ok := sel.X.(*ast.CallExpr); ok {
			of, ok := call.Fun.(*ast.SelectorExpr)
			if pkg, isName := selected(of, ok); isName && known[pkg] == "time" && of.Sel.Name == "Now" {
				s.wall[sel.Sel.Name] = fset.Position(sel.Pos()).Line
			}
		}
		return true
	})
	return s, nil
}

// selected returns the name that sel selects from, if it is one.
func selected(sel *ast.SelectorExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return x.Name, true
}

// roomOf returns the room that a directory or import path is in.
func roomOf(dir string) (room, bool) {
	dir = strings.TrimPrefix(dir, module+"/")
	var found room
	for _, r := range rooms {
		if (dir == r.dir || strings.HasPrefix(dir, r.dir+"/")) && len(r.dir) > len(found.dir) {
			found = r
		}
	}
	return found, found.dir != ""
}

// begins reports whether an import path is meant by one of the names.
func begins(p string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return p == name || strings.HasPrefix(p, name) && (strings.HasSuffix(name, "/") || strings.Contains(name, "."))
	})
}

// violations holds the files to the rules.
func violations(files []source) []string {
	var out []string
	for _, s := range files {
		complain := func(line int, format string, args ...any) {
			out = append(out, fmt.Sprintf("%s:%d: ", s.path, line)+fmt.Sprintf(format, args...))
		}
		here, ok := roomOf(s.dir)
		if !ok {
			complain(1, "directory %s is no room of the house", s.dir)
			continue
		}
		if slices.Contains(hollow, strings.TrimSuffix(s.pkg, "_test")) {
			complain(1, "package %s: name it after what it holds", s.pkg)
		}
		if s.test {
			continue // a test may stand its package up with whatever it takes
		}
		for p, line := range s.imports {
			switch there, ours := roomOf(p); {
			case p == module || strings.HasPrefix(p, module+"/") && !ours:
				complain(line, "%s is no room of the house", p)
			case strings.HasPrefix(p, module+"/") && there.dir != here.dir && !slices.Contains(here.may, there.dir):
				complain(line, "%s must not import %s", here.dir, there.dir)
			}
			if here.pure && begins(p, io) {
				complain(line, "%s is pure and must not import %s", here.dir, p)
			}
			for _, k := range keepers {
				if strings.HasPrefix(p, k.from) && !slices.Contains(k.in, here.dir) {
					complain(line, "%s must not import %s: it is for %s", here.dir, p, strings.Join(k.in, ", "))
				}
			}
		}
		_, forTests := s.imports["testing"]
		for _, c := range calls {
			for _, name := range c.names {
				line, called := s.calls[name]
				if !called || slices.Contains(c.in, here.dir) || forTests && strings.HasPrefix(name, ".") {
					continue
				}
				complain(line, "%s must not call %s: %s", here.dir, strings.TrimPrefix(name, "."), c.why)
			}
		}
		for _, method := range wallMethods {
			if line, called := s.wall[method]; called && !slices.Contains(doors, here.dir) {
				complain(line, "%s must not take the time of day from time.Now().%s: it is handed down, from internal/clock", here.dir, method)
			}
		}
		if s.pkg == "main" && here.dir != "cmd" {
			complain(1, "package main is for cmd")
		}
	}
	return slices.Sorted(slices.Values(append(out, distant(files)...)))
}

// distant holds the rules of reach.
func distant(files []source) []string {
	imports := make(map[string]map[string]string) // package directory -> import -> file
	for _, s := range files {
		if s.test {
			continue
		}
		if imports[s.dir] == nil {
			imports[s.dir] = make(map[string]string)
		}
		for p := range s.imports {
			imports[s.dir][p] = s.path
		}
	}
	var out []string
	for _, r := range reach {
		way := map[string]string{r.from: r.from}
		for queue := []string{r.from}; len(queue) > 0; queue = queue[1:] {
			dir := queue[0]
			for p, file := range imports[dir] {
				if begins(p, r.never) {
					out = append(out, fmt.Sprintf("%s:1: %s must not reach %s (by %s)", file, r.from, p, way[dir]))
					continue
				}
				if next, ours := strings.CutPrefix(p, module+"/"); ours && way[next] == "" {
					way[next] = way[dir] + " -> " + next
					queue = append(queue, next)
				}
			}
		}
	}
	return out
}

// tree reads every Go file of the module; other modules inside it are not ours.
func tree(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []source
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p == root {
				return nil
			}
			if name := d.Name(); name == "testdata" || name == "bin" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		s, err := read(root, filepath.ToSlash(rel), nil)
		if err != nil {
			return err
		}
		files = append(files, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheHouse(t *testing.T) {
	t.Parallel()
	files := tree(t)
	if !slices.ContainsFunc(files, func(s source) bool { return s.path == "device/token.go" }) {
		t.Fatalf("got %d files without device/token.go: this is not the whole module", len(files))
	}
	for _, v := range violations(files) {
		t.Error(v)
	}
}

// TestWhatServicesLink asks the go command what a service gets that imports producer,
// at any distance and by other modules too.
func TestWhatServicesLink(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"/producer").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/nats-io/nats.go/jetstream") {
		t.Fatalf("got %d packages without NATS: these are not all", len(deps))
	}
	never := append(slices.Clone(reach[0].never), "github.com/spf13/", "google.golang.org/grpc", "google.golang.org/protobuf")
	for _, p := range deps {
		if begins(p, never) {
			t.Errorf("producer must not reach %s", p)
		}
	}
}

// TestViolations breaks each rule once.
func TestViolations(t *testing.T) {
	t.Parallel()
	type file struct{ path, src string }
	imports := func(path, imported string) file {
		return file{path, "package p\nimport _ " + strconv.Quote(imported) + "\n"}
	}
	ours := func(path, dir string) file { return imports(path, module+"/"+dir) }
	tests := []struct {
		name  string
		files []file
		want  []string
	}{
		{"job uses device", []file{ours("job/x.go", "device")}, nil},
		{"device uses job", []file{ours("device/x.go", "job")}, []string{"device/x.go:2: device must not import job"}},
		{"campaign uses job", []file{ours("campaign/x.go", "job")}, nil},
		{"job uses campaign", []file{ours("job/x.go", "campaign")}, []string{"job/x.go:2: job must not import campaign"}},
		{"job opens files", []file{imports("job/x.go", "os")}, []string{"job/x.go:2: job is pure and must not import os"}},
		{"job listens to signals", []file{imports("job/x.go", "os/signal")}, []string{"job/x.go:2: job is pure and must not import os/signal"}},
		{"job reads URLs", []file{imports("job/x.go", "net/url")}, nil},
		{"job dials", []file{imports("job/x.go", "net")}, []string{"job/x.go:2: job is pure and must not import net"}},
		{"device logs", []file{imports("device/x.go", "go.uber.org/zap/zapcore")}, []string{"device/x.go:2: device is pure and must not import go.uber.org/zap/zapcore"}},
		{"store uses stream", []file{ours("store/x.go", "stream")}, []string{"store/x.go:2: store must not import stream"}},
		{"apns uses its engine", []file{ours("apns/x.go", "apns/internal/h2")}, nil},
		{"worker uses the engine", []file{ours("worker/x.go", "apns/internal/h2")}, []string{"worker/x.go:2: worker must not import apns/internal/h2"}},
		{"worker uses the simulator", []file{ours("worker/x.go", "apns/apnstest")}, []string{"worker/x.go:2: worker must not import apns/apnstest"}},
		{"worker's test uses the simulator", []file{ours("worker/x_test.go", "apns/apnstest")}, nil},
		{"worker uses feedback", []file{ours("worker/x.go", "feedback")}, []string{"worker/x.go:2: worker must not import feedback"}},
		{"worker uses layer 1", []file{ours("worker/x.go", "store"), ours("worker/y.go", "stream"), ours("worker/z.go", "apns")}, nil},
		{"api explains", []file{ours("api/x.go", "explain"), ours("explain/x.go", "store"), ours("explain/y.go", "stream")}, nil},
		{"worker explains", []file{ours("worker/x.go", "explain")}, []string{"worker/x.go:2: worker must not import explain"}},
		{"explain sends", []file{ours("explain/x.go", "apns")}, []string{"explain/x.go:2: explain must not import apns"}},
		{"stream explains", []file{ours("stream/x.go", "explain")}, []string{"stream/x.go:2: stream must not import explain"}},
		{"worker uses config", []file{ours("worker/x.go", "config")}, []string{"worker/x.go:2: worker must not import config"}},
		{"config uses worker", []file{ours("config/x.go", "worker")}, nil},
		{"config uses cmd", []file{ours("config/x.go", "cmd/pushfleet")}, []string{"config/x.go:2: config must not import cmd"}},
		{"worker uses NATS", []file{imports("worker/x.go", "github.com/nats-io/nats.go/jetstream")}, []string{
			"worker/x.go:2: worker must not import github.com/nats-io/nats.go/jetstream: it is for stream, producer, cmd, internal/embedded, internal/testenv",
		}},
		{"feedback uses Redis", []file{imports("feedback/x.go", "github.com/redis/go-redis/v9")}, []string{
			"feedback/x.go:2: feedback must not import github.com/redis/go-redis/v9: it is for store, cmd, internal/embedded, internal/testenv",
		}},
		{"cmd uses nats-server", []file{imports("cmd/pushfleet/x.go", "github.com/nats-io/nats-server/v2/server")}, []string{
			"cmd/pushfleet/x.go:2: cmd must not import github.com/nats-io/nats-server/v2/server: it is for internal/embedded, internal/testenv",
		}},
		{"worker uses apns2", []file{imports("worker/x.go", "github.com/sideshow/apns2/token")}, []string{
			"worker/x.go:2: worker must not import github.com/sideshow/apns2/token: it is for apns, apns/apnstest, cmd",
		}},
		{"worker traces", []file{imports("worker/x.go", "go.opentelemetry.io/otel/trace")}, nil},
		{"apns traces", []file{imports("apns/x.go", "go.opentelemetry.io/otel/trace")}, []string{
			"apns/x.go:2: apns must not import go.opentelemetry.io/otel/trace: it is for stream, producer, worker, api, cmd",
		}},
		{"worker decides where traces go", []file{imports("worker/x.go", "go.opentelemetry.io/otel/sdk/trace")}, []string{
			"worker/x.go:2: worker must not import go.opentelemetry.io/otel/sdk/trace: it is for cmd",
		}},
		{"store uses the embedded parts", []file{ours("store/x.go", "internal/embedded")}, []string{"store/x.go:2: store must not import internal/embedded"}},
		{"cmd uses the embedded parts", []file{ours("cmd/pushfleet/x.go", "internal/embedded")}, nil},
		{"cmd uses the test environment", []file{ours("cmd/pushfleet/x.go", "internal/testenv")}, []string{"cmd/pushfleet/x.go:2: cmd must not import internal/testenv"}},
		{"producer uses store", []file{ours("producer/x.go", "store")}, []string{
			"producer/x.go:1: producer must not reach " + module + "/store (by producer)",
			"producer/x.go:2: producer must not import store",
		}},
		{"producer reaches Redis by a detour", []file{ours("producer/x.go", "stream"), ours("stream/x.go", "job"), imports("job/x.go", "github.com/redis/go-redis/v9")}, []string{
			"job/x.go:1: producer must not reach github.com/redis/go-redis/v9 (by producer -> stream -> job)",
			"job/x.go:2: job is pure and must not import github.com/redis/go-redis/v9",
			"job/x.go:2: job must not import github.com/redis/go-redis/v9: it is for store, cmd, internal/embedded, internal/testenv",
		}},
		{"a room that nobody planned", []file{ours("gateway/x.go", "job")}, []string{"gateway/x.go:1: directory gateway is no room of the house"}},
		{"a room that is only alike", []file{imports("jobs/x.go", "fmt")}, []string{"jobs/x.go:1: directory jobs is no room of the house"}},
		{"an import of the unplanned", []file{ours("cmd/pushfleet/x.go", "gateway")}, []string{"cmd/pushfleet/x.go:2: " + module + "/gateway is no room of the house"}},
		{"a hollow name", []file{{"worker/util/x.go", "package util\n"}}, []string{"worker/util/x.go:1: package util: name it after what it holds"}},
		{"a hollow test", []file{{"worker/x_test.go", "package helpers_test\n"}}, []string{"worker/x_test.go:1: package helpers_test: name it after what it holds"}},
		{"a second main", []file{{"worker/x/x.go", "package main\n"}}, []string{"worker/x/x.go:1: package main is for cmd"}},
		{"store ends the process", []file{{"store/x.go", "package p\nimport \"os\"\nfunc f() {\n\tos.Exit(1)\n}\n"}}, []string{"store/x.go:4: store must not call os.Exit: only main ends the process"}},
		{"under another name", []file{{"store/x.go", "package p\nimport system \"os\"\nvar f = system.Exit\n"}}, []string{"store/x.go:3: store must not call os.Exit: only main ends the process"}},
		{"a logger ends the process", []file{{"store/x.go", "package p\nfunc f(log logger) { log.Fatal(\"x\") }\n"}}, []string{"store/x.go:2: store must not call Fatal: only main ends the process"}},
		{"a test's own end", []file{{"internal/testenv/x.go", "package p\nimport \"testing\"\nfunc f(t testing.TB) { t.Fatal(\"x\") }\n"}}, nil},
		{"main ends the process", []file{{"cmd/pushfleet/x.go", "package main\nimport \"os\"\nfunc main() { os.Exit(1) }\n"}}, nil},
		{"worker reads the environment", []file{{"worker/x.go", "package p\nimport \"os\"\nvar x = os.Getenv(\"X\")\n"}}, []string{
			"worker/x.go:3: worker must not call os.Getenv: settings from the environment are read in cmd and handed down",
		}},
		{"worker takes the time of day", []file{{"worker/x.go", "package p\nimport clock \"time\"\nvar x = clock.Now().UnixMilli()\n"}}, []string{
			"worker/x.go:3: worker must not take the time of day from time.Now().UnixMilli: it is handed down, from internal/clock",
		}},
		{"worker measures", []file{{"worker/x.go", "package p\nimport \"time\"\nvar x = time.Now().Add(1).Sub(time.Now())\n"}}, nil},
		{"the clock takes the time of day", []file{{"internal/clock/x.go", "package p\nimport \"time\"\nvar x = time.Now().Unix()\n"}}, nil},
		{"a test reads the environment", []file{{"worker/x_test.go", "package p\nimport \"os\"\nvar x = os.Getenv(\"X\")\n"}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var files []source
			for _, f := range tt.files {
				s, err := read("", f.path, f.src)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, s)
			}
			if got := violations(files); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
