package h2_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

func TestUrgentGoesFirst(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(100))
	bulk, urgent := request(0, 2), request(1, 2)
	urgent.Topic = "urgent"
	o.submit(job.Bulk, bulk, bulk, bulk)
	o.submit(job.Transactional, urgent, urgent)
	c.Wake()
	for i, want := range []string{"urgent", "urgent", "com.example.app", "com.example.app", "com.example.app"} {
		if got := p.request().get("apns-topic"); got != want {
			t.Errorf("request %d: got topic %q, want %q", i, got, want)
		}
	}
}

func TestBulkLeavesTheLastTenth(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(20))
	o.submit(job.Bulk, requests(30, 2)...)
	c.Wake()
	for range 18 {
		p.request()
	}
	p.sync()
	if got := o.queued(job.Bulk); got != 12 {
		t.Errorf("bulk at 20 streams: got %d queued, want 12", got)
	}
	if bulk, urgent := c.Free(job.Bulk), c.Free(job.Transactional); bulk != 0 || urgent != 2 {
		t.Errorf("free: got %d for bulk, %d for transactional, want 0 and 2", bulk, urgent)
	}
	o.submit(job.Transactional, requests(3, 2)...)
	c.Wake()
	p.request()
	p.request()
	p.sync()
	if got := o.queued(job.Transactional); got != 1 {
		t.Errorf("transactional: got %d queued, want 1", got)
	}
	// Another share, and bulk goes on with the next answer.
	c.KeepFree(20)
	p.accept(p.seen[1])
	p.accept(p.seen[3])
	p.request() // transactional
	p.sync()
	if got := o.queued(job.Bulk); got != 12 {
		t.Errorf("bulk with 19 open: got %d queued, want 12", got)
	}
	p.accept(p.seen[5])
	p.accept(p.seen[7])
	p.request()
	p.request()
	p.sync()
	if got := o.queued(job.Bulk); got != 10 {
		t.Errorf("bulk with 19 open again: got %d queued, want 10", got)
	}
}

func TestBulkMayUseTheOnlyStream(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(1))
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	p.request()
}

// While urgent work is about, it waits for no more than a slice of bulk: the
// peer reads nothing, and what is written in one go stays small.
func TestBulkIsWrittenInSlices(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{}, maxStreams(1000))
	o.submit(job.Transactional, request(0, 2))
	c.Wake()
	p.request()
	p.must(p.fr.WriteWindowUpdate(0, 1<<20))
	p.sync()
	largest := func(n int) int {
		before := o.queued(job.Bulk)
		o.submit(job.Bulk, requests(n, 1000)...)
		c.Wake()
		most, left := 0, before+n
		for range n {
			// A write's frames are encoded before its first byte can be read.
			p.request()
			now := o.queued(job.Bulk)
			most, left = max(most, left-now), now
		}
		return most
	}
	const slice = h2.SliceBytes/1000 + 1
	if got := largest(200); got > 2*slice {
		t.Errorf("requests encoded at once: got %d of 1000 bytes, want at most two slices of %d", got, slice)
	}
}
