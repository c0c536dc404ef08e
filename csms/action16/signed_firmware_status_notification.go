package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func signedFirmwareStatusNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.SignedFirmwareStatusNotificationRequest) (*v16.SignedFirmwareStatusNotificationResponse, error) {
	return &v16.SignedFirmwareStatusNotificationResponse{}, c.Progress(ctx, m, store.ProgressFirmware, string(request.Status), request.RequestID)
}
