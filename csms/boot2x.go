package csms

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

type bootRequest2x struct {
	ChargingStation struct {
		SerialNumber    string `json:"serialNumber"`
		Model           string `json:"model"`
		VendorName      string `json:"vendorName"`
		FirmwareVersion string `json:"firmwareVersion"`
	} `json:"chargingStation"`
	Reason string `json:"reason"`
}

type bootResponse2x struct {
	CurrentTime ocpp.DateTime `json:"currentTime" ocpp:"required"`
	Interval    int           `json:"interval" ocpp:"required"`
	Status      string        `json:"status" ocpp:"required"`
}

func bootNotification2x(ctx context.Context, c *CSMS, m Message, request *bootRequest2x) (*bootResponse2x, error) {
	s := &request.ChargingStation
	if err := c.checkSerial(ctx, m, s.SerialNumber); err != nil {
		return nil, err
	}
	answer, err := c.Boot(ctx, m, store.Boot{
		Vendor: s.VendorName, Model: s.Model, Serial: s.SerialNumber, Firmware: s.FirmwareVersion, Reason: request.Reason,
	})
	if err != nil {
		return nil, err
	}
	return &bootResponse2x{ocpp.NewDateTime(answer.Now), answer.Interval, string(answer.Registration)}, nil
}

type heartbeatResponse2x struct {
	CurrentTime ocpp.DateTime `json:"currentTime" ocpp:"required"`
}

func heartbeat2x(_ context.Context, c *CSMS, _ Message, _ *empty) (*heartbeatResponse2x, error) {
	return &heartbeatResponse2x{ocpp.NewDateTime(c.Now())}, nil
}
