package feedback_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/pushfleet/pushfleet/feedback"
)

func TestCheckPublic(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addr   string
		public bool
	}{
		{"93.184.216.34", true},
		{"8.8.8.8", true},
		{"100.63.255.255", true},
		{"100.128.0.0", true},
		{"172.15.255.255", true},
		{"172.32.0.0", true},
		{"2606:2800:220:1:248:1893:25c8:1946", true},
		{"2a00:1450:4001::8a", true},
		{"::ffff:8.8.8.8", true},
		{"64:ff9b::8.8.8.8", true}, // NAT64

		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"10.0.0.1", false},
		{"100.64.0.1", false},  // carrier-grade NAT
		{"100.127.0.1", false}, // its end
		{"127.0.0.1", false},
		{"127.255.255.254", false},
		{"169.254.169.254", false}, // metadata of clouds
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"192.0.0.192", false}, // metadata of Oracle's cloud
		{"192.0.2.1", false},
		{"192.88.99.1", false},
		{"192.168.1.1", false},
		{"198.18.0.1", false},
		{"198.19.255.255", false},
		{"198.51.100.1", false},
		{"203.0.113.1", false},
		{"224.0.0.1", false},
		{"239.255.255.255", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"::", false},
		{"::1", false},
		{"::127.0.0.1", false},
		{"::ffff:127.0.0.1", false},
		{"::ffff:10.0.0.1", false},
		{"::ffff:169.254.169.254", false},
		{"64:ff9b::10.0.0.1", false},
		{"64:ff9b::169.254.169.254", false},
		{"64:ff9b:1::8.8.8.8", false},
		{"100::1", false},
		{"2001::1", false},       // Teredo
		{"2001:20::1", false},    // ORCHID
		{"2001:db8::1", false},   // documentation
		{"2002:7f00:1::", false}, // 6to4 of 127.0.0.1
		{"3fff::1", false},
		{"fc00::1", false},
		{"fd00:ec2::254", false}, // metadata of AWS
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"fec0::1", false},
		{"ff02::1", false},
		{"ff0e::1", false},
		{"4000::1", false},
	} {
		err := feedback.CheckPublic(netip.MustParseAddr(tt.addr))
		if (err == nil) != tt.public || err != nil && !errors.Is(err, feedback.ErrPrivateAddress) {
			t.Errorf("%s: got %v, want public: %t", tt.addr, err, tt.public)
		}
	}
	if err := feedback.CheckPublic(netip.Addr{}); err == nil {
		t.Error("no address: got nil, want an error")
	}
}

// With permission addresses inside are connected to, and those outside with TLS only.
func TestCheckDial(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address             string
		plain, allowPrivate bool
		allowed             bool
	}{
		{"8.8.8.8:443", false, false, true},
		{"8.8.8.8:443", false, true, true},
		{"8.8.8.8:80", true, true, false},
		{"[2a00:1450:4001::8a]:80", true, true, false},
		{"10.0.0.1:443", false, false, false},
		{"10.0.0.1:443", false, true, true},
		{"10.0.0.1:80", true, true, true},
		{"[::1]:80", true, true, true},
		{"[fe80::1%eth0]:443", false, false, false},
		{"nonsense", false, false, false},
	} {
		if err := feedback.CheckDial(tt.address, tt.plain, tt.allowPrivate); (err == nil) != tt.allowed {
			t.Errorf("%s, plain: %t, with permission: %t: got %v, want it allowed: %t", tt.address, tt.plain, tt.allowPrivate, err, tt.allowed)
		}
	}
}
