package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v16"
)

func heartbeat(_ context.Context, c *csms.CSMS, _ csms.Message, _ *v16.HeartbeatRequest) (*v16.HeartbeatResponse, error) {
	return &v16.HeartbeatResponse{CurrentTime: ocpp.NewDateTime(c.Now())}, nil
}
