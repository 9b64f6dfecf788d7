package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/roster"
)

// Errors of [Campaigns.CreateFromFile].
var (
	ErrNoRecipients = errors.New("producer: the file has no recipient that can be sent to")
	// ErrOtherFile: recipients of the campaign were handed in before, from a file that
	// did not begin like this one.
	ErrOtherFile = errors.New("producer: it is not the file that the campaign was begun with")
	// ErrTwoFiles: somebody else is handing in recipients of the campaign too.
	ErrTwoFiles = errors.New("producer: the campaign's recipients are handed in by somebody else as well")
)

// File is a file of a campaign's recipients: CSV with a header or JSON objects, one a
// line, as [roster.Recipients] reads them.
type File struct {
	Source io.Reader // stays the caller's
	// Bad is told of every line that cannot be used, also of those before the place
	// where the handing in goes on; an error ends it. nil: they are passed over.
	Bad func(line int64, why error) error
	// Taken is told from time to time how many recipients are handed in. May be nil.
	Taken func(recipients int64)
}

// Loaded says what became of a file.
type Loaded struct {
	campaign.Status
	Created bool
	// Before is how many recipients had been handed in by an earlier call; Bad counts
	// lines that cannot be used. Both are 0 if the file was not read, because the
	// campaign had all of its recipients already.
	Before, Bad int64
}

const (
	// What of a file is on its way at once, and in memory: so many ranges or, of large
	// ones, bytes.
	blockRanges = 64
	blockBytes  = 4 << 20
)

// CreateFromFile creates a campaign like [Campaigns.Create], hands in its recipients
// and then schedules it: nothing is sent before all of them are stored. If it ends
// early, for an error or with ctx, the campaign stays loading, and the same call with
// the same file from its beginning goes on where it was. It needs the same memory
// however long the file is.
//
// A line that names a device token or a user again is bad; that is noticed of the first
// six million recipients, which takes up to 64 MiB. Beyond, and where one line has a
// user and another one of that user's device tokens, a device may be sent to twice.
func (c *Campaigns) CreateFromFile(ctx context.Context, app string, of *campaign.Campaign, from File) (Loaded, error) {
	if of.Recipients == nil {
		return Loaded{}, errNeedsNoFile
	}
	if err := of.Validate(); err != nil { // before a long file
		return Loaded{}, err
	}
	recipients, err := roster.NewRecipients(from.Source, of.Recipients.Variables)
	if err != nil {
		return Loaded{}, fmt.Errorf("read recipients: %w", err)
	}
	l := &loading{
		campaigns: c, app: app, of: of, file: from,
		cutter: cutter{recipients: recipients, campaign: of.ID, digest: xxhash.New()},
	}
	l.cutter.blame = l.blame
	err = l.run(ctx)
	return l.Loaded, err
}

var errNeedsNoFile = errors.New("create campaign: it has an audience, and its recipients come from no file")

// loading is one handing in of a file.
type loading struct {
	Loaded

	campaigns *Campaigns
	app       string
	of        *campaign.Campaign
	file      File
	cutter    cutter
	ranges    int    // of the file up to here
	taken     int64  // recipients in them
	digest    string // of them
}

func (l *loading) blame(line int64, why error) error {
	l.Bad++
	if l.file.Bad == nil {
		return nil
	}
	return l.file.Bad(line, why)
}

func (l *loading) run(ctx context.Context) error {
	for {
		block, err := l.block()
		if err != nil {
			return fmt.Errorf("read recipients: %w", err)
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("hand in recipients: %w", context.Cause(ctx))
		case len(block) == 0 && l.Revision == 0:
			return ErrNoRecipients
		case l.Revision == 0:
			if err := l.begin(ctx); err != nil || l.State != campaign.Loading {
				return err
			}
		}
		if len(block) == 0 {
			return l.end(ctx)
		}
		if err := l.put(ctx, block); err != nil {
			return err
		}
	}
}

// block reads some ranges of the file; none at its end.
func (l *loading) block() ([]piece, error) {
	var block []piece
	for size := 0; len(block) < blockRanges && size < blockBytes; {
		p, err := l.cutter.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		block = append(block, p)
		size += p.bytes
	}
	return block, nil
}

// begin makes the campaign exist, and finds how far it is.
func (l *loading) begin(ctx context.Context) (err error) {
	bad := l.Bad
	l.Status, l.Created, err = l.campaigns.streams.NewCampaign(ctx, l.app, l.of, l.campaigns.now())
	if err != nil {
		return err
	}
	l.Bad = 0
	if l.State == campaign.Loading {
		l.Before, l.Bad = l.Devices, bad
	}
	return nil
}

// put hands in a block, but for those ranges that were before.
func (l *loading) put(ctx context.Context, block []piece) error {
	at := l.Ranges
	var fresh []campaign.Range
	for i := range block {
		if l.ranges == at && !l.same() {
			return ErrOtherFile
		}
		if l.ranges >= at {
			fresh = append(fresh, block[i].Range)
		}
		l.ranges++
		l.taken += int64(block[i].Devices)
		l.digest = block[i].digest
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := l.campaigns.streams.PublishRanges(ctx, l.app, fresh); err != nil {
		return fmt.Errorf("hand in recipients: %w", err)
	}
	st, err := l.campaigns.streams.ChangeCampaign(ctx, l.app, l.ID, func(st *campaign.Status) error {
		if st.State == campaign.Loading && st.Ranges != at {
			return ErrTwoFiles
		}
		return st.Load(l.ranges, l.taken, l.digest)
	})
	if st.Revision != 0 {
		l.Status = st
	}
	if err != nil {
		return fmt.Errorf("hand in recipients: %w", err)
	}
	if l.file.Taken != nil {
		l.file.Taken(l.taken)
	}
	return nil
}

// end schedules the campaign.
func (l *loading) end(ctx context.Context) error {
	if l.ranges < l.Ranges || !l.same() {
		return ErrOtherFile
	}
	st, err := l.campaigns.streams.ChangeCampaign(ctx, l.app, l.ID, func(st *campaign.Status) error {
		if st.State == campaign.Loading && st.Ranges != l.ranges {
			return ErrTwoFiles
		}
		return st.Loaded(l.campaigns.now())
	})
	if st.Revision != 0 {
		l.Status = st
	}
	if err != nil {
		return fmt.Errorf("schedule campaign: %w", err)
	}
	return nil
}

// same reports whether what was read of the file is what has been handed in.
func (l *loading) same() bool {
	return l.ranges == l.Ranges && l.taken == l.Devices && l.digest == l.Digest
}

// cutter divides recipients into ranges: of the same file always the same ones.
type cutter struct {
	recipients *roster.Recipients
	blame      func(line int64, why error) error
	campaign   string
	digest     *xxhash.Digest
	number     int
	seen       seen
	held       *recipient // did not fit the last range
}

// errAgain is what is wrong with a line whose recipient was named before.
var errAgain = errors.New("names the same recipient as a line before")

// piece is a range, about how many bytes it has, and the digest of all recipients up
// to its end.
type piece struct {
	campaign.Range
	bytes  int
	digest string
}

// recipient is one as it stands in a range.
type recipient struct {
	campaign.Recipient
	text []byte
}

// next returns the next range; io.EOF at the end.
func (c *cutter) next() (piece, error) {
	p := piece{Range: campaign.Range{Campaign: c.campaign, Number: c.number}}
	head, err := json.Marshal(&p.Range)
	if err != nil {
		return p, fmt.Errorf("encode range: %w", err)
	}
	p.bytes = len(head) + len(`,"recipients":[]`) + len("1000")
	for len(p.Recipients) < campaign.MaxRangeRecipients {
		next, err := c.read()
		if errors.Is(err, io.EOF) && len(p.Recipients) > 0 {
			break
		}
		if err != nil {
			return p, err
		}
		size := len(next.text) + len(",")
		if len(p.Recipients) > 0 && p.bytes+size > campaign.MaxRangeBytes {
			c.held = next
			break
		}
		_, _ = c.digest.Write(append(next.text, '\n')) // it does not fail
		p.Recipients = append(p.Recipients, next.Recipient)
		p.bytes += size
	}
	c.number++
	p.Devices = len(p.Recipients)
	p.digest = strconv.FormatUint(c.digest.Sum64(), 16)
	return p, nil
}

// read returns the next recipient that can be used.
func (c *cutter) read() (*recipient, error) {
	if held := c.held; held != nil {
		c.held = nil
		return held, nil
	}
	for {
		var line roster.Recipient
		if err := c.recipients.Next(&line); err != nil {
			return nil, err
		}
		if line.Err == nil && c.seen.again(hashOf(&line.Recipient)) {
			line.Err = errAgain
		}
		if line.Err != nil {
			if err := c.blame(line.Number, line.Err); err != nil {
				return nil, err
			}
			continue
		}
		text, err := json.Marshal(&line.Recipient)
		if err != nil {
			return nil, fmt.Errorf("encode recipient: %w", err)
		}
		return &recipient{line.Recipient, text}, nil
	}
}

// hashOf is what a recipient is known by within a file.
func hashOf(r *campaign.Recipient) uint64 {
	if r.User != "" {
		return xxhash.Sum64String("u" + r.User)
	}
	return xxhash.Sum64String("t" + r.Token)
}
