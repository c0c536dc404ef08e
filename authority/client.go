package authority

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// Client calls an authority that is elsewhere. Its methods are those of
// Authority and fail as they do; an error of Do comes back wrapped.
type Client struct {
	// Do sends data to the Handler of subject and returns its answer.
	Do func(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// call sends a request and decodes the result into one of type T.
func call[T any](ctx context.Context, c *Client, subject string, r request, body any) (result T, err error) {
	if body != nil {
		if r.Body, err = json.Marshal(body); err != nil {
			return result, fmt.Errorf("authority %s: %w", subject, err)
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		return result, fmt.Errorf("authority %s: %w", subject, err)
	}
	answer, err := c.Do(ctx, subject, data)
	if err != nil {
		return result, fmt.Errorf("authority %s: %w", subject, err)
	}
	var out response
	if err := json.Unmarshal(answer, &out); err != nil {
		return result, fmt.Errorf("authority %s: answer: %w", subject, err)
	}
	if out.Error != nil {
		return result, out.Error
	}
	if err := json.Unmarshal(out.Result, &result); err != nil {
		return result, fmt.Errorf("authority %s: answer: %w", subject, err)
	}
	return result, nil
}

// Admit is Authority.Admit.
func (c *Client) Admit(ctx context.Context, credentials ocpp.Credentials) (ocpp.Decision, error) {
	return call[ocpp.Decision](ctx, c, subjectAdmit, request{}, credentials)
}

// Note is Authority.Note.
func (c *Client) Note(ctx context.Context, n Refusal) error {
	_, err := call[none](ctx, c, subjectNote, request{}, n)
	return err
}

// Trust is Authority.Trust.
func (c *Client) Trust(ctx context.Context) (Trust, error) {
	return call[Trust](ctx, c, subjectTrust, request{}, nil)
}

// TicketKeys is Authority.TicketKeys.
func (c *Client) TicketKeys(ctx context.Context) (TicketKeys, error) {
	return call[TicketKeys](ctx, c, subjectTickets, request{}, nil)
}

// ServerCertificate is Authority.ServerCertificate.
func (c *Client) ServerCertificate(ctx context.Context, by, csr string, names []string) (Signed, error) {
	return call[Signed](ctx, c, subjectServer, request{By: by, Text: csr, Names: names}, nil)
}

// AddStation is Authority.AddStation.
func (c *Client) AddStation(ctx context.Context, by string, n NewStation) (Added, error) {
	return call[Added](ctx, c, subjectAdd, request{By: by}, n)
}

// Station is Authority.Station.
func (c *Client) Station(ctx context.Context, id ocpp.StationID) (store.Station, error) {
	return call[store.Station](ctx, c, subjectGet, request{Station: id}, nil)
}

// Stations is Authority.Stations.
func (c *Client) Stations(ctx context.Context, f store.StationFilter, p store.Page) (store.List[store.Station], error) {
	return call[store.List[store.Station]](ctx, c, subjectList, request{Page: p}, f)
}

// UpdateStation is Authority.UpdateStation.
func (c *Client) UpdateStation(ctx context.Context, by string, id ocpp.StationID, p StationPatch) (store.Station, error) {
	return call[store.Station](ctx, c, subjectUpdate, request{By: by, Station: id}, p)
}

// CancelProfileChange is Authority.CancelProfileChange.
func (c *Client) CancelProfileChange(ctx context.Context, by string, id ocpp.StationID) (store.Station, error) {
	return call[store.Station](ctx, c, subjectCancelProfile, request{By: by, Station: id}, nil)
}

// Operator is Authority.Operator.
func (c *Client) Operator(ctx context.Context) (string, error) {
	return call[string](ctx, c, subjectOperator, request{}, nil)
}

// BlockStation is Authority.BlockStation.
func (c *Client) BlockStation(ctx context.Context, by string, id ocpp.StationID, reason string) (store.Station, error) {
	return call[store.Station](ctx, c, subjectBlock, request{By: by, Station: id, Text: reason}, nil)
}

// UnblockStation is Authority.UnblockStation.
func (c *Client) UnblockStation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error) {
	return call[store.Station](ctx, c, subjectUnblock, request{By: by, Station: id}, nil)
}

// RemoveStation is Authority.RemoveStation.
func (c *Client) RemoveStation(ctx context.Context, by string, id ocpp.StationID) error {
	_, err := call[none](ctx, c, subjectRemove, request{By: by, Station: id}, nil)
	return err
}

// Attempts is Authority.Attempts.
func (c *Client) Attempts(ctx context.Context, id ocpp.StationID) ([]store.Attempt, error) {
	return call[[]store.Attempt](ctx, c, subjectAttempts, request{Station: id}, nil)
}

// RotatePassword is Authority.RotatePassword.
func (c *Client) RotatePassword(ctx context.Context, by string, id ocpp.StationID, password string) (Rotated, error) {
	return call[Rotated](ctx, c, subjectRotate, request{By: by, Station: id, Text: password}, nil)
}

// CancelRotation is Authority.CancelRotation.
func (c *Client) CancelRotation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error) {
	return call[store.Station](ctx, c, subjectCancel, request{By: by, Station: id}, nil)
}

// IssueStation is Authority.IssueStation.
func (c *Client) IssueStation(ctx context.Context, by string, id ocpp.StationID, algorithm pki.Algorithm) (Issued, error) {
	return call[Issued](ctx, c, subjectIssue, request{By: by, Station: id, Algorithm: algorithm}, nil)
}

// SignCSR is Authority.SignCSR.
func (c *Client) SignCSR(ctx context.Context, by string, id ocpp.StationID, csr string) (Signed, error) {
	return call[Signed](ctx, c, subjectSign, request{By: by, Station: id, Text: csr}, nil)
}

// RevokeCertificate is Authority.RevokeCertificate.
func (c *Client) RevokeCertificate(ctx context.Context, by, serial, reason string) (store.Certificate, error) {
	return call[store.Certificate](ctx, c, subjectRevoke, request{By: by, Name: serial, Text: reason}, nil)
}

// Certificate is Authority.Certificate.
func (c *Client) Certificate(ctx context.Context, serial string) (store.Certificate, error) {
	return call[store.Certificate](ctx, c, subjectCertificate, request{Name: serial}, nil)
}

// Certificates is Authority.Certificates.
func (c *Client) Certificates(ctx context.Context, f store.CertificateFilter, p store.Page) (store.List[store.Certificate], error) {
	return call[store.List[store.Certificate]](ctx, c, subjectCertificates, request{Page: p}, f)
}

// ImportCA is Authority.ImportCA.
func (c *Client) ImportCA(ctx context.Context, by, pem string) ([]store.CA, error) {
	return call[[]store.CA](ctx, c, subjectImportCA, request{By: by, Text: pem}, nil)
}

// RemoveCA is Authority.RemoveCA.
func (c *Client) RemoveCA(ctx context.Context, by, fingerprint string) error {
	_, err := call[none](ctx, c, subjectRemoveCA, request{By: by, Name: fingerprint}, nil)
	return err
}

// CAs is Authority.CAs.
func (c *Client) CAs(ctx context.Context) ([]store.CA, error) {
	return call[[]store.CA](ctx, c, subjectCAs, request{}, nil)
}

// ImportCRL is Authority.ImportCRL.
func (c *Client) ImportCRL(ctx context.Context, by, text string) (store.CRL, error) {
	return call[store.CRL](ctx, c, subjectImportCRL, request{By: by, Text: text}, nil)
}

// RemoveCRL is Authority.RemoveCRL.
func (c *Client) RemoveCRL(ctx context.Context, by, ca string) error {
	_, err := call[none](ctx, c, subjectRemoveCRL, request{By: by, Name: ca}, nil)
	return err
}

// CRLs is Authority.CRLs.
func (c *Client) CRLs(ctx context.Context) ([]store.CRL, error) {
	return call[[]store.CRL](ctx, c, subjectCRLs, request{}, nil)
}

// Audit is Authority.Audit.
func (c *Client) Audit(ctx context.Context, f store.AuditFilter, p store.Page) (store.List[store.AuditEntry], error) {
	return call[store.List[store.AuditEntry]](ctx, c, subjectAudit, request{Page: p}, f)
}

// PrepareRoot is Authority.PrepareRoot.
func (c *Client) PrepareRoot(ctx context.Context, by string, algorithm pki.Algorithm) (Successor, error) {
	return call[Successor](ctx, c, subjectPrepareRoot, request{By: by, Algorithm: algorithm}, nil)
}

// ActivateCAs is Authority.ActivateCAs.
func (c *Client) ActivateCAs(ctx context.Context, by string, fingerprints ...string) ([]store.CA, error) {
	return call[[]store.CA](ctx, c, subjectActivateCAs, request{By: by, Names: fingerprints}, nil)
}

// RetireCA is Authority.RetireCA.
func (c *Client) RetireCA(ctx context.Context, by, fingerprint string, force bool) ([]store.CA, error) {
	return call[[]store.CA](ctx, c, subjectRetireCA, request{By: by, Name: fingerprint, Force: force}, nil)
}

// RequestCA is Authority.RequestCA.
func (c *Client) RequestCA(ctx context.Context, by, role string, algorithm pki.Algorithm) (CARequest, error) {
	return call[CARequest](ctx, c, subjectRequestCA, request{By: by, Name: role, Algorithm: algorithm}, nil)
}

// ImportSigned is Authority.ImportSigned.
func (c *Client) ImportSigned(ctx context.Context, by, text string) ([]store.CA, error) {
	return call[[]store.CA](ctx, c, subjectImportSigned, request{By: by, Text: text}, nil)
}

// ExternalCA is Authority.ExternalCA.
func (c *Client) ExternalCA(ctx context.Context) (ExternalCA, error) {
	return call[ExternalCA](ctx, c, subjectExternalCA, request{}, nil)
}
