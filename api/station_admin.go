package api

import (
	"context"
	"errors"
	"net/http"

	"holdfast/ocpp"
	"holdfast/store"
)

func (a *API) registerStationAdmin() {
	missing := []int{http.StatusNotFound}
	register(a, operation{id: "block-station", method: "POST", path: stationPath + "/block", role: RoleOperate, tag: tagStations,
		summary: "Refuse a station", detail: "Whatever it presents; its connection is closed within seconds.", errors: missing}, a.blockStation)
	register(a, operation{id: "unblock-station", method: "POST", path: stationPath + "/unblock", role: RoleOperate, tag: tagStations,
		summary: "Admit a blocked station again", errors: missing}, a.unblockStation)
	register(a, operation{id: "disconnect-station", method: "POST", path: stationPath + "/disconnect", role: RoleOperate, tag: tagStations,
		summary: "Close a station's connection", detail: "It may connect again at once.", errors: []int{http.StatusNotFound, http.StatusConflict}}, a.disconnectStation)
	register(a, operation{id: "set-registration", method: "PUT", path: stationPath + "/registration", role: RoleOperate, tag: tagStations,
		summary: "Decide what a station is told when it boots", detail: "A station that is Pending or Rejected may not charge.", errors: missing}, a.setRegistration)
	register(a, operation{id: "rotate-password", method: "POST", path: stationPath + "/password", role: RoleAdmin, tag: tagStations,
		summary: "Give a station a new password", detail: "The old one is accepted, too, until the first success of the new one.", errors: missing}, a.rotatePassword)
	register(a, operation{id: "cancel-password", method: "DELETE", path: stationPath + "/password", role: RoleAdmin, tag: tagStations,
		summary: "Forget a new password that the station did not take", errors: missing}, a.cancelPassword)
	register(a, operation{id: "issue-certificate", method: "POST", path: stationPath + "/certificate", role: RoleAdmin, tag: tagCertificates,
		summary: "Make a key and a certificate for a station", detail: "Where the station can keep its own key, use sign-csr instead. Older certificates stay good.",
		status: http.StatusCreated, errors: append(missing, http.StatusBadGateway)}, a.issueCertificate)
	register(a, operation{id: "sign-csr", method: "POST", path: stationPath + "/sign-csr", role: RoleAdmin, tag: tagCertificates,
		summary: "Sign a station's certificate signing request", detail: "The same request again gets the same certificate.",
		status: http.StatusCreated, errors: append(missing, http.StatusBadGateway)}, a.signCSR)
}

type blockInput struct {
	StationRef
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why, for other operators"`
	}
}

func (a *API) blockStation(ctx context.Context, in *blockInput) (*output[StationView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	s, err := a.cfg.Authority.BlockStation(ctx, by(ctx), id, reason)
	return a.view(ctx, s, err)
}

func (a *API) unblockStation(ctx context.Context, in *StationRef) (*output[StationView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	s, err := a.cfg.Authority.UnblockStation(ctx, by(ctx), id)
	return a.view(ctx, s, err)
}

func (a *API) disconnectStation(ctx context.Context, in *StationRef) (*struct{}, error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	err = a.cfg.Disconnect(ctx, id)
	if errors.Is(err, ocpp.ErrOffline) {
		if _, err := a.cfg.Authority.Station(ctx, id); err != nil {
			return nil, err
		}
		return nil, problem(http.StatusConflict, "station "+string(id)+" is not connected")
	}
	if err == nil {
		a.audit(ctx, "station.disconnect", id, "", "")
	}
	return nil, err
}

func (a *API) setRegistration(ctx context.Context, in *struct {
	StationRef
	Body struct {
		Registration store.Registration `json:"registration" enum:"Accepted,Pending,Rejected"`
	}
}) (*output[StationView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	s, err := a.cfg.Authority.Station(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := a.cfg.CSMS.SetRegistration(ctx, s.ID, in.Body.Registration, by(ctx)); err != nil {
		return nil, err
	}
	a.audit(ctx, "station.registration", s.ID, "", string(in.Body.Registration))
	return a.view(ctx, s, nil)
}

type passwordInput struct {
	StationRef
	Body *struct {
		Password string `json:"password,omitempty" maxLength:"80" doc:"Absent: one is generated"`
	}
}

func (a *API) rotatePassword(ctx context.Context, in *passwordInput) (*output[NewPassword], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	password := ""
	if in.Body != nil {
		password = in.Body.Password
	}
	return answer(a.cfg.Authority.RotatePassword(ctx, by(ctx), id, password))
}

func (a *API) cancelPassword(ctx context.Context, in *StationRef) (*output[StationView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	s, err := a.cfg.Authority.CancelRotation(ctx, by(ctx), id)
	return a.view(ctx, s, err)
}

type issueInput struct {
	StationRef
	Body *struct {
		Algorithm string `json:"algorithm,omitempty" enum:"ecdsa,rsa" doc:"Kind of key; absent: ecdsa"`
	}
}

func (a *API) issueCertificate(ctx context.Context, in *issueInput) (*output[IssuedCertificate], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	algorithm := ""
	if in.Body != nil {
		algorithm = in.Body.Algorithm
	}
	return answer(a.cfg.Authority.IssueStation(ctx, by(ctx), id, algorithm))
}

func (a *API) signCSR(ctx context.Context, in *struct {
	StationRef
	Body struct {
		CSR string `json:"csr" minLength:"1" maxLength:"65536" doc:"PKCS #10 request, PEM; its CN is the station's serial number"`
	}
}) (*output[SignedCertificate], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	return answer(a.cfg.Authority.SignCSR(ctx, by(ctx), id, in.Body.CSR))
}
