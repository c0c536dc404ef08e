package csms

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// maxRecordedPayload is the longest payload that is kept of a message that no
// rule reads, in bytes.
const maxRecordedPayload = 32 << 10

// Keep records a message as it is, without its secrets: the newest of each
// action are kept. A long one leaves only its length.
func (c *CSMS) Keep(ctx context.Context, m Message) error {
	payload := json.RawMessage(ocpp.Redact(m.Payload))
	if !json.Valid(payload) {
		payload, _ = json.Marshal(string(payload)) // a string always encodes
	}
	if len(payload) > maxRecordedPayload {
		payload = json.RawMessage(`{"omitted_bytes":` + strconv.Itoa(len(payload)) + `}`)
		c.metrics.notRecorded.WithLabelValues("payload").Inc()
	}
	err := c.store.Record(ctx, store.Recorded{Station: m.Station, Version: m.Version, Action: m.Action.Name,
		Payload: payload, ReceivedAt: m.ReceivedAt, Quality: m.Quality})
	if err != nil {
		return fmt.Errorf("record %s: %w", m.Action.Name, err)
	}
	return nil
}

// DataTransfer records a message of a vendor's own and reports whether the
// operator wants such messages; if not, the answer is UnknownVendorId.
func (c *CSMS) DataTransfer(ctx context.Context, m Message, vendorID string) (known bool, err error) {
	return slices.Contains(c.settings.DataTransferVendors, vendorID), c.Keep(ctx, m)
}

// Progress records how far a station is with firmware, diagnostics or log.
func (c *CSMS) Progress(ctx context.Context, m Message, kind store.ProgressKind, status string, requestID *int) error {
	err := c.store.SetProgress(ctx, store.Progress{Station: m.Station, Kind: kind, Status: clip(status, maxText),
		RequestID: requestID, ReceivedAt: m.ReceivedAt, Quality: m.Quality})
	if err != nil {
		return fmt.Errorf("record %s status: %w", kind, err)
	}
	return nil
}

// SecurityEvent records a security event; types are free text. Beyond a limit
// per station and minute events are counted, not recorded.
func (c *CSMS) SecurityEvent(ctx context.Context, m Message, eventType string, at time.Time, techInfo string) error {
	kept, err := c.store.AddSecurityEvent(ctx, store.SecurityEvent{Station: m.Station, Type: clip(eventType, maxText),
		At: at, ReceivedAt: m.ReceivedAt, TechInfo: clip(techInfo, maxText), Quality: m.Quality})
	if err != nil {
		return fmt.Errorf("record security event: %w", err)
	}
	if !kept {
		c.metrics.notRecorded.WithLabelValues("security_events").Inc()
	}
	return nil
}

// maxVariables is how many variables of one message are recorded.
const maxVariables = 2000

// maxValue is how much is kept of a variable's value, in bytes; OCPP 2.x allows
// 2500 characters.
const maxValue = 10_000

// Variables records what a station says of its variables: NotifyReport,
// NotifyEvent and answers. Values of secrets are not kept.
func (c *CSMS) Variables(ctx context.Context, station ocpp.StationID, at time.Time, variables []store.Variable) error {
	if n := len(variables) - maxVariables; n > 0 {
		c.metrics.notRecorded.WithLabelValues("variables").Add(float64(n))
		variables = variables[:maxVariables]
	}
	for i := range variables {
		v := &variables[i]
		for _, s := range []*string{&v.Component, &v.ComponentInstance, &v.VariableKey.Variable, &v.VariableInstance, &v.Mutability, &v.DataType} {
			*s = clip(*s, maxText)
		}
		if v.Attribute == "" {
			v.Attribute = "Actual"
		}
		v.ReceivedAt, v.Value = at, clip(v.Value, maxValue)
		if len(v.Characteristics) > maxValue {
			v.Characteristics = nil
		}
		if v.Mutability == "WriteOnly" || isSecret(v.VariableKey.Variable) {
			v.Value = ocpp.Redacted
		}
	}
	dropped, err := c.store.SetVariables(ctx, station, variables)
	if err != nil {
		return fmt.Errorf("record variables: %w", err)
	}
	c.metrics.notRecorded.WithLabelValues("variables").Add(float64(dropped))
	return nil
}

// isSecret reports whether a variable of that name holds a secret: whether its
// value would be redacted.
func isSecret(variable string) bool {
	probe, _ := json.Marshal(map[string]string{"key": variable, "value": "x"}) // strings always encode
	return string(ocpp.Redact(probe)) != string(probe)
}
