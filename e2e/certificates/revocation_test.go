package certificates_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
)

// patience is the limit of what takes no time on an idle machine.
const patience = 20 * time.Second

// site is every role in processes of their own, with three gateways.
type site struct {
	t         *testing.T
	broker    *e2e.Broker
	authority *e2e.Node
	csms      *e2e.Node
	gateways  [3]*e2e.Node
	lines     [3]*line // between a gateway and the bus
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, broker: e2e.NewBroker(t)}
	node := func(role, nats string, ports ...string) *e2e.Node {
		n := e2e.Ports(t, t.TempDir())
		n.Args = append([]string{role}, s.broker.Args(role)...)
		n.Args[slices.Index(n.Args, "--nats")+1] = nats
		if role != "gateway" {
			n.Args = append(n.Args, "--data", n.Data)
		}
		n.Args = append(n.Args, n.ListenArgs(ports...)...)
		return n
	}
	s.authority = node("authority", s.broker.URL, "admin")
	s.csms = node("csms", s.broker.URL, "api", "admin")
	s.authority.Restart()
	s.csms.Restart()
	for i := range s.gateways {
		s.lines[i] = newLine(t, strings.TrimPrefix(s.broker.URL, "nats://"))
		s.gateways[i] = node("gateway", "nats://"+s.lines[i].address, "tls", "mtls", "admin")
		s.gateways[i].Args = append(s.gateways[i].Args, "--gateway-id", fmt.Sprint("gw-", i+1), "--drain-time", "1s")
		s.gateways[i].Restart()
	}
	for _, n := range []*e2e.Node{s.authority, s.csms, s.gateways[0], s.gateways[1], s.gateways[2]} {
		n.AwaitReady()
	}
	return s
}

// line carries one gateway's connections to the bus, and can be cut.
type line struct {
	address, to string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{address: l.Addr().String(), to: to}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil || !n.hold(near, far) {
				near.Close()
				continue
			}
			running.Go(func() { io.Copy(near, far); near.Close() })
			running.Go(func() { io.Copy(far, near); far.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); n.set(true); running.Wait() })
	return n
}

// hold remembers the ends of a connection, unless the line is cut.
func (l *line) hold(near, far net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		far.Close()
		return false
	}
	l.conns = append(l.conns, near, far)
	return true
}

// set cuts the line, or mends it.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for _, c := range l.conns {
			c.Close()
		}
		l.conns = nil
	}
}

// end is one connection that had to end.
type end struct {
	after time.Duration
	code  int
	err   error
}

// ends waits for the connections of stations to end, each from the moment that
// the function that it returns is called with its station.
func ends(stations []*station) (from func(*station), wait func() map[*station]end) {
	var mu sync.Mutex
	started, ended := make(map[*station]time.Time), make(map[*station]end)
	var running sync.WaitGroup
	for _, s := range stations {
		s.conn.SetReadDeadline(time.Now().Add(3 * time.Minute))
		running.Go(func() {
			code, err := s.awaitClose()
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			ended[s] = end{now.Sub(started[s]), code, err}
		})
	}
	from = func(s *station) {
		mu.Lock()
		defer mu.Unlock()
		started[s] = time.Now()
	}
	return from, func() map[*station]end { running.Wait(); return ended }
}

// expel revokes the certificate of every second station and blocks the others.
func (s *site) expel(t *testing.T, i int, st *station) {
	path, body := "/api/v1/certificates/"+st.serial+"/revoke", map[string]any{"reason": "key_compromise"}
	if i%2 == 1 {
		path, body = "/api/v1/stations/"+st.id+"/block", map[string]any{"reason": "stolen"}
	}
	if status := s.csms.Do("POST", path, body, nil); status != 200 {
		t.Errorf("POST %s: %d", path, status)
	}
}

// TestRevocation has stations on three gateways expelled.
func TestRevocation(t *testing.T) {
	s := newSite(t)
	t.Run("on three gateways", s.expelMany)
	t.Run("off the bus", s.expelOffTheBus)
	t.Run("by a list of another CA", s.expelByList)
}

// expelMany revokes certificates of stations on three gateways and blocks others: each connection ends, wherever it is, the next handshake is refused on
// every gateway, resumed or full, and nobody else is disconnected. The log has how
// long it took from the operator's request to the close; HOLDFAST_REVOKE=1000 for
// that many stations.
func (s *site) expelMany(t *testing.T) {
	n := 12
	if text := os.Getenv("HOLDFAST_REVOKE"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 6 || n > 5000 {
			t.Fatalf("HOLDFAST_REVOKE=%q: want a number of stations from 6 to 5000", text)
		}
	}
	var stay, leave []*station
	for i := range n + 3 {
		st := addStation(t, s.csms, fmt.Sprintf("CS-%d", i), "ecdsa")
		st.must(t, s.gateways[i%3].MTLS)
		if i < n {
			leave = append(leave, st)
		} else {
			stay = append(stay, st)
		}
	}
	from, wait := ends(leave)
	const atOnce = 4
	var running sync.WaitGroup
	for worker := range atOnce {
		running.Go(func() {
			for i := worker; i < n; i += atOnce {
				from(leave[i])
				s.expel(t, i, leave[i])
			}
		})
	}
	running.Wait()
	var took []time.Duration
	for st, e := range wait() {
		if e.code != 1008 {
			t.Errorf("station %s: close code %d, %v", st.id, e.code, e.err)
		}
		took = append(took, e.after)
	}
	slices.Sort(took)
	t.Logf("%d stations on %d gateways, request to closed connection: p50 %s, p99 %s, max %s", n, len(s.gateways),
		took[n/2].Round(100*time.Microsecond), took[n*99/100].Round(100*time.Microsecond), took[n-1].Round(100*time.Microsecond))

	for i, st := range leave[:6] {
		st.refused(t, s.gateways[(i+1)%3].MTLS) // at another gateway than before
	}
	for i, st := range stay {
		st.conn.Close()
		if state := st.must(t, s.gateways[i].MTLS); !state.DidResume {
			t.Errorf("station %s, not concerned, did not resume its session: the refusals above show less than they should", st.id)
		}
	}
}

// expelOffTheBus: a gateway that was off the bus when a certificate was
// revoked and a station blocked or removed ends their connections when it is back,
// and refuses them; the others stay.
func (s *site) expelOffTheBus(t *testing.T) {
	gw := s.gateways[0]
	revoked, blocked, removed, stays := addStation(t, s.csms, "REVOKED", "ecdsa"), addStation(t, s.csms, "BLOCKED", "ecdsa"),
		addStation(t, s.csms, "REMOVED", "ecdsa"), addStation(t, s.csms, "STAYS", "ecdsa")
	gone := []*station{revoked, blocked, removed}
	for _, st := range append(gone, stays) {
		st.must(t, gw.MTLS)
	}
	s.lines[0].set(true)
	gw.Await("the gateway notices", patience, func() bool { return strings.Contains(gw.Tail(1<<20), "nats connection lost") })
	from, wait := ends(gone)
	s.expel(t, 0, revoked)
	s.expel(t, 1, blocked)
	if status := s.csms.Do("DELETE", "/api/v1/stations/REMOVED", nil, nil); status != 204 {
		t.Fatalf("remove: %d", status)
	}
	for _, st := range gone {
		from(st)
	}
	s.lines[0].set(false)
	for st, e := range wait() {
		// Well before the next look that a gateway takes in any case, after 30 s.
		if e.code != 1008 || e.after > 10*time.Second {
			t.Errorf("station %s: close code %d after %s, %v", st.id, e.code, e.after, e.err)
		}
		t.Logf("station %s: closed %s after the bus was back", st.id, e.after.Round(time.Millisecond))
	}
	gw.AwaitReady()
	for _, st := range gone[:2] {
		st.refused(t, gw.MTLS)
	}
	if status, _, err := removed.connect(gw.MTLS); err != nil || status == 101 {
		t.Errorf("the removed station is back: %d, %v", status, err)
	}
	stays.conn.SetReadDeadline(time.Now())
	if _, err := stays.awaitClose(); err == nil || !os.IsTimeout(err) {
		t.Errorf("a station that is not concerned: %v", err)
	}
}

// expelByList imports the revocation list of a maker's CA, made by OpenSSL.
func (s *site) expelByList(t *testing.T) {
	dir := t.TempDir()
	openssl := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	holdfast := func(out any, args ...string) {
		t.Helper()
		cmd := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), append(args, "--json", "--url", s.csms.API, "--data", s.csms.Data)...)
		text, err := cmd.Output()
		if err == nil && out != nil {
			err = json.Unmarshal(text, out)
		}
		if err != nil {
			t.Fatalf("holdfast %v: %v\n%s", args, err, text)
		}
	}
	write("ca.cnf", "[ca]\ndefault_ca=maker\n[maker]\ndatabase=index.txt\nserial=serial\ncrlnumber=crlnumber\nnew_certs_dir=.\n"+
		"default_md=sha256\npolicy=any\ndefault_days=30\ndefault_crl_days=7\nunique_subject=no\n[any]\ncommonName=supplied\norganizationName=optional\n")
	write("index.txt", "")
	write("serial", "1000")
	write("crlnumber", "01")
	openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "maker.key", "-out", "maker.crt", "-days", "30",
		"-subj", "/O=Maker/CN=Maker CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	holdfast(nil, "cert", "trust", filepath.Join(dir, "maker.crt"))
	var stations []*station
	for _, id := range []string{"MADE-1", "MADE-2"} {
		openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", id+".key", "-out", id+".csr", "-subj", "/O=Maker/CN="+id)
		openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "maker.crt", "-keyfile", "maker.key", "-in", id+".csr", "-out", id+".crt")
		if status := s.csms.Do("POST", "/api/v1/stations", map[string]any{"id": id, "profile": 3, "no_certificate": true}, nil); status != 201 {
			t.Fatalf("add %s: %d", id, status)
		}
		st := newStation(t, id, issued{Chain: read(id + ".crt"), Key: read(id + ".key"), CA: s.anchor(t)})
		for _, gw := range s.gateways { // they are told that the CA is trusted
			e2e.Await(t, id+" is admitted", patience, func() bool {
				status, _, err := st.connect(gw.MTLS)
				return err == nil && status == 101
			})
			st.conn.Close()
		}
		st.must(t, s.gateways[2].MTLS)
		stations = append(stations, st)
	}
	openssl("ca", "-config", "ca.cnf", "-cert", "maker.crt", "-keyfile", "maker.key", "-revoke", "MADE-1.crt", "-crl_reason", "keyCompromise")
	openssl("ca", "-config", "ca.cnf", "-cert", "maker.crt", "-keyfile", "maker.key", "-gencrl", "-out", "maker.pem")
	openssl("crl", "-in", "maker.pem", "-outform", "DER", "-out", "maker.crl")
	from, wait := ends(stations[:1])
	from(stations[0])
	var list struct {
		Number           string
		Entries, Revoked int
		Overdue          bool
	}
	holdfast(&list, "cert", "crl", "import", filepath.Join(dir, "maker.crl"))
	if list.Number != "1" || list.Entries != 1 || list.Revoked != 1 || list.Overdue {
		t.Errorf("imported: %+v", list)
	}
	if e := wait()[stations[0]]; e.code != 1008 {
		t.Errorf("close code %d, %v", e.code, e.err)
	} else {
		t.Logf("closed %s after the command began", e.after.Round(time.Millisecond))
	}
	stations[0].refused(t, s.gateways[0].MTLS)
	stations[1].conn.Close()
	stations[1].must(t, s.gateways[0].MTLS)
	var lists []struct{ Issuer string }
	holdfast(&lists, "cert", "crl", "list")
	if len(lists) != 1 || !strings.Contains(lists[0].Issuer, "Maker CA") {
		t.Errorf("lists: %+v", lists)
	}
}

// anchor is what stations trust.
func (s *site) anchor(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.authority.Data, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
