package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func statusNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.StatusNotificationRequest) (*v16.StatusNotificationResponse, error) {
	return &v16.StatusNotificationResponse{}, c.Status(ctx, m, store.Connector{
		Connector:       request.ConnectorID,
		Status:          string(request.Status),
		ErrorCode:       string(request.ErrorCode),
		VendorErrorCode: request.VendorErrorCode,
		VendorID:        request.VendorID,
		Info:            request.Info,
	}, request.Timestamp)
}
