package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRSSUnit is the unit of ru_maxrss, in bytes (getrusage(2)).
const maxRSSUnit = 1024

// pin pins every thread that a process has now to one core; what they start
// inherits it.
func pin(pid, core int) error {
	var set unix.CPUSet
	set.Set(core)
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("set affinity: %w", err)
		}
	}
	return nil
}

// procCPU returns the CPU time that another process has used, in seconds.
func procCPU(pid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read cpu time: %w", err)
	}
	// proc(5): the second field is in parentheses and may hold anything; utime and
	// stime are the 14th and 15th, in ticks of 10 ms.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("read cpu time: unexpected format")
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, errors.Join(err1, err2)
}

// procMaxRSS returns the most memory that another process has had, in bytes.
func procMaxRSS(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:") // proc(5), in kB
	rest, _, ok := strings.Cut(rest, "kB")
	kb, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	if err != nil || !ok {
		return 0, errors.New("read memory: unexpected format")
	}
	return kb << 10, nil
}
