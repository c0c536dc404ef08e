package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func diagnosticsStatusNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.DiagnosticsStatusNotificationRequest) (*v16.DiagnosticsStatusNotificationResponse, error) {
	return &v16.DiagnosticsStatusNotificationResponse{}, c.Progress(ctx, m, store.ProgressDiagnostics, string(request.Status), nil)
}
