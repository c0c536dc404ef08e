package e2e

import (
	"net"
	"testing"
	"time"
)

// Broker is an external NATS server that a test may kill and start again.
type Broker struct {
	*Process
	URL string // nats://127.0.0.1:port

	t       testing.TB
	address string
	args    []string
}

// NewBroker starts a NATS server with a port and a directory of its own.
func NewBroker(t testing.TB) *Broker {
	t.Helper()
	port := FreePort(t)
	b := &Broker{URL: "nats://127.0.0.1:" + port, t: t, address: "127.0.0.1:" + port}
	b.args = []string{"-a", "127.0.0.1", "-p", port, "-js", "-sd", t.TempDir()}
	b.Restart()
	return b
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
