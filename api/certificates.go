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
		summary: "List CAs", detail: "Those of Holdfast, also the retired ones, and imported ones."}, a.listCAs)
	register(a, operation{id: "import-ca", method: "POST", path: path, role: RoleAdmin, tag: tagCertificates, status: http.StatusCreated,
		summary: "Trust CAs for stations' certificates", detail: "Such as a maker's that issued them in the factory."}, a.importCA)
	register(a, operation{id: "remove-ca", method: "DELETE", path: path + "/{fingerprint}", role: RoleAdmin, tag: tagCertificates,
		summary: "Stop trusting an imported CA", errors: []int{http.StatusNotFound}}, a.removeCA)
	register(a, operation{id: "get-external-ca", method: "GET", path: "/api/v1/external-ca", role: RoleRead, tag: tagCertificates,
		summary: "Ask the external CA for its certificates", detail: "The one that issues stations' certificates in the place of Holdfast's own CAs, and which of its CA certificates are trusted.",
		errors: []int{http.StatusNotFound, http.StatusBadGateway}}, a.getExternalCA)
	const lists = "/api/v1/crls"
	register(a, operation{id: "list-crls", method: "GET", path: lists, role: RoleRead, tag: tagCertificates,
		summary: "List the revocation lists of imported CAs", detail: "Overdue ones count on until a newer one is imported."}, a.listCRLs)
	register(a, operation{id: "import-crl", method: "POST", path: lists, role: RoleAdmin, tag: tagCertificates, status: http.StatusCreated,
		summary: "Import the revocation list of an imported CA", detail: "In the place of the one before it. What it lists is refused, and connections that rest on it are closed within seconds.",
		errors: []int{http.StatusConflict}}, a.importCRL)
	register(a, operation{id: "remove-crl", method: "DELETE", path: lists + "/{fingerprint}", role: RoleAdmin, tag: tagCertificates,
		summary: "Forget the revocation list of an imported CA", detail: "What only it revoked is good again.", errors: []int{http.StatusNotFound}}, a.removeCRL)
	register(a, operation{id: "prepare-root", method: "POST", path: path + "/roots", role: RoleAdmin, tag: tagCertificates, status: http.StatusCreated,
		summary: "Make a new root beside the one that issues", detail: "With a station CA and a server CA below it, and cross-signed by the old root. They are trusted, and issue nothing until they are activated.",
		errors: []int{http.StatusConflict}}, a.prepareRoot)
	register(a, operation{id: "request-ca", method: "POST", path: path + "/requests", role: RoleAdmin, tag: tagCertificates, status: http.StatusCreated,
		summary: "Make a signing request for a CA that a root kept elsewhere certifies"}, a.requestCA)
	register(a, operation{id: "import-signed-ca", method: "POST", path: path + "/signed", role: RoleAdmin, tag: tagCertificates, status: http.StatusCreated,
		summary: "Import what a root kept elsewhere signed", detail: "The certificate of a requested CA, the CAs between it and its root, and the root. They are trusted, and issue nothing until they are activated.",
		errors: []int{http.StatusConflict}}, a.importSigned)
	register(a, operation{id: "activate-cas", method: "POST", path: path + "/activate", role: RoleAdmin, tag: tagCertificates,
		summary: "Let CAs issue", detail: "In the place of those of their kind that do; these stay trusted. With a root come the CAs below it, with a CA its root.",
		errors: []int{http.StatusNotFound}}, a.activateCAs)
	register(a, operation{id: "retire-ca", method: "POST", path: path + "/{fingerprint}/retire", role: RoleAdmin, tag: tagCertificates,
		summary: "Stop trusting a CA of Holdfast's own", detail: "With a root, all that is below it. Refused while one of them issues, and unless forced while stations have active certificates of it.",
		errors: []int{http.StatusNotFound}}, a.retireCA)
}

func (a *API) prepareRoot(ctx context.Context, in *struct {
	Body struct {
		Algorithm string `json:"algorithm" enum:"ecdsa,rsa" doc:"Kind of key of the root and of the CAs below it"`
	}
}) (*output[PreparedRoot], error) {
	return answer(a.cfg.Authority.PrepareRoot(ctx, by(ctx), in.Body.Algorithm))
}

func (a *API) requestCA(ctx context.Context, in *struct {
	Body struct {
		Role      string `json:"role" enum:"station,server" doc:"Whom the CA issues certificates to"`
		Algorithm string `json:"algorithm" enum:"ecdsa,rsa" doc:"Kind of key"`
	}
}) (*output[RequestedCA], error) {
	return answer(a.cfg.Authority.RequestCA(ctx, by(ctx), in.Body.Role, in.Body.Algorithm))
}

func (a *API) importSigned(ctx context.Context, in *struct {
	Body struct {
		PEM string `json:"pem" minLength:"1" maxLength:"262144" doc:"Certificates"`
	}
}) (*output[Page[store.CA]], error) {
	return whole(a.cfg.Authority.ImportSigned(ctx, by(ctx), in.Body.PEM))
}

func (a *API) activateCAs(ctx context.Context, in *struct {
	Body struct {
		Fingerprints []string `json:"fingerprints" minItems:"1" maxItems:"16" doc:"SHA-256 fingerprints, hex"`
	}
}) (*output[Page[store.CA]], error) {
	return whole(a.cfg.Authority.ActivateCAs(ctx, by(ctx), in.Body.Fingerprints...))
}

func (a *API) retireCA(ctx context.Context, in *struct {
	Fingerprint string `path:"fingerprint" maxLength:"128" doc:"SHA-256 fingerprint, hex"`
	Body        *struct {
		Force bool `json:"force,omitempty" doc:"Even if stations have active certificates of it: they are locked out"`
	}
}) (*output[Page[store.CA]], error) {
	return whole(a.cfg.Authority.RetireCA(ctx, by(ctx), in.Fingerprint, in.Body != nil && in.Body.Force))
}

type listCertificatesInput struct {
	Paging
	Station  string `query:"station" maxLength:"255" doc:"Only of this station"`
	Status   string `query:"status" enum:"active,superseded,revoked"`
	Kind     string `query:"kind" enum:"station,server,ocsp"`
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

func (a *API) getExternalCA(ctx context.Context, _ *noInput) (*output[ExternalCA], error) {
	return answer(a.cfg.Authority.ExternalCA(ctx))
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

func (a *API) listCRLs(ctx context.Context, _ *noInput) (*output[Page[store.CRL]], error) {
	return whole(a.cfg.Authority.CRLs(ctx))
}

func (a *API) importCRL(ctx context.Context, in *struct {
	Body struct {
		PEM string `json:"pem" minLength:"1" maxLength:"1048000" doc:"One revocation list, of 768 KiB at most"`
	}
}) (*output[store.CRL], error) {
	return answer(a.cfg.Authority.ImportCRL(ctx, by(ctx), in.Body.PEM))
}

func (a *API) removeCRL(ctx context.Context, in *struct {
	Fingerprint string `path:"fingerprint" maxLength:"128" doc:"SHA-256 fingerprint of the CA's certificate, hex"`
}) (*struct{}, error) {
	return nil, a.cfg.Authority.RemoveCRL(ctx, by(ctx), in.Fingerprint)
}
