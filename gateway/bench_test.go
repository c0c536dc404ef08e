package gateway

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"holdfast/ocpp"
)

// BenchmarkRemembered is the decision on a station that comes back within
// Decision.TTL: it is not asked about.
//
//	go test ./gateway -run '^$' -bench Remembered
func BenchmarkRemembered(b *testing.B) {
	chain := [][]byte{make([]byte, 600), make([]byte, 700)} // leaf and issuing CA, ECDSA
	for _, der := range chain {
		rand.Read(der)
	}
	for name, c := range map[string]ocpp.Credentials{
		"password":    {Station: "CS-1", Profile: ocpp.ProfileTLS, Basic: []byte("CS-1:abcdefghijklmnopqrst")},
		"certificate": {Station: "CS-1", Profile: ocpp.ProfileMTLS, Chain: chain},
	} {
		b.Run(name, func(b *testing.B) {
			asked := 0
			a := newAdmission(func(context.Context, ocpp.Credentials) (ocpp.Decision, error) {
				asked++
				return ocpp.Decision{Allowed: true, Station: "CS-1", TTL: time.Hour}, nil
			})
			b.ReportAllocs()
			for b.Loop() {
				if d, err := a.decide(b.Context(), c); err != nil || !d.Allowed {
					b.Fatal(d, err)
				}
			}
			if asked != 1 {
				b.Errorf("asked %d times", asked)
			}
		})
	}
}
