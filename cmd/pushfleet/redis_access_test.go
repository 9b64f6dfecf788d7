package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisOf starts a redis-server with the lines of a configuration file, and waits until
// it takes connections. Its port is 0 where it takes TLS alone.
func (r *rig) redisOf(port, name, conf string, args ...string) {
	r.t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		r.t.Fatal("this test needs redis-server: apt-get install redis-server")
	}
	file := filepath.Join(r.dir, name)
	if err := os.WriteFile(file, []byte("bind 127.0.0.1\nsave \"\"\nappendonly no\n"+conf), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.start(nil, bin, append([]string{file}, args...)...)
	r.until(name, func() error {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// with writes a configuration with this section of Redis, and returns a command of it.
func (r *rig) with(redis string, args ...string) (string, error) {
	r.t.Helper()
	file := filepath.Join(r.dir, fmt.Sprintf("c%d.yaml", time.Now().UnixNano()))
	text := "redis: " + redis + `
apps:
  shop: {bundle_id: com.example.shop, key: {path: x.p8, key_id: SIM0000001, team_id: SIMTEAM001}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	out, err := exec.CommandContext(r.ctx, filepath.Join(r.bin, "pushfleet"), append(args, "-c", file)...).CombinedOutput()
	return string(out), err
}

// Each way to reach a Redis that asks for something, and what it says to those who do
// not have it.
func TestRedisAccess(t *testing.T) {
	r := newAPIRig(t, "")
	serverPEM, serverKey := selfSigned(t)
	clientPEM, clientKey := selfSigned(t)
	for name, text := range map[string][]byte{
		"server.pem": serverPEM, "server-key.pem": serverKey, "client.pem": clientPEM, "client-key.pem": clientKey,
		"password": []byte("correct-horse\n"), "wrong": []byte("battery-staple\n"),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(r.dir, name) }
	const acl = "user default off\nuser push on >correct-horse ~pf:* +@all\n"

	tlsPort, aclPort, sentinelPort := freePort(t), freePort(t), freePort(t)
	r.redisOf(tlsPort, "tls.conf", acl+fmt.Sprintf("port 0\ntls-port %s\ntls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\ntls-auth-clients yes\n",
		tlsPort, in("server.pem"), in("server-key.pem"), in("client.pem")))
	r.redisOf(aclPort, "acl.conf", acl+"port "+aclPort+"\n")
	// The sentinel's user is another one than the master's.
	r.redisOf(sentinelPort, "sentinel.conf", fmt.Sprintf("port %s\nuser default off\nuser watch on >sentinel-pass +@all\n"+
		"sentinel monitor tokens 127.0.0.1 %s 1\nsentinel auth-user tokens push\nsentinel auth-pass tokens correct-horse\n", sentinelPort, aclPort), "--sentinel")

	clusterPort := freePort(t)
	r.redisOf(clusterPort, "cluster.conf", documented(t, "redis")+"user push on >correct-horse ~pf:* +@all\ncluster-enabled yes\nport "+clusterPort+"\ndir "+r.dir+"\n")
	member := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + clusterPort, Username: "push", Password: "correct-horse"})
	defer member.Close()
	if err := member.ClusterAddSlotsRange(r.ctx, 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	r.until("the cluster", func() error {
		if info, err := member.ClusterInfo(r.ctx).Result(); err != nil || !strings.Contains(info, "cluster_state:ok") {
			return fmt.Errorf("got %s, %w", info, err)
		}
		return nil
	})
	cluster := func(more string) string {
		return fmt.Sprintf("{addresses: [%[1]q, %[1]q], %[2]s}", "127.0.0.1:"+clusterPort, more)
	}
	tlsOf := func(more string) string {
		return fmt.Sprintf("{addresses: [%q], username: push, password_file: password, tls: {%s}}", "127.0.0.1:"+tlsPort, more)
	}
	sentinel := func(more string) string {
		return fmt.Sprintf("{addresses: [%q], master_name: tokens, username: push, password_file: password, sentinel_username: watch, %s}", "127.0.0.1:"+sentinelPort, more)
	}
	for _, tt := range []struct{ name, redis, refused string }{
		{"ACL", fmt.Sprintf("{addresses: [%q], username: push, password_file: password}", "127.0.0.1:"+aclPort), ""},
		{"ACL, nobody", fmt.Sprintf("{addresses: [%q]}", "127.0.0.1:"+aclPort), "NOAUTH"},
		{"ACL, another password", fmt.Sprintf("{addresses: [%q], username: push, password_file: wrong}", "127.0.0.1:"+aclPort), "WRONGPASS"},
		{"TLS", tlsOf("ca_file: server.pem, cert_file: client.pem, key_file: client-key.pem"), ""},
		{"TLS, the system's authorities", tlsOf("cert_file: client.pem, key_file: client-key.pem"), "certificate signed by unknown authority"},
		{"TLS, no client certificate", tlsOf("ca_file: server.pem"), "certificate"},
		{"TLS, in the clear", tlsOf("enabled: false"), ""},
		{"Cluster", cluster("username: push, password_file: password"), ""},
		{"Cluster, by the documented rule", cluster("username: pushfleet, password: secret"), ""},
		{"Cluster, another password", cluster("username: push, password_file: wrong"), "WRONGPASS"},
		{"Sentinel", sentinel("sentinel_password: sentinel-pass"), ""},
		{"Sentinel, another password", sentinel("sentinel_password: battery-staple"), "sentinel"},
	} {
		out, err := r.with(tt.redis, "device", "register", "--app", "shop", strings.Repeat("0a", 32))
		good := tt.refused == "" && tt.name != "TLS, in the clear"
		if (err == nil) != good || !strings.Contains(out, tt.refused) {
			t.Errorf("%s: got %v: %s; want it done: %t, %s", tt.name, err, out, good, tt.refused)
		}
		if strings.Contains(out, "battery-staple") || strings.Contains(out, "correct-horse") {
			t.Errorf("%s: got a password in %s, want none", tt.name, out)
		}
	}
}
