package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func firmwareStatusNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.FirmwareStatusNotificationRequest) (*v16.FirmwareStatusNotificationResponse, error) {
	return &v16.FirmwareStatusNotificationResponse{}, c.Progress(ctx, m, store.ProgressFirmware, string(request.Status), nil)
}
