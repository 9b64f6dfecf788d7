//go:build interop

package apns_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// Run with: go test -tags interop -run Interop ./apns
// They need node and nghttpd; without one its test fails.

// nodeServer answers like APNs: 410 for device tokens that end in 7, a limit of
// one stream at first, and a GOAWAY every 500 requests.
const nodeServer = `
const http2 = require('http2'), fs = require('fs');
const [cert, key] = process.argv.slice(1);
const srv = http2.createSecureServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key), settings: {maxConcurrentStreams: 1}});
srv.on('session', s => { s.count = 0; });
srv.on('stream', (stream, headers) => {
  const s = stream.session;
  if (s.count++ === 0) s.settings({maxConcurrentStreams: 200});
  if (s.count % 500 === 0) s.goaway(0, stream.id, Buffer.from('{"reason":"Shutdown"}'));
  let size = 0;
  stream.on('data', d => { size += d.length; });
  stream.on('end', () => {
    const id = headers['apns-id'];
    if (headers[':path'].endsWith('7')) {
      stream.respond({':status': 410, 'apns-id': id, 'content-type': 'application/json'});
      stream.end(JSON.stringify({reason: 'Unregistered', timestamp: 1790000000000}));
    } else if (size === 0 || !headers['authorization'].startsWith('bearer ')) {
      stream.respond({':status': 400, 'apns-id': id});
      stream.end(JSON.stringify({reason: 'PayloadEmpty'}));
    } else {
      stream.respond({':status': 200, 'apns-id': id.toUpperCase()}, {endStream: true});
    }
  });
  stream.on('error', () => {});
});
srv.listen(0, '127.0.0.1', () => console.log(srv.address().port));
`

// certFiles writes a certificate for localhost and its key.
func certFiles(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, key, roots
}

// start runs a server until the test ends, and returns the first line it prints.
func start(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	lines := bufio.NewReader(out)
	var rest sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		rest.Wait()
		_ = cmd.Wait()
	})
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("first line of %s: %v", name, err)
	}
	rest.Go(func() { _, _ = io.Copy(io.Discard, lines) })
	return strings.TrimSpace(line)
}

func interopClient(t *testing.T, url string, roots *x509.CertPool) *apns.Client {
	t.Helper()
	identity := serve(t, apnstest.Config{}) // for its key only
	c, err := apns.New(apns.ClientConfig{Credential: keyOf(t, identity), URL: url, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestInteropNode(t *testing.T) {
	t.Parallel()
	cert, key, roots := certFiles(t)
	port := start(t, "node", "-e", nodeServer, cert, key)
	c := interopClient(t, "https://127.0.0.1:"+port, roots)
	for round := range 3 {
		ns := batch(1000*round, 1000)
		for i := range ns {
			ns[i].CollapseID = fmt.Sprint("c", i%9)
			ns[i].Topic = fmt.Sprintf("com.example.app-%d", i%80)
		}
		for i, r := range send(t, c, job.Bulk, ns) {
			want := apns.Response{Status: 200, APNsID: ns[i].APNsID}
			if strings.HasSuffix(ns[i].DeviceToken.Hex(), "7") {
				want.Status, want.Reason, want.Timestamp = 410, apns.Unregistered, 1790000000000
			}
			if r != want {
				t.Fatalf("round %d, response %d: got %+v, want %+v", round, i, r, want)
			}
		}
	}
}

func TestInteropNghttpd(t *testing.T) {
	t.Parallel()
	cert, key, roots := certFiles(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // nghttpd does not say which port it took
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_ = ln.Close()
	start(t, "nghttpd", "-v", "--address=127.0.0.1", "--echo-upload", "-m", "100", "--header-table-size=256", "--encoder-header-table-size=256", port, key, cert)
	c := interopClient(t, "https://127.0.0.1:"+port, roots)
	ns := batch(0, 2000)
	for i := range ns {
		ns[i].Topic = fmt.Sprintf("com.example.app-%d", i%80)
	}
	for i, r := range send(t, c, job.Bulk, ns) {
		if r.Err != nil || r.Status != 200 {
			t.Fatalf("response %d: got %+v, want 200", i, r)
		}
	}
}
