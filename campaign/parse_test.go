package campaign_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/campaign"
)

func TestParseTakesTheSmallest(t *testing.T) {
	t.Parallel()
	c, err := campaign.Parse([]byte(member(`"ttl":"4h"`)))
	if err != nil || c.ID != "c" || !c.Audience.All || c.Content.Notification.Body != "b" {
		t.Errorf("got %+v, %v, want the campaign", c, err)
	}
}
