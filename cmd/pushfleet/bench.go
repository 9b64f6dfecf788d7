package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Reproduce the published figures, as ratios in one run",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newBenchEngine(), newBenchSender(), newBenchAPI(), newBenchStore(), newBenchJobs(), newBenchAPNs2Worker(), newBenchFairness(), newBenchCampaign())
	return cmd
}

// benchProcess is a process of a benchmark, pinned to one core where the system
// allows it.
type benchProcess struct {
	cmd *exec.Cmd
	out io.ReadCloser
}

// startPinned starts this very binary, or another program, on one core; core -1
// leaves it to the system.
func startPinned(ctx context.Context, core int, name string, args ...string) (*benchProcess, error) {
	p := &benchProcess{cmd: exec.CommandContext(ctx, name, args...)} //nolint:gosec // programs of the benchmark's own choice
	p.cmd.Stderr = os.Stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	var err error
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if core >= 0 {
		p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if core >= 0 {
		if err := pin(p.cmd.Process.Pid, core); err != nil {
			return nil, errors.Join(fmt.Errorf("pin %s to core %d: %w", name, core, err), p.stop())
		}
	}
	return p, nil
}

// stop asks the process to stop and waits for it.
func (p *benchProcess) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	return p.wait()
}

// wait reads what is left of the output and waits for the end.
func (p *benchProcess) wait() error {
	_, _ = io.Copy(io.Discard, p.out) // else Wait may lose output that is being read
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 {
		return nil // by our signal
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.cmd.Path), err)
	}
	return nil
}

// benchSim is a simulator in a process of its own.
type benchSim struct {
	*benchProcess
	dir, url, admin string
}

// startSim starts a simulator that keeps a hash of what it received.
func startSim(ctx context.Context, dir string, core int, args ...string) (*benchSim, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p, err := startPinned(ctx, core, self, append([]string{
		"sim", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--out", dir, "--ledger", "hash", "--announce", "--log-level", "warn",
	}, args...)...)
	if err != nil {
		return nil, err
	}
	s := &benchSim{benchProcess: p, dir: dir}
	lines := bufio.NewScanner(p.out)
	if !lines.Scan() {
		return nil, errors.Join(errors.New("simulator said nothing"), p.stop())
	}
	if _, err := fmt.Sscan(lines.Text(), &s.url, &s.admin); err != nil {
		return nil, errors.Join(fmt.Errorf("simulator said %q: %w", lines.Text(), err), p.stop())
	}
	return s, nil
}

// stats asks the simulator what it counted.
func (s *benchSim) stats(ctx context.Context) (st apnstest.Stats, err error) {
	body, err := askSim(ctx, http.MethodGet, s.admin+"/stats", "")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("read simulator's stats: %w", err)
	}
	return st, nil
}

// median returns the middle of values, which it sorts; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}
