package fleet

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestServerProcess is not a test: it is the server of TestIdleMemory, in a
// process of its own so that its memory does not count.
func TestServerProcess(t *testing.T) {
	dir := os.Getenv("FLEET_TEST_SERVER")
	if dir == "" {
		t.Skip("runs as a child process only")
	}
	ca := &testCA{roots: x509.NewCertPool()}
	for _, name := range []string{"ca.crt", "ca.key"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		if name == "ca.crt" {
			ca.cert, err = x509.ParseCertificate(block.Bytes)
		} else {
			ca.key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ca.roots.AddCert(ca.cert)
	s := newTestServer(t, ocpp.ProfileMTLS, ca)
	fmt.Printf("\nserving %s\n", s.target())
	io.Copy(io.Discard, os.Stdin)
}

// serverProcess starts the server and returns its target.
func serverProcess(t testing.TB, ca *testCA) string {
	dir := t.TempDir()
	key, err := x509.MarshalECPrivateKey(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"ca.crt": {Type: "CERTIFICATE", Bytes: ca.cert.Raw}, "ca.key": {Type: "EC PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestServerProcess$")
	child.Env = append(os.Environ(), "FLEET_TEST_SERVER="+dir)
	stdin, _ := child.StdinPipe()
	stdout, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	t.Cleanup(func() { stdin.Close(); child.Wait() })
	for lines.Scan() {
		if target, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			return target
		}
	}
	t.Fatal("the server process did not start")
	return ""
}

// TestIdleMemory reports what an idle station with mutual TLS costs in the
// fleet's process. FLEET_STATIONS sets how many.
func TestIdleMemory(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("FLEET_STATIONS"))
	if n == 0 {
		n = 1000
	}
	if raceDetector {
		n = min(n, 100) // whose memory says nothing
	}
	if testing.Short() {
		t.Skip("starts a process")
	}
	ca := newTestCA(t)
	target := serverProcess(t, ca)
	cfg := Config{Targets: map[ocpp.SecurityProfile]string{ocpp.ProfileMTLS: target}, Roots: ca.anchors(), Behaviour: Behaviour{SessionGap: -1}}
	measure := func() (rss, live uint64) {
		runtime.GC()
		debug.FreeOSMemory()
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return residentBytes(t), m.HeapAlloc + m.StackInuse
	}
	for range 20 { // what the first connections allocate for good does not count
		warmUp(t, cfg, ca)
	}
	rss0, live0 := measure()
	for i := range n {
		id := fmt.Sprintf("IDLE-%05d", i)
		cfg.Stations = append(cfg.Stations, Identity{ID: ocpp.StationID(id), Profile: ocpp.ProfileMTLS, Version: ocpp.V201, Certificate: ca.issue(t, id)})
	}
	rss1, live1 := measure()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	began := time.Now()
	go func() { done <- f.Run(ctx) }()
	eventually(t, "all booted and reported", func() bool {
		s := f.Stats()
		return s.Connected[ocpp.ProfileMTLS] == n && s.Received >= uint64(2*n) && s.Outstanding == 0
	})
	took := time.Since(began)
	if name := os.Getenv("FLEET_HEAP"); name != "" {
		runtime.GC()
		w, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		pprof.WriteHeapProfile(w)
		w.Close()
	}
	rss2, live2 := measure()
	per := func(a, b uint64) float64 { return (float64(b) - float64(a)) / float64(n) / 1000 }
	t.Logf("%d stations in %s: %.1f KB RSS, %.1f KB live heap and stack each, certificates and keys besides: %.1f KB RSS, %.1f KB live",
		n, took.Round(time.Millisecond), per(rss1, rss2), per(live1, live2), per(rss0, rss1), per(live0, live1))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if kb := per(live1, live2); kb > 10 && !raceDetector {
		t.Errorf("%.1f KB live heap and stack per idle station: at most 10", kb)
	}
	runtime.KeepAlive(cfg)
}

func warmUp(t testing.TB, cfg Config, ca *testCA) {
	cfg.Stations = []Identity{{ID: "WARM", Profile: ocpp.ProfileMTLS, Certificate: ca.issue(t, "WARM")}}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Probe(t.Context(), "WARM", CleanClose); err != nil {
		t.Fatal(err)
	}
}

func residentBytes(t testing.TB) uint64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc")
	}
	pages, _ := strconv.ParseUint(strings.Fields(string(data))[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}
