package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

type object = map[string]any

// ordered is a command, and the status that its answer has to have; empty: it has
// none.
type ordered struct {
	action  string
	payload object
	status  string
}

// TestEveryCommand: a Holdfast sends every command that the fleet's stations know,
// and takes every answer as valid by the schemas; what a command asks for comes
// after its answer and is recorded.
func TestEveryCommand(t *testing.T) {
	eachVersion(t, func(c *commanded) {
		list := c.orders16()
		if c.version.Is2x() {
			list = c.orders2x()
		}
		given := make(map[string]bool)
		for _, o := range list {
			given[o.action] = true
			if o.action == "Reset" && c.version.Is2x() {
				c.reports()
			}
			c.want(o.status, o.action, o.payload)
		}
		for _, action := range fleet.Commands(c.version) {
			if !given[action] {
				c.Errorf("%s was not tried", action)
			}
		}
		c.await("all messages", func() bool { return c.fleet.Stats().Outstanding == 0 })
		if errors := c.fleet.Stats().Errors; errors["protocol"]+errors["callerror"]+errors["timeout"] > 0 {
			c.Errorf("errors %v", errors)
		}
	})
}

// reports: variables and charging profiles that the operator asks for are told.
func (c *commanded) reports() {
	for _, tt := range []struct {
		payload object
		status  string
	}{
		{object{"componentVariable": []any{object{"component": object{"name": "OCPPCommCtrlr"}, "variable": object{"name": "RetryBackOff"}}}}, "EmptyResultSet"},
		{object{"componentCriteria": []any{"Problem"}}, "EmptyResultSet"},
		{object{"componentCriteria": []any{"Enabled"}, "componentVariable": []any{object{"component": object{"name": "AuthCacheCtrlr"}}}}, "Accepted"},
	} {
		tt.payload["requestId"] = 9
		before := c.count("NotifyReport")
		c.want(tt.status, "GetReport", tt.payload)
		if tt.status == "Accepted" {
			c.await("the report", func() bool { return c.count("NotifyReport") > before })
		}
	}
	c.await("the variable", func() bool {
		return slices.ContainsFunc(c.items(c.path("/variables")), func(v map[string]any) bool {
			return fmt.Sprint(v["component"]) == "AuthCacheCtrlr" || strings.Contains(fmt.Sprint(v), "AuthCacheCtrlr")
		})
	})
	for _, p := range []struct {
		evse    int
		profile object
	}{{0, c.profile(1, "TxDefaultProfile", 7000)}, {1, c.profile(2, "TxDefaultProfile", 5000)}} {
		c.want("Accepted", "SetChargingProfile", object{"evseId": p.evse, "chargingProfile": p.profile})
	}
	before := c.count("ReportChargingProfiles")
	c.want("NoProfiles", "GetChargingProfiles", object{"requestId": 10, "chargingProfile": object{"chargingProfileId": []any{99}}})
	c.want("NoProfiles", "GetChargingProfiles", object{"requestId": 11, "chargingProfile": object{"chargingLimitSource": []any{"EMS"}}})
	c.want("Accepted", "GetChargingProfiles", object{"requestId": 12, "chargingProfile": object{"chargingProfilePurpose": "TxDefaultProfile"}})
	c.await("a report for each EVSE", func() bool { return c.count("ReportChargingProfiles") == before+2 })
	found := 0
	for _, r := range c.items(c.path("/records")) {
		if text := fmt.Sprint(r); strings.Contains(text, "ReportChargingProfiles") && strings.Contains(text, "requestId:12") {
			found++
		}
	}
	if found != 2 {
		c.Errorf("%d reports of charging profiles recorded, want 2: %.600v", found, c.items(c.path("/records")))
	}
}

// certificateHash is the hash of an installed root, as the station tells it.
func (c *commanded) certificateHash() object {
	if c.version == ocpp.V16 {
		got := c.send("GetInstalledCertificateIds", object{"certificateType": "ManufacturerRootCertificate"})
		if list, _ := got.Answer["certificateHashData"].([]any); len(list) == 1 {
			return list[0].(object)
		}
		return nil
	}
	got := c.send("GetInstalledCertificateIds", object{"certificateType": []any{"ManufacturerRootCertificate"}})
	if list, _ := got.Answer["certificateHashDataChain"].([]any); len(list) == 1 {
		return list[0].(object)["certificateHashData"].(object)
	}
	return nil
}

// oneRoot is the last of the server's roots, without which its certificate still
// verifies.
func (c *commanded) oneRoot() string {
	const begin = "-----BEGIN CERTIFICATE-----\n"
	return begin + c.root()[strings.LastIndex(c.root(), begin)+len(begin):]
}

// always is a profile that counts at any time.
func always(p object) object {
	p["chargingProfileKind"] = "Absolute"
	return p
}

func (c *commanded) orders16() []ordered {
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	c.want("Accepted", "InstallCertificate", object{"certificateType": "ManufacturerRootCertificate", "certificate": c.oneRoot()})
	return []ordered{
		{"InstallCertificate", object{"certificateType": "CentralSystemRootCertificate", "certificate": c.oneRoot()}, "Accepted"},
		{"DeleteCertificate", object{"certificateHashData": c.certificateHash()}, "Accepted"},
		{"GetInstalledCertificateIds", object{"certificateType": "ManufacturerRootCertificate"}, "NotFound"},
		{"CertificateSigned", object{"certificateChain": c.oneRoot()}, "Rejected"},
		{"ChangeAvailability", object{"connectorId": 0, "type": "Inoperative"}, "Accepted"},
		{"ChangeAvailability", object{"connectorId": 0, "type": "Operative"}, "Accepted"},
		{"ChangeConfiguration", object{"key": "HeartbeatInterval", "value": "300"}, "Accepted"},
		{"GetConfiguration", object{}, ""},
		{"ClearCache", object{}, "Accepted"},
		{"DataTransfer", object{"vendorId": "Holdfast", "messageId": "Echo"}, "Accepted"},
		{"ReserveNow", object{"connectorId": 1, "expiryDate": later, "idTag": "FLEET", "reservationId": 3}, "Accepted"},
		{"CancelReservation", object{"reservationId": 3}, "Accepted"},
		{"SendLocalList", object{"listVersion": 2, "updateType": "Full", "localAuthorizationList": []any{object{"idTag": "FLEET", "idTagInfo": object{"status": "Accepted"}}}}, "Accepted"},
		{"GetLocalListVersion", object{}, ""},
		{"SetChargingProfile", object{"connectorId": 0, "csChargingProfiles": always(c.profile(1, "ChargePointMaxProfile", 9000))}, "Accepted"},
		{"GetCompositeSchedule", object{"connectorId": 1, "duration": 600}, "Accepted"},
		{"ClearChargingProfile", object{}, "Accepted"},
		{"RemoteStartTransaction", object{"idTag": "FLEET", "connectorId": 9}, "Rejected"},
		{"RemoteStopTransaction", object{"transactionId": 1 << 30}, "Rejected"},
		{"UnlockConnector", object{"connectorId": 1}, "Unlocked"},
		{"TriggerMessage", object{"requestedMessage": "MeterValues"}, "Accepted"},
		{"ExtendedTriggerMessage", object{"requestedMessage": "StatusNotification"}, "Accepted"},
		{"GetDiagnostics", object{"location": "https://logs.example/"}, ""},
		{"GetLog", object{"logType": "SecurityLog", "requestId": 4, "log": object{"remoteLocation": "https://logs.example/"}}, "AcceptedCanceled"},
		{"UpdateFirmware", object{"location": "https://firmware.example/v2.bin", "retrieveDate": later}, ""},
		{"SignedUpdateFirmware", object{"requestId": 5, "firmware": object{"location": "https://firmware.example/v2.bin", "retrieveDateTime": later,
			"signingCertificate": "none", "signature": "c2lnbmF0dXJl"}}, "InvalidCertificate"},
		{"Reset", object{"type": "Hard"}, "Accepted"},
	}
}

func (c *commanded) orders2x() []ordered {
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	token := object{"idToken": "FLEET", "type": "Central"}
	c.want("Accepted", "InstallCertificate", object{"certificateType": "ManufacturerRootCertificate", "certificate": c.oneRoot()})
	signed := object{"certificateChain": c.oneRoot()}
	if c.version == ocpp.V21 {
		signed["requestId"] = 1
	}
	network := object{"messageTimeout": 30, "ocppCsmsUrl": "wss://127.0.0.1/ocpp", "ocppInterface": "Wired0", "ocppTransport": "JSON", "ocppVersion": "OCPP20", "securityProfile": 3}
	return []ordered{
		{"InstallCertificate", object{"certificateType": "CSMSRootCertificate", "certificate": c.oneRoot()}, "Accepted"},
		{"DeleteCertificate", object{"certificateHashData": c.certificateHash()}, "Accepted"},
		{"GetInstalledCertificateIds", object{"certificateType": []any{"ManufacturerRootCertificate"}}, "NotFound"},
		{"CertificateSigned", signed, "Rejected"},
		{"ChangeAvailability", object{"operationalStatus": "Inoperative"}, "Accepted"},
		{"ChangeAvailability", object{"operationalStatus": "Operative"}, "Accepted"},
		{"SetVariables", object{"setVariableData": []any{object{"component": object{"name": "OCPPCommCtrlr"}, "variable": object{"name": "HeartbeatInterval"}, "attributeValue": "300"}}}, ""},
		{"GetVariables", object{"getVariableData": []any{object{"component": object{"name": "Nothing"}, "variable": object{"name": "Nothing"}}}}, ""},
		{"GetBaseReport", object{"requestId": 1, "reportBase": "FullInventory"}, "Accepted"},
		{"GetBaseReport", object{"requestId": 1, "reportBase": "SummaryInventory"}, "NotSupported"},
		{"GetReport", object{"requestId": 2, "componentCriteria": []any{"Enabled", "Active"}}, "Accepted"},
		{"SetNetworkProfile", object{"configurationSlot": 2, "connectionData": network}, "Accepted"},
		{"ClearCache", object{}, "Accepted"},
		{"DataTransfer", object{"vendorId": "Holdfast", "messageId": "Echo", "data": object{"any": "thing"}}, "Accepted"},
		{"ReserveNow", object{"id": 3, "expiryDateTime": later, "idToken": token, "evseId": 1}, "Accepted"},
		{"CancelReservation", object{"reservationId": 3}, "Accepted"},
		{"SendLocalList", object{"versionNumber": 2, "updateType": "Full", "localAuthorizationList": []any{object{"idToken": token, "idTokenInfo": object{"status": "Accepted"}}}}, "Accepted"},
		{"GetLocalListVersion", object{}, ""},
		{"SetChargingProfile", object{"evseId": 0, "chargingProfile": always(c.profile(1, "ChargingStationMaxProfile", 9000))}, "Accepted"},
		{"GetCompositeSchedule", object{"evseId": 1, "duration": 600}, "Accepted"},
		{"GetChargingProfiles", object{"requestId": 6, "chargingProfile": object{}}, "Accepted"},
		{"ClearChargingProfile", object{"chargingProfileId": 1}, "Accepted"},
		{"RequestStartTransaction", object{"idToken": token, "remoteStartId": 1, "evseId": 9}, "Rejected"},
		{"RequestStopTransaction", object{"transactionId": "none"}, "Rejected"},
		{"GetTransactionStatus", object{"transactionId": "none"}, ""},
		{"UnlockConnector", object{"evseId": 1, "connectorId": 1}, "Unlocked"},
		{"TriggerMessage", object{"requestedMessage": "MeterValues"}, "Accepted"},
		{"GetLog", object{"logType": "SecurityLog", "requestId": 4, "log": object{"remoteLocation": "https://logs.example/"}}, "Accepted"},
		{"UpdateFirmware", object{"requestId": 5, "firmware": object{"location": "https://firmware.example/v2.bin", "retrieveDateTime": later}}, "Accepted"},
		{"Reset", object{"type": "Immediate"}, "Accepted"},
	}
}
