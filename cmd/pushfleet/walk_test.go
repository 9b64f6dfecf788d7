package main_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// fenced is a block of a page: its language, a name, the text.
var fenced = regexp.MustCompile("(?ms)^```([a-z]+)?( [^\n]*)?\n(.*?)^```$")

// walk runs the commands of a page as they stand there, in one shell. Blocks of shell
// with a name are run; a block of text that follows one is what it prints, or the lines
// of it that matter.
type walk struct {
	*rig
	page   string
	names  []string // of blocks, in their order
	blocks map[string]string
	prints map[string]string
	ours   *strings.Replacer // what is elsewhere here: ports, directories
	path   string            // directories with programs

	in  io.Writer
	out *bufio.Reader
}

// newWalk reads a page. Replacements are pairs of what the page says and what is so here.
func (r *rig) newWalk(page, path string, replacements ...string) *walk {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		r.t.Fatal(err)
	}
	w := &walk{
		rig: r, page: page, blocks: make(map[string]string), prints: make(map[string]string),
		ours: strings.NewReplacer(replacements...), path: path,
	}
	last := ""
	for _, m := range fenced.FindAllStringSubmatch(string(text), -1) {
		name := strings.TrimSpace(m[2])
		switch {
		case m[1] == "text" && last != "":
			w.prints[last] = m[3]
			last = ""
		case m[1] != "sh" || name == "":
			last = ""
		case w.blocks[name] != "":
			r.t.Fatalf("%s has two blocks %q", page, name)
		default:
			w.names, w.blocks[name], last = append(w.names, name), m[3], name
		}
	}
	w.open()
	return w
}

// open starts the shell. Whatever it has started ends with the test.
func (w *walk) open() {
	w.t.Helper()
	cmd := w.command("-s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.in, w.out = in, bufio.NewReader(out)
	w.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

func (w *walk) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.ctx, "bash", append([]string{"-euo", "pipefail"}, args...)...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "PATH="+w.path+":"+os.Getenv("PATH"), "NATS_URL="+w.natsURL, "HOME="+w.dir, "NO_COLOR=1")
	return cmd
}

// shell runs commands in a shell of their own.
func (w *walk) shell(text string) (string, error) {
	out, err := w.command("-c", w.ours.Replace(text)).CombinedOutput()
	return string(out), err
}

const endOfBlock = "--- end of block"

// run runs a block, and returns what it printed.
func (w *walk) run(name string) string {
	w.t.Helper()
	text, ok := w.blocks[name]
	if !ok {
		w.t.Fatalf("%s has no block %q that was not run", w.page, name)
	}
	delete(w.blocks, name)
	// From a file: a command that reads must not read the rest of them.
	file := w.write("block.sh", w.ours.Replace(text))
	if _, err := io.WriteString(w.in, ". "+file+" < /dev/null\necho '"+endOfBlock+"'\n"); err != nil {
		w.t.Fatal(err)
	}
	var out strings.Builder
	for {
		line, err := w.out.ReadString('\n')
		if strings.HasSuffix(line, endOfBlock+"\n") {
			out.WriteString(strings.TrimSuffix(line, endOfBlock+"\n"))
			break
		}
		out.WriteString(line)
		if err != nil {
			w.t.Fatalf("%s, block %q ended the shell:\n%s", w.page, name, &out)
		}
	}
	w.t.Logf("%s, block %q:\n%s", w.page, name, &out)
	w.compare(name, out.String())
	return out.String()
}

// compare looks for the lines that the page says are printed, in their order. Spaces do
// not count, and "…" is whatever stands there.
func (w *walk) compare(name, out string) {
	w.t.Helper()
	rest := strings.Split(w.ours.Replace(out), "\n")
	for want := range strings.Lines(w.ours.Replace(w.prints[name])) {
		for {
			if len(rest) == 0 {
				w.t.Fatalf("%s, block %q prints no line, or not in that order, like\n%s", w.page, name, want)
			}
			line := rest[0]
			rest = rest[1:]
			if like(line, want) {
				break
			}
		}
	}
}

// like reports whether a line has the parts of another one.
func like(line, want string) bool {
	line = strings.Join(strings.Fields(line), " ")
	for _, part := range strings.Split(want, "…") {
		_, after, ok := strings.Cut(line, strings.Join(strings.Fields(part), " "))
		if !ok {
			return false
		}
		line = after
	}
	return true
}

// done fails if the page has blocks that were not run.
func (w *walk) done() {
	w.t.Helper()
	for name := range w.blocks {
		w.t.Errorf("%s, block %q: it was not run", w.page, name)
	}
}
