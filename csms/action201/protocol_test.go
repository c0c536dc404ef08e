package action201

import (
	"testing"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v201"
)

// Every action that a station may send has a handler, and no other.
func TestProtocol(t *testing.T) {
	p := Protocol()
	n := 0
	for _, a := range v201.Actions() {
		if a.FromStation {
			n++
			if p.Handlers[a.Name] == nil {
				t.Errorf("no handler for %s", a.Name)
			}
		}
	}
	if n != len(p.Handlers) {
		t.Errorf("%d handlers for %d actions", len(p.Handlers), n)
	}
	for action := range p.Learn {
		if a, ok := v201.Lookup(action); !ok || !a.FromCSMS {
			t.Errorf("%s is not sent to stations", action)
		}
	}
}

func TestCertificateSigned(t *testing.T) {
	payload, err := ocpp.Encode(Protocol().CertificateSigned(csms.SignedCertificate{
		Chain: "PEM", Type: "ChargingStationCertificate", RequestID: new(7),
	}))
	const want = `{"certificateChain":"PEM","certificateType":"ChargingStationCertificate"}`
	if err != nil || string(payload) != want {
		t.Errorf("%s (%v), want %s", payload, err, want)
	}
}
