package device_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/device"
)

func TestZones(t *testing.T) {
	t.Parallel()
	var z device.Zones
	for name, want := range map[string]bool{
		"Europe/Vienna":                  true,
		"America/Argentina/Buenos_Aires": true,
		"Etc/GMT+5":                      true,
		"UTC":                            true,
		"":                               false,
		"Local":                          false, // another zone on each machine
		"posixrules":                     false,
		"posix/Europe/Vienna":            false,
		"Europe/":                        false,
		"Europe//Vienna":                 false,
		"../etc/passwd":                  false,
		"/etc/localtime":                 false,
		"Europe/Nowhere":                 false,
		"8f3a77c0":                       false,
	} {
		for range 2 { // found, and remembered
			if got := z.Known(name); got != want {
				t.Errorf("Known(%q): got %t, want %t", name, got, want)
			}
			loc, got := z.Location(name)
			if got != want || (got && loc.String() != name) {
				t.Errorf("Location(%q): got %v, %t, want %t", name, loc, got, want)
			}
		}
	}
}
