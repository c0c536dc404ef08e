package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
)

// CommandView is a CALL to a station and what became of it.
type CommandView struct {
	ID         string          `json:"id"`
	Station    ocpp.StationID  `json:"station"`
	Version    ocpp.Version    `json:"version,omitempty"`
	Action     string          `json:"action"`
	Request    json.RawMessage `json:"request,omitempty" doc:"Payload of the CALL, secrets redacted"`
	By         string          `json:"by" doc:"Who asked for it"`
	CreatedAt  time.Time       `json:"created_at"`
	Deadline   time.Time       `json:"deadline,omitzero" doc:"When its result is known at the latest"`
	FinishedAt time.Time       `json:"finished_at,omitzero"`
	DurationMS int64           `json:"duration_ms,omitempty"`
	Result     string          `json:"result" enum:"pending,accepted,callerror,timeout,offline,invalid_request,invalid_answer,connection_lost,busy,unavailable" doc:"accepted: a CALLRESULT came (its payload may still say Rejected). timeout, connection_lost: the station may have acted or not. invalid_request, busy, offline: nothing was sent."`
	Payload    json.RawMessage `json:"payload,omitempty" doc:"Payload of the CALLRESULT, secrets redacted"`
	Error      *CommandError   `json:"error,omitempty"`
}

// CommandError says why there is no CALLRESULT.
type CommandError struct {
	Code        string `json:"code,omitempty" doc:"Of the CALLERROR, or of the violation of the action's schema"`
	Description string `json:"description,omitempty"`
}

func commandView(k store.Command) CommandView {
	v := CommandView{ID: k.ID, Station: k.Station, Version: k.Version, Action: k.Action, Request: k.Payload, By: k.By,
		CreatedAt: k.CreatedAt, Deadline: k.Deadline, FinishedAt: k.FinishedAt, Result: k.Result, Payload: k.Answer}
	if !k.FinishedAt.IsZero() {
		v.DurationMS = k.FinishedAt.Sub(k.CreatedAt).Milliseconds()
	}
	if k.ErrorCode != "" || k.ErrorDescription != "" {
		v.Error = &CommandError{Code: k.ErrorCode, Description: k.ErrorDescription}
	}
	return v
}

// callStatuses are the HTTP statuses of the results of a synchronous call.
var callStatuses = map[string]int{
	csms.ResultPending:        http.StatusAccepted,
	csms.ResultAccepted:       http.StatusOK,
	csms.ResultCallError:      http.StatusOK, // the call worked, the station declined it
	csms.ResultOffline:        http.StatusConflict,
	csms.ResultInvalidRequest: http.StatusUnprocessableEntity,
	csms.ResultBusy:           http.StatusTooManyRequests,
	csms.ResultInvalidAnswer:  http.StatusBadGateway,
	csms.ResultConnectionLost: http.StatusBadGateway,
	csms.ResultUnavailable:    http.StatusServiceUnavailable,
	csms.ResultTimeout:        http.StatusGatewayTimeout,
}

// maxCallTime is the longest timeout of a call.
const maxCallTime = 10 * time.Minute

func (a *API) registerCalls() {
	const path = stationPath + "/calls"
	register(a, operation{id: "call-station", method: "POST", path: path, role: RoleOperate, tag: tagCommands,
		summary: "Send a CALL to a station",
		detail: "The request is checked against the schema of the action in the station's OCPP version before it leaves. " +
			"The answer's result says what became of it: 200 accepted or callerror, 202 pending (async), 409 offline, 422 invalid_request, " +
			"429 busy, 502 invalid_answer or connection_lost, 503 unavailable, 504 timeout. With these statuses an answer of type application/problem+json is about the HTTP request itself.",
		errors: []int{http.StatusNotFound}, time: maxCallTime + requestTime}, a.callStation)
	register(a, operation{id: "list-commands", method: "GET", path: "/api/v1/commands", role: RoleRead, tag: tagCommands,
		summary: "List CALLs to stations", detail: "Newest first: who asked for what, when, and what became of it."}, a.listCommands)
	register(a, operation{id: "get-command", method: "GET", path: "/api/v1/commands/{id}", role: RoleRead, tag: tagCommands,
		summary: "Show a CALL to a station", detail: "Poll it for the result of an asynchronous call.", errors: []int{http.StatusNotFound}}, a.getCommand)

	responses := a.huma.OpenAPI().Paths[path].Post.Responses
	schema := responses["200"].Content[jsonType].Schema
	for _, result := range slices.Sorted(maps.Keys(callStatuses)) {
		status := strconv.Itoa(callStatuses[result])
		r := responses[status]
		if r == nil {
			r = &huma.Response{Description: http.StatusText(callStatuses[result]), Content: map[string]*huma.MediaType{}}
			responses[status] = r
		}
		r.Content[jsonType] = &huma.MediaType{Schema: schema}
	}
}

type callInput struct {
	StationRef
	Body struct {
		Action  string         `json:"action" minLength:"1" maxLength:"64" doc:"Name of the action, such as Reset"`
		Payload map[string]any `json:"payload,omitempty" doc:"Payload of the CALL; absent: {}"`
		Timeout float64        `json:"timeout,omitempty" minimum:"0" maximum:"600" doc:"How long to wait for the answer, in seconds; 0 or absent: the server's default, 30"`
		Async   bool           `json:"async,omitempty" doc:"Answer at once with a command to poll"`
	}
}

type callOutput struct {
	Status   int
	Location string `header:"Location" doc:"Path of the command"`
	Body     CommandView
}

func (a *API) callStation(ctx context.Context, in *callInput) (*callOutput, error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	k := csms.Command{Station: id, Action: in.Body.Action, By: by(ctx), Timeout: time.Duration(in.Body.Timeout * float64(time.Second))}
	if in.Body.Payload != nil {
		if k.Payload, err = json.Marshal(in.Body.Payload); err != nil {
			return nil, fmt.Errorf("payload of call to station %s: %w", id, err)
		}
	}
	send := a.cfg.CSMS.Command
	if in.Body.Async {
		send = a.cfg.CSMS.CommandAsync
	}
	command, err := send(ctx, k)
	if errors.Is(err, store.ErrNotFound) { // the core has never heard of it: is it registered at all?
		s, notFound := a.cfg.Authority.Station(ctx, id)
		if notFound != nil {
			return nil, notFound
		}
		if err = a.cfg.CSMS.Introduce(ctx, s.ID); err == nil { // who wanted what is recorded all the same
			command, err = send(ctx, k)
		}
	}
	if err != nil {
		return nil, err
	}
	out := &callOutput{Status: callStatuses[command.Result], Body: commandView(command)}
	if command.ID != "" {
		out.Location = "/api/v1/commands/" + command.ID
	}
	return out, nil
}

func (a *API) listCommands(ctx context.Context, in *struct {
	Paging
	Station string `query:"station" maxLength:"255" doc:"Only to this station"`
}) (*output[Page[CommandView]], error) {
	l, err := a.cfg.CSMS.Record().Commands(ctx, ocpp.StationID(in.Station), in.page())
	views := store.List[CommandView]{Next: l.Next}
	for _, k := range l.Items {
		views.Items = append(views.Items, commandView(k))
	}
	return paged(views, err)
}

func (a *API) getCommand(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"36" doc:"Id of the command"`
}) (*output[CommandView], error) {
	k, err := a.cfg.CSMS.Find(ctx, in.ID)
	if err != nil {
		return nil, fmt.Errorf("command %s: %w", in.ID, err)
	}
	return answer(commandView(k), nil)
}
