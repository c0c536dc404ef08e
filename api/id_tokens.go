package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/store"
)

// IDTokenFields are what an operator says of an ID token.
type IDTokenFields struct {
	Type      string    `json:"type,omitempty" maxLength:"20" doc:"Type of OCPP 2.x, such as ISO14443; only informative"`
	Status    string    `json:"status,omitempty" enum:"Accepted,Blocked" default:"Accepted"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"Absent: never"`
	Group     string    `json:"group,omitempty" maxLength:"255" doc:"Group token (parentIdTag of OCPP 1.6)"`
	Note      string    `json:"note,omitempty" maxLength:"255"`
}

const idTokenPath = "/api/v1/id-tokens/{token}"

func (a *API) registerIDTokens() {
	register(a, operation{id: "list-id-tokens", method: "GET", path: "/api/v1/id-tokens", role: RoleRead, tag: tagIDTokens,
		summary: "List ID tokens"}, a.listIDTokens)
	register(a, operation{id: "get-id-token", method: "GET", path: idTokenPath, role: RoleRead, tag: tagIDTokens,
		summary: "Show an ID token", errors: []int{http.StatusNotFound}}, a.getIDToken)
	register(a, operation{id: "put-id-token", method: "PUT", path: idTokenPath, role: RoleOperate, tag: tagIDTokens,
		summary: "Add or replace an ID token", detail: "Values are compared without regard to case."}, a.putIDToken)
	register(a, operation{id: "remove-id-token", method: "DELETE", path: idTokenPath, role: RoleOperate, tag: tagIDTokens,
		summary: "Remove an ID token", detail: "Transactions keep its value. To refuse it, set its status to Blocked.", errors: []int{http.StatusNotFound}}, a.removeIDToken)
}

type IDTokenRef struct {
	Token string `path:"token" minLength:"1" maxLength:"255" doc:"Value of the ID token, percent-encoded"`
}

func (a *API) listIDTokens(ctx context.Context, in *Paging) (*output[Page[store.IDToken]], error) {
	return paged(a.cfg.CSMS.Record().IDTokens(ctx, in.page()))
}

func (a *API) getIDToken(ctx context.Context, in *IDTokenRef) (*output[store.IDToken], error) {
	t, err := a.cfg.CSMS.Record().IDToken(ctx, in.Token)
	if err != nil {
		err = fmt.Errorf("ID token %s: %w", in.Token, err)
	}
	return answer(t, err)
}

// maxIDTokenText is the longest of an ID token's texts, in bytes.
const maxIDTokenText = 255

func (a *API) putIDToken(ctx context.Context, in *struct {
	IDTokenRef
	Body IDTokenFields
}) (*output[store.IDToken], error) {
	f := in.Body
	in.Token = strings.TrimSpace(in.Token)
	if in.Token == "" {
		return nil, problem(http.StatusUnprocessableEntity, "the ID token is blank", at("path.token", "is blank"))
	}
	for location, text := range map[string]string{"path.token": in.Token, "body.group": f.Group, "body.note": f.Note} {
		if len(text) > maxIDTokenText {
			return nil, problem(http.StatusUnprocessableEntity, "a text is too long: at most 255 bytes of UTF-8", at(location, "is too long"))
		}
	}
	t := store.IDToken{Token: in.Token, Type: f.Type, Status: f.Status, ExpiresAt: f.ExpiresAt, Group: f.Group, Note: f.Note}
	if err := a.cfg.CSMS.PutIDToken(ctx, t); err != nil {
		return nil, err
	}
	a.audit(ctx, "id_token.put", "", in.Token, cmp.Or(f.Status, "Accepted"))
	return a.getIDToken(ctx, &in.IDTokenRef)
}

func (a *API) removeIDToken(ctx context.Context, in *IDTokenRef) (*struct{}, error) {
	if err := a.cfg.CSMS.RemoveIDToken(ctx, in.Token); err != nil {
		return nil, err
	}
	a.audit(ctx, "id_token.remove", "", in.Token, "")
	return nil, nil
}
