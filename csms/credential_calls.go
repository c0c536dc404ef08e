package csms

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"holdfast/store"
)

// What operations say to stations. OCPP 1.6 has its words, 2.0.1 and 2.1 share
// theirs; each message is checked against the schema of the station's version
// before it leaves.

// setting is something that a station keeps, under a configuration key of OCPP
// 1.6 or in a variable of 2.x.
type setting struct{ key, component, variable string }

// The settings that operations read and write; an empty key or component: that
// version has none.
var (
	settingChainLimit   = setting{"CertificateSignedMaxChainSize", "SecurityCtrlr", "MaxCertificateChainSize"}
	settingOrganization = setting{"CpoName", "SecurityCtrlr", "OrganizationName"}
	settingPassword     = setting{"AuthorizationKey", "SecurityCtrlr", "BasicAuthPassword"}
	settingProfile      = setting{key: "SecurityProfile"}
	settingPriority     = setting{component: "OCPPCommCtrlr", variable: "NetworkConfigurationPriority"}
)

type trigger struct {
	RequestedMessage string `json:"requestedMessage"`
}

var (
	triggerCertificate16 = trigger{"SignChargePointCertificate"}
	triggerCertificate2x = trigger{"SignChargingStationCertificate"}
)

type getConfiguration struct {
	Key []string `json:"key"`
}

type configuration struct {
	ConfigurationKey []struct {
		Key   string  `json:"key"`
		Value *string `json:"value"`
	} `json:"configurationKey"`
}

type changeConfiguration struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type name struct {
	Name string `json:"name"`
}

type variableData struct {
	AttributeValue string `json:"attributeValue,omitempty"`
	Component      name   `json:"component"`
	Variable       name   `json:"variable"`
}

type getVariables struct {
	GetVariableData []variableData `json:"getVariableData"`
}

type setVariables struct {
	SetVariableData []variableData `json:"setVariableData"`
}

// readSettings reads settings; those that the station does not have are missing
// in values. stop is what the step comes to if not ok.
func (w *work) readSettings(ctx context.Context, wanted ...setting) (values map[setting]string, stop outcome, ok bool) {
	values = make(map[setting]string)
	if !w.station.Version.Is2x() {
		var request getConfiguration
		for _, s := range wanted {
			request.Key = append(request.Key, s.key)
		}
		var answer configuration
		if _, stop, _, ok = w.ask(ctx, "GetConfiguration", &request, &answer); !ok {
			return values, stop, false
		}
		for _, k := range answer.ConfigurationKey {
			i := slices.IndexFunc(wanted, func(s setting) bool { return strings.EqualFold(s.key, k.Key) })
			if i >= 0 && k.Value != nil {
				values[wanted[i]] = *k.Value
			}
		}
		return values, stop, true
	}
	var request getVariables
	for _, s := range wanted {
		request.GetVariableData = append(request.GetVariableData, variableData{Component: name{s.component}, Variable: name{s.variable}})
	}
	var answer getVariablesAnswer2x
	if _, stop, _, ok = w.ask(ctx, "GetVariables", &request, &answer); !ok {
		return values, stop, false
	}
	for _, r := range answer.GetVariableResult {
		i := slices.IndexFunc(wanted, func(s setting) bool {
			return strings.EqualFold(s.component, r.Component.Name) && strings.EqualFold(s.variable, r.Variable.Name)
		})
		if i >= 0 && r.AttributeStatus == "Accepted" {
			values[wanted[i]] = r.AttributeValue
		}
	}
	return values, stop, true
}

// written is what came of writing a setting.
type written struct {
	status  string // Accepted, Rejected, RebootRequired, NotSupported, UnknownVariable, …
	command store.Command
	stop    outcome // what the step comes to, unless ok
	unknown bool    // the station may have taken it all the same
	ok      bool
}

// writeTo writes a setting.
func (w *work) writeTo(ctx context.Context, s setting, value string) (r written) {
	if !w.station.Version.Is2x() {
		var answer statusOnly
		r.command, r.stop, r.unknown, r.ok = w.ask(ctx, "ChangeConfiguration", &changeConfiguration{s.key, value}, &answer)
		r.status = answer.Status
		return r
	}
	var answer setVariablesAnswer2x
	r.command, r.stop, r.unknown, r.ok = w.ask(ctx, "SetVariables",
		&setVariables{[]variableData{{AttributeValue: value, Component: name{s.component}, Variable: name{s.variable}}}}, &answer)
	if r.ok && len(answer.SetVariableResult) > 0 {
		r.status = answer.SetVariableResult[0].AttributeStatus
	}
	return r
}

// writeSetting is writeTo for a setting that no step hangs on.
func (w *work) writeSetting(ctx context.Context, s setting, value string) (status string, stop outcome, ok bool) {
	r := w.writeTo(ctx, s, value)
	return r.status, r.stop, r.ok
}

type reset struct {
	Type string `json:"type"`
}

// reset asks the station to restart when nobody charges: 1.6 ends transactions
// in an orderly way, 2.x waits for their end.
func (w *work) reset(ctx context.Context) (store.Command, outcome, bool) {
	kind := "Soft"
	if w.station.Version.Is2x() {
		kind = "OnIdle"
	}
	var answer statusOnly
	k, stop, _, ok := w.ask(ctx, "Reset", &reset{kind}, &answer)
	switch {
	case !ok:
		return k, stop, false
	case answer.Status != "Accepted" && answer.Status != "Scheduled":
		return k, again("Reset: the station answers %s", answer.Status).by(k), false
	}
	return k, stop, true
}

// atoi returns the number in s, 0 if there is none.
func atoi(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return 0
	}
	return n
}
