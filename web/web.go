package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed page
var files embed.FS

// index is the file that is at the root.
const index = "page/index.html"

// policy lets the page do what it does and nothing else. Of itself it has no inline
// script or style; script that got into it by a job's text would not run, and could not
// send the API key anywhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Page serves the dashboard. It is an [http.Handler] for GET and HEAD, and safe for
// concurrent use.
type Page struct {
	files map[string]file // by path
}

type file struct {
	name, contentType, etag string
	body                    []byte
}

// New returns the page.
func New() (*Page, error) {
	p := &Page{files: make(map[string]file)}
	err := fs.WalkDir(files, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		kind := contentType(name)
		if kind == "" {
			return nil // a licence
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		at := "/" + name
		if name == index {
			at = "/"
		}
		p.files[at] = file{name: name, contentType: kind, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, body: body}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the page's files: %w", err)
	}
	return p, nil
}

// contentType is by the name alone: what the system says of extensions differs. Empty:
// the file is not served.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}

// Paths returns the paths that it serves, in order.
func (p *Page) Paths() []string {
	paths := make([]string, 0, len(p.files))
	for at := range p.files {
		paths = append(paths, at)
	}
	slices.Sort(paths)
	return paths
}

// ServeHTTP implements [http.Handler].
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := p.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	// Asked for again each time, and answered with 304: after an upgrade all files are of
	// the same version.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if strings.HasPrefix(f.contentType, "text/html") || f.contentType == "image/svg+xml" {
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
