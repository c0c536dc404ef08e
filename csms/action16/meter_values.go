package action16

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func meterValues(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.MeterValuesRequest) (*v16.MeterValuesResponse, error) {
	values, err := meterValuesOf(request.ConnectorID, request.MeterValue)
	if err != nil {
		return nil, err
	}
	transactionID := ""
	if id := request.TransactionID; id != nil && *id > 0 { // some stations send 0 or -1 for none
		transactionID = strconv.Itoa(*id)
	}
	return &v16.MeterValuesResponse{}, c.MeterValues(ctx, m, transactionID, values)
}

func meterValuesOf(connector int, values []v16.MeterValue) ([]store.MeterValue, error) {
	recorded := make([]store.MeterValue, len(values))
	for i, v := range values {
		samples, err := json.Marshal(v.SampledValue)
		if err != nil {
			return nil, fmt.Errorf("meter value: %w", err)
		}
		recorded[i] = store.MeterValue{Connector: connector, At: v.Timestamp.Time, Samples: samples, Energy: energy(v.SampledValue)}
	}
	return recorded, nil
}

// energy returns the reading of the total energy register in Wh, nil if there is none.
func energy(samples []v16.SampledValue) *float64 {
	for _, s := range samples {
		if cmp.Or(s.Measurand, v16.MeasurandEnergyActiveImportRegister) != v16.MeasurandEnergyActiveImportRegister ||
			s.Phase != "" || s.Format == v16.ValueFormatSignedData {
			continue
		}
		wh, err := strconv.ParseFloat(strings.TrimSpace(s.Value), 64)
		if err != nil || math.IsNaN(wh) || math.IsInf(wh, 0) {
			continue
		}
		if s.Unit == v16.UnitOfMeasureKWh {
			wh *= 1000
		}
		return &wh
	}
	return nil
}
