package check_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

type browser struct {
	ctx  context.Context
	stop func()
}

var theBrowser = sync.OnceValues(func() (*browser, error) {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if at, err := exec.LookPath(name); err == nil {
			path = at
			break
		}
	}
	if path == "" {
		return nil, errors.New("there is no Chromium: apt install chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.WindowSize(1280, 900))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to have one as root
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(allocator)
	b := &browser{ctx: ctx, stop: func() { stop(); stopAllocator() }}
	if err := chromedp.Do(ctx); err != nil {
		b.stop()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return b, nil
})

// tab is a tab that is looked at. What goes wrong in it fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string

	mu     sync.Mutex
	wrong  []string // errors of the console, and of the policy
	hosts  map[string]bool
	loads  int // of the document
	broken bool
}

// open opens the page in a new tab, signed in with the key if that is not empty.
func open(t *testing.T, f *fleet, key, fragment string) *tab {
	t.Helper()
	b, err := theBrowser()
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{t: t, url: f.url, hosts: make(map[string]bool)}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	// The first one must have no deadline: the tab ends with it.
	if err := chromedp.Do(ctx, call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{})); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(f.url + "/" + fragment))
	t.Cleanup(func() { p.verdict() })
	if key != "" {
		p.signIn(key)
		p.until("the views", `document.querySelector("nav")`)
	}
	return p
}

func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.wrong = append(p.wrong, "exception: "+describe(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var text []string
			for _, a := range e.Args {
				text = append(text, string(a.Value)+a.Description)
			}
			p.wrong = append(p.wrong, "console: "+strings.Join(text, " "))
		}
	case *log.EventEntryAdded:
		// That a request was refused is among what is tested.
		if e.Entry.Source != log.EntrySourceNetwork && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			p.wrong = append(p.wrong, fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "data" {
			p.hosts[u.Scheme+"://"+u.Host] = true
			if strings.Contains(e.Request.URL, "pf_") {
				p.wrong = append(p.wrong, "an API key is in a URL")
			}
		}
		if e.Type == network.ResourceTypeDocument {
			p.loads++
		}
	}
}

// call is a command of the protocol.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

func describe(e *runtime.ExceptionDetails) string {
	if e.Exception != nil {
		return e.Text + " " + e.Exception.Description
	}
	return e.Text
}

// verdict fails the test for what went wrong in the tab meanwhile.
func (p *tab) verdict() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.wrong {
		p.t.Errorf("the browser says: %s", text)
	}
	delete(p.hosts, p.url)
	if len(p.hosts) > 0 {
		p.t.Errorf("asked other hosts: %v", p.hosts)
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.fail("%v", err)
	}
}

// fail fails the test, and keeps what is seen.
func (p *tab) fail(format string, args ...any) {
	p.t.Helper()
	text := fmt.Sprintf(format, args...)
	if p.broken {
		p.t.Fatal(text)
	}
	p.broken = true
	seen := eval[string](p, `document.body.innerText`)
	p.shoot("failed-" + strings.ReplaceAll(p.t.Name(), "/", "-"))
	p.t.Fatalf("%s\nthe page:\n%s", text, seen)
}

// eval evaluates an expression of JavaScript.
func eval[T any](p *tab, js string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	if err != nil {
		p.fail("%s: %v", js, err)
	}
	return v
}

// until waits until an expression of JavaScript is true.
func (p *tab) until(what, js string) {
	p.t.Helper()
	err := until(what, func() error {
		v, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`Boolean(`+js+`)`))
		if err == nil && !v {
			err = errors.New("it is not so")
		}
		return err
	})
	if err != nil {
		p.fail("%v", err)
	}
}

// sees waits until the page, or an element of it, has a text.
func (p *tab) sees(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("the text %q", text), fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

// button is the XPath of a button by its name.
func button(name string) string {
	return fmt.Sprintf(`//button[normalize-space(.)=%q or @aria-label=%q]`, name, name)
}

// click clicks with the mouse.
func (p *tab) click(selector string) {
	p.t.Helper()
	if strings.HasPrefix(selector, "/") {
		p.do(chromedp.ScrollIntoView(selector), chromedp.Click(selector, chromedp.NodeVisible, chromedp.NodeEnabled))
		return
	}
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible, chromedp.NodeEnabled))
}

// fill types over what an input has.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.CSS(selector), chromedp.NodeVisible))
	eval[bool](p, fmt.Sprintf(`(document.querySelector(%q).select(), true)`, selector))
	if text == "" {
		text = kb.Backspace
	}
	p.do(chromedp.KeyEvent(text))
}

func (p *tab) signIn(key string) {
	p.t.Helper()
	p.fill(`input[name=key]`, key)
	p.click(button("Sign in"))
}

// goTo follows a fragment without loading the page.
func (p *tab) goTo(fragment string) {
	p.t.Helper()
	eval[string](p, fmt.Sprintf(`location.hash = %q`, fragment))
}

// look sets the size of the window and the theme.
func (p *tab) look(width, height int64, scheme string) {
	p.t.Helper()
	p.do(
		chromedp.EmulateViewport(width, height),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}}),
	)
}

// shoot writes what is seen to a PNG, where PUSHFLEET_SCREENSHOTS says, or to be kept
// with the test's output.
func (p *tab) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("PUSHFLEET_SCREENSHOTS")
	if dir == "" {
		dir = p.t.ArtifactDir()
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		p.t.Fatal(err)
	}
}
