package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What the schemas do not say, or say differently. docs/ocpp-types.md gives the
// reasons; the generator stops at a difference between its two sources that is
// not decided here, and at a decision that no longer decides anything.

// version is one version of OCPP and what is decided for it.
type version struct {
	name    string // as in prose
	pkg     string // Go package under ocpp
	typed   string // module inside typed-ocpp
	other   string // list inside ocpp-rpc
	actions int    // how many there are: the generator counts

	// preferOther are the fields on which ocpp-rpc is believed: Difference.Path.
	preferOther []string
	// mend are rules that neither source has.
	mend map[string]func(*Schema)
	// names are Go names of types: by the path of an inline type, or by the name of
	// a definition.
	names map[string]string
	// fromStation are the actions that a station sends; the CSMS sends the rest.
	fromStation []string
	// both are the actions that either may send, sends those that have no response.
	both, sends []string
}

func minItems(n int) func(*Schema) { return func(s *Schema) { s.MinItems = n } }

var versions = []version{
	{
		name: "1.6", pkg: "v16", actions: 39,
		typed: "dist/ocpp16/schemas.js", other: "lib/schemas/ocpp1_6.json",
		preferOther: []string{
			"ChangeConfigurationRequest/value",
			"GetConfigurationResponse/configurationKey[]/value",
			"StatusNotificationRequest/info",
		},
		mend: map[string]func(*Schema){
			"MeterValuesRequest/meterValue":                         minItems(1),
			"MeterValuesRequest/meterValue[]/sampledValue":          minItems(1),
			"StopTransactionRequest/transactionData[]/sampledValue": minItems(1),
		},
		names: map[string]string{
			"AuthorizeResponse/idTagInfo":                                    "IDTagInfo",
			"AuthorizeResponse/idTagInfo/status":                             "AuthorizationStatus",
			"StartTransactionResponse/idTagInfo":                             "IDTagInfo",
			"StartTransactionResponse/idTagInfo/status":                      "AuthorizationStatus",
			"StopTransactionResponse/idTagInfo":                              "IDTagInfo",
			"StopTransactionResponse/idTagInfo/status":                       "AuthorizationStatus",
			"SendLocalListRequest/localAuthorizationList[]":                  "AuthorizationData",
			"SendLocalListRequest/localAuthorizationList[]/idTagInfo":        "IDTagInfo",
			"SendLocalListRequest/localAuthorizationList[]/idTagInfo/status": "AuthorizationStatus",
			"SendLocalListRequest/updateType":                                "UpdateType",
			"SendLocalListResponse/status":                                   "UpdateStatus",
			"BootNotificationResponse/status":                                "RegistrationStatus",
			"CancelReservationResponse/status":                               "CancelReservationStatus",
			"ChangeAvailabilityRequest/type":                                 "AvailabilityType",
			"ChangeAvailabilityResponse/status":                              "AvailabilityStatus",
			"ChangeConfigurationResponse/status":                             "ConfigurationStatus",
			"ClearCacheResponse/status":                                      "ClearCacheStatus",
			"ClearChargingProfileRequest/chargingProfilePurpose":             "ChargingProfilePurpose",
			"ClearChargingProfileResponse/status":                            "ClearChargingProfileStatus",
			"DataTransferResponse/status":                                    "DataTransferStatus",
			"DiagnosticsStatusNotificationRequest/status":                    "DiagnosticsStatus",
			"FirmwareStatusNotificationRequest/status":                       "FirmwareStatus",
			"GetCompositeScheduleRequest/chargingRateUnit":                   "ChargingRateUnit",
			"GetCompositeScheduleResponse/status":                            "GetCompositeScheduleStatus",
			"GetConfigurationResponse/configurationKey[]":                    "KeyValue",
			"RemoteStartTransactionResponse/status":                          "RemoteStartStopStatus",
			"RemoteStopTransactionResponse/status":                           "RemoteStartStopStatus",
			"ReserveNowResponse/status":                                      "ReservationStatus",
			"ResetRequest/type":                                              "ResetType",
			"ResetResponse/status":                                           "ResetStatus",
			"SetChargingProfileResponse/status":                              "ChargingProfileStatus",
			"StatusNotificationRequest/errorCode":                            "ChargePointErrorCode",
			"StatusNotificationRequest/status":                               "ChargePointStatus",
			"StopTransactionRequest/reason":                                  "Reason",
			"TriggerMessageRequest/requestedMessage":                         "MessageTrigger",
			"TriggerMessageResponse/status":                                  "TriggerMessageStatus",
			"UnlockConnectorResponse/status":                                 "UnlockStatus",
			"MeterValuesRequest/meterValue[]":                                "MeterValue",
			"StopTransactionRequest/transactionData[]":                       "MeterValue",
			"RemoteStartTransactionRequest/chargingProfile":                  "ChargingProfile",
			"SetChargingProfileRequest/csChargingProfiles":                   "ChargingProfile",
			// By the end of the path, for what is inside the last six.
			"sampledValue[]":           "SampledValue",
			"context":                  "ReadingContext",
			"format":                   "ValueFormat",
			"measurand":                "Measurand",
			"phase":                    "Phase",
			"location":                 "Location",
			"unit":                     "UnitOfMeasure",
			"chargingSchedule":         "ChargingSchedule",
			"chargingSchedulePeriod[]": "ChargingSchedulePeriod",
			"chargingRateUnit":         "ChargingRateUnit",
			"chargingProfilePurpose":   "ChargingProfilePurpose",
			"chargingProfileKind":      "ChargingProfileKind",
			"recurrencyKind":           "RecurrencyKind",
			// Definitions of the security extension whose names the core has, too.
			"MessageTriggerEnumType": "ExtendedMessageTrigger",
			"FirmwareStatusEnumType": "SignedFirmwareStatus",
			"LogEnumType":            "LogType",
		},
		fromStation: strings.Fields(`Authorize BootNotification DataTransfer Heartbeat MeterValues StartTransaction
			StatusNotification StopTransaction DiagnosticsStatusNotification FirmwareStatusNotification
			LogStatusNotification SecurityEventNotification SignCertificate SignedFirmwareStatusNotification`),
		both: strings.Fields(`DataTransfer`),
	},
	{
		name: "2.0.1", pkg: "v201", actions: 64,
		typed: "dist/ocpp20/schemas.js", other: "lib/schemas/ocpp2_0_1.json",
		names: with(kinds2x, map[string]string{
			// A data type has the name without EnumType.
			"IdTokenEnumType":   "IDTokenType",
			"VPNEnumType":       "VPNType",
			"ConnectorEnumType": "ConnectorType", // 2.1 has a string
		}),
		fromStation: fromStation201,
		both:        strings.Fields(`DataTransfer`),
	},
	{
		name: "2.1", pkg: "v21", actions: 91,
		typed: "dist/ocpp21/schemas.js", other: "lib/schemas/ocpp2_1.json",
		names: with(kinds2x, map[string]string{
			// A data type has the name without EnumType.
			"CertificateStatusEnumType": "CertificateStatusCode",
			"CostDimensionEnumType":     "CostDimensionType",
			"VPNEnumType":               "VPNType",
		}),
		fromStation: append(strings.Fields(`BatterySwap GetCertificateChainStatus NotifyDERAlarm NotifyDERStartStop
			ReportDERControl NotifyPriorityCharging NotifySettlement OpenPeriodicEventStream
			ClosePeriodicEventStream PullDynamicScheduleUpdate VatNumberValidation NotifyPeriodicEventStream`),
			fromStation201...),
		both:  strings.Fields(`DataTransfer`),
		sends: strings.Fields(`NotifyPeriodicEventStream`),
	},
}

var fromStation201 = strings.Fields(`SecurityEventNotification SignCertificate BootNotification NotifyReport Authorize
	TransactionEvent StatusNotification Heartbeat ReservationStatusUpdate MeterValues ReportChargingProfiles
	NotifyChargingLimit ClearedChargingLimit NotifyEVChargingNeeds NotifyEVChargingSchedule
	FirmwareStatusNotification PublishFirmwareStatusNotification Get15118EVCertificate GetCertificateStatus
	LogStatusNotification NotifyEvent NotifyMonitoringReport NotifyCustomerInformation NotifyDisplayMessages
	DataTransfer`)

// kinds2x are enumerations that say of which kind a thing is, and whose names
// without EnumType would be the thing itself.
var kinds2x = map[string]string{
	"AttributeEnumType":         "AttributeType",
	"DataEnumType":              "DataType",
	"EventNotificationEnumType": "EventNotificationType",
	"LogEnumType":               "LogType",
	"MonitorEnumType":           "MonitorType",
	"ResetEnumType":             "ResetType",
	"TransactionEventEnumType":  "TransactionEventType",
	"UpdateEnumType":            "UpdateType",
}

func with(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// decide settles the differences between the two sources: messages, which are
// typed-ocpp's, get what ocpp-rpc says where it is preferred. Every difference
// must be settled, and every preference must settle one.
func decide(v *version, messages []*Message, differences []Difference) error {
	open := slices.Clone(v.preferOther)
	for _, d := range differences {
		i := slices.Index(open, d.Path)
		if i < 0 {
			return fmt.Errorf("OCPP %s %s: the sources differ and nothing is decided: %q, %q", v.name, d.Path, d.Typed, d.Other)
		}
		open = slices.Delete(open, i, i+1)
		s, err := find(messages, d.Path)
		if err != nil {
			return err
		}
		_, length, ok := strings.Cut(d.Other, "maxLength ") // only lengths were ever in dispute
		if !ok {
			return fmt.Errorf("OCPP %s %s: ocpp-rpc has no length to prefer: %q", v.name, d.Path, d.Other)
		}
		if _, err := fmt.Sscan(length, &s.MaxLength); err != nil {
			return fmt.Errorf("OCPP %s %s: %w", v.name, d.Path, err)
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("OCPP %s: no longer a difference: %v", v.name, open)
	}
	return nil
}

// find returns the schema at a path such as "AuthorizeRequest/idTag".
func find(messages []*Message, path string) (*Schema, error) {
	steps := strings.Split(path, "/")
	for _, m := range messages {
		if m.Name != steps[0] {
			continue
		}
		s := m.Schema
		for _, step := range steps[1:] {
			name, isItem := strings.CutSuffix(step, "[]")
			if s = s.Properties.Find(name); s == nil {
				return nil, fmt.Errorf("no field %s", path)
			}
			if isItem {
				s = s.Items
			}
			s, _ = m.Resolve(s)
		}
		return s, nil
	}
	return nil, fmt.Errorf("no message %s", steps[0])
}
