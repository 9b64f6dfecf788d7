package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pushfleet/pushfleet/store"
)

const remedyRedis = "Start redis-server, or mend redis.addresses, the user or the certificate; a firewall may be between."

// redisRemedies say to which check a problem of Redis belongs, and what to do.
var redisRemedies = []struct {
	err    error
	check  string
	state  string
	remedy string
}{
	{store.ErrEvicts, "redis eviction", isFailed, "CONFIG SET maxmemory-policy noeviction, and write it into redis.conf."},
	{store.ErrVersion, "redis", isFailed, "Upgrade Redis to 7.0 or newer, or go to Valkey."},
	{store.ErrReplica, "redis", isFailed, "Name the master in redis.addresses, or the sentinels with redis.master_name."},
	{store.ErrMember, "redis", isFailed, "Name two members of the cluster or more in redis.addresses."},
	{store.ErrFull, "redis memory", isFailed, "Raise maxmemory, or give the machine more memory: registrations are refused until then."},
	{store.ErrDisk, "redis persistence", isFailed, "Make room on Redis's disk and see its log; it goes on by itself after that."},
	{store.ErrListpack, "redis listpack", isWarning, "CONFIG SET it to 512 (entries) or 64 (value), and write it into redis.conf."},
	{nil, "redis", isFailed, remedyRedis},
}

// redis looks at all servers of the token set.
func (d *doctor) redis(ctx context.Context, set *store.Store) []finding {
	var found []finding
	for _, p := range set.Problems(ctx) {
		for _, r := range redisRemedies {
			if r.err == nil || errors.Is(p.Err, r.err) {
				found = append(found, finding{State: r.state, Name: r.check, Found: p.Error(), Remedy: r.remedy})
				break
			}
		}
	}
	servers, err := set.Servers(ctx)
	if err != nil {
		if len(found) == 0 { // else it is said already
			found = append(found, failed("redis", remedyRedis, "%v", err))
		}
		return found
	}
	known := len(found)
	for _, s := range servers {
		found = append(found, judgeRedis(s)...)
	}
	for _, name := range []string{"redis eviction", "redis listpack"} {
		found = append(found, ok(name, "as it must be"))
	}
	// What is wrong with something is said; that the rest of it is right is not.
	wrong := found[:known]
	right := slices.DeleteFunc(slices.Clone(found[known:]), func(f finding) bool {
		return f.State == isOK && slices.ContainsFunc(wrong, func(w finding) bool { return w.Name == f.Name })
	})
	return append(wrong, right...)
}

// Little memory is left from memoryHigh of what Redis may take. Without a limit of
// its own, from memoryHighMachine of the machine's: a fork needs the rest.
const (
	memoryHigh        = 0.8
	memoryHighMachine = 0.5
)

// judgeRedis looks at one server.
func judgeRedis(s store.Server) []finding {
	at := ""
	if s.Addr != "" {
		at = " " + s.Addr
	}
	found := []finding{ok("redis"+at, "version %s, %d replicas", s.Version, s.Replicas)}
	if s.Broken {
		found[0] = failed("redis"+at, "See redis-cli --cluster check; start the masters that are down, or --cluster fix.", "the cluster does not serve all its slots")
	}
	found = append(found, judgeMemory("redis memory"+at, s), judgePersistence("redis persistence"+at, s), judgeClock("clock of redis"+at, s.Clock, s.Asked))
	return found
}

func judgeMemory(name string, s store.Server) finding {
	used, most := bytesText(uint64(max(0, s.UsedBytes))), bytesText(uint64(max(0, s.MaxBytes)))
	switch {
	case s.MaxBytes > 0 && float64(s.UsedBytes) >= memoryHigh*float64(s.MaxBytes):
		return warning(name, "Raise maxmemory, or prune devices that were not seen for long (pushfleet device prune).", "it uses %s of %s", used, most)
	case s.MaxBytes > 0:
		return ok(name, "it uses %s of %s", used, most)
	case s.MachineBytes > 0 && float64(s.UsedBytes) >= memoryHighMachine*float64(s.MachineBytes):
		return warning(name, "Set maxmemory to about 70 % of the machine's memory, and give it more.", "it uses %s of the machine's %s, without a limit", used, bytesText(uint64(s.MachineBytes)))
	default:
		return warning(name, "CONFIG SET maxmemory to about 70 % of the machine's memory, and write it into redis.conf: without a limit the kernel ends Redis instead.", "it uses %s, and maxmemory is not set", used)
	}
}

func judgePersistence(name string, s store.Server) finding {
	const remedy = "CONFIG SET appendonly yes, and write it into redis.conf."
	switch {
	case s.AppendOnly:
		return ok(name, "append-only file")
	case s.Snapshots != "":
		return warning(name, remedy, "snapshots only (save %s): a restart loses what came after the last one", s.Snapshots)
	case s.Hidden:
		return warning(name, "See in the provider's console that the append-only file is on.", "no append-only file, and its settings cannot be read")
	default:
		return failed(name, remedy, "none: a restart loses every device token%s", replicasToo(s.Replicas))
	}
}

func replicasToo(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", and its %d replicas then throw away theirs", n)
}
