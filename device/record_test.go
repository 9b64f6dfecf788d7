package device_test

import (
	"encoding/hex"
	"errors"
	"testing"
	"testing/quick"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// records holds packed records that must be read for ever.
var records = []struct {
	name   string
	packed string // hex
	record device.Record
}{
	{
		name:   "bare",
		packed: "01" + "20" + "00" + "01a3185c5000" + "00000001",
		record: device.Record{RegisteredAt: 1_800_000_000_000, Generation: 1, Environment: device.Production},
	},
	{
		name: "with user, install and references",
		packed: "01" + "41" + "3c" + "01a3185c5001" + "01020304" +
			"000102030405060708090a0b0c0d0e0f" + "101112131415161718191a1b1c1d1e1f" + "000100020003",
		record: device.Record{
			RegisteredAt: 1_800_000_000_001, Generation: 0x01020304, Environment: device.Sandbox, Kind: device.VoIP,
			Accepted:  true,
			User:      device.Key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
			Install:   device.Key{16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31},
			LocaleRef: 1, ZoneRef: 2, VersionRef: 3,
		},
	},
	{
		name:   "quarantined, with details",
		packed: "01" + "20" + "45" + "01a3185c5000" + "00000002" + "01a3185c5005" + "03" + "02",
		record: device.Record{
			RegisteredAt: 1_800_000_000_000, Generation: 2, Environment: device.Production, Accepted: true, Details: true,
			State: device.Quarantined, ChangedAt: 1_800_000_000_005, Reason: device.BadDeviceToken, Rejections: 2,
		},
	},
	{
		name:   "tombstone of one that was never registered",
		packed: "01" + "00" + "02" + "000000000000" + "00000000" + "01a3185c5005" + "05",
		record: device.Record{State: device.Removed, ChangedAt: 1_800_000_000_005, Reason: device.Replaced},
	},
	{
		name:   "removed in the middle of a replacement",
		packed: "01" + "2a" + "8a" + "01a3185c5000" + "ffffffff" + "ffffffffffff" + "01" + "ff000000000000000000000000000000",
		record: device.Record{
			RegisteredAt: 1_800_000_000_000, Generation: 1<<32 - 1, Environment: device.Production, Kind: device.MDM,
			State: device.Removed, ChangedAt: 1<<48 - 1, Reason: device.Unregistered, Replaces: true, User: device.Key{255},
		},
	},
}

func TestRecordsAreReadForEver(t *testing.T) {
	t.Parallel()
	for _, tt := range records {
		packed, err := hex.DecodeString(tt.packed)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := device.ParseRecord(string(packed)); err != nil || got != tt.record {
			t.Errorf("%s: ParseRecord: got %+v, %v, want %+v", tt.name, got, err, tt.record)
		}
		if got := hex.EncodeToString(tt.record.Append(nil)); got != tt.packed {
			t.Errorf("%s: Append: got %s, want %s", tt.name, got, tt.packed)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	longest := 0
	check := func(r device.Record) bool {
		r = possible(r)
		packed := r.Append([]byte("before"))[len("before"):]
		longest = max(longest, len(packed))
		got, err := device.ParseRecord(string(packed))
		if err != nil || got != r {
			t.Logf("got %+v, %v, want %+v", got, err, r)
			return false
		}
		return true
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 20_000}); err != nil {
		t.Error(err)
	}
	if longest != device.MaxRecordBytes {
		t.Errorf("longest packed record: got %d bytes, want %d", longest, device.MaxRecordBytes)
	}
	if device.MaxRecordBytes > 64 {
		t.Errorf("MaxRecordBytes: got %d, want at most Redis's hash-max-listpack-value, 64", device.MaxRecordBytes)
	}
}

// possible makes a record out of any values.
func possible(r device.Record) device.Record {
	r.RegisteredAt &= 1<<48 - 1
	r.ChangedAt &= 1<<48 - 1
	r.Environment %= 3
	r.Kind %= 32
	r.State %= 3
	if r.State != device.Quarantined {
		r.Rejections = 0
	}
	if r.State == device.Live {
		r.ChangedAt, r.Reason = 0, 0
	}
	return r
}

func TestRecordBringsTimesIntoRange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ at, want int64 }{{-1, 0}, {1 << 48, 1<<48 - 1}} {
		got, err := device.ParseRecord(string(device.Record{RegisteredAt: tt.at}.Append(nil)))
		if err != nil || got.RegisteredAt != tt.want {
			t.Errorf("%d: got %d, %v, want %d", tt.at, got.RegisteredAt, err, tt.want)
		}
	}
}

func TestParseRecordIsStrict(t *testing.T) {
	t.Parallel()
	good := string(device.Record{
		State: device.Quarantined, User: device.Key{1}, Install: device.Key{2}, ZoneRef: 1,
	}.Append(nil))
	change := func(at int, to byte) string { return good[:at] + string([]byte{to}) + good[at+1:] }
	zero := func(from, to int) string { return good[:from] + string(make([]byte, to-from)) + good[to:] }
	for name, packed := range map[string]string{
		"empty":             "",
		"cut":               good[:len(good)-1],
		"head alone":        good[:13],
		"shorter than head": good[:12],
		"longer":            good + "\x00",
		"version 0":         change(0, 0),
		"version 2":         change(0, 2),
		"environment 3":     change(1, 3<<5),
		"state 3":           change(2, good[2]|3),
		"no user":           zero(21, 37),
		"no install":        zero(37, 53),
		"no references":     zero(53, 59),
	} {
		if got, err := device.ParseRecord(packed); !errors.Is(err, device.ErrRecord) || got != (device.Record{}) {
			t.Errorf("%s: got %+v, %v, want %v", name, got, err, device.ErrRecord)
		}
	}
	if _, err := device.ParseRecord(good); err != nil {
		t.Errorf("the one that was changed: got %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, tt := range records {
		packed, err := hex.DecodeString(tt.packed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(packed))
	}
	f.Fuzz(func(t *testing.T, packed string) {
		r, err := device.ParseRecord(packed)
		if err != nil {
			if !errors.Is(err, device.ErrRecord) {
				t.Errorf("got %v, want %v", err, device.ErrRecord)
			}
			return
		}
		if got := string(r.Append(nil)); got != packed {
			t.Errorf("packed again: got %x, want %x", got, packed)
		}
	})
}

func TestRecordUsable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state device.State
		name  string
		want  bool
	}{
		{device.Live, "live", true},
		{device.Quarantined, "quarantined", false},
		{device.Removed, "removed", false},
		{device.State(9), "state(9)", false},
	} {
		if got := (device.Record{State: tt.state}).Usable(); got != tt.want {
			t.Errorf("%v: Usable: got %t, want %t", tt.state, got, tt.want)
		}
		if got := tt.state.String(); got != tt.name {
			t.Errorf("String: got %q, want %q", got, tt.name)
		}
	}
	if got := (device.Record{}).Registered(); !got.IsZero() {
		t.Errorf("Registered of one that never was: got %v, want the zero time", got)
	}
	if got, want := (device.Record{RegisteredAt: 1500}).Registered(), time.UnixMilli(1500); !got.Equal(want) {
		t.Errorf("Registered: got %v, want %v", got, want)
	}
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	// The first half of SHA-256("anna"), by sha256sum: the keys are in Redis.
	const want = "55579b557896d0ce1764c47fed644f9b"
	k := device.KeyOf("anna")
	if got := hex.EncodeToString(k[:]); got != want {
		t.Errorf("KeyOf(anna): got %s, want %s", got, want)
	}
	if !device.KeyOf("").IsZero() || k.IsZero() {
		t.Errorf("IsZero: got %t for no id, %t for one", device.KeyOf("").IsZero(), k.IsZero())
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	// The numbers are stored.
	for n, name := range []string{
		"other", "Unregistered", "ExpiredToken", "BadDeviceToken", "DeviceTokenNotForTopic", "replaced", "deleted",
		"pruned",
	} {
		if got := device.Reason(n).String(); got != name {
			t.Errorf("reason %d: got %q, want %q", n, got, name)
		}
		if got := device.ReasonOf(name); got != device.Reason(n) {
			t.Errorf("ReasonOf(%q): got %d, want %d", name, got, n)
		}
	}
	if got := device.ReasonOf("TooManyRequests"); got != device.ReasonOther {
		t.Errorf("ReasonOf of a reason without a number: got %v, want %v", got, device.ReasonOther)
	}
	if got := device.Reason(200).String(); got != "reason(200)" {
		t.Errorf("String of a newer version's: got %q", got)
	}
}
