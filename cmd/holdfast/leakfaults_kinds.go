//go:build leakfaults

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math"
	"math/big"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"holdfast/leak"
	"holdfast/leak/bench"
)

// faultKind is a fault that a Go gateway can have, or something that looks like
// one and is none.
type faultKind struct {
	Name    string
	help    string
	classes []leak.Class // in which it leaks; a verdict of any of them is right
	prepare func(*runningFault) error
	// leak leaks of the debt what it can, in bytes; nil: the kind does not leak.
	leak func(*runningFault) float64
	// passes is told of hours and new connections since the onset.
	passes func(f *runningFault, hours, events float64)
	watch  bool       // it keeps connections that close
	load   bench.Load // what its stations do, if not their daily life
}

// faultKinds. Sizes of units are what one leaked event was measured to keep.
var faultKinds = []faultKind{
	{Name: "retained-connection", help: "closed connections stay in a list, with what waited for them", classes: []leak.Class{leak.Retained, leak.HeapLive}, watch: true, leak: keepClosed},
	{Name: "goroutine-channel", help: "a goroutine waits for a channel that nobody has", classes: []leak.Class{leak.Goroutines}, leak: each(7<<10, func(f *runningFault) {
		c, buffer := make(chan struct{}), full(4096)
		go func() {
			select {
			case <-c:
			case <-f.done:
			}
			runtime.KeepAlive(buffer)
		}()
	})},
	{Name: "goroutine-registry", help: "a goroutine waits for a channel that a registry holds", classes: []leak.Class{leak.Goroutines}, leak: each(2900, func(f *runningFault) {
		c := make(chan struct{})
		f.kept = append(f.kept, c)
		go func() {
			select {
			case <-c:
			case <-f.done:
			}
		}()
	})},
	{Name: "ticker", help: "a loop over a ticker that is never stopped", classes: []leak.Class{leak.Goroutines}, leak: each(3000, func(f *runningFault) {
		go func() {
			t := time.NewTicker(time.Hour)
			defer t.Stop()
			for {
				select {
				case <-t.C:
				case <-f.done:
					return
				}
			}
		}()
	})},
	{Name: "hung-handshake", help: "a TLS handshake without a deadline whose peer is silent", classes: []leak.Class{leak.Goroutines, leak.Files}, leak: each(7<<10, hungHandshake)},
	{Name: "thread", help: "a goroutine that is locked to its thread and never ends", classes: []leak.Class{leak.Threads, leak.Goroutines}, leak: each(35<<10, func(f *runningFault) {
		if f.leaked > maxFaultThreads*35<<10 {
			return
		}
		go func() {
			runtime.LockOSThread()
			<-f.done
		}()
	})},
	{Name: "socket", help: "an accepted socket is never closed", classes: []leak.Class{leak.Files}, leak: each(5<<10, openSocket)},
	{Name: "mmap", help: "anonymous memory is mapped and not unmapped", classes: []leak.Class{leak.OffHeap}, leak: each(16<<10, mapMemory)},
	{Name: "slow-reader", help: "peers that do not read fill the kernel's buffers", classes: []leak.Class{leak.SocketBuffers}, prepare: openPairs, leak: fillPairs},
	{Name: "timer", help: "time.AfterFunc with state, for a time that never comes", classes: []leak.Class{leak.HeapLive}, leak: each(750, func(f *runningFault) {
		state := full(576)
		time.AfterFunc(1e6*time.Hour, func() { runtime.KeepAlive(state) })
	})},
	{Name: "map", help: "pending calls stay in a map", classes: []leak.Class{leak.HeapLive}, leak: each(366, func(f *runningFault) {
		m := stateOf[map[string][]byte](f)
		m[fmt.Sprint("call-", len(m))] = full(256)
	})},
	{Name: "context", help: "context.WithCancel of a long-lived context is never cancelled", classes: []leak.Class{leak.HeapLive}, prepare: func(f *runningFault) error {
		ctx, cancel := context.WithCancel(context.Background())
		f.state, f.kept = ctx, append(f.kept, cancel)
		return nil
	}, leak: each(114, func(f *runningFault) {
		_, cancel := context.WithCancel(f.state.(context.Context))
		_ = cancel
	})},
	{Name: "certificate-cache", help: "parsed certificates stay in a cache by fingerprint", classes: []leak.Class{leak.HeapLive}, prepare: faultCertificate, leak: each(3000, func(f *runningFault) {
		if c, err := x509.ParseCertificate(f.state.([]byte)); err == nil {
			f.kept = append(f.kept, c)
		}
	})},
	{Name: "tls-sessions", help: "TLS session states stay in a cache without a limit", classes: []leak.Class{leak.HeapLive}, leak: each(1400, func(f *runningFault) {
		m := stateOf[map[string][]byte](f)
		m[fmt.Sprintf("%064d", len(m))] = full(1200)
	})},
	{Name: "substring", help: "12 bytes of a message of 16 KB are kept, and with them all of it", classes: []leak.Class{leak.HeapLive}, leak: each(16<<10, func(f *runningFault) {
		f.kept = append(f.kept, string(full(16 << 10))[100:112])
	})},
	{Name: "label", help: "a metric has a label without bounds", classes: []leak.Class{leak.HeapLive}, prepare: func(f *runningFault) error {
		f.state = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fault_total", Help: "Of a fault."}, []string{"station"})
		return f.p.admin.registry.Register(f.state.(prometheus.Collector))
	}, leak: each(400, func(f *runningFault) {
		f.state.(*prometheus.CounterVec).WithLabelValues(fmt.Sprintf("station-%.0f", f.random.Float64()*1e15)).Inc()
	})},
	{Name: "queue", help: "messages queue up for a station that takes none", classes: []leak.Class{leak.HeapLive}, leak: each(540, func(f *runningFault) {
		f.kept = append(f.kept, full(512))
	})},
	{Name: "finalizer", help: "a finalizer blocks, and nothing that has one is freed any more", classes: []leak.Class{leak.HeapLive}, prepare: func(f *runningFault) error {
		stuck := &struct{ b [64]byte }{}
		runtime.SetFinalizer(stuck, func(any) { <-f.done })
		return nil
	}, leak: each(640, func(f *runningFault) {
		o := &struct{ b [576]byte }{}
		o.b[0], o.b[575] = 1, 1
		runtime.SetFinalizer(o, func(any) {})
	})},
	{Name: "fragmentation", help: "of ever larger bursts one object in eight stays", classes: []leak.Class{leak.HeapUnused, leak.HeapLive}, leak: fragment},

	{Name: "none", help: "nothing"},
	{Name: "warm-up", help: "a cache of 5 to 25 % of the resident set fills", passes: warmUp},
	{Name: "step", help: "3 to 18 % of the resident set at once, as a deployment or a setting", passes: stepOnce},
	{Name: "pool", help: "bursts leave large buffers in a sync.Pool", passes: bloatPool},
	{Name: "emptied-map", help: "a map fills and is emptied, again and again", passes: emptyMap},
	{Name: "high-water", help: "each connection's buffer grows once, to 64 KB", passes: highWater},
	{Name: "dropped", help: "timers and large buffers that nobody holds", passes: func(_ *runningFault, _, events float64) {
		for range int(events) {
			time.NewTimer(1e6 * time.Hour)
			full(64 << 10)
		}
	}},
	{Name: "temporary", help: "certificates of a renewal wave are remembered for half a day", passes: temporary},
	{Name: "bursty-readers", help: "peers that do not read for a while", prepare: openPairs, passes: burstPairs},
	// What was added later comes last, so that what is before keeps its placements.
	{Name: "scale-out", help: "an autoscaler adds a pod, and takes it away a day later", load: bench.LoadScale},
	{Name: "collector", help: "GOGC is 400 for a day", passes: changeCollector},
	{Name: "memory-limit", help: "GOMEMLIMIT is just above the resident set for a day", passes: limitMemory},
	{Name: "large-messages", help: "a firmware campaign of eight hours", passes: largeMessages},
	{Name: "raw-message", help: "12 bytes of messages of 16 KB are kept, as a copy, in a list with an end", passes: keepRaw},
	{Name: "huge-pages", help: "the kernel makes huge pages of memory of which an eighth was in use", prepare: mapSparse, passes: collapse},
	{Name: "page-cache", help: "a log file grows and stays in the page cache", prepare: openLog, passes: growLog},
}

// maxFaultThreads is well below what the runtime and the system allow.
const maxFaultThreads = 600

// full is memory that was written to, so that it is resident.
func full(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 512 {
		b[i] = 1
	}
	return b
}

func stateOf[M ~map[K]V, K comparable, V any](f *runningFault) M {
	if f.state == nil {
		f.state = make(M)
	}
	return f.state.(M)
}

// keepClosed keeps connections that closed since the last step, each with its
// part of the debt: what had waited to be sent.
func keepClosed(f *runningFault) float64 {
	const own = 2 << 10 // what a closed connection keeps by itself
	most := int(f.debt / own)
	var found []any
	for _, closed := range f.closing {
		if c := closed(); c != nil && len(found) < most {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return 0
	}
	waited := int(f.debt)/len(found) - own
	paid := 0.0
	for _, c := range found {
		f.kept = append(f.kept, c)
		for left := waited; left > 0; left -= 4096 {
			f.kept = append(f.kept, full(min(left, 4096)))
		}
		paid += float64(own + max(waited, 0))
	}
	return paid
}

// pair is a TCP connection of this process with itself.
func pair() (accepted, dialled net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if dialled, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if accepted, err = l.Accept(); err != nil {
		dialled.Close()
	}
	return accepted, dialled, err
}

func hungHandshake(f *runningFault) {
	accepted, silent, err := pair()
	if err != nil {
		return
	}
	f.kept = append(f.kept, silent)
	go func() { <-f.done; accepted.Close() }()
	go tls.Server(accepted, &tls.Config{}).Handshake()
}

func openSocket(f *runningFault) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		f.kept = append(f.kept, fd, full(512))
	}
}

func mapMemory(*runningFault) {
	b, err := unix.Mmap(-1, 0, 16<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
}

// pairs are connections whose far end does not read.
type pairs struct {
	near []*net.TCPConn
	far  []net.Conn
	at   int
}

const faultPairs = 64

func openPairs(f *runningFault) error {
	p := &pairs{}
	for range faultPairs {
		near, far, err := pair()
		if err != nil {
			return err
		}
		p.near, p.far = append(p.near, near.(*net.TCPConn)), append(p.far, far)
	}
	f.state = p
	return nil
}

// fill writes so many bytes to peers that do not read, and returns how many the
// kernel took.
func (p *pairs) fill(bytes float64) float64 {
	chunk := make([]byte, 8<<10)
	written := 0.0
	for tries := 0; written+float64(len(chunk)) <= bytes && tries < len(p.near); {
		c := p.near[p.at%len(p.near)]
		c.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		n, err := c.Write(chunk)
		written += float64(n)
		if p.at++; err != nil {
			tries++
		}
	}
	return written
}

func fillPairs(f *runningFault) float64 { return f.state.(*pairs).fill(f.debt) }

// burstPairs fills buffers every few hours, which are read an hour later.
func burstPairs(f *runningFault, hours, _ float64) {
	p := f.state.(*pairs)
	if f.random.Float64() < hours/6 {
		p.fill((1 + 2*f.random.Float64()) * (1 << 20))
	}
	if f.random.Float64() > hours {
		return
	}
	chunk := make([]byte, 64<<10)
	for _, c := range p.far {
		for {
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(chunk); err != nil {
				break
			}
		}
	}
}

// faultCertificate makes one to be parsed again and again.
func faultCertificate(f *runningFault) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "station", Organization: []string{"operator"}},
		NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	f.state, err = x509.CreateCertificate(cryptorand.Reader, c, c, key.Public(), key)
	return err
}

// fragment makes room for the debt by a burst that needs more than there was
// free, and keeps one object of each page.
func fragment(f *runningFault) float64 {
	const object, page = 1024, 8192
	if f.debt < 8*page {
		return 0
	}
	spans := int((f.leaked + f.debt) / page)
	burst := make([][]byte, 0, spans*page/object)
	for range cap(burst) {
		burst = append(burst, full(object))
	}
	kept := len(f.kept)
	for i := kept; i < spans; i++ {
		f.kept = append(f.kept, burst[i*page/object])
	}
	return f.debt
}

// grown is the part of a cache that is full after some hours.
func grown(hours, tau float64) float64 { return 1 - math.Exp(-hours/tau) }

// cache lets what is kept follow a size.
func (f *runningFault) cache(bytes float64) {
	const entry = 4 << 10
	n := int(bytes / entry)
	for len(f.kept) < n {
		f.kept = append(f.kept, full(entry))
	}
	clear(f.kept[n:])
	f.kept = f.kept[:n]
}

func warmUp(f *runningFault, _, _ float64) {
	if f.state == nil {
		f.state = [2]float64{0.05 + 0.2*f.random.Float64(), 2 + 8*f.random.Float64()} // size, hours
	}
	s := f.state.([2]float64)
	f.cache(s[0] * f.rss * grown(f.hours, s[1]))
}

func stepOnce(f *runningFault, _, _ float64) {
	if len(f.kept) == 0 {
		f.cache((0.03 + 0.15*f.random.Float64()) * f.rss)
	}
}

func temporary(f *runningFault, _, _ float64) { f.cache(0.03 * f.rss * math.Exp(-f.hours/12)) }

func bloatPool(f *runningFault, hours, _ float64) {
	if f.state == nil {
		f.state = &sync.Pool{New: func() any { b := full(64 << 10); return &b }}
	}
	if f.random.Float64() > hours/2 {
		return
	}
	pool := f.state.(*sync.Pool)
	var list []any
	for range 20 + f.random.IntN(60) {
		list = append(list, pool.Get())
	}
	for _, b := range list {
		pool.Put(b)
	}
}

func emptyMap(f *runningFault, hours, _ float64) {
	m := stateOf[map[string]string](f)
	for range int(0.01 * f.rss * hours / 500) {
		m[fmt.Sprint(f.random.Uint64())] = strings.Repeat("x", 400)
	}
	if f.random.Float64() < hours/8 {
		clear(m)
	}
}

// highWater replaces one of as many small buffers as there are connections by a
// large one, at each new connection of one that has a small one.
func highWater(f *runningFault, _, events float64) {
	const slots = 100
	if len(f.kept) == 0 {
		f.kept = make([]any, slots)
	}
	for range int(events) {
		if i := f.random.IntN(slots); f.kept[i] == nil {
			f.kept[i] = full(64 << 10)
		}
	}
}
