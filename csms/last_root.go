package csms

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/ocpp"
	"holdfast/store"
)

// keepLastRoot says why a DeleteCertificate must not leave: it names a root that
// gateways' certificates rest on, and the station does not list another one. It
// would believe no gateway any more, and nobody could mend that from here (OCPP
// lets a station refuse it, M04, but not every station does).
func (c *CSMS) keepLastRoot(ctx context.Context, station store.StationState, by string, payload json.RawMessage) error {
	var request struct {
		Hash certificateHash `json:"certificateHashData"`
	}
	if c.authority == nil || json.Unmarshal(payload, &request) != nil {
		return nil
	}
	text, err := c.authority.ServerRoots(ctx)
	if err != nil {
		return fmt.Errorf("whether the station needs this root cannot be told: %w", err)
	}
	roots, err := parseRoots(text)
	if err != nil {
		return fmt.Errorf("whether the station needs this root cannot be told: %w", err)
	}
	named, others := missingRoots(roots, []certificateHash{request.Hash})
	if len(named) == 0 {
		return nil
	}
	const mend = "install another one first (holdfast station trust)"
	ask, err := ocpp.Encode(askInstalled(station.Version))
	if err != nil {
		return err
	}
	k, raw, err := c.command(ctx, Command{Station: station.Station, Action: "GetInstalledCertificateIds", Payload: ask, By: by})
	var answer installedAnswer
	if err == nil && k.Result == ResultAccepted {
		err = json.Unmarshal(raw, &answer)
	}
	switch {
	case err != nil:
		return fmt.Errorf("gateways' certificates rest on this root, and whether the station has another one cannot be told: %w", err)
	case k.Result != ResultAccepted:
		return fmt.Errorf("gateways' certificates rest on this root, and the station does not list another one (%s): %s", k.Result, mend)
	}
	if left, _ := missingRoots(others, answer.hashes()); len(left) == 0 {
		return fmt.Errorf("this is the last root that the station can verify gateways with: %s", mend)
	}
	return nil
}
