package scenario

import (
	"crypto/tls"
	"reflect"
	"testing"

	"holdfast/fleet"
)

// TestTLS: what a cohort says of TLS is what its stations do.
func TestTLS(t *testing.T) {
	for _, tt := range []struct {
		text string
		want *fleet.ClientTLS // nil: as most do
		key  string
	}{
		{`{}`, nil, ""},
		{`{key: rsa}`, nil, "rsa"},
		{`{min: "1.3"}`, &fleet.ClientTLS{MinVersion: tls.VersionTLS13}, ""},
		{`{max: "1.2"}`, &fleet.ClientTLS{MaxVersion: tls.VersionTLS12}, ""},
		{`{suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]}`, &fleet.ClientTLS{CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}}, ""},
		{`{resume: true}`, &fleet.ClientTLS{Resume: true}, ""},
		{`{no_sni: true}`, &fleet.ClientTLS{NoSNI: true}, ""},
		{`{leaf_only: true}`, &fleet.ClientTLS{LeafOnly: true}, ""},
	} {
		s := parse(t, "name: t\ncohorts: [{name: some, share: 25%, tls: "+tt.text+"}]\nphases: [{name: a, for: 1s}]\n")
		if got := s.Cohorts[0].TLS; !reflect.DeepEqual(got.client(), tt.want) || got.Key != tt.key {
			t.Errorf("%s: %+v, key %q", tt.text, got.client(), got.Key)
		}
		n := 0
		for _, x := range s.Assign(identities(40), false) {
			if s.Cohorts[x.Cohort].Name == "some" {
				n++
			}
		}
		if n != 10 {
			t.Errorf("%s: %d of 40 stations", tt.text, n)
		}
	}
}
