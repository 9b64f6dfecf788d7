package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// ErrChanging says that files were written while they were read.
var ErrChanging = errors.New("config: its files are being written")

// Source is a configuration that is read again when it changes: the file, and every file
// that it names. What they hold is compared, not times or events of the file system:
// that is the same for a file that is written, one that is replaced, the symbolic links
// of Kubernetes, and a file that is mounted into a container. It is for one goroutine.
//
// What [Config.CheckFiles] would report, Read does too.
type Source struct {
	path    string
	environ []string

	files    []string // that it was made of when it was last read
	settings Settings // of the last reading
	read     digest   // of the files, then
	seen     digest   // of them, at the last look
}

type digest [sha256.Size]byte

// NewSource returns what [Load] would read.
func NewSource(path string, environ []string) *Source {
	return &Source{path: path, environ: environ, files: []string{path}}
}

// Read reads the configuration, as it is at one moment: [ErrChanging] where there is
// none. Of what cannot be used it reports every problem.
func (s *Source) Read() (*Config, error) {
	// What it is made of is known only once it was read.
	s.files, _, _, _ = s.load()
	before := s.look()
	files, cfg, settings, err := s.load()
	if !slices.Equal(files, s.files) || s.look() != before {
		return nil, ErrChanging
	}
	s.read, s.seen, s.settings = before, before, settings
	if err == nil {
		err = cfg.CheckFiles()
	}
	if err != nil {
		return nil, err
	}
	return cfg, nil
}

// Changed looks at the files, and reports whether there is something new to read: they
// are not as they were when they were last read, and as they were at the last look, so
// that what is written in parts is not read in half.
func (s *Source) Changed() bool {
	now := s.look()
	settled := now == s.seen
	s.seen = now
	if !settled || now == s.read {
		return false
	}
	files, _, _, _ := s.load()
	if slices.Equal(files, s.files) {
		return true
	}
	// Those that are named now must settle too.
	s.files = files
	s.seen = s.look()
	return false
}

// Still reports whether the files are as they were when they were last read: what was
// read of them since is then what they held.
func (s *Source) Still() bool { return s.look() == s.read }

// Settings returns what the keys were set to when the configuration was last read.
func (s *Source) Settings() Settings { return s.settings }

func (s *Source) load() (files []string, cfg *Config, settings Settings, err error) {
	var data []byte
	dir := ""
	if s.path != "" {
		if data, err = readRegular(s.path, maxFileBytes); err != nil {
			return []string{s.path}, nil, nil, fmt.Errorf("read configuration %s: %w", s.path, err)
		}
		dir = filepath.Dir(s.path)
	}
	cfg, d, err := parse(data, s.environ, s.path, dir)
	slices.Sort(d.named)
	return append([]string{s.path}, slices.Compact(d.named)...), cfg, d.values, err
}

// look digests the files. One that cannot be read has the reason as what it holds.
func (s *Source) look() (d digest) {
	h := sha256.New()
	for _, name := range s.files {
		if name == "" {
			continue
		}
		data, err := readRegular(name, maxFileBytes)
		if err != nil {
			data = []byte(err.Error())
		}
		fmt.Fprintf(h, "%q %t %d\n", name, err == nil, len(data))
		_, _ = h.Write(data) // it takes everything
	}
	h.Sum(d[:0])
	return d
}

// Settings are the texts that keys are set to, by path, defaults among them.
type Settings map[string]Secret

// Changes returns the paths of the keys that are set differently in two, sorted. What
// the file of a key holds is not compared, but for secrets.
func (s Settings) Changes(other Settings) []string {
	differ := make(map[string]bool)
	for _, both := range [][2]Settings{{s, other}, {other, s}} {
		for path, value := range both[0] {
			if there, ok := both[1][path]; !ok || there.Reveal() != value.Reveal() {
				differ[path] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(differ))
}
