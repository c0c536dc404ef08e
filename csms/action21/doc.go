// Package action21 answers the actions of OCPP 2.1. What is the same in
// OCPP 2.0.1 is in csms.Handlers2x; here is the rest, one file per action that
// has an answer to work out. It decides nothing and starts no goroutines.
package action21

import (
	"maps"

	"holdfast/csms"
	"holdfast/ocpp/v21"
)

// Protocol returns what csms has to know of OCPP 2.1.
func Protocol() csms.Protocol {
	handlers := csms.Handlers2x()
	maps.Copy(handlers, map[string]csms.Handler{
		"BatterySwap":               csms.Recording(&v21.BatterySwapResponse{}),
		"ClosePeriodicEventStream":  csms.Recording(&v21.ClosePeriodicEventStreamResponse{}),
		"GetCertificateChainStatus": csms.Typed(getCertificateChainStatus),
		"NotifyDERAlarm":            csms.Recording(&v21.NotifyDERAlarmResponse{}),
		"NotifyDERStartStop":        csms.Recording(&v21.NotifyDERStartStopResponse{}),
		// Holdfast plans no charging for an EV: its needs get no profile (K15).
		"NotifyEVChargingNeeds":     csms.Recording(&v21.NotifyEVChargingNeedsResponse{Status: v21.NotifyEVChargingNeedsStatusNoChargingProfile}),
		"NotifyPeriodicEventStream": csms.Recording(nil), // a SEND
		"NotifyPriorityCharging":    csms.Recording(&v21.NotifyPriorityChargingResponse{}),
		"NotifySettlement":          csms.Recording(&v21.NotifySettlementResponse{}),
		"OpenPeriodicEventStream":   csms.Recording(&v21.OpenPeriodicEventStreamResponse{Status: v21.GenericStatusAccepted}),
		// There is no dynamic profile whose schedule could be pulled.
		"PullDynamicScheduleUpdate": csms.Recording(&v21.PullDynamicScheduleUpdateResponse{Status: v21.ChargingProfileStatusRejected}),
		"ReportDERControl":          csms.Recording(&v21.ReportDERControlResponse{}),
		"VatNumberValidation":       csms.Typed(vatNumberValidation),
	})
	return csms.Protocol{
		Lookup:            v21.Lookup,
		Handlers:          handlers,
		Learn:             csms.Learn2x(),
		CertificateSigned: certificateSigned,
	}
}
