package fleet

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"holdfast/ocpp"
)

// access says who may do what with a setting.
type access uint8

const (
	readWrite access = iota
	readOnly
	writeOnly
)

// valueKind is what a setting's value must look like.
type valueKind uint8

const (
	kindText  valueKind = iota
	kindCount           // an integer that is not negative
	kindBool
	kindPassword
)

// setting is one configuration key of 1.6 and one variable of 2.x.
type setting struct {
	key                           string // 1.6; empty: 2.x only
	component, variable, instance string // 2.x; empty: 1.6 only
	value                         string // default
	access                        access
	kind                          valueKind
}

// settings is what every station has; a station keeps only what was changed.
var settings = []setting{
	{"HeartbeatInterval", "OCPPCommCtrlr", "HeartbeatInterval", "", "", readWrite, kindCount},
	{"WebSocketPingInterval", "OCPPCommCtrlr", "WebSocketPingInterval", "", "", readWrite, kindCount},
	{"MeterValueSampleInterval", "SampledDataCtrlr", "TxUpdatedInterval", "", "", readWrite, kindCount},
	{"TransactionMessageAttempts", "OCPPCommCtrlr", "MessageAttempts", "TransactionEvent", "", readWrite, kindCount},
	{"TransactionMessageRetryInterval", "OCPPCommCtrlr", "MessageAttemptInterval", "TransactionEvent", "", readWrite, kindCount},
	{"NumberOfConnectors", "ChargingStation", "SupplyPhases", "", "", readOnly, kindCount},
	{"SecurityProfile", "SecurityCtrlr", "SecurityProfile", "", "", readOnly, kindCount}, // 1.6 may raise it
	{"", "OCPPCommCtrlr", "NetworkConfigurationPriority", "", "", readWrite, kindText},
	{"", "OCPPCommCtrlr", "NetworkProfileConnectionAttempts", "", strconv.Itoa(networkAttempts), readWrite, kindCount},
	{"", "OCPPCommCtrlr", "ActiveNetworkProfile", "", "", readOnly, kindCount},
	{"", "SecurityCtrlr", "CertSigningWaitMinimum", "", strconv.Itoa(int(certSigningWait / time.Second)), readWrite, kindCount},
	{"", "SecurityCtrlr", "CertSigningRepeatTimes", "", strconv.Itoa(certSigningRepeats), readWrite, kindCount},
	{"", "SecurityCtrlr", "AllowSecurityProfileDowngrade", "", "false", readOnly, kindBool},
	{"AdditionalRootCertificateCheck", "SecurityCtrlr", "AdditionalRootCertificateCheck", "", "", readOnly, kindBool},
	{"CpoName", "SecurityCtrlr", "OrganizationName", "", "", readWrite, kindText},
	{"AuthorizationKey", "SecurityCtrlr", "BasicAuthPassword", "", "", writeOnly, kindPassword},
	{"CertificateSignedMaxChainSize", "SecurityCtrlr", "MaxCertificateChainSize", "", strconv.Itoa(maxChain), readOnly, kindCount},
	{"CertificateStoreMaxLength", "SecurityCtrlr", "CertificateEntries", "", strconv.Itoa(maxInstalled), readOnly, kindCount},
	{"", "SecurityCtrlr", "Identity", "", "", readOnly, kindText},
	{"AuthorizeRemoteTxRequests", "AuthCtrlr", "AuthorizeRemoteStart", "", "false", readOnly, kindBool},
	{"LocalAuthorizeOffline", "AuthCtrlr", "LocalAuthorizeOffline", "", "true", readWrite, kindBool},
	{"LocalPreAuthorize", "AuthCtrlr", "LocalPreAuthorize", "", "false", readWrite, kindBool},
	{"AllowOfflineTxForUnknownId", "AuthCtrlr", "OfflineTxForUnknownIdEnabled", "", "true", readWrite, kindBool},
	{"AuthorizationCacheEnabled", "AuthCacheCtrlr", "Enabled", "", "true", readWrite, kindBool},
	{"LocalAuthListEnabled", "LocalAuthListCtrlr", "Enabled", "", "true", readWrite, kindBool},
	{"LocalAuthListMaxLength", "LocalAuthListCtrlr", "Entries", "", strconv.Itoa(maxLocalList), readOnly, kindCount},
	{"SendLocalListMaxLength", "LocalAuthListCtrlr", "ItemsPerMessage", "", strconv.Itoa(maxLocalList), readOnly, kindCount},
	{"ClockAlignedDataInterval", "AlignedDataCtrlr", "Interval", "", "0", readWrite, kindCount},
	{"MeterValuesSampledData", "SampledDataCtrlr", "TxUpdatedMeasurands", "", measurandEnergy + "," + measurandPower, readOnly, kindText},
	{"StopTransactionOnInvalidId", "TxCtrlr", "StopTxOnInvalidId", "", "true", readOnly, kindBool},
	{"StopTransactionOnEVSideDisconnect", "TxCtrlr", "StopTxOnEVSideDisconnect", "", "true", readOnly, kindBool},
	{"ConnectionTimeOut", "TxCtrlr", "EVConnectionTimeOut", "", "60", readWrite, kindCount},
	{"", "OCPPCommCtrlr", "OfflineThreshold", "", "60", readOnly, kindCount},
	{"", "OCPPCommCtrlr", "ItemsPerMessage", "GetReport", strconv.Itoa(reportItems), readOnly, kindCount},
	{"ResetRetries", "OCPPCommCtrlr", "ResetRetries", "", "0", readWrite, kindCount},
	{"UnlockConnectorOnEVSideDisconnect", "", "", "", "true", readWrite, kindBool},
	{"GetConfigurationMaxKeys", "", "", "", "100", readOnly, kindCount},
	{"ChargeProfileMaxStackLevel", "SmartChargingCtrlr", "ProfileStackLevel", "", strconv.Itoa(maxStackLevel), readOnly, kindCount},
	{"ChargingScheduleMaxPeriods", "SmartChargingCtrlr", "PeriodsPerSchedule", "", strconv.Itoa(maxPeriods), readOnly, kindCount},
	{"MaxChargingProfilesInstalled", "SmartChargingCtrlr", "Entries", "", strconv.Itoa(maxProfiles), readOnly, kindCount},
	{"SupportedFeatureProfiles", "", "", "", "Core,FirmwareManagement,LocalAuthListManagement,Reservation,SmartCharging,RemoteTrigger,Security", readOnly, kindText},
}

// name is the key under which a station keeps a changed value.
func (x *setting) name() string {
	if x.key != "" {
		return x.key
	}
	return x.component + "." + x.variable + "." + x.instance
}

// settingByKey finds a 1.6 key; keys are compared without regard to case.
func settingByKey(key string) *setting {
	for i := range settings {
		if settings[i].key != "" && strings.EqualFold(settings[i].key, key) {
			return &settings[i]
		}
	}
	return nil
}

// settingByVariable finds a 2.x variable; known reports whether the station has
// the component.
func settingByVariable(component, variable, instance string) (found *setting, known bool) {
	for i := range settings {
		x := &settings[i]
		if x.component == "" || !strings.EqualFold(x.component, component) {
			continue
		}
		known = true
		if strings.EqualFold(x.variable, variable) && strings.EqualFold(x.instance, instance) {
			return x, true
		}
	}
	return nil, known
}

// value is the current value of a setting.
func (s *station) value(x *setting) string {
	if v, ok := s.settings[x.name()]; ok {
		return v
	}
	if s.quirks.has(LongValues) && x.name() == "MeterValuesSampledData" {
		return strings.Repeat("Energy,", 430)[:3000]
	}
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	switch x.name() {
	case "HeartbeatInterval":
		return seconds(s.interval)
	case "WebSocketPingInterval":
		return seconds(s.f.cfg.PingInterval)
	case "MeterValueSampleInterval":
		return seconds(s.f.behave.MeterInterval)
	case "TransactionMessageAttempts":
		return strconv.Itoa(s.f.cfg.Resend.Attempts)
	case "TransactionMessageRetryInterval":
		return seconds(s.f.cfg.Resend.Interval)
	case "NumberOfConnectors":
		if s.id.Version.Is2x() {
			return "3" // phases
		}
		return strconv.Itoa(len(s.connectors))
	case "SecurityProfile":
		return s.profile.Label()
	case "AdditionalRootCertificateCheck":
		return strconv.FormatBool(s.f.behave.AdditionalRootCheck)
	case "OCPPCommCtrlr.NetworkConfigurationPriority.":
		return s.priority()
	case "OCPPCommCtrlr.ActiveNetworkProfile.":
		if s.extra == nil || s.extra.network == nil {
			return "1"
		}
		return strconv.Itoa(s.extra.network.last)
	case "SecurityCtrlr.Identity.":
		return string(s.id.ID)
	case "AuthorizationKey":
		return s.password
	}
	return x.value
}

// changed is a number that the server set, in seconds or counts.
func (s *station) changed(key string) (int, bool) {
	text, ok := s.settings[key]
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// enabled is a setting of kind kindBool, by its name.
func (s *station) enabled(key string) bool { return s.value(settingByKey(key)) == "true" }

// hidden reports whether the server may not read a setting.
func (s *station) hidden(x *setting) bool {
	return x.access == writeOnly && !s.quirks.has(TellsSecrets)
}

func (s *station) meterInterval() time.Duration {
	if n, ok := s.changed("MeterValueSampleInterval"); ok {
		if n == 0 {
			return 0
		}
		return max(time.Millisecond, s.f.real(time.Duration(n)*time.Second))
	}
	return max(time.Millisecond, s.f.real(s.f.behave.MeterInterval))
}

func (s *station) pingInterval() time.Duration {
	if n, ok := s.changed("WebSocketPingInterval"); ok {
		return time.Duration(n) * time.Second
	}
	return s.f.cfg.PingInterval
}

func (s *station) resendAttempts() int {
	if n, ok := s.changed("TransactionMessageAttempts"); ok {
		return n
	}
	return s.f.cfg.Resend.Attempts
}

func (s *station) resendInterval() time.Duration {
	if n, ok := s.changed("TransactionMessageRetryInterval"); ok {
		return time.Duration(n) * time.Second
	}
	return s.f.cfg.Resend.Interval
}

// set changes a setting and reports Accepted or Rejected.
func (s *station) set(x *setting, value string) string {
	switch x.name() {
	case "SecurityProfile":
		if s.id.Version == ocpp.V16 {
			return s.raiseProfile(value)
		}
	case "OCPPCommCtrlr.NetworkConfigurationPriority.":
		return s.setPriority(value)
	}
	if x.access == readOnly {
		return "Rejected"
	}
	switch x.kind {
	case kindCount:
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return "Rejected"
		}
	case kindBool:
		if value != "true" && value != "false" {
			return "Rejected"
		}
	case kindPassword:
		return s.changePassword(value)
	}
	if len(value) > 500 {
		return "Rejected"
	}
	if s.settings == nil {
		s.settings = make(map[string]string, 1)
	}
	s.settings[x.name()] = value
	switch x.name() {
	case "HeartbeatInterval":
		s.then(func() {
			n, _ := s.changed("HeartbeatInterval")
			s.interval = time.Duration(n) * time.Second
			s.cancel(taskHeartbeat, 0)
			s.scheduleHeartbeat()
		})
	case "WebSocketPingInterval":
		s.then(func() {
			s.cancel(taskPing, 0)
			s.schedulePing()
		})
	}
	return "Accepted"
}

// changePassword takes a new Basic password and comes back with it (A01): in 1.6
// it is given as 32 to 40 hex digits and sent as bytes, in 2.x as it is.
func (s *station) changePassword(value string) string {
	password := value
	if s.id.Version == ocpp.V16 {
		raw, err := hex.DecodeString(value)
		if err != nil || len(raw) < 16 || len(raw) > 20 {
			return "Rejected"
		}
		password = string(raw)
	} else if len(value) < 16 || len(value) > 64 {
		return "Rejected"
	}
	s.password = password
	s.securityEvent(eventReconfiguration, "password")
	if s.profile != ocpp.ProfileMTLS {
		s.then(func() { s.reconnectNow("new password") })
	}
	return "Accepted"
}
