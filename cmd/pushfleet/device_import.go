package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/roster"
	"github.com/pushfleet/pushfleet/store"
)

const (
	importBatch    = 1000 // devices in one call of the token set
	importInFlight = 4    // batches under way
	importAttempts = 5    // at one batch, while Redis fails
	importShown    = 10   // bad lines that are shown on standard error
)

// importing is one run of `device import`. Only its own goroutine touches it;
// batches are read after they are done.
type importing struct {
	app, file, format, userData string
	environment, registeredAt   string
	position, bad               string
	resume, dryRun, overwrite   bool
	allowBad                    int

	opt      roster.Options
	defEnv   device.Environment
	since    time.Time // stands for a registration's time that the file does not say
	set      *store.Store
	progress io.Writer

	at   importPosition
	head string // what the input begins with, hashed
	// lineBytes is about how long a line is, going by the first ones; 0: not known.
	lineBytes int
	saved     time.Time
	flight    []*importedBatch
	badFile   *os.File
	zones     device.Zones
	shown     int
}

// importPosition is how far an import has come: what all lines up to Lines made
// is in the token set, in Count and in the first BadBytes bytes of --bad.
type importPosition struct {
	Version  int         `json:"version"`
	App      string      `json:"app"`
	Head     string      `json:"head"`
	Lines    int64       `json:"lines"`
	BadBytes int64       `json:"bad_bytes"`
	Count    importCount `json:"count"`
}

// importCount is what became of lines.
type importCount struct {
	Read     int            `json:"read"`
	New      int            `json:"new"`
	Again    int            `json:"again"`
	Replaced int            `json:"replaced"`
	NoZone   int            `json:"no_zone"`
	Left     map[string]int `json:"left,omitempty"`
	Skipped  map[string]int `json:"skipped,omitempty"`
	Bad      int            `json:"bad"`
}

// importedBatch is some lines on their way.
type importedBatch struct {
	list     []store.Import
	numbers  []int64 // lines of list
	subjects map[importSubject]bool
	upTo     int64 // the last line that it stands for
	count    importCount
	bad      []badLine
	done     chan struct{} // closed when what follows is set
	err      error
}

// importSubject is what two registrations may have in common, and must then
// follow each other in the order of the file.
type importSubject struct {
	install string
	token   device.Token
}

type badLine struct {
	number int64
	reason string
}

func newDeviceImport(g *globals, app *string) *cobra.Command {
	var m importing
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Register devices from a file: pushfleet's own, or of Amazon or OneSignal",
		Long: `import registers the devices of a file, or of standard input: what device export
writes, or exports of Amazon SNS, Amazon Pinpoint and OneSignal, compressed by gzip
or not. docs/import.md says which columns are read.

The token set knows better than a file: a device token that it has is left alone,
and so is one that it remembers as removed or has in quarantine. --overwrite
registers them again, but for those that were registered later than the file says.
Of several device tokens of one install the one registered last stays.

Importing twice does no harm. A file FILE.position beside the input says how far
the import has come, until it is complete; --resume goes on from there. Bad lines
do not stop the import, but end it with 1: see --allow-bad.`,
		Example: `  pushfleet device import --app shop shop.ndjson --dry-run
  pushfleet device import --app shop shop.ndjson --bad bad.tsv
  aws sns list-endpoints-by-platform-application --platform-application-arn … |
    jq -c '.Endpoints[]' | pushfleet device import --app shop --registered-at 2026-01-01`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.app, m.file = *app, "-"
			if len(args) == 1 {
				m.file = args[0]
			}
			if err := m.check(); err != nil {
				return err
			}
			g.about(m.file, zap.Bool("overwrite", m.overwrite))
			return withStore(cmd.Context(), g, m.app, func(ctx context.Context, cfg *config.Config, set *store.Store) error {
				m.set, m.progress = set, cmd.ErrOrStderr()
				if m.defEnv == device.EnvironmentUnset {
					m.defEnv = device.Production
					if a, ok := cfg.Apps[m.app]; ok {
						m.defEnv = a.Environment
					}
				}
				return m.run(ctx, cmd.InOrStdin(), cmd.OutOrStdout())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.format, "format", "", strings.Join(roster.FormatNames(), ", ")+" (default: told by the first line)")
	f.StringVar(&m.environment, "environment", "", "production or sandbox, where the file does not say (default: the app's)")
	f.StringVar(&m.registeredAt, "registered-at", "", "time of registration where the file does not say, such as 2026-01-31 (default: now)")
	f.StringVar(&m.userData, "custom-user-data", "attribute", "what Amazon SNS's CustomUserData is: attribute, user or ignore")
	f.BoolVar(&m.overwrite, "overwrite", false, "register also what the token set has already, or has removed")
	f.BoolVar(&m.dryRun, "dry-run", false, "check all lines and write nothing")
	f.StringVar(&m.bad, "bad", "", "file for the numbers of bad lines, each with the reason")
	f.IntVar(&m.allowBad, "allow-bad", 0, "so many bad lines are no failure")
	f.BoolVar(&m.resume, "resume", false, "go on with an import that was cut off")
	f.StringVar(&m.position, "position", "", "file that says how far the import has come (default: FILE.position; none for standard input)")
	return cmd
}

func (m *importing) check() (err error) {
	if m.opt.Format, err = roster.ParseFormat(m.format); err != nil {
		return usagef("--format: %v", err)
	}
	if m.opt.UserData, err = roster.ParseUserData(m.userData); err != nil {
		return usagef("--custom-user-data: %v", err)
	}
	if m.defEnv, err = device.ParseEnvironment(m.environment); err != nil {
		return usagef("--environment: %v", err)
	}
	if m.registeredAt != "" {
		if m.since, err = parseWhen(m.registeredAt, time.Now()); err != nil {
			return usagef("--registered-at: %v", err)
		}
	}
	if m.allowBad < 0 {
		return usagef("--allow-bad: must not be negative, got %d", m.allowBad)
	}
	if m.position == "" && m.file != "-" {
		m.position = m.file + ".position"
	}
	if m.resume && (m.position == "" || m.dryRun) {
		return usagef("--resume needs a file or --position, and no --dry-run")
	}
	if m.dryRun {
		m.position = ""
	}
	return nil
}

func (m *importing) run(ctx context.Context, stdin io.Reader, out io.Writer) (err error) {
	src, size := stdin, int64(0)
	if m.file != "-" {
		f, err := os.Open(m.file)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		src = f
	}
	b := newBytesBar(m.progress, size, "import")
	r, err := m.open(countingReader{src, b})
	if err != nil {
		return fmt.Errorf("import %s: %w", m.file, err)
	}
	if err := m.begin(r); err != nil {
		return err
	}
	if m.lineBytes > 0 && !m.dryRun {
		// A set that is new has room for all at once, and need not double while it fills.
		if err := m.set.Prepare(ctx, m.app, int(size)/m.lineBytes); err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	err = m.read(ctx, r)
	for len(m.flight) > 0 { // stop taking, finish what is under way
		err = errors.Join(err, m.land())
	}
	if m.badFile != nil {
		err = errors.Join(err, m.badFile.Close())
	}
	if err != nil {
		if saveErr := m.save(); saveErr == nil && m.position != "" {
			fmt.Fprintf(m.progress, "everything up to line %d is imported; go on with --resume\n", m.at.Lines)
		}
		return fmt.Errorf("import %s: %w", m.file, err)
	}
	b.finish()
	if m.position != "" {
		if err := os.Remove(m.position); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("import: %w", err)
		}
	}
	m.report(out)
	if m.at.Count.Bad > m.allowBad {
		return errReported
	}
	return nil
}

// countingReader shows what is read on a bar.
type countingReader struct {
	src io.Reader
	bar *bar
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.bar.add(n)
	return n, err
}

// open looks at the beginning of the input, and unpacks it if it is packed.
func (m *importing) open(src io.Reader) (*roster.Reader, error) {
	const look = 4096
	buffered := bufio.NewReaderSize(src, 64<<10)
	start, err := buffered.Peek(look)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sum := sha256.Sum256(start)
	m.head = hex.EncodeToString(sum[:])
	if !strings.HasPrefix(string(start), "\x1f\x8b") {
		if lines := bytes.Count(start, []byte("\n")); lines > 0 {
			m.lineBytes = (bytes.LastIndexByte(start, '\n') + 1) / lines
		}
		return roster.NewReader(buffered, m.opt)
	}
	packed, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, err
	}
	return roster.NewReader(packed, m.opt)
}

// begin goes to where the import is to go on, and opens the report.
func (m *importing) begin(r *roster.Reader) error {
	if m.resume {
		found, err := readPosition(m.position, &m.at)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("there is no %s: the import was never begun, or is complete", m.position)
		case m.at.Version != 1 || m.at.App != m.app || m.at.Head != m.head:
			return usagef("%s is of another import: give the same --app and file", m.position)
		}
		if err := r.Skip(m.at.Lines); err != nil {
			return fmt.Errorf("resume import of %s after line %d: %w", m.file, m.at.Lines, err)
		}
	} else {
		m.at = importPosition{Version: 1, App: m.app, Head: m.head}
		if err := m.save(); err != nil {
			return fmt.Errorf("%w (name another place with --position)", err)
		}
	}
	if m.bad == "" {
		return nil
	}
	f, err := os.OpenFile(m.bad, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		m.badFile = f
		err = f.Truncate(m.at.BadBytes)
	}
	if err == nil {
		_, err = f.Seek(m.at.BadBytes, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("import: --bad: %w", err)
	}
	return nil
}

// read reads all lines into batches.
func (m *importing) read(ctx context.Context, r *roster.Reader) error {
	b := newImportedBatch()
	lines := 0
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var line roster.Line
		err := r.Next(&line)
		if errors.Is(err, io.EOF) {
			b.upTo = r.Done()
			return m.send(ctx, b)
		}
		if err != nil {
			return err
		}
		m.take(b, &line)
		if lines++; lines == importBatch {
			b.upTo = r.Done()
			if err := m.send(ctx, b); err != nil {
				return err
			}
			b, lines = newImportedBatch(), 0
		}
	}
}

func newImportedBatch() *importedBatch {
	return &importedBatch{
		subjects: make(map[importSubject]bool), done: make(chan struct{}),
		count: importCount{Left: make(map[string]int), Skipped: make(map[string]int)},
	}
}

// take puts one line into a batch.
func (m *importing) take(b *importedBatch, line *roster.Line) {
	b.count.Read++
	if line.Err != nil {
		b.blame(line.Number, line.Err)
		return
	}
	if line.Skip != "" {
		b.count.Skipped[line.Skip]++
		return
	}
	d := &line.Device
	d.Environment = cmp.Or(d.Environment, m.defEnv)
	if d.Timezone != "" && !m.zones.Known(d.Timezone) {
		d.Timezone = ""
		b.count.NoZone++
	}
	if err := d.Validate(); err != nil {
		b.blame(line.Number, err)
		return
	}
	if d.RegisteredAt.IsZero() {
		d.RegisteredAt = m.since
	}
	b.list = append(b.list, store.Import{
		Registration: d.Registration, RegisteredAt: d.RegisteredAt, CreatedAt: d.CreatedAt, Accepted: d.Accepted,
	})
	b.numbers = append(b.numbers, line.Number)
	b.subjects[importSubject{token: d.Token}] = true
	if d.InstallID != "" {
		b.subjects[importSubject{install: d.InstallID}] = true
	}
}

func (b *importedBatch) blame(number int64, err error) {
	b.count.Bad++
	b.bad = append(b.bad, badLine{number, strings.ReplaceAll(err.Error(), "\n", "; ")})
}

// send starts a batch, once nothing under way concerns the same device tokens or
// installs.
func (m *importing) send(ctx context.Context, b *importedBatch) error {
	for len(m.flight) == importInFlight || slices.ContainsFunc(m.flight, b.meets) {
		if err := m.land(); err != nil {
			return err
		}
	}
	m.flight = append(m.flight, b)
	if m.dryRun {
		b.count.New = len(b.list)
		close(b.done)
		return nil
	}
	// land waits for it.
	go func() {
		defer close(b.done)
		b.err = b.run(context.WithoutCancel(ctx), ctx.Done(), m.set, m.app, m.overwrite)
	}()
	return nil
}

// meets reports whether two batches have a device token or an install in common.
func (b *importedBatch) meets(o *importedBatch) bool {
	for s := range b.subjects {
		if o.subjects[s] {
			return true
		}
	}
	return false
}

// run imports a batch, again where Redis fails, until stop.
func (b *importedBatch) run(ctx context.Context, stop <-chan struct{}, set *store.Store, app string, overwrite bool) error {
	todo := make([]int, len(b.list))
	for i := range todo {
		todo[i] = i
	}
	pause := 250 * time.Millisecond
	for attempt := 1; len(todo) > 0; attempt++ {
		list := make([]store.Import, len(todo))
		for n, i := range todo {
			list[n] = b.list[i]
		}
		out, err := set.ImportMany(ctx, app, list, overwrite)
		var left []int
		for n, i := range todo {
			switch {
			case len(out) == 0:
				left = append(left, i)
			case out[n].Err == nil:
				b.count.note(out[n])
			case errors.Is(out[n].Err, store.ErrTooManyDevices), errors.Is(out[n].Err, device.ErrRecord):
				b.blame(b.numbers[i], out[n].Err)
			default:
				left = append(left, i)
			}
		}
		if todo = left; len(todo) == 0 {
			return nil
		}
		if attempt == importAttempts {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-stop:
			return err
		}
	}
	return nil
}

func (c *importCount) note(done store.Imported) {
	c.Replaced += done.Replaced
	switch done.Result {
	case store.ImportedNew:
		c.New++
	case store.ImportedAgain:
		c.Again++
	default:
		c.Left[done.Result.String()]++
	}
}

func (c *importCount) add(o *importCount) {
	c.Read, c.New, c.Again = c.Read+o.Read, c.New+o.New, c.Again+o.Again
	c.Replaced, c.NoZone, c.Bad = c.Replaced+o.Replaced, c.NoZone+o.NoZone, c.Bad+o.Bad
	for _, m := range [...]struct {
		dst *map[string]int
		src map[string]int
	}{{&c.Left, o.Left}, {&c.Skipped, o.Skipped}} {
		if *m.dst == nil {
			*m.dst = make(map[string]int)
		}
		for name, n := range m.src {
			(*m.dst)[name] += n
		}
	}
}

// land waits for the oldest batch, and takes it in.
func (m *importing) land() error {
	b := m.flight[0]
	m.flight = m.flight[1:]
	<-b.done
	if b.err != nil {
		// What is behind it is not counted: it is imported again.
		for _, o := range m.flight {
			<-o.done
		}
		m.flight = nil
		return b.err
	}
	m.at.Lines = b.upTo
	m.at.Count.add(&b.count)
	slices.SortFunc(b.bad, func(x, y badLine) int { return cmp.Compare(x.number, y.number) })
	var text strings.Builder
	for _, bad := range b.bad {
		fmt.Fprintf(&text, "%d\t%s\n", bad.number, bad.reason)
		if m.shown++; m.shown <= importShown {
			fmt.Fprintf(m.progress, "line %d: %s\n", bad.number, bad.reason)
		} else if m.shown == importShown+1 {
			fmt.Fprintln(m.progress, "more bad lines are not shown here: see --bad")
		}
	}
	if m.badFile != nil && text.Len() > 0 {
		n, err := m.badFile.WriteString(text.String())
		if err != nil {
			return fmt.Errorf("--bad: %w", err)
		}
		m.at.BadBytes += int64(n)
	}
	if time.Since(m.saved) > time.Second {
		return m.save()
	}
	return nil
}

func (m *importing) save() error {
	if m.position == "" {
		return nil
	}
	m.saved = time.Now()
	return writePosition(m.position, m.at)
}

// report says what became of all lines.
func (m *importing) report(out io.Writer) {
	c := &m.at.Count
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	line := func(n int, format string, args ...any) {
		if n > 0 {
			fmt.Fprintf(w, "%d\t %s\n", n, fmt.Sprintf(format, args...))
		}
	}
	fmt.Fprintf(w, "%d\t devices read\n", c.Read)
	if m.dryRun {
		line(c.New, "good; nothing was written, and the token set not asked")
	} else {
		line(c.New, "registered")
		line(c.Again, "registered again")
	}
	line(c.Replaced, "older device tokens of the same installs replaced")
	for _, why := range slices.Sorted(maps.Keys(c.Left)) {
		line(c.Left[why], "left as they are: %s", why)
	}
	for _, why := range slices.Sorted(maps.Keys(c.Skipped)) {
		line(c.Skipped[why], "skipped: %s", why)
	}
	line(c.NoZone, "without their time zone, which is not one of the IANA database")
	line(c.Bad, "bad")
	_ = w.Flush()
}
