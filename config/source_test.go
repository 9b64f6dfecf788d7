package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/config"
)

// tree is a directory with a configuration.
type tree struct {
	t   *testing.T
	dir string
}

func (f *tree) path(name string) string { return filepath.Join(f.dir, name) }

func (f *tree) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *tree) source(name string) *config.Source {
	f.t.Helper()
	return config.NewSource(f.path(name), nil)
}

func (f *tree) read(s *config.Source) *config.Config {
	f.t.Helper()
	cfg, err := s.Read()
	if err != nil {
		f.t.Fatal(err)
	}
	return cfg
}

// looks checks what looks say, one after the other.
func (f *tree) looks(s *config.Source, when string, want ...bool) {
	f.t.Helper()
	for i, w := range want {
		if got := s.Changed(); got != w {
			f.t.Errorf("%s: look %d: got %t, want %t", when, i+1, got, w)
		}
	}
}

const oneApp = `apps: {shop: {bundle_id: com.example.shop, key: {path: key.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}}}`

func newTree(t *testing.T) *tree {
	t.Helper()
	t.Parallel()
	f := &tree{t: t, dir: t.TempDir()}
	f.write("pushfleet.yaml", oneApp)
	f.write("key.p8", "a key")
	return f
}

func TestSourceSeesChanges(t *testing.T) {
	f := newTree(t)
	s := f.source("pushfleet.yaml")
	f.read(s)
	f.looks(s, "nothing has changed", false, false, false)
	f.write("pushfleet.yaml", oneApp+"\n")
	f.looks(s, "the file has", false, true, true)
	f.read(s)
	f.looks(s, "it was read", false, false)
	f.write("key.p8", "another key")
	if s.Still() {
		t.Error("still: got true after the key has changed")
	}
	f.looks(s, "the key has", false, true)
	f.read(s)
	f.write("key.p8", "a key")
	f.looks(s, "it has", false)
	f.write("key.p8", "another key")
	f.looks(s, "it was put back", false, false)
}

// What is written in parts is not read in half.
func TestSourceWaitsForTheEndOfWriting(t *testing.T) {
	f := newTree(t)
	s := f.source("pushfleet.yaml")
	f.read(s)
	text := oneApp + "\nworker: {connections: 3}\n"
	for n := len(oneApp); n < len(text); n++ {
		f.write("pushfleet.yaml", text[:n])
		f.looks(s, "it is being written", false)
	}
	f.write("pushfleet.yaml", text)
	f.looks(s, "it is complete", false, true)
	if got := f.read(s).Worker.Connections; got != 3 {
		t.Errorf("connections: got %d, want 3", got)
	}
}

// A file that is named only now must have come to rest as well.
func TestSourceWaitsForFilesThatAreNew(t *testing.T) {
	f := newTree(t)
	s := f.source("pushfleet.yaml")
	f.read(s)
	f.write("pushfleet.yaml", strings.ReplaceAll(oneApp, "key.p8", "next.p8"))
	f.write("next.p8", "ha")
	f.looks(s, "the file has changed", false, false)
	f.write("next.p8", "half")
	f.looks(s, "the new key is being written", false, true)
	f.read(s)
	f.write("key.p8", "nobody uses it")
	f.looks(s, "a former file changes", false, false)
}

// Kubernetes swaps a symbolic link to a directory.
func TestSourceFollowsLinks(t *testing.T) {
	f := newTree(t)
	for _, d := range []string{"1", "2"} {
		if err := os.Mkdir(f.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
		f.write(d+"/pushfleet.yaml", oneApp)
		f.write(d+"/key.p8", "key "+d)
	}
	link := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, f.path("new")), os.Rename(f.path("new"), f.path("data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	s := f.source("data/pushfleet.yaml")
	f.read(s)
	f.looks(s, "nothing has changed", false, false)
	link("2")
	f.looks(s, "the link was swapped", false, true)
}

// What is wrong is found to be mended, wherever that happens.
func TestSourceSeesThatItIsMended(t *testing.T) {
	f := newTree(t)
	s := f.source("pushfleet.yaml")
	f.read(s)
	f.write("pushfleet.yaml", oneApp+"\nredis: {username: a, password_file: secret, tls: {ca_file: ca.pem}}\n")
	f.looks(s, "it names files that are not there", false, false, true)
	_, err := s.Read()
	if err == nil || !strings.Contains(err.Error(), "secret") {
		t.Fatalf("got %v, want the missing password", err)
	}
	f.looks(s, "it was refused", false, false)
	f.write("secret", "s3cret")
	f.looks(s, "the password is there", false, true)
	if _, err = s.Read(); err == nil || !strings.Contains(err.Error(), "ca.pem") {
		t.Fatalf("got %v, want the missing authority", err)
	}
	f.write("ca.pem", "an authority")
	f.looks(s, "all is there", false, true)
	f.read(s)
	if err := os.Remove(f.path("pushfleet.yaml")); err != nil {
		t.Fatal(err)
	}
	f.looks(s, "the file is gone", false, false, true)
	if _, err := s.Read(); err == nil {
		t.Error("without the file: got no error")
	}
	f.write("pushfleet.yaml", oneApp)
	f.looks(s, "it is back", false, false, true)
	f.read(s)
}

func TestSettingsChanges(t *testing.T) {
	f := newTree(t)
	s := f.source("pushfleet.yaml")
	f.read(s)
	before := s.Settings()
	f.write("secret", "s3cret")
	f.write("pushfleet.yaml", `
nats: {url: "nats://other:4222", token_file: secret}
redis: {addresses: ["a:1", "b:2"]}
worker: {connections: 2}
apps: {shop: {bundle_id: com.example.shop, key: {path: key.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}, environment: sandbox},
  news: {bundle_id: com.example.news, key: {path: key.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}}}`)
	f.read(s)
	want := []string{
		"apps.news.bundle_id", "apps.news.environment", "apps.news.key.key_id", "apps.news.key.path", "apps.news.key.team_id",
		"apps.shop.environment", "nats.token", "nats.url", "redis.addresses",
	}
	if got := before.Changes(s.Settings()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := s.Settings().Changes(before); !slices.Equal(got, want) {
		t.Errorf("the other way: got %v, want %v", got, want)
	}
	f.write("secret", "another")
	before = s.Settings()
	f.read(s)
	if got := before.Changes(s.Settings()); !slices.Equal(got, []string{"nats.token"}) {
		t.Errorf("a secret in a file: got %v, want nats.token", got)
	}
}
