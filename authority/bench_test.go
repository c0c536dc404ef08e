package authority

import (
	"crypto/x509"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store/storetest"
)

// BenchmarkAdmit decides on many stations at a time, as in a storm, and reports
// the CPU time of this process per decision and decisions per second of a core.
// A first decision has its attempt written; another soon after is counted. The
// CPU time of PostgreSQL's own processes is not in it.
//
//	go test ./authority -run '^$' -bench Admit
func BenchmarkAdmit(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkAdmit(b, storetest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) { benchmarkAdmit(b, storetest.NewServer(b).Database(b)) })
}

const benchStations = 500

func benchmarkAdmit(b *testing.B, where string) {
	f := start(b, where, caDir(b))
	makerRoot, makerCA := maker(b)
	if _, err := f.ImportCA(b.Context(), "test", pki.EncodeCertificates(makerRoot.Cert)); err != nil {
		b.Fatal(err)
	}
	key := newKey(b, pki.ECDSA).Public()
	kinds := map[string][]ocpp.Credentials{}
	put := func(kind string, c ocpp.Credentials) {
		c.Remote = remote
		kinds[kind] = append(kinds[kind], c)
	}
	given := strings.Repeat("given-password-", 2)
	for i := range benchStations {
		id := ocpp.StationID(fmt.Sprint("P", i))
		put("password", withBasic(id, f.add(b, NewStation{ID: id}).Password))
		id = ocpp.StationID(fmt.Sprint("C", i))
		put("certificate", withChain(id, der(b, f.add(b, NewStation{ID: id, Profile: 3}).Issued.Chain)))
		put("unknown station", withBasic(ocpp.StationID(fmt.Sprint("U", i)), "x"))
		if i < 10 { // 20,000 iterations each
			id = ocpp.StationID(fmt.Sprint("G", i))
			f.add(b, NewStation{ID: id, Password: given})
			put("given password", withBasic(id, given))
		}
		if i < 50 {
			id = ocpp.StationID(fmt.Sprint("I", i))
			f.add(b, NewStation{ID: id, Serial: fmt.Sprint("SN-", i), Profile: 3, NoCertificate: true})
			put("certificate of an imported CA", withChain(id, [][]byte{signed(b, makerCA, key, named(fmt.Sprint("SN-", i))), makerCA.Cert.Raw}))
		}
	}
	for _, bench := range []struct {
		name, kind string
		cold       bool
	}{
		{"password, first time", "password", true},
		{"password, again", "password", false},
		{"given password, first time", "given password", true},
		{"certificate, first time", "certificate", true},
		{"certificate, again", "certificate", false},
		{"certificate of an imported CA, first time", "certificate of an imported CA", true},
		{"unknown station", "unknown station", false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			list := kinds[bench.kind]
			admitted := bench.kind != "unknown station"
			for _, c := range list { // first uses of certificates are recorded once
				if d, err := f.Admit(b.Context(), c); err != nil || d.Allowed != admitted {
					b.Fatalf("%+v, %v", d, err)
				}
			}
			b.SetParallelism(128)
			var next atomic.Int64
			before := cpu(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c := list[int(next.Add(1))%len(list)]
					if bench.cold {
						f.passwords.mu.Lock()
						f.passwords.verified.delete(c.Station.Fold())
						f.passwords.mu.Unlock()
						f.attempts.mu.Lock()
						f.attempts.open.delete(c.Station.Fold())
						f.attempts.mu.Unlock()
					}
					if _, err := f.Admit(b.Context(), c); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			per := float64(cpu(b)-before) / float64(b.N)
			b.ReportMetric(per/1e3, "cpu-µs/op")
			b.ReportMetric(1e9/per, "decisions/core-s")
		})
	}
}

// cpu is the time that this process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// named gives a certificate a serial number of a station.
func named(cn string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = cn }
}
