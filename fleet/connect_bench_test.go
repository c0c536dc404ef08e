package fleet

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/ocpp"
)

// BenchmarkConnect is the CPU time of this process per mutual-TLS station that
// connects: of the bare client of crypto/tls, which only makes the handshake, of
// a station up to the end of the upgrade, and of one that boots and reports its
// connectors, too. The server is another process.
//
//	go test ./fleet -run '^$' -bench Connect -benchtime 3000x
func BenchmarkConnect(b *testing.B) {
	ca := newTestCA(b)
	target := serverProcess(b, ca)
	const atOnce = 64
	stations := func(b *testing.B, prefix string, quirks ...Fault) []Identity {
		list := make([]Identity, b.N)
		for i := range list {
			id := fmt.Sprintf("%s-%d-%d", prefix, b.N, i)
			list[i] = Identity{ID: ocpp.StationID(id), Profile: ocpp.ProfileMTLS, Version: ocpp.V201, Certificate: ca.issue(b, id), Quirks: quirks}
		}
		return list
	}
	measure := func(b *testing.B, do func()) {
		b.ResetTimer()
		before := processCPU()
		do()
		b.ReportMetric(float64((processCPU()-before).Microseconds())/float64(b.N), "cpu-µs/station")
	}
	b.Run("bare", func(b *testing.B) {
		address := strings.TrimSuffix(strings.TrimPrefix(target, "wss://"), "/ocpp")
		list := stations(b, "BARE")
		open := make([]net.Conn, b.N)
		measure(b, func() {
			gate := make(chan struct{}, atOnce)
			var wg sync.WaitGroup
			for i := range list {
				gate <- struct{}{}
				wg.Go(func() {
					defer func() { <-gate }()
					c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: ca.roots, Certificates: []tls.Certificate{*list[i].Certificate}})
					if err != nil {
						b.Error(err)
						return
					}
					open[i] = c
				})
			}
			wg.Wait()
		})
		for _, c := range open {
			if c != nil {
				c.Close()
			}
		}
	})
	run := func(b *testing.B, prefix string, received uint64, quirks ...Fault) {
		f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{ocpp.ProfileMTLS: target}, Roots: ca.anchors(),
			Behaviour: Behaviour{SessionGap: -1}, Handshakes: atOnce, Stations: stations(b, prefix, quirks...)})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		measure(b, func() {
			go func() { done <- f.Run(ctx) }()
			for {
				n, _ := f.Presence()
				if n == b.N && f.stats.received.Load() >= received*uint64(b.N) {
					break
				}
				time.Sleep(time.Millisecond)
			}
		})
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.Run("connected", func(b *testing.B) { run(b, "CONN", 0, NeverBoots) })
	b.Run("registered", func(b *testing.B) { run(b, "REG", 2) })
}
