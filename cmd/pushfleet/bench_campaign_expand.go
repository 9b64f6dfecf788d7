package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// expandReal is how many of the first buckets hold their devices: those of the ranges
// that are published first.
const expandReal = 80

// campaignExpand are the figures of the part expand.
type campaignExpand struct {
	NominalDevices   int     `json:"expand_devices"`
	Ranges           int     `json:"expand_ranges"`
	FirstSendSeconds float64 `json:"first_send_seconds"` // from before the creation until the simulator received it
	ExpandSeconds    float64 `json:"expand_seconds"`     // until all ranges are published
	QueueMB          float64 `json:"queue_mb"`           // of JOBS, with all ranges in it
}

// expand divides an audience that is not there.
func (c *campaignBench) expand(ctx context.Context) (r *campaignExpand, err error) {
	b, err := c.rig(partExpand, -1, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	nominal := c.flags.nominal
	if err := b.start(ctx, c.flags.natsServer, nominal); err != nil {
		return nil, err
	}
	b.of = bareDevice
	buckets := bucketsFor(nominal)
	numbers := devicesOfBuckets(nominal, buckets, expandReal)
	if b.devices = len(numbers); b.devices == 0 {
		return nil, errors.New("there are no devices in the first buckets")
	}
	if err := b.register(ctx, numbers, func(int) {}); err != nil {
		return nil, err
	}
	perBucket := (nominal + buckets/2) / buckets
	counts, err := startCounts(ctx, b.redisAddr, "pf:{"+benchApp+":", perBucket)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, counts.stop()) }()
	if err := b.startWorker(ctx, counts.addr, ""); err != nil {
		return nil, err
	}
	began := time.Now()
	st, err := b.create(ctx, campaignBody, 0)
	if err != nil {
		return nil, err
	}
	stats, err := b.received(ctx, 1)
	if err != nil {
		return nil, err
	}
	r = &campaignExpand{NominalDevices: nominal, FirstSendSeconds: stats.FirstReceivedAt.Sub(began).Seconds()}
	// Nobody takes ranges from now on, so that all are in the queue together.
	if err := b.holdRanges(ctx, st.ID); err != nil {
		return nil, err
	}
	if err := b.drained(ctx, func(ctx context.Context) (err error) {
		if st, err = b.streams.Campaign(ctx, benchApp, st.ID); err == nil && !st.Expanded {
			err = fmt.Errorf("campaign %s has %d ranges so far", st.ID, st.Ranges)
		}
		return err
	}); err != nil {
		return nil, err
	}
	r.ExpandSeconds, r.Ranges = time.Since(began).Seconds(), st.Ranges
	if want := int64(perBucket) * int64(buckets); st.Devices != want || st.Classes != buckets {
		return nil, fmt.Errorf("campaign %s: got %d devices in %d classes, want %d in %d", st.ID, st.Devices, st.Classes, want, buckets)
	}
	jobs, err := b.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", stream.Jobs, err)
	}
	queued := jobs.CachedInfo().State
	if queued.Msgs == 0 || queued.Msgs > uint64(st.Ranges) {
		return nil, fmt.Errorf("%s has %d messages, want at most %d ranges", stream.Jobs, queued.Msgs, st.Ranges)
	}
	// Some were taken before: as if they had not been.
	r.QueueMB = float64(queued.Bytes) / float64(queued.Msgs) * float64(st.Ranges) / 1e6
	c.sayf("expand: first notification after %.2f s, %d ranges in %.1f s, %.1f MB in the queue (%d of them counted)", r.FirstSendSeconds, r.Ranges, r.ExpandSeconds, r.QueueMB, queued.Msgs)
	return r, b.cancel(ctx, &st)
}

// devicesOfBuckets returns the numbers below n of the devices in the first of so
// many buckets.
func devicesOfBuckets(n, buckets, first int) []int {
	parts := make([][]int, runtime.NumCPU())
	var finders sync.WaitGroup
	for p := range parts {
		finders.Go(func() {
			var buf []byte
			for i := p; i < n; i += len(parts) {
				buf = appendToken(buf[:0], i)
				if xxhash.Sum64(buf)&uint64(buckets-1) < uint64(first) {
					parts[p] = append(parts[p], i)
				}
			}
		})
	}
	finders.Wait()
	var numbers []int
	for _, part := range parts {
		numbers = append(numbers, part...)
	}
	return numbers
}

// holdRanges pauses the consumer of a campaign's ranges.
func (b *campaignRig) holdRanges(ctx context.Context, id string) error {
	jobs, err := b.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return fmt.Errorf("ask for stream %s: %w", stream.Jobs, err)
	}
	consumers := jobs.ListConsumers(ctx)
	for info := range consumers.Info() {
		if info.Config.FilterSubject != stream.RangesSubject(benchApp, id) {
			continue
		}
		if _, err := b.js.PauseConsumer(ctx, stream.Jobs, info.Name, time.Now().Add(benchPause)); err != nil {
			return fmt.Errorf("pause consumer %s: %w", info.Name, err)
		}
		return nil
	}
	if err := consumers.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return fmt.Errorf("list consumers of %s: %w", stream.Jobs, err)
	}
	return fmt.Errorf("campaign %s has no consumer", id)
}

// cancel cancels a campaign, and compares its counts with the simulator's once they
// are final.
func (b *campaignRig) cancel(ctx context.Context, st *campaign.Status) error {
	if _, err := b.streams.ChangeCampaign(ctx, benchApp, st.ID, func(s *campaign.Status) error { return s.Cancel(time.Now()) }); err != nil {
		return err //nolint:wrapcheck // it says what it does
	}
	err := b.drained(ctx, func(ctx context.Context) error {
		left, err := b.streams.RangesLeft(ctx, benchApp, st.ID)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d ranges of a cancelled campaign are left", left)
		}
		if err != nil {
			return err //nolint:wrapcheck // it says what it does
		}
		return b.recorded(ctx)
	})
	if err != nil {
		return err
	}
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return err
	}
	totals, err := b.set.CampaignTotals(ctx, benchApp, st.ID, st.Ranges)
	if err != nil {
		return err //nolint:wrapcheck // it says what it does
	}
	if got := totals.Counts[string(job.Accepted)]; got != stats.Accepted || stats.Rejected != 0 || stats.Duplicates+totals.Duplicates != 0 {
		return fmt.Errorf("counts of campaign %s: got %+v, and the simulator %d accepted, %d rejected, %d twice", st.ID, totals, stats.Accepted, stats.Rejected, stats.Duplicates)
	}
	return nil
}

// countsProxy stands between a worker and Redis, and answers how many devices a
// bucket has: always the same. Everything else is Redis's.
type countsProxy struct {
	addr   string
	prefix []byte // of keys of buckets
	answer []byte
	redis  string

	listener net.Listener
	group    errgroup.Group
	mu       sync.Mutex
	open     []net.Conn // guarded by mu
	closed   bool       // guarded by mu
}

func startCounts(ctx context.Context, redisAddr, prefix string, perBucket int) (*countsProxy, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before redis: %w", err)
	}
	p := &countsProxy{addr: l.Addr().String(), prefix: []byte(prefix), answer: fmt.Appendf(nil, ":%d\r\n", perBucket), redis: redisAddr, listener: l}
	p.group.Go(func() error {
		for {
			client, err := l.Accept()
			if err != nil {
				return nil //nolint:nilerr // it was closed
			}
			var d net.Dialer
			server, err := d.DialContext(ctx, "tcp", redisAddr)
			if err != nil {
				client.Close()
				continue // the client tries again
			}
			if !p.keep(client, server) {
				return nil
			}
			answered := make(chan bool, 1<<16) // for each command: whether it asks for a bucket's count
			p.group.Go(func() error { p.commands(client, server, answered); return nil })
			p.group.Go(func() error { p.replies(server, client, answered); return nil })
		}
	})
	return p, nil
}

// keep takes note of connections, or closes them if all is over.
func (p *countsProxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	p.open = append(p.open, conns...)
	return true
}

func (p *countsProxy) stop() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	return errors.Join(err, p.group.Wait())
}

// commands passes on what a client asks.
func (p *countsProxy) commands(client, server net.Conn, counts chan<- bool) {
	defer close(counts)
	defer server.Close()
	in, out := bufio.NewReaderSize(client, 1<<16), bufio.NewWriterSize(server, 1<<16)
	var command []byte
	for {
		var args [][]byte // the first two
		command = command[:0]
		n, head, err := readRESP(in, command)
		if err != nil {
			return
		}
		command = head
		for range n {
			start := len(command)
			if _, command, err = readRESP(in, command); err != nil {
				return
			}
			if len(args) < 2 {
				_, value, _ := bytes.Cut(command[start:], []byte("\r\n"))
				args = append(args, bytes.Clone(bytes.TrimSuffix(value, []byte("\r\n"))))
			}
		}
		if _, err := out.Write(command); err != nil {
			return
		}
		count := len(args) == 2 && bytes.EqualFold(args[0], []byte("hlen")) && p.isBucket(args[1])
		select {
		case counts <- count:
		default: // what is asked must be with Redis before this can wait for its answers
			if out.Flush() != nil {
				return
			}
			counts <- count
		}
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// isBucket reports whether a key is that of the records of a bucket; those of long
// device tokens are empty here.
func (p *countsProxy) isBucket(key []byte) bool {
	rest, ok := bytes.CutPrefix(key, p.prefix)
	return ok && bytes.HasSuffix(rest, []byte("}:d")) && rest[0] >= '0' && rest[0] <= '9'
}

// replies passes on what Redis answers.
func (p *countsProxy) replies(server, client net.Conn, counts <-chan bool) {
	defer client.Close()
	in, out := bufio.NewReaderSize(server, 1<<16), bufio.NewWriterSize(client, 1<<16)
	var reply []byte
	for count := range counts {
		var err error
		if reply, err = readReply(in, reply[:0]); err != nil {
			break
		}
		if count {
			reply = append(reply[:0], p.answer...)
		}
		if _, err := out.Write(reply); err != nil {
			break
		}
		if in.Buffered() == 0 && out.Flush() != nil {
			break
		}
	}
	client.Close()
	for range counts {
		// The other side must not wait for us.
	}
}

// readReply appends a whole RESP2 value.
func readReply(in *bufio.Reader, dst []byte) ([]byte, error) {
	for left := 1; left > 0; left-- {
		n, out, err := readRESP(in, dst)
		if err != nil {
			return dst, err
		}
		dst, left = out, left+n
	}
	return dst, nil
}

// readRESP appends one value of RESP2 as it is: of an array its head, and n says how
// many values follow.
func readRESP(in *bufio.Reader, dst []byte) (n int, _ []byte, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, dst, err //nolint:wrapcheck // a connection that ended
	}
	dst = append(dst, line...)
	switch line[0] {
	case '*', '$':
		length, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
		if err != nil {
			return 0, dst, fmt.Errorf("read redis's protocol: %w", err)
		}
		if line[0] == '*' {
			return max(0, length), dst, nil
		}
		if length < 0 {
			return 0, dst, nil
		}
		start := len(dst)
		dst = append(dst, make([]byte, length+2)...)
		_, err = io.ReadFull(in, dst[start:])
		return 0, dst, err //nolint:wrapcheck // a connection that ended
	}
	return 0, dst, nil
}
