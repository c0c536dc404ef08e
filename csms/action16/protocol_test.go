package action16

import (
	"testing"

	"holdfast/ocpp/v16"
)

// Every action that a station may send has a handler, and no other.
func TestProtocol(t *testing.T) {
	p := Protocol()
	n := 0
	for _, a := range v16.Actions() {
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
		if a, ok := v16.Lookup(action); !ok || !a.FromCSMS {
			t.Errorf("%s is not sent to stations", action)
		}
	}
}
