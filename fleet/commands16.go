package fleet

import "strconv"

// commands16 is what the server may call in OCPP 1.6, the security extension
// included.
var commands16 = map[string]command{
	"RemoteStartTransaction":     on((*station).remoteStart16),
	"RemoteStopTransaction":      on((*station).remoteStop16),
	"Reset":                      on((*station).reset16),
	"TriggerMessage":             on((*station).trigger16),
	"ExtendedTriggerMessage":     on((*station).trigger16),
	"ChangeConfiguration":        on((*station).changeConfiguration),
	"GetConfiguration":           on((*station).getConfiguration),
	"ChangeAvailability":         on((*station).changeAvailability16),
	"UnlockConnector":            on((*station).unlock16),
	"ClearCache":                 on(clearCache),
	"DataTransfer":               on(dataTransfer),
	"GetDiagnostics":             on((*station).getDiagnostics),
	"UpdateFirmware":             on((*station).updateFirmware16),
	"SignedUpdateFirmware":       on((*station).signedUpdateFirmware),
	"GetLog":                     on((*station).getLog),
	"GetLocalListVersion":        on((*station).localListVersion16),
	"SendLocalList":              on((*station).sendLocalList16),
	"ReserveNow":                 on((*station).reserveNow16),
	"CancelReservation":          on((*station).cancelReservationCall),
	"SetChargingProfile":         on((*station).setChargingProfile16),
	"ClearChargingProfile":       on((*station).clearChargingProfile16),
	"GetCompositeSchedule":       on((*station).compositeSchedule16),
	"CertificateSigned":          on((*station).certificateSignedCall),
	"InstallCertificate":         on((*station).installCertificate),
	"DeleteCertificate":          on((*station).deleteCertificateCall),
	"GetInstalledCertificateIds": on((*station).installedIDs16),
}

type nothing struct{}

func (s *station) remoteStart16(r struct {
	Connector int        `json:"connectorId"`
	IDTag     string     `json:"idTag"`
	Profile   *profile16 `json:"chargingProfile"`
}) any {
	how := start{tag: r.IDTag}
	if r.Profile != nil {
		p, why := r.Profile.read(s, r.Connector)
		if why == "" {
			why = s.startProfile(p)
		}
		if why != "" {
			return simple{"Rejected"}
		}
		how.profile = &p
	}
	if r.IDTag == "" || !s.startRemotely(r.Connector, how) {
		return simple{"Rejected"}
	}
	return simple{"Accepted"}
}

func (s *station) remoteStop16(r struct {
	Transaction int `json:"transactionId"`
}) any {
	return s.stopRemotely(strconv.Itoa(r.Transaction))
}

// stopRemotely ends a transaction after the answer.
func (s *station) stopRemotely(id string) any {
	i := s.connectorOf(id)
	if i < 0 || s.state != accepted {
		return simple{"Rejected"}
	}
	s.then(func() { s.end(i, s.f.elapsed(), endRemote) })
	return simple{"Accepted"}
}

func (s *station) reset16(r struct {
	Type string `json:"type"`
}) any {
	switch r.Type {
	case "Hard":
		s.reset(endHardReset)
	case "Soft":
		s.reset(endSoftReset)
	default:
		return simple{"Rejected"}
	}
	return simple{"Accepted"}
}

func (s *station) trigger16(r struct {
	Message   string `json:"requestedMessage"`
	Connector *int   `json:"connectorId"`
}) any {
	connector := 0
	if r.Connector != nil {
		connector = *r.Connector
	}
	return simple{s.trigger(r.Message, connector)}
}

func (s *station) changeConfiguration(r struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}) any {
	x := settingByKey(r.Key)
	if x == nil {
		return simple{"NotSupported"}
	}
	return simple{s.set(x, r.Value)}
}

type configurationKey struct {
	Key      string  `json:"key"`
	ReadOnly bool    `json:"readonly"`
	Value    *string `json:"value,omitempty"`
}

func (s *station) getConfiguration(r struct {
	Key []string `json:"key"`
}) any {
	var answer struct {
		Known   []configurationKey `json:"configurationKey,omitempty"`
		Unknown []string           `json:"unknownKey,omitempty"`
	}
	add := func(x *setting) {
		k := configurationKey{Key: x.key, ReadOnly: x.access == readOnly}
		if !s.hidden(x) {
			value := s.value(x)
			k.Value = &value
		}
		answer.Known = append(answer.Known, k)
	}
	for _, key := range r.Key {
		if x := settingByKey(key); x != nil {
			add(x)
		} else {
			answer.Unknown = append(answer.Unknown, key)
		}
	}
	if len(r.Key) == 0 {
		for i := range settings {
			if settings[i].key != "" {
				add(&settings[i])
			}
		}
	}
	return answer
}

func (s *station) changeAvailability16(r struct {
	Connector int    `json:"connectorId"`
	Type      string `json:"type"`
}) any {
	if r.Connector < 0 || r.Connector > len(s.connectors) || r.Type != "Operative" && r.Type != "Inoperative" {
		return simple{"Rejected"}
	}
	return simple{s.changeAvailability(r.Connector-1, r.Type == "Operative")}
}

func (s *station) unlock16(r struct {
	Connector int `json:"connectorId"`
}) any {
	if r.Connector < 1 || r.Connector > len(s.connectors) {
		return simple{"NotSupported"}
	}
	s.then(func() { s.end(r.Connector-1, s.f.elapsed(), endUnlock) })
	return simple{"Unlocked"}
}

func clearCache(s *station, _ nothing) any { return simple{s.clearCache()} }

func dataTransfer(_ *station, r struct {
	Vendor  string `json:"vendorId"`
	Message string `json:"messageId"`
}) any {
	if r.Vendor != "Holdfast" {
		return simple{"UnknownVendorId"}
	}
	if r.Message != "" && r.Message != "Echo" {
		return simple{"UnknownMessageId"}
	}
	return simple{"Accepted"}
}

func (s *station) getDiagnostics(struct {
	Location string `json:"location"`
}) any {
	s.upload("DiagnosticsStatusNotification", nil)
	return struct {
		File string `json:"fileName"`
	}{"diagnostics.log"}
}

func (s *station) updateFirmware16(r struct {
	Retrieve string `json:"retrieveDate"`
}) any {
	s.updateFirmware(r.Retrieve)
	return nothing{}
}

func (s *station) signedUpdateFirmware(r struct {
	RequestID int            `json:"requestId"`
	Firmware  signedFirmware `json:"firmware"`
}) any {
	return simple{s.updateSignedFirmware("SignedFirmwareStatusNotification", r.RequestID, r.Firmware)}
}

type logAnswer struct {
	Status string `json:"status"`
	File   string `json:"filename,omitempty"`
}

func (s *station) getLog(r struct {
	RequestID int `json:"requestId"`
}) any {
	if s.upload("LogStatusNotification", &r.RequestID) {
		return logAnswer{"AcceptedCanceled", "station.log"}
	}
	return logAnswer{"Accepted", "station.log"}
}

func (s *station) localListVersion16(nothing) any {
	return struct {
		Version int `json:"listVersion"`
	}{s.listVersion()}
}

func (s *station) listVersion() int {
	if s.extra == nil {
		return 0
	}
	return s.extra.list.version
}

func (s *station) sendLocalList16(r struct {
	Version int    `json:"listVersion"`
	Type    string `json:"updateType"`
	List    []struct {
		IDTag string     `json:"idTag"`
		Info  *idTagInfo `json:"idTagInfo"`
	} `json:"localAuthorizationList"`
}) any {
	entries := make(map[string]string, len(r.List))
	for _, e := range r.List {
		entries[e.IDTag] = ""
		if e.Info != nil {
			entries[e.IDTag] = e.Info.Status
		}
	}
	return simple{s.more().list.update(r.Version, r.Type == "Full", entries)}
}

func (s *station) reserveNow16(r struct {
	Connector int    `json:"connectorId"`
	Expiry    string `json:"expiryDate"`
	IDTag     string `json:"idTag"`
	ID        int    `json:"reservationId"`
}) any {
	return simple{s.reserve(r.ID, r.Connector-1, r.IDTag, r.Expiry)}
}

func (s *station) cancelReservationCall(r struct {
	ID int `json:"reservationId"`
}) any {
	return simple{s.cancelReservation(r.ID)}
}

type profile16 struct {
	ID          int              `json:"chargingProfileId"`
	Transaction *int             `json:"transactionId"`
	Level       int              `json:"stackLevel"`
	Purpose     string           `json:"chargingProfilePurpose"`
	Schedule    chargingSchedule `json:"chargingSchedule"`
	profileTimes
}

func (p *profile16) read(s *station, connector int) (profile chargingProfile, why string) {
	profile = chargingProfile{connector: connector, id: p.ID, stackLevel: p.Level, purpose: p.Purpose, schedule: p.Schedule}
	if p.Transaction != nil {
		profile.transaction = strconv.Itoa(*p.Transaction)
	}
	return s.newProfile(profile, p.profileTimes)
}

func (s *station) setChargingProfile16(r struct {
	Connector int       `json:"connectorId"`
	Profile   profile16 `json:"csChargingProfiles"`
}) any {
	p, why := r.Profile.read(s, r.Connector)
	if why != "" {
		return simple{"Rejected"}
	}
	status, _ := s.setProfile(p)
	return simple{status}
}

func (s *station) clearChargingProfile16(r struct {
	ID        *int   `json:"id"`
	Connector *int   `json:"connectorId"`
	Purpose   string `json:"chargingProfilePurpose"`
	Level     *int   `json:"stackLevel"`
}) any {
	return simple{s.clearProfile(r.ID, criterion{r.Connector, r.Purpose, r.Level})}
}

func (s *station) compositeSchedule16(r struct {
	Connector int    `json:"connectorId"`
	Duration  int    `json:"duration"`
	Unit      string `json:"chargingRateUnit"`
}) any {
	schedule, ok := s.composite(r.Connector, r.Duration, r.Unit)
	if !ok {
		return simple{"Rejected"}
	}
	return struct {
		Status    string            `json:"status"`
		Connector int               `json:"connectorId"`
		Start     string            `json:"scheduleStart"`
		Schedule  *chargingSchedule `json:"chargingSchedule"`
	}{"Accepted", r.Connector, wireTime(s.clock(s.f.elapsed())), &schedule}
}

func (s *station) certificateSignedCall(r struct {
	Chain     string `json:"certificateChain"`
	Type      string `json:"certificateType"`
	RequestID *int   `json:"requestId"`
}) any {
	if r.Type != "" && r.Type != "ChargingStationCertificate" {
		return simple{"Rejected"}
	}
	return simple{s.certificateSigned(r.Chain, r.RequestID)}
}

func (s *station) installCertificate(r struct {
	Type        string `json:"certificateType"`
	Certificate string `json:"certificate"`
}) any {
	status, why := s.install(r.Type, r.Certificate)
	return s.reply(status, why)
}

func (s *station) deleteCertificateCall(r struct {
	Hash hashData `json:"certificateHashData"`
}) any {
	return simple{s.deleteCertificate(r.Hash)}
}

func (s *station) installedIDs16(r struct {
	Type string `json:"certificateType"`
}) any {
	_, hashes := s.installedIDs([]string{r.Type})
	if len(hashes) == 0 {
		return simple{"NotFound"}
	}
	return struct {
		Status string     `json:"status"`
		Hashes []hashData `json:"certificateHashData"`
	}{"Accepted", hashes}
}
