package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func startTransaction(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.StartTransactionRequest) (*v16.StartTransactionResponse, error) {
	id, v, err := c.StartTransaction(ctx, m, store.Start{
		Connector:     request.ConnectorID,
		Token:         request.IDTag,
		MeterStart:    request.MeterStart,
		At:            request.Timestamp.Time,
		ReservationID: request.ReservationID,
	})
	if err != nil {
		return nil, err
	}
	return &v16.StartTransactionResponse{IDTagInfo: idTagInfo(v), TransactionID: id}, nil
}
