package overview

import (
	"slices"
	"strings"

	"github.com/pushfleet/pushfleet/campaign"
)

// Changes are campaigns that have changed.
type Changes struct {
	Whole     bool // these are all that there are
	Campaigns []campaign.Status
	Deleted   []DeletedCampaign
}

// DeletedCampaign is one that is not there any more.
type DeletedCampaign struct{ App, ID string }

// heldCampaign is a campaign as it is known, or was.
type heldCampaign struct {
	status  campaign.Status
	change  uint64 // the number of its last change
	deleted bool
}

// campaignChanged notes a campaign that has changed.
func (s *session) campaignChanged(st campaign.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	key := [2]string{st.App, st.ID}
	if st.Revision == 0 {
		if s.campaigns[key] == nil {
			return
		}
		s.forgetOldest()
	}
	s.campaigns[key] = &heldCampaign{status: st, change: s.changes, deleted: st.Revision == 0}
}

// mostDeleted bounds the deleted campaigns that are remembered for followers that come late.
const mostDeleted = 1000

// forgetOldest forgets the campaign that was deleted first, where there are too many of
// them. mu is held.
func (s *session) forgetOldest() {
	var oldest *heldCampaign
	n := 0
	for _, c := range s.campaigns {
		if c.deleted {
			n++
			if oldest == nil || c.change < oldest.change {
				oldest = c
			}
		}
	}
	if n >= mostDeleted {
		delete(s.campaigns, [2]string{oldest.status.App, oldest.status.ID})
	}
}

// changes is what a follower has not been told of yet; nil if there is nothing.
func (f *Follower) changes() *Changes {
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.campaignsKnown || f.begun && f.seen == s.changes {
		return nil
	}
	c := &Changes{Whole: !f.begun}
	for _, held := range s.campaigns {
		switch {
		case f.begun && held.change <= f.seen:
		case !held.deleted:
			c.Campaigns = append(c.Campaigns, held.status)
		case f.begun:
			c.Deleted = append(c.Deleted, DeletedCampaign{held.status.App, held.status.ID})
		}
	}
	f.begun, f.seen = true, s.changes
	slices.SortFunc(c.Campaigns, func(a, b campaign.Status) int {
		if d := b.CreatedAt.Compare(a.CreatedAt); d != 0 {
			return d // the newest first, as in the list
		}
		return strings.Compare(a.ID, b.ID)
	})
	return c
}
