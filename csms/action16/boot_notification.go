package action16

import (
	"cmp"
	"context"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v16"
	"holdfast/store"
)

func bootNotification(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.BootNotificationRequest) (*v16.BootNotificationResponse, error) {
	answer, err := c.Boot(ctx, m, store.Boot{
		Vendor:   request.ChargePointVendor,
		Model:    request.ChargePointModel,
		Serial:   cmp.Or(request.ChargePointSerialNumber, request.ChargeBoxSerialNumber), // the latter is deprecated
		Firmware: request.FirmwareVersion,
	})
	if err != nil {
		return nil, err
	}
	return &v16.BootNotificationResponse{
		Status:      v16.RegistrationStatus(answer.Registration),
		CurrentTime: ocpp.NewDateTime(answer.Now),
		Interval:    answer.Interval,
	}, nil
}
