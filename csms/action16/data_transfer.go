package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
)

func dataTransfer(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.DataTransferRequest) (*v16.DataTransferResponse, error) {
	known, err := c.DataTransfer(ctx, m, request.VendorID)
	if err != nil {
		return nil, err
	}
	if !known {
		return &v16.DataTransferResponse{Status: v16.DataTransferStatusUnknownVendorID}, nil
	}
	return &v16.DataTransferResponse{Status: v16.DataTransferStatusAccepted}, nil
}
