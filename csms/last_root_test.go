package csms_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"holdfast/authority"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store/storetest"
)

// A DeleteCertificate for the last root that the station can verify gateways with
// does not leave; one for a root beside others, or that nobody needs, does.
func TestLastRootStays(t *testing.T) {
	a := openAuthority(t, authority.NewStation{ID: "CS"})
	var installed []string // as JSON
	deleted := 0
	c := open(t, storetest.SQLite(t), csms.Config{Authority: a, Call: func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
		if call.Action == "DeleteCertificate" {
			deleted++
			return json.RawMessage(`{"status":"Accepted"}`), nil
		}
		return json.RawMessage(`{"status":"Accepted","certificateHashData":[` + strings.Join(installed, ",") + `]}`), nil
	}})
	connect(t, c, "CS", ocpp.V16, 1)
	roots, err := a.ServerRoots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hashes := csms.HashesOf(t, roots)
	if len(hashes) != 2 {
		t.Fatalf("%d roots", len(hashes))
	}
	foreign := `{"hashAlgorithm":"SHA256","issuerNameHash":"aa","issuerKeyHash":"bb","serialNumber":"cc"}`
	for _, tt := range []struct {
		name      string
		installed []string
		target    string
		leaves    bool
	}{
		{"the last one", hashes[:1], hashes[0], false},
		{"the last of ours", []string{hashes[0], foreign}, hashes[0], false},
		{"written otherwise", hashes[:1], otherwise(t, hashes[0]), false},
		{"one of two", hashes, hashes[0], true},
		{"somebody else's", hashes[:1], foreign, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			installed, deleted = tt.installed, 0
			k, err := c.Command(t.Context(), csms.Command{Station: "CS", Action: "DeleteCertificate", Payload: json.RawMessage(`{"certificateHashData":` + tt.target + `}`), By: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if (deleted == 1) != tt.leaves || (k.Result == csms.ResultAccepted) != tt.leaves {
				t.Errorf("%d left, %s: %s", deleted, k.Result, k.ErrorDescription)
			}
			if !tt.leaves && !strings.Contains(k.ErrorDescription, "last root") {
				t.Errorf("refused with %q", k.ErrorDescription)
			}
		})
	}
}

// otherwise spells a certificateHashData as other stations do: in capitals, with a
// leading zero.
func otherwise(t *testing.T, hash string) string {
	t.Helper()
	var h map[string]string
	if err := json.Unmarshal([]byte(hash), &h); err != nil {
		t.Fatal(err)
	}
	for name := range h {
		h[name] = strings.ToUpper(h[name])
	}
	h["serialNumber"] = "0" + h["serialNumber"]
	raw, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
