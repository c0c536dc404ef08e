package csms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"holdfast/csms"
	"holdfast/ocpp"
)

// TestBootSerial: a station whose BootNotification names another serial number
// than its certificate is not booted and has to go (B01.FR.11, B01.FR.12).
func TestBootSerial(t *testing.T) {
	registered := map[ocpp.StationID]string{"REGISTERED": "ACME-0042-X"}
	away := errors.New("away")
	var expelled []string
	each2x(t, csms.Config{
		CertificateSerial: func(_ context.Context, id ocpp.StationID) (string, error) {
			if id == "AWAY" {
				return "", away
			}
			return registered[id], nil
		},
		Expel: func(_ context.Context, id ocpp.StationID, reason ocpp.Reason, detail string) error {
			expelled = append(expelled, fmt.Sprintf("%s %s: %s", id, reason, detail))
			return nil
		},
	}, func(t *testing.T, s speaker) {
		for _, tt := range []struct {
			id     ocpp.StationID
			serial string // as JSON, with its comma; empty: none
			ok     bool
		}{
			{"REGISTERED", `,"serialNumber":"ACME-0042-X"`, true},
			{"REGISTERED", `,"serialNumber":" acme-0042-x "`, true},
			{"REGISTERED", `,"serialNumber":"0042"`, true}, // the CN contains it
			{"REGISTERED", `,"serialNumber":"0043"`, false},
			{"REGISTERED", `,"serialNumber":"ACME-0042-X1"`, false},
			{"REGISTERED", ``, true},
			{"REGISTERED", `,"serialNumber":""`, true},
			{"ANY", `,"serialNumber":"0043"`, true},
			{"AWAY", `,"serialNumber":"0043"`, true},
		} {
			expelled = nil
			s.id = tt.id
			answer, err := s.call("BootNotification", `{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v"`+tt.serial+`}}`)
			if tt.ok {
				if err != nil || len(expelled) > 0 {
					t.Errorf("%s %s: %v, expelled %q", tt.id, tt.serial, err, expelled)
				}
				continue
			}
			if code(err) != ocpp.SecurityError || answer != nil || len(expelled) != 1 {
				t.Errorf("%s %s: %s, %v, expelled %q", tt.id, tt.serial, answer, err, expelled)
			}
		}
		s.id = "REGISTERED"
		s.call("BootNotification", `{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v","serialNumber":"1"}}`)
		if want := `REGISTERED wrong_serial: BootNotification says serial number "1", the certificate is of "ACME-0042-X"`; !slices.Contains(expelled, want) {
			t.Errorf("expelled %q, want %q", expelled, want)
		}
	})
}
