package feedback

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrPrivateAddress is why an address is not connected to: it is not on the public
// Internet, so whoever may set a webhook's URL, or the DNS entry that it names, could
// reach what was never meant for them.
var ErrPrivateAddress = errors.New("feedback: not a public address")

// reserved are blocks that the methods of netip.Addr do not know, by IANA's registries
// of special-purpose addresses (RFC 6890 and its updates).
var reserved = []struct {
	block netip.Prefix
	what  string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "reserved"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("2001::/23"), "reserved"}, // Teredo, ORCHID and so on
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"}, // may lead to any IPv4 address
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
}

// What IPv6 has of the public Internet (RFC 4291, section 2.4; IANA has given out
// nothing else), and the way from there to IPv4 (RFC 6052): an IPv4 address in its last
// four bytes.
var (
	global = netip.MustParsePrefix("2000::/3")
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
)

// CheckPublic returns nil for an address on the public Internet, and for any other one
// an error that wraps [ErrPrivateAddress] and says what it is.
func CheckPublic(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("") // ::ffff:10.0.0.1 is 10.0.0.1
	if nat64.Contains(addr) {
		raw := addr.As16()
		addr = netip.AddrFrom4([4]byte(raw[12:]))
	}
	what := ""
	switch {
	case !addr.IsValid(), addr.IsUnspecified():
		what = "unspecified"
	case addr.IsLoopback():
		what = "loopback"
	case addr.IsPrivate():
		what = "private"
	case addr.IsMulticast():
		what = "multicast"
	case addr.IsLinkLocalUnicast():
		what = "link-local" // where clouds keep their metadata
	case addr.Is6() && !global.Contains(addr):
		what = "reserved"
	}
	for _, r := range reserved {
		if what == "" && r.block.Contains(addr) {
			what = r.what
		}
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%w: %s is %s", ErrPrivateAddress, addr, what)
}
