package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pushfleet/pushfleet/config"
)

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr         string
			Labels, Annotations map[string]string
		}
	}
}

type rulesTest struct {
	RuleFiles []string `yaml:"rule_files"`
	Tests     []struct {
		Alerts []struct {
			Name   string `yaml:"alertname"`
			Expect []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func parse(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

var (
	ourMetric  = regexp.MustCompile(`pushfleet_\w+`)
	metricRow  = regexp.MustCompile("(?m)^\\| `(pushfleet_\\w+)` \\|[^|]*\\| (Histogram)?")
	upperBound = regexp.MustCompile(`le="([^"]*)"`)
)

// documented are the names that expressions may have. A test of cmd/pushfleet holds
// docs/metrics.md to the code.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, m := range metricRow.FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		if m[2] == "" {
			names[m[1]] = true
			continue
		}
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			names[m[1]+part] = true
		}
	}
	if len(names) < 40 {
		t.Fatalf("docs/metrics.md: got %d metrics: the page has changed", len(names))
	}
	return names
}

// checkExpr finds metrics that there are not, and bounds of acceptance that no bucket has:
// Prometheus answers both with silence.
func checkExpr(expr string, known map[string]bool) (problems []string) {
	for _, name := range ourMetric.FindAllString(expr, -1) {
		if !known[name] {
			problems = append(problems, "no metric is called "+name)
		}
	}
	for _, m := range upperBound.FindAllStringSubmatch(expr, -1) {
		bound := 0.002 // as in worker/metrics.go
		for range 16 {
			if strconv.FormatFloat(bound, 'g', -1, 64) == m[1] {
				bound = 0
				break
			}
			bound *= 2
		}
		if bound != 0 {
			problems = append(problems, "no bucket ends at "+m[1])
		}
	}
	return problems
}

func TestAlertsHaveTheirSections(t *testing.T) {
	t.Parallel()
	var alerts rules
	parse(t, "prometheus/alerts.yml", &alerts)
	var tests rulesTest
	parse(t, "prometheus/alerts_test.yml", &tests)
	sections := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(read(t, "../docs/runbook.md"), -1) {
		sections[m[1]] = true
	}
	type tested struct{ fires, quiet bool }
	seen := make(map[string]tested)
	for _, one := range tests.Tests {
		for _, a := range one.Alerts {
			s := seen[a.Name]
			s.fires, s.quiet = s.fires || len(a.Expect) > 0, s.quiet || len(a.Expect) == 0
			seen[a.Name] = s
		}
	}
	known := documented(t)
	for _, group := range alerts.Groups {
		for _, r := range group.Rules {
			if !sections[r.Alert] {
				t.Errorf("%s: docs/runbook.md has no section", r.Alert)
			}
			delete(sections, r.Alert)
			want := "https://github.com/pushfleet/pushfleet/blob/main/docs/runbook.md#" + strings.ToLower(r.Alert)
			if got := r.Annotations["runbook_url"]; got != want {
				t.Errorf("%s: got runbook_url %q, want %q", r.Alert, got, want)
			}
			if r.Annotations["summary"] == "" {
				t.Errorf("%s: got no summary", r.Alert)
			}
			if got := r.Labels["severity"]; got != "warning" && got != "critical" {
				t.Errorf("%s: got severity %q, want warning or critical", r.Alert, got)
			}
			if s := seen[r.Alert]; !s.fires || !s.quiet {
				t.Errorf("%s: alerts_test.yml lacks a case in which it fires, or one in which it does not", r.Alert)
			}
			for _, p := range checkExpr(r.Expr, known) {
				t.Errorf("%s: %s", r.Alert, p)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		t.Errorf("docs/runbook.md has a section %s, and there is no such alert", name)
	}
}

func TestBoardsShowWhatThereIs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("grafana/boards/*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("got boards %q, %v, want fleet, app, campaigns and APNs", files, err)
	}
	known := documented(t)
	source := one(t, read(t, "grafana/provisioning/datasources/prometheus.yml"), `(?m)^ +uid: (\S+)$`)
	uids := make(map[string]string)
	for _, file := range files {
		var board struct {
			UID, Title string
			Templating struct {
				List []struct {
					Name  string
					Query struct{ Query string }
				}
			}
			Panels []struct {
				ID         int
				Title      string
				Datasource struct{ UID string }
				Targets    []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(read(t, file)), &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if other := uids[board.UID]; board.UID == "" || other != "" {
			t.Errorf("%s: got uid %q, which %q has", file, board.UID, other)
		}
		uids[board.UID] = file
		variables := make(map[string]bool)
		for _, v := range board.Templating.List {
			variables[v.Name] = true
			for _, p := range checkExpr(v.Query.Query, known) {
				t.Errorf("%s, $%s: %s", file, v.Name, p)
			}
		}
		ids := make(map[int]bool)
		for _, p := range board.Panels {
			if p.Datasource.UID != source {
				t.Errorf("%s, %s: got source %q, want %q", file, p.Title, p.Datasource.UID, source)
			}
			if ids[p.ID] {
				t.Errorf("%s, %s: its id %d is another's", file, p.Title, p.ID)
			}
			ids[p.ID] = true
			if len(p.Targets) == 0 {
				t.Errorf("%s, %s: it shows nothing", file, p.Title)
			}
			for _, target := range p.Targets {
				for _, problem := range checkExpr(target.Expr, known) {
					t.Errorf("%s, %s: %s", file, p.Title, problem)
				}
				for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
					if !variables[m[1]] {
						t.Errorf("%s, %s: it has no variable %s", file, p.Title, m[1])
					}
				}
			}
		}
	}
}

// What is wrong with an expression is found.
func TestExpressionsAreChecked(t *testing.T) {
	t.Parallel()
	known := documented(t)
	for expr, want := range map[string]int{
		`rate(pushfleet_notifications_total[5m])`:                              0,
		`pushfleet_notification_total`:                                         1,
		`pushfleet_enqueue_to_accept_seconds`:                                  1, // it has parts only
		`pushfleet_enqueue_to_accept_seconds_bucket{le="1.024"}`:               0,
		`pushfleet_enqueue_to_accept_seconds_bucket{le="1"}`:                   1,
		`pushfleet_backlog_notifications / pushfleet_backlog_messages{app=""}`: 1,
	} {
		if got := checkExpr(expr, known); len(got) != want {
			t.Errorf("%s: got %q, want %d problems", expr, got, want)
		}
	}
}

// The configurations in the chart's examples are such.
func TestChartExamplesAreConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("helm/pushfleet/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got examples %q, %v", files, err)
	}
	for _, file := range files {
		var values struct{ Config map[string]any }
		parse(t, file, &values)
		text, err := yaml.Marshal(values.Config)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "pushfleet.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(path, nil); err != nil {
			t.Errorf("%s:\n%v", file, err)
		}
	}
}
