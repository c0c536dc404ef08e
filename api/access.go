package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/store"
)

// NewAPIToken is a token that is shown only now.
type NewAPIToken struct {
	store.APIToken
	Token string `json:"token" doc:"The token itself, shown only now"`
}

func (a *API) registerTokens() {
	const path = "/api/v1/tokens"
	register(a, operation{id: "get-caller", method: "GET", path: "/api/v1/me", role: RoleRead, tag: tagAccess,
		summary: "Show who I am"}, func(ctx context.Context, _ *noInput) (*output[Caller], error) { return answer(callerOf(ctx), nil) })
	register(a, operation{id: "list-tokens", method: "GET", path: path, role: RoleAdmin, tag: tagAccess,
		summary: "List API tokens", detail: "Newest first; those that ended are kept for a year. The admin token of the server's own file is not among them."}, a.listTokens)
	register(a, operation{id: "add-token", method: "POST", path: path, role: RoleAdmin, tag: tagAccess, status: http.StatusCreated,
		summary: "Make an API token", detail: "The answer has the token, once and never again.", errors: []int{http.StatusConflict}}, a.addToken)
	register(a, operation{id: "get-token", method: "GET", path: path + "/{id}", role: RoleAdmin, tag: tagAccess,
		summary: "Show an API token", errors: []int{http.StatusNotFound}}, a.getToken)
	register(a, operation{id: "revoke-token", method: "DELETE", path: path + "/{id}", role: RoleAdmin, tag: tagAccess,
		summary: "Revoke an API token", detail: "For good, at once in this process and within seconds in others. Streams that were opened with it end within a heartbeat.", errors: []int{http.StatusNotFound}}, a.revokeToken)
}

type TokenRef struct {
	ID string `path:"id" maxLength:"36" doc:"Id of the token"`
}

func (a *API) listTokens(ctx context.Context, in *Paging) (*output[Page[store.APIToken]], error) {
	return paged(a.cfg.CSMS.Record().APITokens(ctx, in.page()))
}

func (a *API) getToken(ctx context.Context, in *TokenRef) (*output[store.APIToken], error) {
	t, err := a.cfg.CSMS.Record().APIToken(ctx, in.ID)
	if err != nil {
		err = fmt.Errorf("API token %s: %w", in.ID, err)
	}
	return answer(t, err)
}

func (a *API) addToken(ctx context.Context, in *struct {
	Body struct {
		Name      string    `json:"name" pattern:"^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,62}$" doc:"Who uses it; the audit record cites it"`
		Role      Role      `json:"role" enum:"read,operate,admin"`
		ExpiresAt time.Time `json:"expires_at,omitzero" doc:"Absent: never"`
	}
}) (*output[NewAPIToken], error) {
	now := a.cfg.Now()
	if strings.EqualFold(in.Body.Name, adminName) {
		return nil, problem(http.StatusConflict, "the name "+adminName+" is kept for the admin token of the server's own file; choose another one", at("body.name", "taken"))
	}
	if strings.HasPrefix(strings.ToLower(in.Body.Name), peoplePrefix) {
		return nil, problem(http.StatusConflict, "names that begin with "+peoplePrefix+" are kept for people; choose another one", at("body.name", "taken"))
	}
	if !in.Body.ExpiresAt.IsZero() && !in.Body.ExpiresAt.After(now) {
		return nil, problem(http.StatusUnprocessableEntity, "the token would have expired already", at("body.expires_at", "is in the past"))
	}
	token := NewToken()
	t := store.APIToken{Name: in.Body.Name, Role: string(in.Body.Role), CreatedBy: by(ctx), CreatedAt: now, ExpiresAt: in.Body.ExpiresAt, Hash: hashToken(token).String()}
	id, err := a.cfg.CSMS.Record().AddAPIToken(ctx, t)
	if err != nil {
		return nil, err
	}
	t.ID = id
	a.log.Info("API token made", "token", t.Name, "role", t.Role, "by", t.CreatedBy)
	// Else it works from the next reading on.
	if err := a.tokens.load(ctx); err != nil {
		a.log.Error("read API tokens", "err", err)
	}
	return answer(NewAPIToken{t, token}, nil)
}

func (a *API) revokeToken(ctx context.Context, in *TokenRef) (*output[store.APIToken], error) {
	if err := a.cfg.CSMS.Record().RevokeAPIToken(ctx, in.ID, by(ctx), a.cfg.Now()); err != nil {
		return nil, err
	}
	// A revoked token that still works must not look revoked.
	if err := a.tokens.load(ctx); err != nil {
		return nil, err
	}
	a.log.Info("API token revoked", "id", in.ID, "by", by(ctx))
	return a.getToken(ctx, in)
}
