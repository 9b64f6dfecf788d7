package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/roster"
	"github.com/pushfleet/pushfleet/store"
)

// exporting is one run of `device export`.
type exporting struct {
	app, output, format      string
	environment, kind, state string
	resume, force            bool

	form    roster.Format
	filter  deviceFilter
	set     *store.Store
	buckets int
	from    exportPosition
}

// exportPosition is how far an export has come. Buckets are scanned in order, and
// the devices of all below Bucket are in the first Bytes bytes of the file.
type exportPosition struct {
	Version    int    `json:"version"`
	What       string `json:"what"` // app, format and filter
	Buckets    int    `json:"buckets"`
	Bucket     int    `json:"bucket"`
	Bytes      int64  `json:"bytes"`
	Devices    int    `json:"devices"`
	Unreadable int    `json:"unreadable"`
}

// exportStep is how many buckets are read at a time: some ten thousand devices.
const exportStep = 64

func newDeviceExport(g *globals, app *string) *cobra.Command {
	var e exporting
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all devices of an app to a file",
		Long: `export writes every device of an app, as lines of JSON or as CSV. The file holds
device tokens and users' ids in full: whoever has it, and a key of yours, can send
to everybody. It is created for its owner alone (mode 0600); treat it as a secret.

A device that is registered or removed while the export runs may be in the file as
it was before or after. With --output, a file FILE.position beside it says how far
the export has come, until it is complete; --resume goes on from there.`,
		Example: `  pushfleet device export --app shop --output shop.ndjson
  pushfleet device export --app shop --output shop.ndjson --resume
  pushfleet device export --app shop --format csv --kind voip --state all > voip.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.app = *app
			if err := e.check(); err != nil {
				return err
			}
			return withStore(cmd.Context(), g, e.app, func(ctx context.Context, _ *config.Config, set *store.Store) error {
				e.set = set
				return e.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&e.output, "output", "o", "", "file to write (default: standard output)")
	f.StringVar(&e.format, "format", "ndjson", "ndjson or csv")
	f.StringVar(&e.environment, "environment", "", "only production or sandbox")
	f.StringVar(&e.kind, "kind", "", "only this kind of device token: "+strings.Join(device.KindNames(), ", "))
	f.StringVar(&e.state, "state", "live", "live, quarantined, removed or all")
	f.BoolVar(&e.resume, "resume", false, "go on with an export that was cut off")
	f.BoolVar(&e.force, "force", false, "write over a file that exists")
	return cmd
}

func (e *exporting) check() (err error) {
	if e.form, err = roster.ParseFormat(e.format); err != nil || e.form != roster.NDJSON && e.form != roster.CSV {
		return usagef("--format: must be ndjson or csv, got %q", e.format)
	}
	if e.filter, err = newDeviceFilter(e.environment, e.kind, e.state); err != nil {
		return err
	}
	if e.resume && e.output == "" {
		return usagef("--resume needs --output")
	}
	e.from.Version = 1
	e.from.What = strings.Join([]string{e.app, e.format, e.environment, e.kind, e.state}, " ")
	return nil
}

func (e *exporting) position() string { return e.output + ".position" }

func (e *exporting) run(ctx context.Context, out, progress io.Writer) (err error) {
	if e.buckets, err = e.set.Buckets(ctx, e.app); err != nil {
		return err
	}
	e.from.Buckets = e.buckets
	var file *os.File
	if e.output != "" {
		if file, err = e.open(); err != nil {
			return err
		}
		out = file
	}
	err = e.write(ctx, out, file, progress)
	if file != nil {
		err = errors.Join(err, file.Close())
		if err == nil {
			err = os.Remove(e.position())
		} else if _, noPosition := os.Stat(e.position()); noPosition == nil {
			fmt.Fprintln(progress, "go on with --resume")
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "exported %d devices\n", e.from.Devices)
	if e.from.Unreadable > 0 {
		fmt.Fprintf(progress, "%d records could not be read and are not in the export: they are damaged, or a newer version wrote them\n", e.from.Unreadable)
		return errReported
	}
	return nil
}

// open opens the output, at the end of what is written whole.
func (e *exporting) open() (*os.File, error) {
	if e.resume {
		var at exportPosition
		found, err := readPosition(e.position(), &at)
		switch {
		case err != nil:
			return nil, err
		case !found:
			return nil, fmt.Errorf("there is no %s: the export was never begun, or is complete", e.position())
		case at.Version != 1 || at.What != e.from.What:
			return nil, usagef("%s is of another export: give the same --app, --format and filters", e.position())
		case at.Buckets > e.buckets: // they double, and never become fewer
			return nil, errors.New("the token set was laid out anew since: export again, with --force")
		}
		e.buckets = at.Buckets
		f, err := os.OpenFile(e.output, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("resume export: %w", err)
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err == nil && size < at.Bytes {
			err = fmt.Errorf("%s has %d bytes where %d were written", e.output, size, at.Bytes)
		}
		if err == nil {
			err = f.Truncate(at.Bytes)
		}
		if err == nil {
			_, err = f.Seek(at.Bytes, io.SeekStart)
		}
		if err != nil {
			return nil, fmt.Errorf("resume export: %w", errors.Join(err, f.Close()))
		}
		e.from = at
		return f, nil
	}
	// The position of an earlier one must not be taken for this one's.
	if e.force {
		if err := os.Remove(e.position()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if !e.force {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(e.output, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists: give --resume to go on with it, or --force to write over it", e.output)
	}
	if err == nil {
		err = f.Chmod(0o600) // one that was there may have been open to others
	}
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return f, nil
}

// write writes the devices of all buckets from e.from on. file is nil if the
// output is no file of ours.
func (e *exporting) write(ctx context.Context, out io.Writer, file *os.File, progress io.Writer) error {
	buffer := bufio.NewWriterSize(out, 1<<20)
	w, err := roster.NewWriter(buffer, e.form, e.from.Bucket == 0)
	if err != nil {
		return err
	}
	total, err := e.set.Count(ctx, e.app)
	if err != nil {
		return err
	}
	b := newBar(progress, int(total), "export", "devices", false)
	var entries []store.Entry
	var devices []device.Device
	var written time.Time
	for e.from.Bucket < e.buckets {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		to := min(e.from.Bucket+exportStep, e.buckets)
		if entries, err = e.set.ScanBuckets(ctx, e.app, e.buckets, e.from.Bucket, to, entries[:0]); err != nil {
			return err
		}
		scanned := len(entries)
		entries = e.filter.only(entries)
		var unreadable int
		if devices, unreadable, err = e.set.Describe(ctx, e.app, entries, devices[:0]); err != nil {
			return err
		}
		if err := w.Write(devices); err != nil {
			return err
		}
		if err := buffer.Flush(); err != nil {
			return err
		}
		e.from.Bucket, e.from.Devices, e.from.Unreadable = to, e.from.Devices+len(devices), e.from.Unreadable+unreadable
		if file != nil && (to == e.buckets || time.Since(written) > time.Second) {
			written = time.Now()
			if err := e.keep(file); err != nil {
				return err
			}
		}
		b.add(scanned)
	}
	b.finish()
	return nil
}

// keep writes the position, after what it speaks of.
func (e *exporting) keep(file *os.File) error {
	if err := file.Sync(); err != nil {
		return err
	}
	var err error
	if e.from.Bytes, err = file.Seek(0, io.SeekCurrent); err != nil {
		return err
	}
	return writePosition(e.position(), e.from)
}

// deviceFilter chooses entries of the token set.
type deviceFilter struct {
	environment device.Environment // unset: any
	kind        device.Kind
	anyKind     bool
	state       device.State
	anyState    bool
}

func newDeviceFilter(environment, kind, state string) (f deviceFilter, err error) {
	if f.environment, err = device.ParseEnvironment(environment); err != nil {
		return f, usagef("--environment: %v", err)
	}
	if f.kind, err = device.ParseKind(kind); err != nil {
		return f, usagef("--kind: %v", err)
	}
	f.anyKind = kind == ""
	switch state {
	case "live":
	case "quarantined":
		f.state = device.Quarantined
	case "removed":
		f.state = device.Removed
	case "all":
		f.anyState = true
	default:
		return f, usagef("--state: must be live, quarantined, removed or all, got %q", state)
	}
	return f, nil
}

// only keeps those of entries that are chosen, and those that cannot be read, in
// place.
func (f deviceFilter) only(entries []store.Entry) []store.Entry {
	kept := entries[:0]
	for _, e := range entries {
		if e.Err != nil || f.takes(e.Record) {
			kept = append(kept, e)
		}
	}
	return kept
}

func (f deviceFilter) takes(r device.Record) bool {
	return (f.anyState || r.State == f.state) && (f.anyKind || r.Kind == f.kind) &&
		(f.environment == device.EnvironmentUnset || r.Environment == f.environment)
}
