// Package action201 answers the actions of OCPP 2.0.1. What is the same in
// OCPP 2.1 is in csms.Handlers2x; here is the rest, one file per action. It
// decides nothing and starts no goroutines.
package action201

import (
	"holdfast/csms"
	"holdfast/ocpp/v201"
)

// Protocol returns what csms has to know of OCPP 2.0.1.
func Protocol() csms.Protocol {
	handlers := csms.Handlers2x()
	// Holdfast plans no charging for an EV: its needs get no schedule (K15).
	handlers["NotifyEVChargingNeeds"] = csms.Recording(&v201.NotifyEVChargingNeedsResponse{Status: v201.NotifyEVChargingNeedsStatusRejected})
	return csms.Protocol{
		Lookup:            v201.Lookup,
		Handlers:          handlers,
		Learn:             csms.Learn2x(),
		CertificateSigned: certificateSigned,
	}
}
