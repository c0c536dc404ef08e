package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"holdfast/api"
	"holdfast/csms"
)

type callCommand struct {
	clientFlags
	Station string        `arg:"" name:"id" help:"Identity of the station."`
	Action  string        `arg:"" help:"Name of the OCPP action, such as Reset."`
	Payload string        `arg:"" optional:"" name:"json" help:"Payload; - reads it from standard input." default:"{}"`
	Timeout time.Duration `help:"How long to wait for the answer." default:"30s"`
	Async   bool          `help:"Do not wait: print the command, whose result GET /api/v1/commands/{id} tells."`
}

// maxPayload is the largest payload that is read, in bytes.
const maxPayload = 1 << 20

func (c *callCommand) Run(e *env) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	payload := []byte(c.Payload)
	if c.Payload == "-" {
		if payload, err = io.ReadAll(io.LimitReader(os.Stdin, maxPayload)); err != nil {
			return fmt.Errorf("payload from standard input: %w", err)
		}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(payload, &object); err != nil || object == nil {
		return &usageError{"payload: want a JSON object such as '{\"type\":\"Soft\"}'"}
	}
	var command api.CommandView
	err = cl.do(e.ctx, http.MethodPost, stationURL(c.Station, "/calls"), nil, map[string]any{
		"action": c.Action, "payload": object, "timeout": c.Timeout.Seconds(), "async": c.Async,
	}, &command)
	if err != nil {
		return err
	}
	switch {
	case e.json, command.Result == csms.ResultPending:
		err = e.printJSON(command)
	case command.Result == csms.ResultAccepted:
		fmt.Fprintln(e.stdout, string(command.Payload))
	default:
		err = e.printJSON(map[string]any{"result": command.Result, "error": command.Error})
	}
	if err != nil || command.Result == csms.ResultAccepted || command.Result == csms.ResultPending {
		return err
	}
	fmt.Fprintf(e.stderr, "holdfast: %s of station %s: %s\n", c.Action, c.Station, whatHappened(command))
	return errSilent
}

// whatHappened explains a result that is not a CALLRESULT.
func whatHappened(command api.CommandView) string {
	text := map[string]string{
		csms.ResultCallError:      "the station answered with a CALLERROR",
		csms.ResultTimeout:        "no answer in time; the station may have acted or not",
		csms.ResultOffline:        "the station is offline; nothing was sent",
		csms.ResultInvalidRequest: "the request is not valid; nothing was sent",
		csms.ResultInvalidAnswer:  "the station's answer is not valid",
		csms.ResultConnectionLost: "the connection was lost; the station may have acted or not",
		csms.ResultBusy:           "too many calls wait for the station; nothing was sent",
		csms.ResultUnavailable:    "the way to the gateways is broken",
	}[command.Result]
	if e := command.Error; e != nil {
		if e.Code != "" {
			text += ": " + e.Code
		}
		if e.Description != "" {
			text += ": " + e.Description
		}
	}
	return plain(text)
}

// printJSON writes v as JSON on one line.
func (e *env) printJSON(v any) error { return json.NewEncoder(e.stdout).Encode(v) }
