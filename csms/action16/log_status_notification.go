package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func logStatusNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.LogStatusNotificationRequest) (*v16.LogStatusNotificationResponse, error) {
	return &v16.LogStatusNotificationResponse{}, c.Progress(ctx, m, store.ProgressLog, string(request.Status), request.RequestID)
}
