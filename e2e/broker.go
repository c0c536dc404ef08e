package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Broker is an external NATS server that a test may kill and start again. Each
// role can do on it what its credentials allow, as in production.
type Broker struct {
	*Process
	URL string // nats://127.0.0.1:port
	Dir string // of ROLE.creds

	t       testing.TB
	address string
	args    []string
}

// NewBroker starts a NATS server with a port and a directory of its own.
func NewBroker(t testing.TB) *Broker {
	t.Helper()
	port := FreePort(t)
	b := &Broker{URL: "nats://127.0.0.1:" + port, Dir: filepath.Join(t.TempDir(), "credentials"), t: t, address: "127.0.0.1:" + port}
	if out, err := exec.Command(Build(t, "holdfast/cmd/holdfast"), "nats", "credentials", "--out", b.Dir).CombinedOutput(); err != nil {
		t.Fatalf("holdfast nats credentials: %v\n%s", err, out)
	}
	conf := filepath.Join(filepath.Dir(b.Dir), "nats.conf")
	text := fmt.Sprintf("listen: %q\nmax_payload: 4MB\njetstream { store_dir: %q }\ninclude credentials/authorization.conf\n", b.address, t.TempDir())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.args = []string{"-c", conf}
	b.Restart()
	return b
}

// Args are the flags with which a role connects.
func (b *Broker) Args(role string) []string {
	return []string{"--nats", b.URL, "--nats-credentials", filepath.Join(b.Dir, role+".creds")}
}

// Restart starts the server on the same port and directory and returns when it
// accepts connections.
func (b *Broker) Restart() {
	b.t.Helper()
	b.Process = Start(b.t, Build(b.t, "github.com/nats-io/nats-server/v2"), b.args...)
	b.Await("NATS", 20*time.Second, func() bool {
		c, err := net.Dial("tcp", b.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
