//go:build !linux

package main

// maxRSSUnit is the unit of ru_maxrss, in bytes.
const maxRSSUnit = 1

// pin leaves it to the system where a process runs: there is no way to say.
func pin(int, int) error { return nil }

// procCPU is not known here: the simulator's figure is missing from the table.
func procCPU(int) (float64, error) { return 0, nil }

// procMaxRSS is not known here either.
func procMaxRSS(int) (int64, error) { return 0, nil }
