package csms

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

type statusRequest2x struct {
	Timestamp       ocpp.DateTime `json:"timestamp"`
	ConnectorStatus string        `json:"connectorStatus"`
	EVSEID          int           `json:"evseId"`
	ConnectorID     int           `json:"connectorId"`
}

func statusNotification2x(ctx context.Context, c *CSMS, m Message, request *statusRequest2x) (*empty, error) {
	return &empty{}, c.Status(ctx, m, store.Connector{
		EVSE: request.EVSEID, Connector: request.ConnectorID, Status: request.ConnectorStatus,
	}, request.Timestamp)
}

type progressRequest2x struct {
	Status    string `json:"status"`
	RequestID *int   `json:"requestId"`
}

func firmwareStatusNotification2x(ctx context.Context, c *CSMS, m Message, request *progressRequest2x) (*empty, error) {
	return &empty{}, c.Progress(ctx, m, store.ProgressFirmware, request.Status, request.RequestID)
}

func logStatusNotification2x(ctx context.Context, c *CSMS, m Message, request *progressRequest2x) (*empty, error) {
	return &empty{}, c.Progress(ctx, m, store.ProgressLog, request.Status, request.RequestID)
}

// publishFirmwareStatusNotification2x keeps the message, too: it says where the
// firmware was published (L03).
func publishFirmwareStatusNotification2x(ctx context.Context, c *CSMS, m Message, request *progressRequest2x) (*empty, error) {
	if err := c.Keep(ctx, m); err != nil {
		return nil, err
	}
	return &empty{}, c.Progress(ctx, m, store.ProgressPublishFirmware, request.Status, request.RequestID)
}

type securityEventRequest2x struct {
	Type      string        `json:"type"`
	Timestamp ocpp.DateTime `json:"timestamp"`
	TechInfo  string        `json:"techInfo"`
}

func securityEventNotification2x(ctx context.Context, c *CSMS, m Message, request *securityEventRequest2x) (*empty, error) {
	return &empty{}, c.SecurityEvent(ctx, m, request.Type, request.Timestamp.Time, request.TechInfo)
}

type dataTransferRequest2x struct {
	VendorID string `json:"vendorId"`
}

func dataTransfer2x(ctx context.Context, c *CSMS, m Message, request *dataTransferRequest2x) (*statusOnly, error) {
	known, err := c.DataTransfer(ctx, m, request.VendorID)
	if err != nil {
		return nil, err
	}
	if !known {
		return &statusOnly{"UnknownVendorId"}, nil
	}
	return &statusOnly{"Accepted"}, nil
}
