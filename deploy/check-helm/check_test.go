package check_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const chartDir = "../helm/pushfleet"

// kinds are what the chart may make. A version that Kubernetes has removed is not here.
var kinds = map[string]func() any{
	"v1/ConfigMap":                            func() any { return new(corev1.ConfigMap) },
	"v1/Service":                              func() any { return new(corev1.Service) },
	"v1/ServiceAccount":                       func() any { return new(corev1.ServiceAccount) },
	"apps/v1/Deployment":                      func() any { return new(appsv1.Deployment) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policyv1.PodDisruptionBudget) },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networkingv1.NetworkPolicy) },
	"keda.sh/v1alpha1/ScaledObject":           func() any { return new(kedav1alpha1.ScaledObject) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return new(monitoringv1.ServiceMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(monitoringv1.PrometheusRule) },
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func values(t *testing.T, file string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.UnmarshalStrict(data, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// render is `helm template`.
func render(t *testing.T, v map[string]any) (map[string]string, error) {
	t.Helper()
	c := load(t)
	all, err := util.ToRenderValues(c, v, common.ReleaseOptions{Name: "push", Namespace: "prod", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Render(c, all)
}

// decode reads manifests strictly: what a type does not have is an error, as is a kind
// that nobody expects.
func decode(text string) (objects map[string]any, err error) {
	objects = make(map[string]any)
	for _, doc := range strings.Split("\n"+text, "\n---") {
		var head struct {
			APIVersion, Kind string
			Metadata         struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		if head.Kind == "" && head.APIVersion == "" {
			continue // a comment
		}
		kind := head.APIVersion + "/" + head.Kind
		empty := kinds[kind]
		if empty == nil {
			return nil, fmt.Errorf("%s: no such kind", kind)
		}
		object := empty()
		// By way of JSON, as Kubernetes reads it: yaml would make texts of numbers.
		data, err := yaml.YAMLToJSONStrict([]byte(doc))
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, head.Metadata.Name, err)
		}
		problems, err := json.UnmarshalStrict(data, object)
		if err := errors.Join(append(problems, err)...); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, head.Metadata.Name, err)
		}
		key := head.Kind + "/" + head.Metadata.Name
		if objects[key] != nil {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		objects[key] = object
	}
	return objects, nil
}

// made is what the chart makes of an example.
func made(t *testing.T, example string) map[string]any {
	t.Helper()
	files, err := render(t, values(t, filepath.Join(chartDir, "examples", example)))
	if err != nil {
		t.Fatalf("%s: %v", example, err)
	}
	all := make(map[string]any)
	for name, text := range files {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		objects, err := decode(text)
		if err != nil {
			t.Fatalf("%s, %s: %v", example, name, err)
		}
		for key, object := range objects {
			if all[key] != nil {
				t.Errorf("%s: %s is there twice", example, key)
			}
			all[key] = object
		}
	}
	return all
}

// get returns one object of what was made.
func get[T any](t *testing.T, all map[string]any, key string) T {
	t.Helper()
	object, ok := all[key].(T)
	if !ok {
		t.Fatalf("got no %s among %q", key, slices.Sorted(maps.Keys(all)))
	}
	return object
}

func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartDir, "examples", "*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("got examples %q, %v", files, err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files
}

func TestLint(t *testing.T) {
	t.Parallel()
	for _, example := range examples(t) {
		result := lint.RunAll(chartDir, values(t, filepath.Join(chartDir, "examples", example)), "prod")
		for _, m := range result.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", example, m)
			}
		}
	}
}

// What holds for every pod, whatever the values.
func TestPods(t *testing.T) {
	t.Parallel()
	for _, example := range examples(t) {
		deployments := 0
		for key, object := range made(t, example) {
			d, ok := object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			deployments++
			pod := d.Spec.Template.Spec
			c := pod.Containers[0]
			for what, is := range map[string]bool{
				"not root":                pod.SecurityContext != nil && pod.SecurityContext.RunAsNonRoot != nil && *pod.SecurityContext.RunAsNonRoot,
				"with seccomp":            pod.SecurityContext.SeccompProfile != nil && pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
				"of a read-only root":     c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem,
				"without more privileges": c.SecurityContext.AllowPrivilegeEscalation != nil && !*c.SecurityContext.AllowPrivilegeEscalation,
				"without capabilities":    slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}),
				"without an account":      pod.AutomountServiceAccountToken != nil && !*pod.AutomountServiceAccountToken,
				"without service links":   pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks,
				"probed":                  c.LivenessProbe.HTTPGet.Path == "/livez" && c.ReadinessProbe.HTTPGet.Path == "/readyz",
				"spread":                  len(pod.TopologySpreadConstraints) == 2,
				"bounded in memory":       !c.Resources.Limits.Memory().IsZero(),
			} {
				if !is {
					t.Errorf("%s, %s: is not %s", example, key, what)
				}
			}
			for label, value := range d.Spec.Selector.MatchLabels {
				if d.Spec.Template.Labels[label] != value {
					t.Errorf("%s, %s: its pods lack %s=%s", example, key, label, value)
				}
			}
		}
		if deployments == 0 {
			t.Errorf("%s: got no deployment", example)
		}
	}
}

// A pod is given longer than the process takes to drain, and the process is told how
// long that is.
func TestDrainFitsIntoTheGracePeriod(t *testing.T) {
	t.Parallel()
	all := made(t, "keda.yaml")
	var cfg struct {
		Worker, API struct {
			DrainTimeout string `json:"drain_timeout"`
			Listen       string
		}
		Log struct{ Format string }
	}
	if err := yaml.Unmarshal([]byte(get[*corev1.ConfigMap](t, all, "ConfigMap/push-pushfleet").Data["pushfleet.yaml"]), &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Worker.DrainTimeout != "60s" || cfg.API.DrainTimeout != "10s" || cfg.Worker.Listen != ":9090" || cfg.Log.Format != "json" {
		t.Errorf("configuration: got %+v, want the drain timeouts of the values", cfg)
	}
	for name, want := range map[string]int64{"worker": 70, "api": 20} {
		d := get[*appsv1.Deployment](t, all, "Deployment/push-pushfleet-"+name)
		if got := d.Spec.Template.Spec.TerminationGracePeriodSeconds; got == nil || *got != want {
			t.Errorf("%s: got a grace period of %v, want %d s", name, got, want)
		}
	}
}

func TestScaling(t *testing.T) {
	t.Parallel()
	const worker = "push-pushfleet-worker"
	all := made(t, "smallest.yaml")
	if d := get[*appsv1.Deployment](t, all, "Deployment/"+worker); d.Spec.Replicas == nil || *d.Spec.Replicas != 2 {
		t.Errorf("smallest: got %v replicas, want 2", d.Spec.Replicas)
	}
	all = made(t, "keda.yaml")
	// Whoever says how many there are must be the only one.
	if d := get[*appsv1.Deployment](t, all, "Deployment/"+worker); d.Spec.Replicas != nil {
		t.Errorf("KEDA: got %d replicas as well", *d.Spec.Replicas)
	}
	so := get[*kedav1alpha1.ScaledObject](t, all, "ScaledObject/"+worker)
	if so.Spec.ScaleTargetRef.Name != worker || len(so.Spec.Triggers) != 1 {
		t.Fatalf("KEDA: got %+v, want one trigger for the workers", so.Spec)
	}
	trigger := so.Spec.Triggers[0]
	if trigger.Type != "prometheus" || !strings.Contains(trigger.Metadata["query"], `pushfleet_backlog_notifications{namespace="prod",service="`+worker+`"}`) || trigger.Metadata["threshold"] != "100000" {
		t.Errorf("KEDA: got trigger %v, want the backlog of this release, in notifications", trigger)
	}
	// The label is that of the Service which the ServiceMonitor selects.
	service, monitor := get[*corev1.Service](t, all, "Service/"+worker), get[*monitoringv1.ServiceMonitor](t, all, "ServiceMonitor/"+worker)
	for name, value := range monitor.Spec.Selector.MatchLabels {
		if service.Labels[name] != value {
			t.Errorf("KEDA: the Service has the label %s=%s, want %s: the monitor would not find it", name, service.Labels[name], value)
		}
	}
	all = made(t, "cpu.yaml")
	for _, name := range []string{"worker", "api"} {
		h := get[*autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler/push-pushfleet-"+name)
		if h.Spec.ScaleTargetRef.Name != "push-pushfleet-"+name || h.Spec.Metrics[0].Resource.Name != corev1.ResourceCPU {
			t.Errorf("%s: got %+v, want it by CPU", name, h.Spec)
		}
	}
	if got := get[*appsv1.Deployment](t, all, "Deployment/"+worker).Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(got, "registry.example.com/pushfleet@sha256:") {
		t.Errorf("image: got %s, want the digest", got)
	}
}

// Who has other labels says what to ask for.
func TestScalingByAnotherQuery(t *testing.T) {
	t.Parallel()
	v := values(t, filepath.Join(chartDir, "examples", "keda.yaml"))
	worker, _ := v["worker"].(map[string]any)
	keda, ok := worker["keda"].(map[string]any)
	if !ok {
		t.Fatal("the example scales by nothing")
	}
	keda["query"] = `sum(x{job="y"})`
	files, err := render(t, v)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, text := range files {
		objects, err := decode(text)
		if err != nil {
			continue // notes
		}
		if so, ok := objects["ScaledObject/push-pushfleet-worker"].(*kedav1alpha1.ScaledObject); ok {
			found = true
			if got := so.Spec.Triggers[0].Metadata["query"]; got != `sum(x{job="y"})` {
				t.Errorf("query: got %s, want the values'", got)
			}
		}
	}
	if !found {
		t.Error("got no ScaledObject")
	}
}

func TestNetworkPolicies(t *testing.T) {
	t.Parallel()
	all := made(t, "keda.yaml")
	peers := func(name string) (namespaces []string) {
		for _, from := range get[*networkingv1.NetworkPolicy](t, all, "NetworkPolicy/push-pushfleet-"+name).Spec.Ingress[0].From {
			namespaces = append(namespaces, from.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
		}
		return namespaces
	}
	if got, want := peers("worker"), []string{"monitoring"}; !slices.Equal(got, want) {
		t.Errorf("worker: got %q, want %q", got, want)
	}
	if got, want := peers("api"), []string{"backend", "monitoring"}; !slices.Equal(got, want) {
		t.Errorf("api: got %q, want %q", got, want)
	}
	all = made(t, "workers-only.yaml")
	if all["NetworkPolicy/push-pushfleet-api"] != nil || all["Deployment/push-pushfleet-api"] != nil || all["ServiceMonitor/push-pushfleet-api"] != nil {
		t.Errorf("without the API: got %q", slices.Sorted(maps.Keys(all)))
	}
}

// Prometheus in the cluster has the alerts that the tests of deploy/prometheus are about,
// under the names of jobs that they know.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	original, err := os.ReadFile("../prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := os.ReadFile(filepath.Join(chartDir, "files", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(original, shipped) {
		t.Error("files/alerts.yml is not deploy/prometheus/alerts.yml: copy it")
	}
	all := made(t, "keda.yaml")
	rule := get[*monitoringv1.PrometheusRule](t, all, "PrometheusRule/push-pushfleet")
	if len(rule.Spec.Groups) != 1 || len(rule.Spec.Groups[0].Rules) < 12 || rule.Labels["release"] != "prometheus" {
		t.Errorf("got rules %+v, want all, with the labels of the values", rule)
	}
	for _, name := range []string{"worker", "api"} {
		m := get[*monitoringv1.ServiceMonitor](t, all, "ServiceMonitor/push-pushfleet-"+name)
		if e := m.Spec.Endpoints[0]; len(e.RelabelConfigs) != 1 || e.RelabelConfigs[0].Replacement == nil || *e.RelabelConfigs[0].Replacement != "pushfleet-"+name {
			t.Errorf("%s: got %+v, want the job's name", name, e)
		}
		s := get[*corev1.Service](t, all, "Service/push-pushfleet-"+name)
		for label, value := range m.Spec.Selector.MatchLabels {
			if s.Labels[label] != value {
				t.Errorf("%s: its service lacks %s=%s", name, label, value)
			}
		}
	}
}

// What cannot work is refused, and a manifest that is wrong is found.
func TestRefusals(t *testing.T) {
	t.Parallel()
	v := values(t, filepath.Join(chartDir, "examples", "keda.yaml"))
	v["worker"] = map[string]any{"keda": map[string]any{"enabled": true}, "autoscaling": map[string]any{"enabled": true}}
	if _, err := render(t, v); err == nil || !strings.Contains(err.Error(), "enable one of them") {
		t.Errorf("both autoscalers: got %v", err)
	}
	if _, err := render(t, map[string]any{}); err == nil || !strings.Contains(err.Error(), "config.apps") {
		t.Errorf("no apps: got %v", err)
	}
	for name, text := range map[string]string{
		"an unknown field":  "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {prots: []}\n",
		"a removed version": "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: a}\n",
		"a wrong type":      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: 1}\n",
		"one thing twice":   "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
	} {
		if _, err := decode(text); err == nil {
			t.Errorf("%s: got no complaint", name)
		}
	}
}
