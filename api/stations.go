package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"holdfast/ocpp"
	"holdfast/store"
)

// StationView is a station as its operator registered it, and as it runs.
type StationView struct {
	store.Station
	State *store.StationState `json:"state,omitempty" doc:"How it runs; absent: it was never connected"`
}

// StationRef is the identity in a path.
type StationRef struct {
	ID string `path:"id" maxLength:"255" doc:"Identity of the station, percent-encoded"`
}

func (p StationRef) station() (ocpp.StationID, error) {
	id := ocpp.StationID(p.ID)
	if err := id.Check(); err != nil {
		return "", problem(http.StatusUnprocessableEntity, err.Error(), at("path.id", err.Error()))
	}
	return id, nil
}

const stationPath = "/api/v1/stations/{id}"

func (a *API) registerStations() {
	register(a, operation{id: "list-stations", method: "GET", path: "/api/v1/stations", role: RoleRead, tag: tagStations,
		summary: "List stations", detail: "By identity, with their registration and how they run."}, a.listStations)
	register(a, operation{id: "add-station", method: "POST", path: "/api/v1/stations", role: RoleAdmin, tag: tagStations, status: http.StatusCreated,
		summary: "Register a station", detail: "The answer has its password (profile 1 and 2) or its certificate and key (profile 3), once and never again.",
		errors: []int{http.StatusConflict, http.StatusBadGateway}}, a.addStation)
	register(a, operation{id: "get-station", method: "GET", path: stationPath, role: RoleRead, tag: tagStations,
		summary: "Show a station", errors: []int{http.StatusNotFound}}, a.getStation)
	register(a, operation{id: "update-station", method: "PATCH", path: stationPath, role: RoleAdmin, tag: tagStations,
		summary: "Change a station's registration", detail: "Absent fields stay.", errors: []int{http.StatusNotFound, http.StatusConflict}}, a.updateStation)
	register(a, operation{id: "remove-station", method: "DELETE", path: stationPath, role: RoleAdmin, tag: tagStations,
		summary: "Forget a station", detail: "Its connection is closed and its certificates are revoked. Its transactions stay in the record.",
		errors: []int{http.StatusNotFound}}, a.removeStation)
}

type listStationsInput struct {
	Paging
	Search    string `query:"search" maxLength:"255" doc:"Part of the identity or of the serial number"`
	Profile   int    `query:"profile" enum:"1,2,3" doc:"Only with this security profile"`
	Blocked   string `query:"blocked" enum:"true,false" doc:"Only blocked stations, or only others"`
	Connected string `query:"connected" enum:"true,false" doc:"Only connected stations, or only others"`
}

func (a *API) listStations(ctx context.Context, in *listStationsInput) (*output[Page[StationView]], error) {
	f := store.StationFilter{Search: in.Search, Profile: ocpp.SecurityProfile(in.Profile), Blocked: choice(in.Blocked)}
	connected := choice(in.Connected)
	fetch := func(ctx context.Context, p store.Page) (store.List[StationView], error) {
		l, err := a.cfg.Authority.Stations(ctx, f, p)
		if err != nil {
			return store.List[StationView]{}, err
		}
		views, err := a.views(ctx, l.Items)
		return store.List[StationView]{Items: views, Next: l.Next}, err
	}
	keep := func(views []StationView) ([]StationView, error) {
		if connected == nil {
			return views, nil
		}
		var kept []StationView
		for _, v := range views {
			if (v.State != nil && v.State.Connected) == *connected {
				kept = append(kept, v)
			}
		}
		return kept, nil
	}
	return paged(collect(ctx, in.page(), fetch, keep))
}

// choice reads a query parameter that is true, false or absent.
func choice(s string) *bool {
	if s == "" {
		return nil
	}
	b := s == "true"
	return &b
}

// views joins stations with how they run.
func (a *API) views(ctx context.Context, stations []store.Station) ([]StationView, error) {
	ids := make([]ocpp.StationID, len(stations))
	for i, s := range stations {
		ids[i] = s.ID
	}
	states, err := a.cfg.CSMS.Record().StationsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	views := make([]StationView, len(stations))
	for i, s := range stations {
		views[i].Station = s
		if state, ok := states[s.ID.Fold()]; ok {
			views[i].State = &state
		}
	}
	return views, nil
}

func (a *API) view(ctx context.Context, s store.Station, err error) (*output[StationView], error) {
	if err != nil {
		return nil, err
	}
	views, err := a.views(ctx, []store.Station{s})
	if err != nil {
		return nil, err
	}
	return answer(views[0], nil)
}

type addStationOutput struct {
	Location string `header:"Location" doc:"Path of the station"`
	Body     AddedStation
}

func (a *API) addStation(ctx context.Context, in *struct{ Body NewStation }) (*addStationOutput, error) {
	added, err := a.cfg.Authority.AddStation(ctx, by(ctx), in.Body)
	if err != nil {
		return nil, err
	}
	return &addStationOutput{Location: pathOf(added.Station.ID), Body: added}, nil
}

func pathOf(id ocpp.StationID) string {
	return strings.Replace(stationPath, "{id}", url.PathEscape(string(id)), 1)
}

func (a *API) getStation(ctx context.Context, in *StationRef) (*output[StationView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	s, err := a.cfg.Authority.Station(ctx, id)
	return a.view(ctx, s, err)
}

func (a *API) updateStation(ctx context.Context, in *struct {
	StationRef
	Body StationChange
}) (*output[StationView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	if in.Body == (StationChange{}) {
		return nil, problem(http.StatusUnprocessableEntity, "nothing to change: give at least one field", at("body", "empty"))
	}
	s, err := a.cfg.Authority.UpdateStation(ctx, by(ctx), id, in.Body)
	return a.view(ctx, s, err)
}

func (a *API) removeStation(ctx context.Context, in *StationRef) (*struct{}, error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Authority.RemoveStation(ctx, by(ctx), id); err != nil {
		return nil, err
	}
	return nil, a.cfg.CSMS.Forget(ctx, id)
}
