package api

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

func (a *API) registerStationData() {
	register(a, operation{id: "list-connectors", method: "GET", path: stationPath + "/connectors", role: RoleRead, tag: tagStations,
		summary: "List a station's connectors", detail: "At most 1,000."}, a.listConnectors)
	register(a, operation{id: "list-variables", method: "GET", path: stationPath + "/variables", role: RoleRead, tag: tagStations,
		summary: "List what is known of a station's variables", detail: "Configuration keys of OCPP 1.6 are variables without a component. What is known came with reports and with answers to commands."}, a.listVariables)
	register(a, operation{id: "list-progress", method: "GET", path: stationPath + "/progress", role: RoleRead, tag: tagStations,
		summary: "List how far firmware, diagnostics and log transfers are"}, a.listProgress)
	register(a, operation{id: "list-attempts", method: "GET", path: stationPath + "/attempts", role: RoleRead, tag: tagStations,
		summary: "List a station's attempts to connect", detail: "Newest first, at most 50: why it does not connect. The station need not be registered."}, a.listAttempts)
	register(a, operation{id: "list-unregistered-attempts", method: "GET", path: "/api/v1/attempts", role: RoleRead, tag: tagStations,
		summary: "List attempts to connect by stations that are not registered", detail: "Newest first, at most 1,000."}, a.listUnregistered)
	register(a, operation{id: "list-security-events", method: "GET", path: stationPath + "/security-events", role: RoleRead, tag: tagStations,
		summary: "List a station's security events", detail: "Newest first."}, a.listSecurityEvents)
	register(a, operation{id: "list-records", method: "GET", path: stationPath + "/records", role: RoleRead, tag: tagStations,
		summary: "List messages of a station that no rule reads", detail: "Newest first: those that were validated, answered and kept for you."}, a.listRecords)
	register(a, operation{id: "list-meter-values", method: "GET", path: stationPath + "/meter-values", role: RoleRead, tag: tagTransactions,
		summary: "List a station's meter values", detail: "Oldest first, those outside transactions included."}, a.listMeterValues)
}

type StationPage struct {
	StationRef
	Paging
}

func (a *API) listConnectors(ctx context.Context, in *StationRef) (*output[Page[store.Connector]], error) {
	return forStation(in, func(id ocpp.StationID) ([]store.Connector, error) { return a.cfg.CSMS.Record().Connectors(ctx, id) })
}

func (a *API) listProgress(ctx context.Context, in *StationRef) (*output[Page[store.Progress]], error) {
	return forStation(in, func(id ocpp.StationID) ([]store.Progress, error) { return a.cfg.CSMS.Record().Progress(ctx, id) })
}

func (a *API) listAttempts(ctx context.Context, in *StationRef) (*output[Page[store.Attempt]], error) {
	return forStation(in, func(id ocpp.StationID) ([]store.Attempt, error) { return a.cfg.Authority.Attempts(ctx, id) })
}

func (a *API) listUnregistered(ctx context.Context, _ *noInput) (*output[Page[store.Attempt]], error) {
	return whole(a.cfg.Authority.Attempts(ctx, ""))
}

func forStation[T any](in *StationRef, read func(id ocpp.StationID) ([]T, error)) (*output[Page[T]], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	return whole(read(id))
}

func pageForStation[T any](in *StationPage, read func(id ocpp.StationID, p store.Page) (store.List[T], error)) (*output[Page[T]], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	return paged(read(id, in.page()))
}

func (a *API) listVariables(ctx context.Context, in *struct {
	StationPage
	Component string `query:"component" maxLength:"50" doc:"Only of this component"`
}) (*output[Page[store.Variable]], error) {
	return pageForStation(&in.StationPage, func(id ocpp.StationID, p store.Page) (store.List[store.Variable], error) {
		return a.cfg.CSMS.Record().Variables(ctx, id, in.Component, p)
	})
}

func (a *API) listSecurityEvents(ctx context.Context, in *StationPage) (*output[Page[store.SecurityEvent]], error) {
	return pageForStation(in, func(id ocpp.StationID, p store.Page) (store.List[store.SecurityEvent], error) {
		return a.cfg.CSMS.Record().SecurityEvents(ctx, id, p)
	})
}

func (a *API) listRecords(ctx context.Context, in *struct {
	StationPage
	Action string `query:"action" maxLength:"64" doc:"Only of this action"`
}) (*output[Page[store.Recorded]], error) {
	return pageForStation(&in.StationPage, func(id ocpp.StationID, p store.Page) (store.List[store.Recorded], error) {
		return a.cfg.CSMS.Record().RecordedMessages(ctx, id, in.Action, p)
	})
}

func (a *API) listMeterValues(ctx context.Context, in *struct {
	StationPage
	TimeSpan
	Transaction string `query:"transaction" maxLength:"36" doc:"Only of this transaction, by the station's id of it"`
}) (*output[Page[store.MeterValue]], error) {
	return pageForStation(&in.StationPage, func(id ocpp.StationID, p store.Page) (store.List[store.MeterValue], error) {
		return a.cfg.CSMS.Record().MeterValues(ctx, store.MeterValueFilter{Station: id, TransactionID: in.Transaction, From: in.From, To: in.To}, p)
	})
}
