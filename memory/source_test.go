//go:build linux

package memory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// foreignEnv makes this test binary a server of its own whose memory is read.
const foreignEnv = "MEMORY_FOREIGN"

func TestMain(m *testing.M) {
	if os.Getenv(foreignEnv) != "" {
		if err := foreign(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// foreign serves pprof, two kinds of metrics and /grow until its input ends.
func foreign() error {
	plain, full := prometheus.NewRegistry(), prometheus.NewRegistry()
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	plain.MustRegister(collectors.NewGoCollector(), process)
	full.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)), process)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var kept [][]byte
	var held []net.Conn
	http.Handle("/metrics", promhttp.HandlerFor(plain, promhttp.HandlerOpts{}))
	http.Handle("/metrics/full", promhttp.HandlerFor(full, promhttp.HandlerOpts{}))
	http.HandleFunc("/debug/other/", pprof.Index)
	http.HandleFunc("/waste", func(http.ResponseWriter, *http.Request) { touch(make([]byte, 2<<20)) })
	http.HandleFunc("/grow", func(w http.ResponseWriter, r *http.Request) {
		mb, _ := strconv.Atoi(r.FormValue("mb"))
		mu.Lock()
		defer mu.Unlock()
		for range mb {
			b := make([]byte, 1<<20)
			touch(b)
			kept = append(kept, b)
		}
		runtime.GC()
	})
	// Every connection is sent data until its peer's window is full.
	slow, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := slow.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			held = append(held, c)
			mu.Unlock()
			go c.Write(make([]byte, 64<<20))
		}
	}()
	fmt.Println(l.Addr(), slow.Addr())
	go http.Serve(l, nil)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startForeign starts cmd and returns the first line that it prints. It ends
// with the test.
func startForeign(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return strings.TrimSpace(line)
}

// startGo starts this binary as a foreign Go process: pid, its address, and the
// address where it writes without end.
func startGo(t *testing.T) (pid int, address, slow string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), foreignEnv+"=1")
	cmd.Stderr = os.Stderr
	address, slow, _ = strings.Cut(startForeign(t, cmd), " ")
	return cmd.Process.Pid, address, slow
}

func get(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, resp.Status)
	}
}

// open opens a target and closes it with the test.
func open(t *testing.T, target Target) Source {
	t.Helper()
	s, err := target.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sample reads s and checks what must hold for every sample.
func sample(t *testing.T, s Source) Sample {
	t.Helper()
	r, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.RSS != 0 && len(r.Classes) > 0 && r.Unaccounted() != 0 {
		t.Errorf("classes %v do not add up to RSS %d", r.Classes, r.RSS)
	}
	known := SampleClasses()
	for c, v := range r.Classes {
		if !contains(known, c) || v < 0 && c != OffHeap {
			t.Errorf("class %s is %d", c, v)
		}
	}
	for c, v := range r.Kernel {
		if !contains(KernelClasses(), c) || v < 0 {
			t.Errorf("kernel class %s is %d", c, v)
		}
	}
	for c, v := range r.Counts {
		if !contains(Counts(), c) || v < 0 {
			t.Errorf("count %s is %d", c, v)
		}
	}
	return r
}

func contains[T comparable](list []T, v T) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// TestGoProcess reads a foreign Go process in every way and lets its heap grow.
func TestGoProcess(t *testing.T) {
	pid, address, _ := startGo(t)
	const grown = 48 * mb
	for _, tt := range []struct {
		name   string
		target Target
		heap   Class // where the growth must show
		lacks  []Class
		counts []Count
	}{
		{"pid", Target{PID: pid}, Anonymous, []Class{OffHeap, HeapUsed}, []Count{Files, SocketFiles, Threads, Connections}},
		{"metrics", Target{Metrics: "http://" + address}, HeapUsed, []Class{HeapLive, File}, []Count{Files, Goroutines, Threads}},
		{"runtime metrics", Target{Metrics: address + "/metrics/full"}, HeapLive, []Class{HeapUsed}, []Count{Files, Goroutines, Threads}},
		{"pprof", Target{Pprof: address}, HeapUsed, []Class{OffHeap}, []Count{Goroutines, Threads}},
		{"pid and pprof", Target{PID: pid, Pprof: "http://" + address + "/debug/pprof/heap?debug=1"}, HeapUsed, []Class{Anonymous}, []Count{Files, Goroutines, Threads, Connections}},
		{"pid and metrics", Target{PID: pid, Metrics: "http://" + address + "/metrics"}, HeapUsed, []Class{Anonymous}, []Count{Files, Goroutines}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.target)
			before := sample(t, s)
			get(t, fmt.Sprintf("http://%s/grow?mb=%d", address, grown/mb))
			after := sample(t, s)
			if got := after.Classes[tt.heap] - before.Classes[tt.heap]; !near(got, grown, 8*mb) && !(raceEnabled && tt.heap == Anonymous) {
				t.Errorf("%s grew by %.1f MB, want %d MB", tt.heap, float64(got)/mb, grown/mb)
			}
			for _, c := range tt.lacks {
				if v, ok := after.Classes[c]; ok {
					t.Errorf("class %s is %d, which this source cannot know", c, v)
				}
			}
			for _, c := range tt.counts {
				if after.Counts[c] == 0 && c != Connections {
					t.Errorf("no %s in %v", c, after.Counts)
				}
			}
			if off := after.Classes[OffHeap] - before.Classes[OffHeap]; !raceEnabled && !near(off, 0, 8*mb) {
				t.Errorf("off-heap changed by %.1f MB", float64(off)/mb)
			}
			if tt.target.PID != 0 && (after.PID != pid || after.Started.IsZero()) {
				t.Errorf("pid %d, started %v", after.PID, after.Started)
			}
		})
	}
}

// TestGoProcessProfiles takes profiles and runs collections from outside.
func TestGoProcessProfiles(t *testing.T) {
	pid, address, _ := startGo(t)
	for _, target := range []Target{{Pprof: address}, {PID: pid, Pprof: address}} {
		s := open(t, target)
		if err := s.(Collector).CollectGarbage(t.Context()); err != nil {
			t.Error(err)
		}
		// Two megabytes of garbage between: a reading after a collection has none.
		before, err := s.(CollectedReader).ReadCollected(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		get(t, "http://"+address+"/waste")
		after, err := s.(CollectedReader).ReadCollected(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if grown := after.Classes[HeapUsed] - before.Classes[HeapUsed]; grown > 1<<20 {
			t.Errorf("%d bytes of garbage were read", grown)
		}
		for _, name := range []string{"heap", "goroutine"} {
			var b bytes.Buffer
			n, err := s.(Profiler).Profile(t.Context(), name, &b)
			if err != nil || n != int64(b.Len()) || !bytes.HasPrefix(b.Bytes(), []byte{0x1f, 0x8b}) {
				t.Errorf("profile %s: %d bytes, %v", name, n, err)
			}
		}
		if _, err := s.(Profiler).Profile(t.Context(), "nothing", io.Discard); err == nil {
			t.Error("a profile that does not exist was read")
		}
	}
}

// TestProcessSockets finds connections by port and the memory of one that does
// not read.
func TestProcessSockets(t *testing.T) {
	pid, address, slow := startGo(t)
	s := open(t, Target{PID: pid})
	before := sample(t, s)
	var conns []net.Conn
	for _, a := range []string{address, address, slow} {
		c, err := net.Dial("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	// What the peer sends arrives; then it waits for us in vain.
	if _, err := conns[2].Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	_, slowPort, _ := net.SplitHostPort(slow)
	var after Sample
	for range 200 {
		after = sample(t, s)
		if after.Kernel[SocketBuffers] > mb && after.Cohorts["port "+port] == 2 {
			break
		}
	}
	if after.Cohorts["port "+port] != 2 || after.Cohorts["port "+slowPort] != 1 || after.Counts[Connections] != 3 {
		t.Errorf("cohorts %v, want 2 on %s and 1 on %s", after.Cohorts, port, slowPort)
	}
	if got := after.Kernel[SocketBuffers] - before.Kernel[SocketBuffers]; got < mb {
		t.Errorf("kernel memory grew by %d bytes with a peer that does not read", got)
	}
	if got := after.Counts[Files] - before.Counts[Files]; got < 3 {
		t.Errorf("%d files more, want 3", got)
	}
	// Another network namespace is read from /proc.
	text, err := s.(*PID).file("net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, c := range parseTCP(text) {
		if c.state == tcpEstablished && strconv.Itoa(int(c.port)) == port {
			open++
		}
	}
	if open != 2 {
		t.Errorf("/proc/PID/net/tcp has %d connections on port %s, want 2", open, port)
	}
}

// TestProcessEnds: a process that is gone is an error that says so, also if
// another one has its pid.
func TestProcessEnds(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(t.Context()); err != nil {
		t.Error(err)
	}
	p.started++
	if _, err := p.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("another process with the same pid: %v", err)
	}
	p.started--
	cmd.Process.Kill()
	until := time.Now().Add(10 * time.Second)
	for _, err = p.Read(t.Context()); err == nil && time.Now().Before(until); _, err = p.Read(t.Context()) {
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ended, and nobody has waited for it: %v", err)
	}
	cmd.Wait()
	if _, err := p.Read(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := OpenPID(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open after its end: %v", err)
	}
}

// startNode starts the Node.js server of testdata with an inspector.
func startNode(t *testing.T, modules string, env ...string) (pid int, address, inspector string) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("node is missing")
		}
		t.Skip("node is missing")
	}
	cmd := exec.Command("node", "--inspect=127.0.0.1:0", "server.cjs")
	cmd.Dir = "testdata/node"
	cmd.Env = append(append(os.Environ(), "NODE_PATH="+modules), env...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	port := startForeign(t, cmd)
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "Debugger listening on "); ok {
			return cmd.Process.Pid, "127.0.0.1:" + port, url
		}
	}
	t.Fatalf("node does not say where its inspector is: %v", lines.Err())
	return
}

// TestNodeProcess reads a foreign Node.js process by its inspector and lets it
// grow in each way that Node.js can.
func TestNodeProcess(t *testing.T) {
	pid, address, inspector := startNode(t, "")
	host, _, _ := strings.Cut(strings.TrimPrefix(inspector, "ws://"), "/")
	for _, tt := range []struct {
		name   string
		target Target
	}{
		{"ws URL", Target{Inspector: inspector}},
		{"address", Target{Inspector: host}},
		{"with pid", Target{PID: pid, Inspector: "http://" + host}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.target)
			for kind, class := range map[string]Class{"heap": HeapUsed, "external": External, "native": OffHeap} {
				settled := func() Sample {
					if err := s.(Collector).CollectGarbage(t.Context()); err != nil {
						t.Fatal(err)
					}
					return sample(t, s)
				}
				before := settled()
				get(t, fmt.Sprintf("http://%s/grow?kind=%s&mb=24", address, kind))
				after := settled()
				if got := after.Classes[class] - before.Classes[class]; !near(got, 24*mb, 6*mb) {
					t.Errorf("%s: class %s grew by %.1f MB, want 24 MB; before %v, after %v", kind, class, float64(got)/mb, before.Classes, after.Classes)
				}
				if after.PID != pid {
					t.Errorf("pid %d, want %d", after.PID, pid)
				}
				if after.Detail["v8_number_of_native_contexts"] < 1 {
					t.Errorf("no heap statistics in %v", after.Detail)
				}
			}
		})
	}
}

// TestNodeProcessHangs: a process that stands still is an error in time, and is
// read again when it goes on.
func TestNodeProcessHangs(t *testing.T) {
	pid, _, inspector := startNode(t, "")
	i, err := OpenInspector(inspector)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	i.patience = 300 * time.Millisecond
	stopped, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := stopped.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := i.CollectGarbage(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("a process that stands still: %v", err)
	}
	if err := stopped.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	i.patience = readTime
	if s, err := i.Read(t.Context()); err != nil || s.PID != pid {
		t.Errorf("a process that goes on: %+v, %v", s, err)
	}
}

// TestNodeHeapSnapshot streams a snapshot to a file, with a limit.
func TestNodeHeapSnapshot(t *testing.T) {
	_, _, inspector := startNode(t, "")
	s := open(t, Target{Inspector: inspector})
	f, err := os.Create(filepath.Join(t.TempDir(), "a.heapsnapshot"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := s.(HeapSnapshotter).HeapSnapshot(t.Context(), f, 100*mb)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil || int64(len(text)) != n || !bytes.HasPrefix(text, []byte(`{"snapshot":{"meta"`)) || !bytes.HasSuffix(bytes.TrimSpace(text), []byte("}")) {
		t.Errorf("snapshot of %d bytes, file of %d: %v", n, len(text), err)
	}
	if n, err := s.(HeapSnapshotter).HeapSnapshot(t.Context(), io.Discard, 1*mb); err == nil || n > mb || !strings.Contains(err.Error(), "larger than 1 MB") {
		t.Errorf("beyond the limit: %d bytes, %v", n, err)
	}
	sample(t, s) // it connects anew
}

// TestNodeMetrics reads a real prom-client, with and without a prefix.
func TestNodeMetrics(t *testing.T) {
	modules := installNode(t)
	for _, prefix := range []string{"", "gateway_"} {
		pid, address, _ := startNode(t, modules, "METRICS_PREFIX="+prefix)
		s := open(t, Target{Metrics: address})
		before := sample(t, s)
		get(t, "http://"+address+"/grow?kind=external&mb=24")
		after := sample(t, s)
		if got := after.Classes[External] - before.Classes[External]; !near(got, 24*mb, 2*mb) {
			t.Errorf("external grew by %.1f MB, want 24 MB", float64(got)/mb)
		}
		if after.RSS == 0 || after.Classes[HeapUsed] == 0 || after.Counts[Files] == 0 || after.Counts[Handles] == 0 {
			t.Errorf("incomplete: %+v", after)
		}
		both := sample(t, open(t, Target{PID: pid, Metrics: address}))
		if both.Classes[File] == 0 || both.Classes[External] != after.Classes[External] {
			t.Errorf("with the pid: %v", both.Classes)
		}
	}
}

// installNode installs the packages of testdata/node for this test.
func installNode(t *testing.T) (modules string) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("npm is missing")
		}
		t.Skip("npm is missing")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("testdata/node", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return filepath.Join(dir, "node_modules")
}

// TestHoldfastCollected: a reading after a collection is the whole account, not
// what pprof alone knows.
func TestHoldfastCollected(t *testing.T) {
	account := NewAccount()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/heap", pprof.Index)
	mux.HandleFunc("/debug/memory", func(w http.ResponseWriter, _ *http.Request) {
		r, err := account.Read()
		if err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s := open(t, Target{Holdfast: server.URL})
	got, err := s.(CollectedReader).ReadCollected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.RSS == 0 || got.Classes[HeapLive] == 0 || got.Counts[Files] == 0 || got.Counts[Goroutines] == 0 {
		t.Errorf("%+v: no resident set, live heap, files or goroutines", got)
	}
}

// TestSourceErrors: what cannot be read says what and where.
func TestSourceErrors(t *testing.T) {
	_, address, _ := startGo(t)
	for _, tt := range []struct {
		name   string
		target Target
		want   string
	}{
		{"nothing", Target{}, "give a pid or a URL"},
		{"no process", Target{PID: 1 << 30}, "there is none"},
		{"other scheme", Target{Metrics: "ftp://x"}, "not an http or https URL"},
		{"no server", Target{Metrics: "http://127.0.0.1:1"}, "connection refused"},
		{"no inspector", Target{Inspector: "127.0.0.1:1"}, "--inspect"},
		{"not an inspector", Target{Inspector: address}, "404"},
		{"not metrics", Target{Metrics: address + "/debug/pprof/heap?debug=1"}, "metrics: "},
		{"not pprof", Target{Pprof: address + "/metrics"}, "404"},
		{"not Holdfast", Target{Holdfast: address}, "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := tt.target.Open()
			if err == nil {
				_, err = s.Read(t.Context())
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, Target{Metrics: address}).Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
