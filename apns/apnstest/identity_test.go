package apnstest_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func TestIdentityIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := apnstest.LoadIdentity(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load from nowhere: got %v, want fs.ErrNotExist", err)
	}
	first := newServer(t, apnstest.Config{Dir: dir})
	second := newServer(t, apnstest.Config{Dir: dir})
	third := newServer(t, apnstest.Config{Identity: first.Identity()})
	for name, srv := range map[string]*apnstest.Server{"same directory": second, "same identity": third} {
		a, errA := first.KeyPEM()
		b, errB := srv.KeyPEM()
		if errA != nil || errB != nil || !bytes.Equal(a, b) || first.KeyID() != srv.KeyID() || first.TeamID() != srv.TeamID() ||
			!bytes.Equal(first.CAPEM(), srv.CAPEM()) {
			t.Errorf("%s: got another identity", name)
		}
		// What trusts and authenticates at the first does so at the other.
		c := dial(t, first, dialOptions{addr: srv.Addr()})
		if got := c.answer(c.push(tokenN(1))).status; got != 200 {
			t.Errorf("%s: got %d, want 200", name, got)
		}
	}
	if a, b := newServer(t, apnstest.Config{}), newServer(t, apnstest.Config{}); a.KeyID() == b.KeyID() || len(a.KeyID()) != 10 || len(a.TeamID()) != 10 {
		t.Errorf("new identities: got key ids %q and %q, want two of 10 characters", a.KeyID(), b.KeyID())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("files: got %v, %v, want four", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v, %v, want 0600", e.Name(), info.Mode(), err)
		}
	}
	key, err := first.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"ca.pem": first.CAPEM(), "AuthKey_" + first.KeyID() + ".p8": key} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestDamagedIdentity(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ca.pem", "ca-key.pem", "key", "apnstest.json"} {
		dir := t.TempDir()
		srv := newServer(t, apnstest.Config{Dir: dir})
		if name == "key" {
			name = "AuthKey_" + srv.KeyID() + ".p8"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := apnstest.New(apnstest.Config{Dir: dir}); err == nil {
			t.Errorf("%s is rubbish: got no error", name)
		}
	}
}
