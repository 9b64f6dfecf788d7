package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ops answers /livez, /readyz and /metrics.
type ops struct{ mux *http.ServeMux }

// newOps returns the handler. ready returns nil while the process does its work;
// notes are lines for people, shown by /readyz whether it is ready or not. What the
// checks find is added by /readyz?verbose, and does not decide.
func newOps(reg *prometheus.Registry, ready func(context.Context) error, checks check, notes ...func() []string) *ops {
	seen := &lastSeen{look: checks}
	o := &ops{mux: http.NewServeMux()}
	o.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	o.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		text := "ok"
		err := ready(ctx)
		if err != nil {
			text = "not ready: " + err.Error()
		}
		for _, note := range notes {
			for _, line := range note() {
				text += "\n" + line
			}
		}
		if r.URL.Query().Has("verbose") {
			var table strings.Builder
			_ = printFindings(seen.findings(r.Context()), "table", &table) // a Builder takes everything
			text += "\n\n" + strings.TrimSuffix(table.String(), "\n")
		}
		if err != nil {
			http.Error(w, text, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, text)
	})
	o.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return o
}

// lastSeen looks at things at most once in seenFor, however often it is asked: the
// API's probes are open to whoever reaches it. It is safe for concurrent use.
type lastSeen struct {
	look check

	mu    sync.Mutex
	at    time.Time // guarded by mu
	found []finding // guarded by mu
}

const seenFor = 2 * time.Second

func (s *lastSeen) findings(ctx context.Context) []finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) >= seenFor {
		// Whoever comes next shares it: it must not end with the one who asked.
		s.found, s.at = s.look(context.WithoutCancel(ctx)), time.Now()
	}
	return s.found
}

func (o *ops) ServeHTTP(w http.ResponseWriter, r *http.Request) { o.mux.ServeHTTP(w, r) }

// newRegistry returns a registry with what every process tells about itself.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pushfleet_build_info", Help: "Always 1; the label says which version runs.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	reg.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// serve serves h until ctx ends. started gets the address once it listens.
func serve(ctx context.Context, addr string, h http.Handler, started func(net.Addr)) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if started != nil {
		started(l.Addr())
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(end) // what is left is a probe that does not matter any more
	})
	err = srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", addr, err)
	}
	return nil
}
