package fleet

import (
	"strconv"
	"strings"

	"holdfast/ocpp"
)

// commands2x is what the server may call in OCPP 2.0.1 and 2.1.
var commands2x = map[string]command{
	"RequestStartTransaction":    on((*station).requestStart),
	"RequestStopTransaction":     on((*station).requestStop),
	"GetTransactionStatus":       on((*station).transactionStatus),
	"Reset":                      on((*station).reset2x),
	"TriggerMessage":             on((*station).trigger2x),
	"SetVariables":               on((*station).setVariables),
	"GetVariables":               on((*station).getVariables),
	"GetBaseReport":              on((*station).getBaseReport),
	"GetReport":                  on((*station).getReport),
	"ChangeAvailability":         on((*station).changeAvailability2x),
	"SetNetworkProfile":          on((*station).setNetworkProfileCall),
	"UnlockConnector":            on((*station).unlock2x),
	"ClearCache":                 on(clearCache),
	"DataTransfer":               on(dataTransfer),
	"GetLog":                     on((*station).getLog),
	"UpdateFirmware":             on((*station).updateFirmware2x),
	"GetLocalListVersion":        on((*station).localListVersion2x),
	"SendLocalList":              on((*station).sendLocalList2x),
	"ReserveNow":                 on((*station).reserveNow2x),
	"CancelReservation":          on((*station).cancelReservationCall),
	"SetChargingProfile":         on((*station).setChargingProfile2x),
	"ClearChargingProfile":       on((*station).clearChargingProfile2x),
	"GetChargingProfiles":        on((*station).getChargingProfiles),
	"GetCompositeSchedule":       on((*station).compositeSchedule2x),
	"CertificateSigned":          on((*station).certificateSignedCall),
	"InstallCertificate":         on((*station).installCertificate),
	"DeleteCertificate":          on((*station).deleteCertificateCall),
	"GetInstalledCertificateIds": on((*station).installedIDs2x),
}

func (s *station) requestStart(r struct {
	IDToken  idToken    `json:"idToken"`
	RemoteID int        `json:"remoteStartId"`
	EVSE     int        `json:"evseId"`
	Profile  *profile2x `json:"chargingProfile"`
}) any {
	how := start{tag: r.IDToken.IDToken, remoteID: &r.RemoteID}
	if r.Profile != nil {
		p, why := r.Profile.read(s, r.EVSE)
		if why == "" {
			why = s.startProfile(p)
		}
		if why != "" {
			return s.reply("Rejected", why)
		}
		how.profile = &p
	}
	if r.IDToken.IDToken == "" && r.IDToken.Type != "NoAuthorization" || !s.startRemotely(r.EVSE, how) {
		return simple{"Rejected"}
	}
	return simple{"Accepted"} // the transaction begins after the answer, so there is no id to give
}

func (s *station) requestStop(r struct {
	Transaction string `json:"transactionId"`
}) any {
	return s.stopRemotely(r.Transaction)
}

func (s *station) transactionStatus(r struct {
	Transaction string `json:"transactionId"`
}) any {
	var answer struct {
		Ongoing *bool `json:"ongoingIndicator,omitempty"`
		Queued  bool  `json:"messagesInQueue"`
	}
	for _, m := range s.backlog {
		answer.Queued = answer.Queued || r.Transaction == "" || m.tx.entry != nil && m.tx.entry.id == r.Transaction
	}
	if r.Transaction != "" { // without an id nothing is said about one
		ongoing := s.connectorOf(r.Transaction) >= 0
		answer.Ongoing = &ongoing
	}
	return answer
}

func (s *station) reset2x(r struct {
	Type string `json:"type"`
	EVSE *int   `json:"evseId"`
}) any {
	switch {
	case r.Type != "Immediate" && r.Type != "OnIdle":
		return simple{"Rejected"}
	case r.EVSE != nil: // this station cannot reset one EVSE
		return simple{"Rejected"}
	case r.Type == "OnIdle" && s.busy():
		s.resetWhenIdle = true
		return simple{"Scheduled"}
	}
	s.reset(endHardReset)
	return simple{"Accepted"}
}

func (s *station) trigger2x(r struct {
	Message string `json:"requestedMessage"`
	EVSE    *evse  `json:"evse"`
}) any {
	connector := 0
	if r.EVSE != nil {
		connector = r.EVSE.ID
	}
	if r.Message == "StatusNotification" && (r.EVSE == nil || r.EVSE.Connector == nil) {
		return simple{"Rejected"} // F06.FR.12
	}
	return simple{s.trigger(r.Message, connector)}
}

type variableRequest struct {
	Attribute string    `json:"attributeType"`
	Value     string    `json:"attributeValue"`
	Component component `json:"component"`
	Variable  variable  `json:"variable"`
}

type variableResult struct {
	Attribute string    `json:"attributeType,omitempty"`
	Status    string    `json:"attributeStatus"`
	Value     *string   `json:"attributeValue,omitempty"`
	Component component `json:"component"`
	Variable  variable  `json:"variable"`
}

// look finds the variable that a request names, or says why not.
func (r variableRequest) look() (*setting, string) {
	x, known := settingByVariable(r.Component.Name, r.Variable.Name, r.Variable.Instance)
	switch {
	case !known:
		return nil, "UnknownComponent"
	case x == nil:
		return nil, "UnknownVariable"
	case r.Attribute != "" && r.Attribute != "Actual":
		return nil, "NotSupportedAttributeType"
	}
	return x, ""
}

func (s *station) setVariables(r struct {
	Data []variableRequest `json:"setVariableData"`
}) any {
	var answer struct {
		Results []variableResult `json:"setVariableResult"`
	}
	for _, v := range r.Data {
		x, status := v.look()
		if strings.EqualFold(v.Component.Name, "NetworkConfiguration") && s.id.Version == ocpp.V21 {
			status, _ = s.networkVariable(v.Component.Instance, v.Variable.Name, &v.Value)
		} else if x != nil {
			status = s.set(x, v.Value)
		}
		answer.Results = append(answer.Results, variableResult{v.Attribute, status, nil, v.Component, v.Variable})
	}
	return answer
}

func (s *station) getVariables(r struct {
	Data []variableRequest `json:"getVariableData"`
}) any {
	var answer struct {
		Results []variableResult `json:"getVariableResult"`
	}
	for _, v := range r.Data {
		result := variableResult{v.Attribute, "Accepted", nil, v.Component, v.Variable}
		switch x, status := v.look(); {
		case strings.EqualFold(v.Component.Name, "NetworkConfiguration") && s.id.Version == ocpp.V21:
			var value string
			if result.Status, value = s.networkVariable(v.Component.Instance, v.Variable.Name, nil); result.Status == "Accepted" {
				result.Value = &value
			}
		case x == nil:
			result.Status = status
		case s.hidden(x):
			result.Status = "Rejected" // write-only
		default:
			value := s.value(x)
			result.Value = &value
		}
		answer.Results = append(answer.Results, result)
	}
	return answer
}

func (s *station) setNetworkProfileCall(r struct {
	Slot int `json:"configurationSlot"`
	Data struct {
		URL       string `json:"ocppCsmsUrl"`
		Profile   int    `json:"securityProfile"`
		Version   string `json:"ocppVersion"`
		Transport string `json:"ocppTransport"`
		Interface string `json:"ocppInterface"`
		Timeout   int    `json:"messageTimeout"`
		Identity  string `json:"identity"`
		Password  string `json:"basicAuthPassword"`
	} `json:"connectionData"`
}) any {
	d := r.Data
	return s.reply(s.setNetworkProfile(r.Slot, slot{d.URL, strconv.Itoa(d.Profile), d.Version, d.Transport, d.Interface, strconv.Itoa(d.Timeout), d.Identity, d.Password}))
}

func (s *station) changeAvailability2x(r struct {
	Status string `json:"operationalStatus"`
	EVSE   *evse  `json:"evse"`
}) any {
	i := -1
	if r.EVSE != nil {
		i = r.EVSE.ID - 1
		if i < 0 || i >= len(s.connectors) {
			return simple{"Rejected"}
		}
	}
	if r.Status != "Operative" && r.Status != "Inoperative" {
		return simple{"Rejected"}
	}
	return simple{s.changeAvailability(i, r.Status == "Operative")}
}

func (s *station) unlock2x(r struct {
	EVSE      int `json:"evseId"`
	Connector int `json:"connectorId"`
}) any {
	switch {
	case r.EVSE < 1 || r.EVSE > len(s.connectors) || r.Connector != 1:
		return simple{"UnknownConnector"}
	case s.connectors[r.EVSE-1].tx != nil:
		return simple{"OngoingAuthorizedTransaction"}
	}
	return simple{"Unlocked"}
}

func (s *station) updateFirmware2x(r struct {
	RequestID int            `json:"requestId"`
	Firmware  signedFirmware `json:"firmware"`
}) any {
	return simple{s.updateSignedFirmware("FirmwareStatusNotification", r.RequestID, r.Firmware)}
}

func (s *station) localListVersion2x(nothing) any {
	return struct {
		Version int `json:"versionNumber"`
	}{s.listVersion()}
}

func (s *station) sendLocalList2x(r struct {
	Version int    `json:"versionNumber"`
	Type    string `json:"updateType"`
	List    []struct {
		IDToken idToken      `json:"idToken"`
		Info    *idTokenInfo `json:"idTokenInfo"`
	} `json:"localAuthorizationList"`
}) any {
	entries := make(map[string]string, len(r.List))
	for _, e := range r.List {
		entries[e.IDToken.IDToken] = ""
		if e.Info != nil {
			entries[e.IDToken.IDToken] = e.Info.Status
		}
	}
	return simple{s.more().list.update(r.Version, r.Type == "Full", entries)}
}

func (s *station) reserveNow2x(r struct {
	ID      int     `json:"id"`
	Expiry  string  `json:"expiryDateTime"`
	IDToken idToken `json:"idToken"`
	EVSE    int     `json:"evseId"`
}) any {
	return simple{s.reserve(r.ID, r.EVSE-1, r.IDToken.IDToken, r.Expiry)}
}

func (s *station) installedIDs2x(r struct {
	Types []string `json:"certificateType"`
}) any {
	types, hashes := s.installedIDs(r.Types)
	if len(hashes) == 0 {
		return simple{"NotFound"}
	}
	type chain struct {
		Type string   `json:"certificateType"`
		Hash hashData `json:"certificateHashData"`
	}
	answer := struct {
		Status string  `json:"status"`
		Chains []chain `json:"certificateHashDataChain"`
	}{Status: "Accepted"}
	for i := range hashes {
		answer.Chains = append(answer.Chains, chain{types[i], hashes[i]})
	}
	return answer
}
