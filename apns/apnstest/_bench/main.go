package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func main() {
	ledger := flag.String("ledger", "hash", "")
	prof := flag.String("prof", "", "")
	procs := flag.Int("procs", 1, "")
	lat := flag.Duration("latency", 0, "")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	m, _ := apnstest.ParseLedgerMode(*ledger)
	srv, err := apnstest.New(apnstest.Config{Addr: "127.0.0.1:8443", Ledger: m, DeadShare: 0.01, Latency: *lat})
	if err != nil {
		panic(err)
	}
	os.WriteFile("/tmp/simbench.jwt", []byte(srv.ProviderToken(time.Now())), 0o600)
	os.WriteFile("/tmp/simbench.ca", srv.CAPEM(), 0o600)
	if *prof != "" {
		f, _ := os.Create(*prof)
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	var u0 syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u0)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, os.Interrupt)
	fmt.Println("ready")
	<-c
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	st := srv.Stats()
	us := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	cpu := us(u.Utime) + us(u.Stime) - us(u0.Utime) - us(u0.Stime)
	fmt.Printf("received %d accepted %d cpu/notification %.3f us (user %.3f sys %.3f) hold mean %.3f ms conns %d maxinflight %d refused %d maxrss %d MB statuses %v\n", st.Received, st.Accepted, cpu/float64(st.Received),
		(us(u.Utime)-us(u0.Utime))/float64(st.Received), (us(u.Stime)-us(u0.Stime))/float64(st.Received), st.HoldMeanSeconds*1e3, st.ConnectionsTotal, st.MaxInFlight, st.RefusedStreams, u.Maxrss/1024, st.Statuses)
	srv.Close()
}
