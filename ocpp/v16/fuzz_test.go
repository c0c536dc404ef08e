package v16_test

import (
	"reflect"
	"testing"

	"holdfast/ocpp"
	"holdfast/ocpp/v16"
)

// FuzzDecode reads anything as any message. What Strict takes must survive being
// written and read again. The seeds are in testdata.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, action string, payload []byte) {
		a, ok := v16.Lookup(action)
		if !ok {
			return
		}
		for _, fresh := range []func() any{a.NewRequest, a.NewResponse} {
			if fresh == nil {
				continue
			}
			message := fresh()
			tolerated, err := ocpp.Decode(payload, message, ocpp.Tolerant)
			if len(tolerated) > 16 {
				t.Errorf("%d violations", len(tolerated))
			}
			if _, strict := ocpp.Decode(payload, message, ocpp.Strict); strict != nil {
				continue
			} else if err != nil {
				t.Fatalf("strict takes what tolerant does not: %v", err)
			}
			written, err := ocpp.Encode(message)
			if err != nil {
				continue // 0001-01-01 is what Go takes for no time
			}
			back := fresh()
			if _, err := ocpp.Decode(written, back, ocpp.Strict); err != nil {
				t.Fatalf("%s was written as %s: %v", payload, written, err)
			}
			again, err := ocpp.Encode(back)
			if err != nil || !reflect.DeepEqual(written, again) {
				t.Fatalf("%s was written as %s, then as %s, %v", payload, written, again, err)
			}
		}
	})
}
