package action16

import (
	"cmp"
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func stopTransaction(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.StopTransactionRequest) (*v16.StopTransactionResponse, error) {
	values, err := meterValuesOf(0, request.TransactionData)
	if err != nil {
		return nil, err
	}
	v, err := c.StopTransaction(ctx, m, store.Stop{
		TransactionID: request.TransactionID,
		Token:         request.IDTag,
		MeterStop:     request.MeterStop,
		At:            request.Timestamp.Time,
		Reason:        string(cmp.Or(request.Reason, v16.ReasonLocal)),
		MeterValues:   values,
	})
	if err != nil || v.Status == "" {
		return &v16.StopTransactionResponse{}, err
	}
	info := idTagInfo(v)
	return &v16.StopTransactionResponse{IDTagInfo: &info}, nil
}
