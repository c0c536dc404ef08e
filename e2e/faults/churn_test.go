package faults

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/e2e"
)

// defaultChurn is how many connections TestChurn opens per security profile.
const defaultChurn = 2000

// ending is a way for a connection, or an attempt to get one, to end.
type ending struct {
	name string
	do   func(s station, i int) error
}

// TestChurn connects and disconnects in every way there is, and shows that the
// process holds afterwards what it held before.
func TestChurn(t *testing.T) {
	total := defaultChurn
	if s := os.Getenv("HOLDFAST_CHURN"); s != "" {
		var err error
		if total, err = strconv.Atoi(s); err != nil {
			t.Fatalf("HOLDFAST_CHURN=%q: want a number of connections", s)
		}
	}
	n := all(t, "--ping-interval", "300ms", "--pong-time", "300ms")
	lowest := math.MaxInt // heap: that of one profile is no excuse for the next
	for profile := 1; profile <= 3; profile++ {
		t.Run(fmt.Sprintf("profile %d", profile), func(t *testing.T) { lowest = churn(t, n, profile, total, lowest) })
	}
}

const (
	churners  = 8   // stations that connect at a time
	noPongers = 150 // of those that wait to be closed
)

// churn returns the heap that was left.
func churn(t *testing.T, n *e2e.Node, profile, total, lowest int) int {
	stations := addMany(t, n, fmt.Sprintf("S%d-", profile), churners, profile, nil)
	silent := addMany(t, n, fmt.Sprintf("D%d-", profile), noPongers, profile, map[string]any{"quirks": map[string]any{"ping": "require"}})
	other := add(t, n, fmt.Sprintf("OTHER%d", profile), profile, nil)
	endings := []ending{
		{"clean close", func(s station, _ int) error {
			p, err := booted(s)
			if err != nil {
				return err
			}
			return p.leave()
		}},
		{"reset", func(s station, _ int) error {
			p, err := booted(s)
			if err != nil {
				return err
			}
			p.reset()
			return nil
		}},
		{"failed handshake", failedHandshake},
		{"wrong credentials", func(s station, i int) error {
			s.password += "?"
			if s.certificate != nil {
				s.certificate = other.certificate
			}
			at := attempt{station: s, from: fmt.Sprintf("127.0.1.%d", 1+i/churners%16)} // some are locked out, some not
			_, err := at.dial()
			if r, ok := errors.AsType[*refusal](err); ok && (r.status == http.StatusUnauthorized || r.status == http.StatusTooManyRequests && s.certificate == nil) {
				return nil
			}
			return fmt.Errorf("%v, want 401", err)
		}},
		{"wrong protocol", func(s station, _ int) error {
			p, err := attempt{station: s, protocols: "ocpp0.1"}.dial()
			if err != nil {
				return err
			}
			defer p.nc.Close()
			_, err = p.read(patience)
			if c, ok := errors.AsType[*closed](err); ok && c.code == 1002 {
				return nil
			}
			return fmt.Errorf("%v, want close 1002", err)
		}},
	}
	each := total / (len(endings) + 1)
	run := func(each int) {
		for _, e := range endings {
			var next atomic.Int64
			var wg sync.WaitGroup
			for _, s := range stations {
				wg.Go(func() {
					for i := int(next.Add(1)); i <= each && !t.Failed(); i = int(next.Add(1)) {
						if err := e.do(s, i); err != nil {
							t.Errorf("%s, station %s: %v", e.name, s.id, err)
						}
					}
				})
			}
			wg.Wait()
		}
		for left := each; left > 0 && !t.Failed(); left -= noPongers { // no pong
			var wg sync.WaitGroup
			for _, s := range silent[:min(left, noPongers)] {
				wg.Go(func() {
					if err := neverPong(s); err != nil {
						t.Errorf("no pong, station %s: %v", s.id, err)
					}
				})
			}
			wg.Wait()
		}
		if t.Failed() {
			t.FailNow()
		}
	}

	run(noPongers) // fills pools and caches, which are bounded
	before := settled(t, n)
	before.heap = min(before.heap, lowest)
	ended := n.Metric("holdfast_closes_total") + n.Metric("holdfast_rejections_total")
	start := time.Now()
	run(each)
	took := time.Since(start)
	// A leak of the sizes that others have (3 KB per connection) is 6 MB in the
	// short run and 30 MB in the long one.
	after := returned(t, n, before, 1536<<10)
	if got := connections(n); got != 0 {
		t.Errorf("%d connections are still counted", got)
	}
	for _, port := range []string{n.Plain, n.TLS, n.MTLS} {
		if open := inState(t, port, "01") + inState(t, port, "08"); open > 0 {
			t.Errorf("%d sockets are still open on %s", open, port)
		}
	}
	counted := n.Metric("holdfast_closes_total") + n.Metric("holdfast_rejections_total") - ended
	t.Logf("%d connections in %s (%d of each kind, %.0f of them counted as closed or rejected): before %v, after %v",
		each*(len(endings)+1), took.Round(time.Millisecond), each, counted, before, after)
	return after.heap
}

// booted connects and boots.
func booted(s station) (*peer, error) {
	p, err := attempt{station: s}.dial()
	if err != nil {
		return nil, err
	}
	r, err := p.tryCall("BootNotification", boot16, patience)
	if err == nil && r.payload["status"] != "Accepted" {
		err = errors.New(r.text)
	}
	if err != nil {
		p.nc.Close()
		return nil, err
	}
	return p, nil
}

// neverPong connects and waits to be closed.
func neverPong(s station) error {
	p, err := attempt{station: s}.dial()
	if err != nil {
		return err
	}
	defer p.nc.Close()
	p.mute = true
	for {
		if _, err := p.read(patience); err == errTimeout {
			return errors.New("still connected")
		} else if err != nil {
			return nil
		}
	}
}

// failedHandshake cuts the connection somewhere before the 101.
func failedHandshake(s station, i int) error {
	u, err := url.Parse(s.url)
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if u.Scheme == "ws" {
		switch i % 3 {
		case 0: // says nothing
		case 1:
			_, err = io.WriteString(c, "GET /ocpp/"+s.id+" HT")
		default:
			_, err = io.WriteString(c, "\x16\x03\x01 no HTTP\r\n\r\n")
		}
		return err
	}
	switch i % 4 {
	case 0: // says nothing
	case 1: // no TLS
		_, err = io.WriteString(c, "GET /ocpp/x HTTP/1.1\r\n\r\n")
		io.Copy(io.Discard, c)
	case 2: // leaves when the server has answered
		err = tls.Client(&halfway{Conn: c}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		if errors.Is(err, errHalfway) {
			err = nil
		}
	default: // nothing in common, or no client certificate
		config := &tls.Config{InsecureSkipVerify: true}
		if s.profile == 2 {
			only(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA)(config)
		}
		nc := tls.Client(c, config)
		if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			return nil
		}
		if _, err := io.ReadAll(nc); err == nil {
			return errors.New("the handshake did not fail")
		}
	}
	return err
}

var errHalfway = errors.New("cut in the handshake")

// halfway is cut when the first answer came.
type halfway struct {
	net.Conn
	answered bool
}

func (h *halfway) Read(p []byte) (int, error) {
	if h.answered {
		return 0, errHalfway
	}
	h.answered = true
	return h.Conn.Read(p)
}

func (h *halfway) Write(p []byte) (int, error) {
	if h.answered {
		return 0, errHalfway
	}
	return h.Conn.Write(p)
}
