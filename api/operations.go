package api

import (
	"context"
	"net/http"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
)

// OperationView is an operation with what became of its steps.
type OperationView struct {
	store.Operation
	Steps []store.OperationStep `json:"steps,omitempty" doc:"What became of each step, oldest first; absent in lists"`
}

func (a *API) registerOperations() {
	const path = "/api/v1/operations"
	register(a, operation{id: "start-operation", method: "POST", path: stationPath + "/operations", role: RoleAdmin, tag: tagOperations, status: http.StatusAccepted,
		summary: "Start an operation on a station",
		detail: "renew-certificate, rotate-password, change-profile, install-root or onboard. It goes on by itself, also when the station is away or Holdfast is restarted; " +
			"poll it at Location. A station has one operation of a kind at a time: asking again answers 200 with the one that is not over.",
		errors: []int{http.StatusNotFound}}, a.startOperation)
	register(a, operation{id: "list-station-operations", method: "GET", path: stationPath + "/operations", role: RoleRead, tag: tagOperations,
		summary: "List a station's operations", detail: "Newest first."}, a.listStationOperations)
	register(a, operation{id: "list-operations", method: "GET", path: path, role: RoleRead, tag: tagOperations,
		summary: "List operations", detail: "Newest first."}, a.listOperations)
	register(a, operation{id: "get-operation", method: "GET", path: path + "/{id}", role: RoleRead, tag: tagOperations,
		summary: "Show an operation and its steps", errors: []int{http.StatusNotFound}}, a.getOperation)
	register(a, operation{id: "cancel-operation", method: "POST", path: path + "/{id}/cancel", role: RoleAdmin, tag: tagOperations, status: http.StatusAccepted,
		summary: "Cancel an operation", detail: "It ends after its current step; what can be put back is put back. One that is over stays as it is.",
		errors: []int{http.StatusNotFound}}, a.cancelOperation)
	register(a, operation{id: "retry-operation", method: "POST", path: path + "/{id}/retry", role: RoleAdmin, tag: tagOperations, status: http.StatusAccepted,
		summary: "Begin an operation that failed or was cancelled again", errors: []int{http.StatusNotFound, http.StatusConflict}}, a.retryOperation)
}

type startOperationInput struct {
	StationRef
	Body struct {
		Kind   string               `json:"kind" enum:"renew-certificate,rotate-password,change-profile,install-root,onboard"`
		Params csms.OperationParams `json:"params,omitzero" doc:"What is wanted, by kind"`
	}
}

type operationOutput struct {
	Status   int
	Location string `header:"Location" doc:"Path of the operation"`
	Body     OperationView
}

func (a *API) startOperation(ctx context.Context, in *startOperationInput) (*operationOutput, error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	o, started, err := a.cfg.CSMS.Operate(ctx, id, in.Body.Kind, in.Body.Params, by(ctx))
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if started {
		status = http.StatusAccepted
		a.audit(ctx, "operation.start", o.Station, o.ID, o.Kind)
	}
	return a.showOperation(ctx, status, o)
}

func (a *API) showOperation(ctx context.Context, status int, o store.Operation) (*operationOutput, error) {
	steps, err := a.cfg.CSMS.Record().OperationSteps(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	return &operationOutput{Status: status, Location: "/api/v1/operations/" + o.ID, Body: OperationView{o, steps}}, nil
}

func operationViews(l store.List[store.Operation], err error) (*output[Page[OperationView]], error) {
	views := store.List[OperationView]{Next: l.Next}
	for _, o := range l.Items {
		views.Items = append(views.Items, OperationView{Operation: o})
	}
	return paged(views, err)
}

func (a *API) listStationOperations(ctx context.Context, in *struct {
	StationRef
	Paging
}) (*output[Page[OperationView]], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	return operationViews(a.cfg.CSMS.Record().Operations(ctx, store.OperationFilter{Station: id}, in.page()))
}

func (a *API) listOperations(ctx context.Context, in *struct {
	Paging
	Station  string `query:"station" maxLength:"255" doc:"Only on this station"`
	Kind     string `query:"kind" enum:"renew-certificate,rotate-password,change-profile,install-root,onboard"`
	Status   string `query:"status" enum:"queued,running,waiting,done,failed,cancelled"`
	Campaign string `query:"campaign" maxLength:"36" doc:"Only of this campaign"`
}) (*output[Page[OperationView]], error) {
	f := store.OperationFilter{Station: ocpp.StationID(in.Station), Kind: in.Kind, Status: store.OperationStatus(in.Status), Campaign: in.Campaign}
	return operationViews(a.cfg.CSMS.Record().Operations(ctx, f, in.page()))
}

type OperationRef struct {
	ID string `path:"id" maxLength:"36" doc:"Id of the operation"`
}

func (a *API) getOperation(ctx context.Context, in *OperationRef) (*output[OperationView], error) {
	o, err := a.cfg.CSMS.Record().Operation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out, err := a.showOperation(ctx, http.StatusOK, o)
	if err != nil {
		return nil, err
	}
	return answer(out.Body, nil)
}

func (a *API) cancelOperation(ctx context.Context, in *OperationRef) (*operationOutput, error) {
	o, err := a.cfg.CSMS.CancelOperation(ctx, in.ID, by(ctx))
	if err != nil {
		return nil, err
	}
	a.audit(ctx, "operation.cancel", o.Station, o.ID, o.Kind)
	return a.showOperation(ctx, http.StatusAccepted, o)
}

func (a *API) retryOperation(ctx context.Context, in *OperationRef) (*operationOutput, error) {
	o, err := a.cfg.CSMS.RetryOperation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	a.audit(ctx, "operation.retry", o.Station, o.ID, o.Kind)
	return a.showOperation(ctx, http.StatusAccepted, o)
}
