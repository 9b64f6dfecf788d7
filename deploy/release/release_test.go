package release_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// fresh builds the second time without what was built before: a minute or two more. With
// it, that equal inputs are found in the cache says that directories are none of them.
var fresh = flag.Bool("fresh", false, "build the second time without a cache")

// root is the repository.
const root = "../.."

// run runs a command and returns what it wrote to standard output.
func run(t *testing.T, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &out, &bad)
	}
	return out.Bytes()
}

// tree copies the files of the repository, as they are in the working tree.
func tree(t *testing.T, to string) {
	t.Helper()
	for name := range strings.SplitSeq(string(run(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")), "\x00") {
		if name == "" {
			continue
		}
		from, err := os.Stat(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, from.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

// dist makes a release of one version in a tree.
func dist(t *testing.T, dir, platforms string, env ...string) map[string][]byte {
	t.Helper()
	run(t, dir, env, "make", "dist", "VERSION=v1.2.3", "PLATFORMS="+platforms)
	files := make(map[string][]byte)
	entries, err := os.ReadDir(filepath.Join(dir, "dist"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, "dist", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Equal sources make equal bytes, wherever they are; the
// checksums are theirs; and each binary is one of its platform, static and stripped.
func TestDist(t *testing.T) {
	t.Parallel()
	const platforms = "linux/arm64"
	here, there := t.TempDir(), filepath.Join(t.TempDir(), "a", "longer", "way")
	tree(t, here)
	tree(t, there)
	first := dist(t, here, platforms)
	var env []string
	if *fresh {
		env = append(env, "GOCACHE="+filepath.Join(t.TempDir(), "cache"))
	}
	second := dist(t, there, platforms, env...)
	for name, data := range first {
		if !bytes.Equal(data, second[name]) {
			t.Errorf("%s differs between two builds of the same sources", name)
		}
	}
	var sums strings.Builder
	for _, platform := range []string{"linux-arm64"} {
		name := "pushfleet-v1.2.3-" + platform
		data := first[name]
		sum := sha256.Sum256(data)
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), name)
		info, err := buildinfo.Read(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		settings := make(map[string]string)
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if got := settings["GOOS"] + "-" + settings["GOARCH"]; got != platform || settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
			t.Errorf("%s: got %v, want that platform, no C and no paths", name, settings)
		}
		if bytes.Contains(data, []byte(here)) {
			t.Errorf("%s: has the path of the directory that it was built in", name)
		}
		if !bytes.Contains(data, []byte("v1.2.3")) {
			t.Errorf("%s: has no version", name)
		}
	}
	if got := string(first["SHA256SUMS"]); !strings.HasPrefix(got, sums.String()) || !strings.Contains(got, "  LICENSES\n") {
		t.Errorf("checksums: got\n%s\nwant\n%s and that of LICENSES", got, &sums)
	}
	checkLicenses(t, string(first["LICENSES"]), first["pushfleet-v1.2.3-linux-arm64"])
}

// checkLicenses looks for each module of a binary in the text of the licences.
func checkLicenses(t *testing.T, text string, binary []byte) {
	t.Helper()
	for _, module := range modules(t, binary) {
		if !strings.Contains(text, "\n=== "+module+", ") {
			t.Errorf("licences: got none of %s", module)
		}
	}
	if !strings.Contains(text, "=== Go\n") {
		t.Error("licences: got none of Go")
	}
}

// modules are those that a binary says it has, as "path version".
func modules(t *testing.T, binary []byte) (list []string) {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		list = append(list, m.Path+" "+m.Version)
	}
	if len(list) < 20 {
		t.Fatalf("got modules %q, want all", list)
	}
	slices.Sort(list)
	return list
}

// allowed are licences that ask for no more than to be named. A new one wants a thought.
var allowed = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "BSD-Source-Code"}

// The bill of materials names exactly what is in the binary, each with a licence that
// is allowed.
func TestSBOM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, root, nil, "make", "sbom", "DIST="+dir, "PLATFORMS=linux/arm64", "VERSION=v1.2.3")
	file, err := os.Open(filepath.Join(dir, "pushfleet-v1.2.3-linux-arm64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(file, cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != cyclonedx.SpecVersion1_6 || bom.Metadata.Component.Name != "github.com/pushfleet/pushfleet" {
		t.Errorf("got %s %s of %+v, want CycloneDX 1.6 of pushfleet", bom.BOMFormat, bom.SpecVersion, bom.Metadata.Component)
	}
	binary := filepath.Join(dir, "pushfleet")
	run(t, root, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64"}, "go", "build", "-tags", "timetzdata", "-o", binary, "./cmd/pushfleet")
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range *bom.Components {
		if c.Name == "std" {
			continue
		}
		got = append(got, c.Name+" "+c.Version)
		var ids []string
		if c.Evidence != nil && c.Evidence.Licenses != nil {
			for _, l := range *c.Evidence.Licenses {
				ids = append(ids, l.License.ID)
			}
		}
		if len(ids) == 0 || slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(allowed, id) }) {
			t.Errorf("%s: got licences %q, want some of %q", c.Name, ids, allowed)
		}
		if c.Hashes == nil || c.PackageURL == "" {
			t.Errorf("%s: got no hash or no package URL", c.Name)
		}
	}
	slices.Sort(got)
	if want := modules(t, data); !slices.Equal(got, want) {
		t.Errorf("got components\n%s\nwant those of the binary\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
