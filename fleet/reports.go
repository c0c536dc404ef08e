package fleet

import (
	"slices"
	"strings"
)

// reportItems is how many variables one NotifyReport carries.
const reportItems = 12

func (s *station) getBaseReport(r struct {
	RequestID int    `json:"requestId"`
	Base      string `json:"reportBase"`
}) any {
	switch r.Base {
	case "ConfigurationInventory", "FullInventory":
		return simple{s.report(r.RequestID, func(*setting) bool { return true })}
	case "SummaryInventory":
		return simple{"NotSupported"}
	}
	return simple{"Rejected"}
}

// getReport reports the variables of the components that meet one of the
// criteria, or those that are named, or, if both are given, what is both.
func (s *station) getReport(r struct {
	RequestID int      `json:"requestId"`
	Criteria  []string `json:"componentCriteria"`
	Variables []struct {
		Component component `json:"component"`
		Variable  *variable `json:"variable"`
	} `json:"componentVariable"`
}) any {
	for _, c := range r.Criteria {
		if c != "Active" && c != "Available" && c != "Enabled" && c != "Problem" {
			return simple{"Rejected"}
		}
	}
	return simple{s.report(r.RequestID, func(x *setting) bool {
		meets := len(r.Criteria) == 0
		for _, c := range r.Criteria {
			meets = meets || s.meets(x.component, c)
		}
		named := len(r.Variables) == 0
		for _, v := range r.Variables {
			named = named || strings.EqualFold(v.Component.Name, x.component) && v.Component.Instance == "" && v.Component.EVSE == nil &&
				(v.Variable == nil || strings.EqualFold(v.Variable.Name, x.variable) && (v.Variable.Instance == "" || strings.EqualFold(v.Variable.Instance, x.instance)))
		}
		return meets && named
	})}
}

// meets reports whether a component has the variable of a criterion as true; one
// without that variable is active, available and enabled, and has no problem.
func (s *station) meets(component, criterion string) bool {
	if x, _ := settingByVariable(component, criterion, ""); x != nil {
		return s.value(x) == "true"
	}
	return criterion != "Problem"
}

// report sends the variables that match in NotifyReport messages after the
// answer, whose status it returns.
func (s *station) report(requestID int, match func(*setting) bool) string {
	var data []reportData
	for i := range settings {
		x := &settings[i]
		if x.component == "" || !match(x) {
			continue
		}
		a := attribute{Mutability: [...]string{"ReadWrite", "ReadOnly", "WriteOnly"}[x.access]}
		if !s.hidden(x) {
			value := s.value(x)
			a.Value = &value
		}
		c := characteristics{DataType: [...]string{"string", "integer", "boolean", "string"}[x.kind]}
		data = append(data, reportData{component{Name: x.component}, variable{x.variable, x.instance}, []attribute{a}, c})
	}
	if len(data) == 0 {
		return "EmptyResultSet"
	}
	s.then(func() {
		at := wireTime(s.clock(s.f.elapsed()))
		seq := 0
		for part := range slices.Chunk(data, reportItems) {
			more := (seq+1)*reportItems < len(data)
			s.callEarly("NotifyReport", notifyReport{requestID, at, seq, more, part}, nil)
			seq++
		}
	})
	return "Accepted"
}

type notifyReport struct {
	RequestID   int          `json:"requestId"`
	GeneratedAt string       `json:"generatedAt"`
	SeqNo       int          `json:"seqNo"`
	More        bool         `json:"tbc,omitempty"`
	Data        []reportData `json:"reportData,omitempty"`
}

type reportData struct {
	Component       component       `json:"component"`
	Variable        variable        `json:"variable"`
	Attributes      []attribute     `json:"variableAttribute"`
	Characteristics characteristics `json:"variableCharacteristics"`
}

type component struct {
	Name     string `json:"name"`
	Instance string `json:"instance,omitempty"`
	EVSE     *evse  `json:"evse,omitempty"`
}

type variable struct {
	Name     string `json:"name"`
	Instance string `json:"instance,omitempty"`
}

type attribute struct {
	Value      *string `json:"value,omitempty"`
	Mutability string  `json:"mutability,omitempty"`
}

type characteristics struct {
	DataType           string `json:"dataType"`
	SupportsMonitoring bool   `json:"supportsMonitoring"`
}
