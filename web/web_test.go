package web_test

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/web"
)

func setup(t *testing.T) *web.Page {
	t.Helper()
	p, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t *testing.T, p *web.Page, at, etag string) (status int, header http.Header, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, at, http.NoBody)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	p := setup(t)
	if paths := p.Paths(); !slices.Contains(paths, "/") || !slices.Contains(paths, "/page/app.js") || !slices.Contains(paths, "/page/page.css") {
		t.Fatalf("paths: got %q, want the page, its script and its style", paths)
	}
	for _, at := range p.Paths() {
		status, header, body := get(t, p, at, "")
		if status != http.StatusOK || body == "" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: got %d, %v, want it, not to be sniffed, and asked for again", at, status, header)
		}
		etag := header.Get("ETag")
		if etag == "" {
			t.Errorf("%s: got no ETag", at)
		}
		if status, _, body := get(t, p, at, etag); status != http.StatusNotModified || body != "" {
			t.Errorf("%s again: got %d with %d bytes, want 304 with none", at, status, len(body))
		}
	}
	_, header, _ := get(t, p, "/", "")
	policy := header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("policy: got %s, want %s in it", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || header.Get("X-Frame-Options") != "DENY" || header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("got %v, want nothing unsafe, no frame, no referrer", header)
	}
	for _, at := range []string{"/page/", "/page/none.js", "/page/../web.go", "/page/index.html"} {
		if status, _, _ := get(t, p, at, ""); status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", at, status)
		}
	}
}

// Whatever a file asks for is there, and nothing is asked of another host.
func TestFilesAreWhole(t *testing.T) {
	t.Parallel()
	p := setup(t)
	paths := p.Paths()
	imports := regexp.MustCompile(`(?m)^(?:import|export) [^"]*?"(\./[^"]+)";`)
	links := regexp.MustCompile(`(?:src|href)="(page/[^"]+)"`)
	outside := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z]`)
	used := map[string]bool{"/": true}
	for _, at := range paths {
		_, _, body := get(t, p, at, "")
		for _, m := range imports.FindAllStringSubmatch(body, -1) {
			used[path.Join(path.Dir(at), m[1])] = true
		}
		for _, m := range links.FindAllStringSubmatch(body, -1) {
			used["/"+m[1]] = true
		}
		// The name space of SVG is a name.
		if found := outside.FindString(strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "")); found != "" {
			t.Errorf("%s: got %s, want nothing of another host", at, found)
		}
	}
	for at := range used {
		if !slices.Contains(paths, at) {
			t.Errorf("%s is asked for, and not there", at)
		}
	}
	for _, at := range paths {
		if !used[at] {
			t.Errorf("%s: nobody asks for it", at)
		}
	}
}

// The policy forbids inline scripts and styles, and code made of text.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	p := setup(t)
	_, _, html := get(t, p, "/", "")
	for _, m := range regexp.MustCompile(`<script[^>]*>|<style|\son\w+=|\sstyle=|javascript:`).FindAllString(html, -1) {
		if !strings.Contains(m, "src=") {
			t.Errorf("index.html: got %s, want nothing inline", m)
		}
	}
	unsafe := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|document\.cookie`)
	for _, at := range p.Paths() {
		if _, _, body := get(t, p, at, ""); path.Ext(at) == ".js" {
			if found := unsafe.FindString(body); found != "" {
				t.Errorf("%s: got %s, want none: texts of jobs are shown, and an API key is in memory", at, found)
			}
		}
	}
}
