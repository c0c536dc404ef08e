package api

import (
	"context"
	"net/http"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

func (a *API) registerCertificates() {
	const path = "/api/v1/certificates"
	register(a, operation{id: "list-certificates", method: "GET", path: path, role: RoleRead, tag: tagCertificates,
		summary: "List certificates", detail: "Newest first, without their PEM."}, a.listCertificates)
	register(a, operation{id: "get-certificate", method: "GET", path: path + "/{serial}", role: RoleRead, tag: tagCertificates,
		summary: "Show a certificate", errors: []int{http.StatusNotFound}}, a.getCertificate)
	register(a, operation{id: "revoke-certificate", method: "POST", path: path + "/{serial}/revoke", role: RoleAdmin, tag: tagCertificates,
		summary: "Revoke a certificate", detail: "For good. Connections that rest on it are closed within seconds.", errors: []int{http.StatusNotFound}}, a.revokeCertificate)
}

func (a *API) registerCAs() {
	const path = "/api/v1/cas"
	register(a, operation{id: "list-cas", method: "GET", path: path, role: RoleRead, tag: tagCertificates,
		summary: "List CAs that are trusted", detail: "Those of Holdfast and imported ones; at most 100."}, a.listCAs)
	register(a, operation{id: "import-ca", method: "POST", path: path, role: RoleAdmin, tag: tagCertificates, status: http.StatusCreated,
		summary: "Trust CAs for stations' certificates", detail: "Such as a maker's that issued them in the factory."}, a.importCA)
	register(a, operation{id: "remove-ca", method: "DELETE", path: path + "/{fingerprint}", role: RoleAdmin, tag: tagCertificates,
		summary: "Stop trusting an imported CA", errors: []int{http.StatusNotFound}}, a.removeCA)
}

type listCertificatesInput struct {
	Paging
	Station  string `query:"station" maxLength:"255" doc:"Only of this station"`
	Status   string `query:"status" enum:"active,superseded,revoked"`
	Kind     string `query:"kind" enum:"station,server"`
	Expiring int    `query:"expiring" minimum:"1" maximum:"3650" doc:"Only those that are good now and expire within so many days"`
}

func (a *API) listCertificates(ctx context.Context, in *listCertificatesInput) (*output[Page[store.Certificate]], error) {
	f := store.CertificateFilter{Station: ocpp.StationID(in.Station), Status: store.CertificateStatus(in.Status), Kind: in.Kind}
	if in.Expiring > 0 {
		f.ExpiresAfter = a.cfg.Now()
		f.ExpiresBefore = f.ExpiresAfter.Add(time.Duration(in.Expiring) * 24 * time.Hour)
	}
	return paged(collect(ctx, in.page(), func(ctx context.Context, p store.Page) (store.List[store.Certificate], error) {
		return a.cfg.Authority.Certificates(ctx, f, p)
	}, nil))
}

type SerialRef struct {
	Serial string `path:"serial" maxLength:"128" doc:"Serial number or SHA-256 fingerprint, hex"`
}

func (a *API) getCertificate(ctx context.Context, in *SerialRef) (*output[store.Certificate], error) {
	return answer(a.cfg.Authority.Certificate(ctx, in.Serial))
}

type revokeInput struct {
	SerialRef
	Body *struct {
		Reason string `json:"reason,omitempty" enum:"unspecified,key_compromise,affiliation_changed,superseded,cessation_of_operation,privilege_withdrawn" doc:"Absent: unspecified"`
	}
}

func (a *API) revokeCertificate(ctx context.Context, in *revokeInput) (*output[store.Certificate], error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	return answer(a.cfg.Authority.RevokeCertificate(ctx, by(ctx), in.Serial, reason))
}

func (a *API) listCAs(ctx context.Context, _ *noInput) (*output[Page[store.CA]], error) {
	return whole(a.cfg.Authority.CAs(ctx))
}

func (a *API) importCA(ctx context.Context, in *struct {
	Body struct {
		PEM string `json:"pem" minLength:"1" maxLength:"262144" doc:"One or more CA certificates"`
	}
}) (*output[Page[store.CA]], error) {
	return whole(a.cfg.Authority.ImportCA(ctx, by(ctx), in.Body.PEM))
}

func (a *API) removeCA(ctx context.Context, in *struct {
	Fingerprint string `path:"fingerprint" maxLength:"128" doc:"SHA-256 fingerprint, hex"`
}) (*struct{}, error) {
	return nil, a.cfg.Authority.RemoveCA(ctx, by(ctx), in.Fingerprint)
}
