package worker_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/job"
)

// While nothing that a lane takes gets anywhere, its backlog is not taken, looked
// up and handed back at full speed. When something does, it goes on at once.
func TestBrakeOnALaneThatGetsNowhere(t *testing.T) {
	var well atomic.Bool
	f := setup(t, func(n *apns.Notification) apns.Response {
		if well.Load() {
			return accept(n)
		}
		return apns.Response{Status: 503, Reason: apns.ServiceUnavailable, APNsID: n.APNsID}
	})
	const jobs = 8000
	for n := range jobs {
		f.publish(job.Bulk, newJob(fmt.Sprint(n), token(n)))
	}
	f.start(options{})
	f.eventually("it has noticed", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n >= 64
	})
	// What was under way then, and a little every quarter of a second.
	second := time.NewTimer(time.Second)
	defer second.Stop()
	<-second.C
	sent := len(f.sender.got())
	if sent > jobs/4 {
		t.Errorf("sent in a second: got %d of %d, want a small part", sent, jobs)
	}
	well.Store(true)
	f.eventually("the rest is sent", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n >= jobs
	})
}
