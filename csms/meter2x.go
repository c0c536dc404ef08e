package csms

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"

	"holdfast/ocpp"
	"holdfast/store"
)

type meterValuesRequest2x struct {
	EVSEID     int            `json:"evseId"`
	MeterValue []meterValue2x `json:"meterValue"`
}

func meterValues2x(ctx context.Context, c *CSMS, m Message, request *meterValuesRequest2x) (*empty, error) {
	values, err := meterValuesOf2x(evse2x{ID: request.EVSEID}, request.MeterValue)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.MeterValues(ctx, m, "", values)
}

type meterValue2x struct {
	SampledValue []json.RawMessage `json:"sampledValue"` // recorded as they are, further fields included
	Timestamp    ocpp.DateTime     `json:"timestamp"`
}

type sampledValue2x struct {
	Value         float64 `json:"value"`
	Measurand     string  `json:"measurand"`
	Phase         string  `json:"phase"`
	Location      string  `json:"location"`
	UnitOfMeasure struct {
		Unit       string `json:"unit"`
		Multiplier int    `json:"multiplier"`
	} `json:"unitOfMeasure"`
}

func meterValuesOf2x(at evse2x, values []meterValue2x) ([]store.MeterValue, error) {
	recorded := make([]store.MeterValue, len(values))
	for i, v := range values {
		samples, err := json.Marshal(v.SampledValue)
		if err != nil {
			return nil, fmt.Errorf("meter value: %w", err)
		}
		recorded[i] = store.MeterValue{EVSE: at.ID, Connector: at.ConnectorID, At: v.Timestamp.Time, Samples: samples, Energy: energy2x(v.SampledValue)}
	}
	return recorded, nil
}

// energy2x returns the reading of the total energy register in Wh, nil if there
// is none. A DC station may have one at its inlet as well: what goes to the EV
// comes first.
func energy2x(samples []json.RawMessage) (energy *float64) {
	const register, outlet = "Energy.Active.Import.Register", "Outlet"
	for _, raw := range samples {
		var s sampledValue2x
		if _, err := ocpp.Decode(raw, &s, ocpp.Tolerant); err != nil {
			continue // its schema was checked before
		}
		if cmp.Or(s.Measurand, register) != register || s.Phase != "" {
			continue
		}
		wh := s.Value * math.Pow10(s.UnitOfMeasure.Multiplier)
		switch cmp.Or(s.UnitOfMeasure.Unit, "Wh") {
		case "Wh":
		case "kWh":
			wh *= 1000
		default:
			continue
		}
		if math.IsInf(wh, 0) || math.IsNaN(wh) {
			continue
		}
		if cmp.Or(s.Location, outlet) == outlet {
			return &wh
		}
		if energy == nil {
			energy = &wh
		}
	}
	return energy
}
