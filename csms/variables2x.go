package csms

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"holdfast/ocpp"
	"holdfast/store"
)

type component2x struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	EVSE     evse2x `json:"evse"`
}

type variable2x struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
}

// variableKey names an attribute; an empty one is Actual.
func variableKey(k component2x, v variable2x, attribute string) store.VariableKey {
	return store.VariableKey{
		Component: k.Name, ComponentInstance: k.Instance, EVSE: k.EVSE.ID, Connector: k.EVSE.ConnectorID,
		Variable: v.Name, VariableInstance: v.Instance, Attribute: cmp.Or(attribute, "Actual"),
	}
}

type reportRequest2x struct {
	ReportData []struct {
		Component         component2x `json:"component"`
		Variable          variable2x  `json:"variable"`
		VariableAttribute []struct {
			Type       string `json:"type"`
			Value      string `json:"value"`
			Mutability string `json:"mutability"`
		} `json:"variableAttribute"`
		VariableCharacteristics json.RawMessage `json:"variableCharacteristics"`
	} `json:"reportData"`
}

// notifyReport2x records each part of a report as it comes (B07, B08): a part
// that is lost or comes twice harms no other.
func notifyReport2x(ctx context.Context, c *CSMS, m Message, request *reportRequest2x) (*empty, error) {
	var variables []store.Variable
	for _, r := range request.ReportData {
		var characteristics struct {
			DataType string `json:"dataType"`
		}
		if len(r.VariableCharacteristics) > 0 {
			if _, err := ocpp.Decode(r.VariableCharacteristics, &characteristics, ocpp.Tolerant); err != nil {
				r.VariableCharacteristics = nil // null
			}
		}
		for _, a := range r.VariableAttribute {
			variables = append(variables, store.Variable{
				VariableKey:     variableKey(r.Component, r.Variable, a.Type),
				Value:           a.Value,
				Mutability:      cmp.Or(a.Mutability, "ReadWrite"), // the default of OCPP
				DataType:        characteristics.DataType,
				Characteristics: r.VariableCharacteristics,
			})
		}
	}
	return &empty{}, c.Variables(ctx, m.Station, m.ReceivedAt, variables)
}

type eventRequest2x struct {
	EventData []struct {
		Timestamp   ocpp.DateTime `json:"timestamp"`
		ActualValue string        `json:"actualValue"`
		Component   component2x   `json:"component"`
		Variable    variable2x    `json:"variable"`
	} `json:"eventData"`
}

// maxStates is how many connectors one NotifyEvent may tell the state of: each is
// a commit.
const maxStates = 100

// notifyEvent2x keeps the message, and the values in it as the variables' actual
// ones. AvailabilityState of a connector is its status (G01): OCPP 2.1 wants it
// here instead of in StatusNotification, which it has for older stations only.
func notifyEvent2x(ctx context.Context, c *CSMS, m Message, request *eventRequest2x) (*empty, error) {
	variables := make([]store.Variable, 0, len(request.EventData))
	newest := make(map[evse2x]int) // event of each connector
	for i, e := range request.EventData {
		variables = append(variables, store.Variable{VariableKey: variableKey(e.Component, e.Variable, ""), Value: e.ActualValue})
		if e.Component.EVSE.ConnectorID != 0 && strings.EqualFold(e.Component.Name, "Connector") && strings.EqualFold(e.Variable.Name, "AvailabilityState") {
			newest[e.Component.EVSE] = i
		}
	}
	if len(newest) > maxStates {
		return nil, refused(ocpp.OccurrenceConstraintViolation, "eventData: AvailabilityState of at most %d connectors", maxStates)
	}
	if err := c.Keep(ctx, m); err != nil {
		return nil, err
	}
	if err := c.Variables(ctx, m.Station, m.ReceivedAt, variables); err != nil {
		return nil, err
	}
	for at, i := range newest {
		e := request.EventData[i]
		if err := c.Status(ctx, m, store.Connector{EVSE: at.ID, Connector: at.ConnectorID, Status: e.ActualValue}, e.Timestamp); err != nil {
			return nil, err
		}
	}
	return &empty{}, nil
}

type getVariablesAnswer2x struct {
	GetVariableResult []struct {
		AttributeStatus string      `json:"attributeStatus"`
		AttributeType   string      `json:"attributeType"`
		AttributeValue  string      `json:"attributeValue"`
		Component       component2x `json:"component"`
		Variable        variable2x  `json:"variable"`
	} `json:"getVariableResult"`
}

func getVariables2x(_ *empty, answer *getVariablesAnswer2x) (variables []store.Variable) {
	for _, r := range answer.GetVariableResult {
		if r.AttributeStatus == "Accepted" {
			variables = append(variables, store.Variable{VariableKey: variableKey(r.Component, r.Variable, r.AttributeType), Value: r.AttributeValue})
		}
	}
	return variables
}

type setVariablesRequest2x struct {
	SetVariableData []struct {
		AttributeType  string      `json:"attributeType"`
		AttributeValue string      `json:"attributeValue"`
		Component      component2x `json:"component"`
		Variable       variable2x  `json:"variable"`
	} `json:"setVariableData"`
}

type setVariablesAnswer2x struct {
	SetVariableResult []struct {
		AttributeType   string      `json:"attributeType"`
		AttributeStatus string      `json:"attributeStatus"`
		Component       component2x `json:"component"`
		Variable        variable2x  `json:"variable"`
	} `json:"setVariableResult"`
}

// setVariables2x keeps the values that the station took over. Its results may
// come in any order, and in other case.
func setVariables2x(request *setVariablesRequest2x, answer *setVariablesAnswer2x) (variables []store.Variable) {
	taken := make(map[store.VariableKey]bool)
	for _, r := range answer.SetVariableResult {
		if r.AttributeStatus == "Accepted" || r.AttributeStatus == "RebootRequired" {
			taken[foldKey(variableKey(r.Component, r.Variable, r.AttributeType))] = true
		}
	}
	for _, d := range request.SetVariableData {
		if key := variableKey(d.Component, d.Variable, d.AttributeType); taken[foldKey(key)] {
			variables = append(variables, store.Variable{VariableKey: key, Value: d.AttributeValue})
		}
	}
	return variables
}

// foldKey returns k without its case, which OCPP does not regard in names.
func foldKey(k store.VariableKey) store.VariableKey {
	for _, s := range []*string{&k.Component, &k.ComponentInstance, &k.Variable, &k.VariableInstance} {
		*s = strings.ToLower(*s)
	}
	return k
}
