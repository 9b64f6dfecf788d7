package job_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// TestAPNsIDNeverChanges holds the ids of old: a resend after an update of the
// fleet must carry the same one.
func TestAPNsIDNeverChanges(t *testing.T) {
	t.Parallel()
	token := must2(device.ParseToken(hex64))
	for _, tt := range []struct {
		app, root string
		token     device.Token
		want      string
	}{
		{"shop", "order-4711", token, "3487aaa2-9d81-8953-9fdd-8da9d729f8b2"},
		{"shop", "seq-17", token, "183466cf-da8f-87e8-9afa-ccfa5cbdb537"},
		{"shop", "order-4711", device.TokenFromRaw(strings.Repeat("x", 80)), "a8736069-580a-8934-b8df-b4c4d910280a"},
		{"", "", device.Token{}, "df779293-fc98-834e-ab0f-791bf73ca630"},
	} {
		if got := job.APNsID(tt.app, tt.root, tt.token).String(); got != tt.want {
			t.Errorf("APNsID(%q, %q, %v): got %s, want %s", tt.app, tt.root, tt.token, got, tt.want)
		}
	}
}

func TestAPNsIDsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[uuid.UUID]string{}
	for _, tt := range []struct{ app, root, token string }{
		{"shop", "a", "t"},
		{"shop", "b", "t"},
		{"sho", "pa", "t"},
		{"shop", "", "at"},
		{"shopa", "", "t"},
		{"", "shopa", "t"},
		{"shop", "a", "u"},
		{"shop", "a", ""},
		{"shop", "a", "tt"},
		{"shop", "a", "t\x00"},
		{"shop", "a\x01", "t"},
		{"shop", "a", strings.Repeat("x", 300)},
	} {
		id := job.APNsID(tt.app, tt.root, device.TokenFromRaw(tt.token))
		key := strings.Join([]string{tt.app, tt.root, tt.token}, "|")
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q: got the same %s", key, other, id)
		}
		seen[id] = key
		if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
			t.Errorf("%q: got version %d, variant %s, want 8, %s", key, id.Version(), id.Variant(), uuid.RFC4122)
		}
	}
}

func TestAPNsIDsReusedGiveTheSame(t *testing.T) {
	ids := job.NewAPNsIDs("shop", "order-4711")
	for i := range 100 {
		// Long and short by turns: nothing of the one before may remain.
		tok := device.TokenFromRaw(strings.Repeat("x", 1+(i*37)%300))
		if got, want := ids.ID(tok), job.APNsID("shop", "order-4711", tok); got != want {
			t.Fatalf("token of %d bytes: got %s, want %s", tok.Len(), got, want)
		}
	}
	tok := tokenNumber(1)
	if n := testing.AllocsPerRun(100, func() { ids.ID(tok); job.RecipientHash(tok); job.UserHash("u") }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestRecipientHashes(t *testing.T) {
	t.Parallel()
	// Stored in Redis while a message is half done: they never change.
	for name, tt := range map[string]struct{ got, want uint64 }{
		"token":   {job.RecipientHash(must2(device.ParseToken(hex64))), 0xc22395a7eb24948f},
		"user":    {job.UserHash("u-1"), 0xd48855c8726816c8},
		"install": {job.InstallHash("u-1"), 0x192a912b63597b61},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %#x, want %#x", name, tt.got, tt.want)
		}
	}
	seen := map[uint64]bool{}
	for i := range 10_000 {
		tok := tokenNumber(i)
		for _, h := range []uint64{job.RecipientHash(tok), job.UserHash(tok.Raw()), job.InstallHash(tok.Raw())} {
			if seen[h] {
				t.Fatalf("recipient %d: got a hash that another has", i)
			}
			seen[h] = true
		}
	}
}
