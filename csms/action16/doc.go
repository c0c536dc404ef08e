// Package action16 answers the actions of OCPP 1.6 and its security extension,
// one file per action: a request's words are put into those of a rule of csms,
// and the rule's answer into a response. It decides nothing and starts no
// goroutines.
package action16

import (
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

// Protocol returns what csms has to know of OCPP 1.6.
func Protocol() csms.Protocol {
	return csms.Protocol{
		Lookup: v16.Lookup,
		Handlers: map[string]csms.Handler{
			"Authorize":                        csms.Typed(authorize),
			"BootNotification":                 csms.Typed(bootNotification),
			"DataTransfer":                     csms.Typed(dataTransfer),
			"DiagnosticsStatusNotification":    csms.Typed(diagnosticsStatusNotification),
			"FirmwareStatusNotification":       csms.Typed(firmwareStatusNotification),
			"Heartbeat":                        csms.Typed(heartbeat),
			"LogStatusNotification":            csms.Typed(logStatusNotification),
			"MeterValues":                      csms.Typed(meterValues),
			"SecurityEventNotification":        csms.Typed(securityEventNotification),
			"SignCertificate":                  csms.Typed(signCertificate),
			"SignedFirmwareStatusNotification": csms.Typed(signedFirmwareStatusNotification),
			"StartTransaction":                 csms.Typed(startTransaction),
			"StatusNotification":               csms.Typed(statusNotification),
			"StopTransaction":                  csms.Typed(stopTransaction),
		},
		Learn: map[string]csms.Learn{
			"ChangeConfiguration": csms.Learned(changeConfiguration),
			"GetConfiguration":    csms.Learned(getConfiguration),
		},
		CertificateSigned: certificateSigned,
	}
}

// maxIDTag is the longest idTag, in characters.
const maxIDTag = 20

// idTagInfo puts a verdict into the words of OCPP 1.6.
func idTagInfo(v store.Verdict) v16.IDTagInfo {
	info := v16.IDTagInfo{Status: v16.AuthorizationStatus(v.Status)}
	if v.Status == csms.TokenUnknown { // which 1.6 does not have
		info.Status = v16.AuthorizationStatusInvalid
	}
	if !v.ExpiresAt.IsZero() {
		info.ExpiryDate = ocpp.NewDateTime(v.ExpiresAt)
	}
	if len([]rune(v.Group)) <= maxIDTag { // a longer group cannot be a parent here
		info.ParentIDTag = v.Group
	}
	return info
}
