package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// fenced is a block of a page, by the name that follows its language.
var fenced = regexp.MustCompile("(?ms)^```([a-z]+)( [^\n]*)?\n(.*?)^```$")

// walk runs the commands of a page as they stand there.
type walk struct {
	*rig
	page   string
	blocks map[string]string // of shell, by name
	ours   *strings.Replacer // what is elsewhere here: ports, directories
	path   string            // directories with programs
}

// newWalk reads a page. Replacements are pairs of what the page says and what is so here.
func (r *rig) newWalk(page, path string, replacements ...string) *walk {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		r.t.Fatal(err)
	}
	w := &walk{rig: r, page: page, blocks: make(map[string]string), ours: strings.NewReplacer(replacements...), path: path}
	for _, m := range fenced.FindAllStringSubmatch(string(text), -1) {
		if name := strings.TrimSpace(m[2]); m[1] == "sh" && name != "" {
			if w.blocks[name] != "" {
				r.t.Fatalf("%s has two blocks %q", page, name)
			}
			w.blocks[name] = m[3]
		}
	}
	return w
}

// run runs a block and returns what it printed.
func (w *walk) run(name string) string {
	w.t.Helper()
	text, ok := w.blocks[name]
	if !ok {
		w.t.Fatalf("%s has no block %q", w.page, name)
	}
	delete(w.blocks, name) // so that those that nobody ran can be told
	out, err := w.shell(text)
	if err != nil {
		w.t.Fatalf("%s, block %q: %v\n%s", w.page, name, err, out)
	}
	w.t.Logf("%s, block %q:\n%s", w.page, name, out)
	return out
}

// shell runs commands as a page's are run.
func (w *walk) shell(text string) (string, error) {
	cmd := exec.CommandContext(w.ctx, "bash", "-euo", "pipefail", "-c", w.ours.Replace(text))
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "PATH="+w.path+":"+os.Getenv("PATH"), "NATS_URL="+w.natsURL, "HOME="+w.dir, "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// done fails if the page has named blocks that were not run.
func (w *walk) done() {
	w.t.Helper()
	for name := range w.blocks {
		w.t.Errorf("%s, block %q: it was not run", w.page, name)
	}
}
