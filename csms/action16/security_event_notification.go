package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
)

func securityEventNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.SecurityEventNotificationRequest) (*v16.SecurityEventNotificationResponse, error) {
	return &v16.SecurityEventNotificationResponse{}, c.SecurityEvent(ctx, m, request.Type, request.Timestamp.Time, request.TechInfo)
}
