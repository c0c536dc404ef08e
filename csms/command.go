package csms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// What becomes of a command: a closed list.
const (
	ResultPending        = "pending"         // no result yet
	ResultAccepted       = "accepted"        // a CALLRESULT came; the business may still say Rejected in it
	ResultCallError      = "callerror"       // a CALLERROR came
	ResultTimeout        = "timeout"         // no answer in time: it may have been done or not
	ResultOffline        = "offline"         // the station is not connected
	ResultInvalidRequest = "invalid_request" // not as the action's schema wants, or it would strand the station: nothing was sent
	ResultInvalidAnswer  = "invalid_answer"  // the station's answer is not as the schema wants
	ResultConnectionLost = "connection_lost" // the connection ended first: it may have been done or not
	ResultBusy           = "busy"            // too many commands wait: nothing was sent
	ResultUnavailable    = "unavailable"     // the way to the gateways is broken
)

const (
	// maxCommandTime is the longest that a command waits for its answer.
	maxCommandTime = 10 * time.Minute
	// maxCommandPayload is the longest payload of a command, in bytes.
	maxCommandPayload = 256 << 10
	// allowTime is how long a station that is Pending may send what it was asked to send.
	allowTime = 10 * time.Minute
)

// Command is one CALL that somebody wants a station to get.
type Command struct {
	Station ocpp.StationID
	Action  string
	Payload json.RawMessage // empty stands for {}
	By      string          // who wants it, for the audit record
	Timeout time.Duration   // zero means Settings.CallTimeout; at most 10 minutes
}

// prepared is a command that is in the audit record.
type prepared struct {
	record  store.Command
	action  ocpp.Action
	payload json.RawMessage // with its secrets, as it goes out
	timeout time.Duration
}

// Command sends a CALL to a station and waits for its result. Every command is
// in the audit record, without its secrets, before it leaves. The error is
// store.ErrNotFound if the station was never heard of, or that of the record;
// whatever becomes of the CALL itself is in Result.
func (c *CSMS) Command(ctx context.Context, k Command) (store.Command, error) {
	record, _, err := c.command(ctx, k)
	return record, err
}

// command is Command that also returns the answer as it came, with its secrets.
func (c *CSMS) command(ctx context.Context, k Command) (store.Command, json.RawMessage, error) {
	p, err := c.prepare(ctx, k)
	if err != nil || p.record.Result != ResultPending {
		return p.record, nil, err
	}
	return c.perform(ctx, p)
}

// CommandAsync is Command without the wait: the result is found in the record by
// the returned ID.
func (c *CSMS) CommandAsync(ctx context.Context, k Command) (store.Command, error) {
	p, err := c.prepare(ctx, k)
	if err != nil || p.record.Result != ResultPending {
		return p.record, err
	}
	if !c.later(func(ctx context.Context) {
		if _, _, err := c.perform(ctx, p); err != nil {
			c.log.Error("command's result not recorded", "station", k.Station, "action", k.Action, "err", err)
		}
	}) {
		p.record.Result = ResultBusy
		return c.finish(ctx, p.record)
	}
	return p.record, nil
}

// Find returns a command by its id; one whose process ended before its result
// was recorded is a timeout.
func (c *CSMS) Find(ctx context.Context, id string) (store.Command, error) {
	k, err := c.store.Command(ctx, id)
	if err == nil && k.Result == ResultPending && c.now().After(k.Deadline.Add(stopTime)) {
		k.Result = ResultTimeout
	}
	return k, err
}

// prepare checks a command and puts it into the audit record.
func (c *CSMS) prepare(ctx context.Context, k Command) (prepared, error) {
	var p prepared
	station, err := c.present(ctx, k.Station)
	if err != nil {
		return p, fmt.Errorf("command to station %s: %w", k.Station, err)
	}
	now := c.now()
	p.timeout = min(k.Timeout, maxCommandTime)
	if p.timeout <= 0 {
		p.timeout = c.settings.CallTimeout
	}
	p.record = store.Command{Station: station.Station, Version: station.Version, Action: clip(k.Action, 64), By: clip(k.By, maxText),
		CreatedAt: now, Deadline: now.Add(p.timeout), Result: ResultPending}
	if len(k.Payload) <= maxCommandPayload && json.Valid(k.Payload) {
		p.record.Payload = ocpp.Redact(k.Payload)
	}
	err = c.validate(&p, k)
	if err == nil && p.action.Name == "DeleteCertificate" && station.Connected {
		err = c.keepLastRoot(ctx, station, p.record.By, p.payload)
	}
	switch {
	case station.Version == "":
		p.record.Result, p.record.FinishedAt = ResultOffline, now
	case err != nil:
		p.record.Result, p.record.FinishedAt, p.record.ErrorDescription = ResultInvalidRequest, now, clip(err.Error(), maxQuality)
		if e, ok := errors.AsType[*ocpp.Error](err); ok {
			p.record.ErrorCode = string(e.Code)
		}
	}
	if p.record.ID, err = c.store.AddCommand(ctx, p.record); err != nil {
		return p, fmt.Errorf("record command to station %s: %w", k.Station, err)
	}
	if actions := asksFor(k.Action, p.payload); len(actions) > 0 && station.Registration == store.Pending && p.record.Result == ResultPending {
		// Before it leaves: the station may send them at once, to any process.
		if err := c.store.Allow(ctx, station.Station, actions, now.Add(allowTime)); err != nil {
			return p, fmt.Errorf("allow station %s what it is asked for: %w", k.Station, err)
		}
	}
	return p, nil
}

const (
	presentTries = 3
	presentWait  = 50 * time.Millisecond
)

// present returns the station's record. One that is not shown as connected is
// looked at again for a moment: it may have connected just now, and its record
// follows by a commit.
func (c *CSMS) present(ctx context.Context, id ocpp.StationID) (store.StationState, error) {
	for try := 1; ; try++ {
		s, err := c.store.Station(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) || err == nil && s.Connected || try == presentTries {
			return s, err
		}
		select {
		case <-time.After(presentWait):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// validate fills p.action and p.payload, or says what is wrong with the request.
func (c *CSMS) validate(p *prepared, k Command) error {
	if len(k.Payload) > maxCommandPayload {
		return fmt.Errorf("payload of %d bytes: at most %d", len(k.Payload), maxCommandPayload)
	}
	payload := k.Payload
	if len(payload) == 0 {
		payload = json.RawMessage(`{}`)
	}
	protocol, ok := c.protocols[p.record.Version]
	if !ok {
		return fmt.Errorf("OCPP %q is not spoken here", p.record.Version)
	}
	p.action, ok = protocol.Lookup(k.Action)
	switch {
	case !ok:
		return fmt.Errorf("OCPP %s has no action %s", p.record.Version, clip(k.Action, 64))
	case !p.action.FromCSMS:
		return fmt.Errorf("%s is not sent to a station in OCPP %s", k.Action, p.record.Version)
	}
	var err error
	p.payload, err = p.action.ValidateRequest(payload)
	return err
}

// perform sends a command, waits, and records its result.
func (c *CSMS) perform(ctx context.Context, p prepared) (store.Command, json.RawMessage, error) {
	started := c.now()
	callCtx, cancel := context.WithTimeout(ctx, p.timeout)
	answer, err := c.call(callCtx, p.record.Station, ocpp.Call{Version: p.record.Version, Action: p.action.Name, Payload: p.payload, Send: p.action.Send})
	cancel()
	if err == nil && p.action.NewResponse != nil {
		if len(answer) == 0 {
			answer = json.RawMessage(`{}`)
		}
		if _, invalid := ocpp.Decode(answer, p.action.NewResponse(), ocpp.Tolerant); invalid != nil {
			// Not wrapped: the fault is not a CALLERROR of the station.
			err = fmt.Errorf("%w: %s", ocpp.ErrInvalidAnswer, invalid)
		}
	}
	c.metrics.handled(ocpp.Down, p.record.Version, p.action.Name, true, err, c.now().Sub(started))
	k := p.record
	k.Result = resultOf(err)
	if err != nil {
		k.ErrorDescription = clip(err.Error(), maxQuality)
		if e, ok := errors.AsType[*ocpp.Error](err); ok {
			k.ErrorCode, k.ErrorDescription = string(e.Code), clip(e.Description, maxQuality)
		}
	}
	if json.Valid(answer) {
		k.Answer = ocpp.Redact(answer)
	}
	c.log.Info("command", "station", k.Station, "action", k.Action, "result", k.Result, "by", k.By, "id", k.ID)
	// The caller may have given up; the outcome is recorded all the same.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err == nil {
		if err := c.learn(ctx, k, p.payload, answer); err != nil {
			c.log.Warn("answer not learned from", "station", k.Station, "action", k.Action, "err", err)
		}
	}
	k, err = c.finish(ctx, k)
	return k, answer, err
}

func (c *CSMS) finish(ctx context.Context, k store.Command) (store.Command, error) {
	k.FinishedAt = c.now()
	if err := c.store.FinishCommand(ctx, k); err != nil {
		return k, fmt.Errorf("record result of command to station %s: %w", k.Station, err)
	}
	return k, nil
}

// learn keeps what an answer tells of the station.
func (c *CSMS) learn(ctx context.Context, k store.Command, request, answer json.RawMessage) error {
	learn := c.protocols[k.Version].Learn[k.Action]
	if learn == nil {
		return nil
	}
	variables, err := learn(request, answer)
	if err != nil || len(variables) == 0 {
		return err
	}
	return c.Variables(ctx, k.Station, c.now(), variables)
}

// asksFor returns the actions that a station sends because of a request. While
// it is Pending it may send nothing else (OCPP 2.0.1 B02.FR.01, B02.FR.02).
func asksFor(action string, payload json.RawMessage) []string {
	switch action {
	case "GetBaseReport", "GetReport":
		return []string{"NotifyReport"}
	case "GetMonitoringReport":
		return []string{"NotifyMonitoringReport"}
	case "TriggerMessage", "ExtendedTriggerMessage":
	default:
		return nil
	}
	var request struct {
		RequestedMessage string `json:"requestedMessage"`
	}
	if json.Unmarshal(payload, &request) != nil {
		return nil
	}
	switch wanted := request.RequestedMessage; wanted {
	case "SignChargePointCertificate", "SignChargingStationCertificate", "SignV2GCertificate", "SignV2G20Certificate", "SignCombinedCertificate":
		return []string{"SignCertificate"}
	case "FirmwareStatusNotification":
		return []string{wanted, "SignedFirmwareStatusNotification"}
	case "", "CustomTrigger":
		return nil
	default:
		return []string{wanted}
	}
}
