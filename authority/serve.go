package authority

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// The subjects, and what travels on each: request is what Client sends.
const (
	subjectAdmit         = "admit"
	subjectNote          = "note"
	subjectTrust         = "trust"
	subjectTickets       = "tickets"
	subjectServer        = "certificate.server"
	subjectAdd           = "station.add"
	subjectGet           = "station.get"
	subjectList          = "station.list"
	subjectUpdate        = "station.update"
	subjectCancelProfile = "station.profile.cancel"
	subjectOperator      = "operator.get"
	subjectBlock         = "station.block"
	subjectUnblock       = "station.unblock"
	subjectRemove        = "station.remove"
	subjectAttempts      = "station.attempts"
	subjectRotate        = "password.rotate"
	subjectCancel        = "password.cancel"
	subjectIssue         = "certificate.issue"
	subjectSign          = "certificate.sign"
	subjectRevoke        = "certificate.revoke"
	subjectCertificate   = "certificate.get"
	subjectCertificates  = "certificate.list"
	subjectImportCA      = "ca.import"
	subjectRemoveCA      = "ca.remove"
	subjectCAs           = "ca.list"
	subjectPrepareRoot   = "ca.prepare"
	subjectActivateCAs   = "ca.activate"
	subjectRetireCA      = "ca.retire"
	subjectRequestCA     = "ca.request"
	subjectImportSigned  = "ca.certify"
	subjectImportCRL     = "crl.import"
	subjectRemoveCRL     = "crl.remove"
	subjectCRLs          = "crl.list"
	subjectExternalCA    = "ca.external"
	subjectAudit         = "audit.list"
)

// Repeatable reports whether a request on a subject can be made twice without
// harm, because gateways wait for it: its answer may be lost with a replica.
func Repeatable(subject string) bool {
	switch subject {
	case subjectAdmit, subjectTrust, subjectTickets:
		return true
	}
	return false
}

// request has the arguments of every method; each uses some.
type request struct {
	By        string          `json:"by,omitempty"`
	Station   ocpp.StationID  `json:"station,omitempty"`
	Text      string          `json:"text,omitempty"` // PEM, a reason or a password
	Name      string          `json:"name,omitempty"` // serial number or fingerprint
	Names     []string        `json:"names,omitempty"`
	Algorithm pki.Algorithm   `json:"algorithm,omitempty"`
	Force     bool            `json:"force,omitempty"`
	Page      store.Page      `json:"page,omitzero"`
	Body      json.RawMessage `json:"body,omitempty"` // the struct among the arguments
}

// response is the answer on every subject.
type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *remoteError    `json:"error,omitempty"`
}

// remoteError carries an error over the bus.
type remoteError struct {
	Kind    string        `json:"kind"`
	Message string        `json:"message"`
	Invalid *InvalidError `json:"invalid,omitempty"`

	External *ExternalCAError `json:"external,omitempty"`
}

const (
	kindInvalid  = "invalid"
	kindExternal = "external"
)

// kinds are the errors that a caller tells apart.
var kinds = map[string]error{
	"not_found":  store.ErrNotFound,
	"exists":     store.ErrExists,
	"bad_cursor": store.ErrBadCursor,
	"overload":   store.ErrBusy,
}

func encodeError(err error) *remoteError {
	e := &remoteError{Kind: "internal", Message: err.Error()}
	if i, ok := errors.AsType[*InvalidError](err); ok {
		e.Kind, e.Invalid = kindInvalid, i
		return e
	}
	if x, ok := errors.AsType[*ExternalCAError](err); ok {
		e.Kind, e.External = kindExternal, x
		return e
	}
	for kind, known := range kinds {
		if errors.Is(err, known) {
			e.Kind = kind
		}
	}
	return e
}

// Error is the message of the authority; Unwrap gives the error it stands for.
func (e *remoteError) Error() string { return e.Message }

func (e *remoteError) Unwrap() error {
	if e.Kind == kindInvalid && e.Invalid != nil {
		return e.Invalid
	}
	if e.Kind == kindExternal && e.External != nil {
		return e.External
	}
	return kinds[e.Kind]
}

// Handler answers one subject: JSON in, JSON out. What went wrong is in the
// answer; it never fails.
type Handler = func(ctx context.Context, data []byte) ([]byte, error)

// Handlers serves the methods of a by subject, for a bus to offer to Clients.
// Any replica can answer any request.
//
// Who may call what is the bus's business: a gateway needs admit, note, trust,
// tickets and certificate.server, and nothing else.
func (a *Authority) Handlers() map[string]Handler {
	return map[string]Handler{
		subjectAdmit:   handle(func(ctx context.Context, _ request, c ocpp.Credentials) (any, error) { return a.Admit(ctx, c) }),
		subjectNote:    handle(func(ctx context.Context, _ request, n Refusal) (any, error) { return nil, a.Note(ctx, n) }),
		subjectTrust:   handle(func(ctx context.Context, _ request, _ none) (any, error) { return a.Trust(ctx) }),
		subjectTickets: handle(func(ctx context.Context, _ request, _ none) (any, error) { return a.TicketKeys(ctx) }),
		subjectServer: handle(func(ctx context.Context, r request, _ none) (any, error) {
			// Who asks is what a gateway says of itself: nobody else's name.
			return a.ServerCertificate(ctx, "gateway "+strings.TrimPrefix(r.By, "gateway "), r.Text, r.Names)
		}),
		subjectAdd: handle(func(ctx context.Context, r request, n NewStation) (any, error) { return a.AddStation(ctx, r.By, n) }),
		subjectGet: handle(func(ctx context.Context, r request, _ none) (any, error) { return a.Station(ctx, r.Station) }),
		subjectList: handle(func(ctx context.Context, r request, f store.StationFilter) (any, error) {
			return a.Stations(ctx, f, r.Page)
		}),
		subjectUpdate: handle(func(ctx context.Context, r request, p StationPatch) (any, error) {
			return a.UpdateStation(ctx, r.By, r.Station, p)
		}),
		subjectCancelProfile: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.CancelProfileChange(ctx, r.By, r.Station)
		}),
		subjectOperator: handle(func(ctx context.Context, _ request, _ none) (any, error) { return a.Operator(ctx) }),
		subjectBlock: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.BlockStation(ctx, r.By, r.Station, r.Text)
		}),
		subjectUnblock: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.UnblockStation(ctx, r.By, r.Station)
		}),
		subjectRemove: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return nil, a.RemoveStation(ctx, r.By, r.Station)
		}),
		subjectAttempts: handle(func(ctx context.Context, r request, _ none) (any, error) { return a.Attempts(ctx, r.Station) }),
		subjectRotate: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.RotatePassword(ctx, r.By, r.Station, r.Text)
		}),
		subjectCancel: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.CancelRotation(ctx, r.By, r.Station)
		}),
		subjectIssue: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.IssueStation(ctx, r.By, r.Station, r.Algorithm)
		}),
		subjectSign: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.SignCSR(ctx, r.By, r.Station, r.Text)
		}),
		subjectRevoke: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.RevokeCertificate(ctx, r.By, r.Name, r.Text)
		}),
		subjectCertificate: handle(func(ctx context.Context, r request, _ none) (any, error) { return a.Certificate(ctx, r.Name) }),
		subjectCertificates: handle(func(ctx context.Context, r request, f store.CertificateFilter) (any, error) {
			return a.Certificates(ctx, f, r.Page)
		}),
		subjectImportCA:  handle(func(ctx context.Context, r request, _ none) (any, error) { return a.ImportCA(ctx, r.By, r.Text) }),
		subjectRemoveCA:  handle(func(ctx context.Context, r request, _ none) (any, error) { return nil, a.RemoveCA(ctx, r.By, r.Name) }),
		subjectCAs:       handle(func(ctx context.Context, _ request, _ none) (any, error) { return a.CAs(ctx) }),
		subjectImportCRL: handle(func(ctx context.Context, r request, _ none) (any, error) { return a.ImportCRL(ctx, r.By, r.Text) }),
		subjectRemoveCRL: handle(func(ctx context.Context, r request, _ none) (any, error) { return nil, a.RemoveCRL(ctx, r.By, r.Name) }),
		subjectCRLs:      handle(func(ctx context.Context, _ request, _ none) (any, error) { return a.CRLs(ctx) }),
		subjectPrepareRoot: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.PrepareRoot(ctx, r.By, r.Algorithm)
		}),
		subjectActivateCAs: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.ActivateCAs(ctx, r.By, r.Names...)
		}),
		subjectRetireCA: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.RetireCA(ctx, r.By, r.Name, r.Force)
		}),
		subjectRequestCA: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.RequestCA(ctx, r.By, r.Name, r.Algorithm)
		}),
		subjectImportSigned: handle(func(ctx context.Context, r request, _ none) (any, error) {
			return a.ImportSigned(ctx, r.By, r.Text)
		}),
		subjectExternalCA: handle(func(ctx context.Context, _ request, _ none) (any, error) { return a.ExternalCA(ctx) }),
		subjectAudit:      handle(func(ctx context.Context, r request, f store.AuditFilter) (any, error) { return a.Audit(ctx, f, r.Page) }),
	}
}

// none is the body of a request without one.
type none struct{}

func handle[Body any](fn func(context.Context, request, Body) (any, error)) Handler {
	return func(ctx context.Context, data []byte) ([]byte, error) {
		var r request
		var body Body
		err := json.Unmarshal(data, &r)
		if err == nil && len(r.Body) > 0 {
			err = json.Unmarshal(r.Body, &body)
		}
		var result any
		if err != nil {
			err = invalid("request", "", "not valid: %v", err)
		} else {
			result, err = fn(ctx, r, body)
		}
		var out response
		if err == nil {
			out.Result, err = json.Marshal(result)
		}
		if err != nil {
			out = response{Error: encodeError(err)}
		}
		return json.Marshal(out)
	}
}
