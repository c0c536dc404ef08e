package faults

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/e2e"
)

// template holds the CA keys, and their passphrase, that all processes here begin with: to make RSA
// keys takes a second each time.
var template struct {
	mu  sync.Mutex
	dir string
}

// all is e2e.All with those keys.
func all(t testing.TB, extra ...string) *e2e.Node {
	t.Helper()
	n := e2e.Ports(t, t.TempDir())
	seed(t, n.Data)
	n.Args = append(append([]string{"all", "--data", n.Data, "--plain", "--drain-time", "1s"}, n.ListenArgs("api", "admin", "plain", "tls", "mtls")...), extra...)
	n.Restart()
	n.AwaitReady()
	return n
}

// seed puts the CA keys into a data directory.
func seed(t testing.TB, data string) {
	t.Helper()
	template.mu.Lock()
	defer template.mu.Unlock()
	if template.dir == "" {
		n := e2e.All(t)
		dir, err := os.MkdirTemp("", "holdfast-ca-")
		if err == nil {
			err = os.CopyFS(filepath.Join(dir, "ca"), os.DirFS(filepath.Join(n.Data, "ca")))
		}
		if err == nil {
			var passphrase []byte
			if passphrase, err = os.ReadFile(filepath.Join(n.Data, "ca.passphrase")); err == nil {
				err = os.WriteFile(filepath.Join(dir, "ca.passphrase"), passphrase, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		template.dir = dir
	}
	if err := os.CopyFS(data, os.DirFS(template.dir)); err != nil {
		t.Fatal(err)
	}
}

// station is a registered station with what it needs to connect.
type station struct {
	id          string
	profile     int
	url         string // of its port, without the identity
	password    string
	certificate *tls.Certificate
	roots       *x509.CertPool // nil: plain
}

// add registers a station; more are further fields of the registration.
func add(t testing.TB, n *e2e.Node, id string, profile int, more map[string]any) station {
	t.Helper()
	s, err := register(n, id, profile, more)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// addMany registers count stations, some at a time.
func addMany(t testing.TB, n *e2e.Node, prefix string, count, profile int, more map[string]any) []station {
	t.Helper()
	const together = 8
	list := make([]station, count)
	var eg errgroup.Group
	eg.SetLimit(together)
	for i := range list {
		eg.Go(func() (err error) {
			list[i], err = register(n, fmt.Sprintf("%s%d", prefix, i), profile, more)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	return list
}

func register(n *e2e.Node, id string, profile int, more map[string]any) (station, error) {
	body := map[string]any{"id": id, "profile": profile}
	for name, value := range more {
		body[name] = value
	}
	var added struct {
		Password    string `json:"password"`
		Certificate struct{ Chain, Key string }
	}
	if status := n.Do("POST", "/api/v1/stations", body, &added); status != http.StatusCreated {
		return station{}, fmt.Errorf("add station %s: HTTP %d", id, status)
	}
	s := station{id: id, profile: profile, password: added.Password, url: map[int]string{1: n.Plain, 2: n.TLS, 3: n.MTLS}[profile]}
	if profile > 1 {
		ca, err := os.ReadFile(filepath.Join(n.Data, "ca.crt"))
		if err != nil {
			return station{}, err
		}
		s.roots = x509.NewCertPool()
		s.roots.AppendCertsFromPEM(ca)
	}
	if profile == 3 {
		c, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
		if err != nil {
			return station{}, err
		}
		s.certificate = &c
	}
	return s, nil
}

// command sends a CALL to a station through the API and returns its result.
func command(n *e2e.Node, id, action string, payload map[string]any) string {
	var view struct{ Result string }
	n.Do("POST", "/api/v1/stations/"+url.PathEscape(id)+"/calls", map[string]any{"action": action, "payload": payload, "timeout": 10}, &view)
	return view.Result
}

// connections is what the gateway counts.
func connections(n *e2e.Node) int { return int(n.Metric("holdfast_connections")) }

// get reads a page of the admin port.
func get(t testing.TB, n *e2e.Node, path string) (int, string) {
	t.Helper()
	r, err := http.Get(n.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// usage is what a process holds.
type usage struct {
	goroutines, files int
	heap              int // bytes that are alive after a collection
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d KiB heap", u.goroutines, u.files, u.heap>>10)
}

// use measures a process. Our own idle connections to it are closed first.
func use(t testing.TB, n *e2e.Node) usage {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	var u usage
	_, text := get(t, n, "/debug/pprof/goroutine?debug=1")
	if _, err := fmt.Sscanf(text, "goroutine profile: total %d", &u.goroutines); err != nil {
		t.Fatalf("goroutine profile: %v", err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(files)
	_, text = get(t, n, "/debug/pprof/heap?gc=1&debug=1")
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "# HeapAlloc = "); ok {
			fmt.Sscan(value, &u.heap)
		}
	}
	if u.heap == 0 {
		t.Fatal("no HeapAlloc in the heap profile")
	}
	return u
}

// slack is what comes and goes by itself: a pooled database connection, a timer
// of NATS, the request that measures. What leaks with each event is far more.
const slack = 4

// settled measures a process whose heap has stopped to shrink: caches that were
// filled a moment ago are given back.
func settled(t testing.TB, n *e2e.Node) usage {
	t.Helper()
	lowest := use(t, n)
	for still := 0; still < 8; still++ {
		time.Sleep(300 * time.Millisecond)
		now := use(t, n)
		if now.heap < lowest.heap-lowest.heap/50 {
			still = 0
		}
		lowest.heap = min(lowest.heap, now.heap)
		lowest.goroutines, lowest.files = min(lowest.goroutines, now.goroutines), min(lowest.files, now.files)
	}
	return lowest
}

// returned waits until the process holds no more goroutines and files than
// before, and its heap has grown by less than heap bytes.
func returned(t testing.TB, n *e2e.Node, before usage, heap int) usage {
	t.Helper()
	var now usage
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		now = use(t, n)
		if now.goroutines <= before.goroutines+slack && now.files <= before.files+slack && now.heap <= before.heap+heap {
			break
		}
		if time.Now().After(deadline) {
			_, stacks := get(t, n, "/debug/pprof/goroutine?debug=1")
			t.Fatalf("before: %v\nafter:  %v\n%.6000s", before, now, stacks)
		}
	}
	checked(t, n)
	return now
}

// checked asks the process to compare its counts.
func checked(t testing.TB, n *e2e.Node) {
	t.Helper()
	e2e.Await(t, "counts that agree at /debug/check", patience, func() bool {
		status, text := get(t, n, "/debug/check")
		var check struct{ OK bool }
		return status == http.StatusOK && json.Unmarshal([]byte(text), &check) == nil && check.OK
	})
}

// inState counts the process's TCP connections on a port that are in a state of
// /proc/net/tcp: 01 established, 08 CLOSE_WAIT.
func inState(t testing.TB, address string, state string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	fmt.Sscan(u.Port(), &port)
	count := 0
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == state {
				count++
			}
		}
	}
	return count
}
