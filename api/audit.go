package api

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

func (a *API) registerAudit() {
	register(a, operation{id: "list-audit", method: "GET", path: "/api/v1/audit", role: RoleRead, tag: tagAccess,
		summary: "List who changed what", detail: "Newest first: stations, credentials, certificates, trust. CALLs to stations are listed by list-commands."}, a.listAudit)
}

type listAuditInput struct {
	Paging
	Station string `query:"station" maxLength:"255" doc:"Only about this station"`
	By      string `query:"by" maxLength:"255" doc:"Only of this caller"`
	Action  string `query:"action" maxLength:"64" doc:"Only of this kind, such as station.add"`
}

func (a *API) listAudit(ctx context.Context, in *listAuditInput) (*output[Page[store.AuditEntry]], error) {
	f := store.AuditFilter{Station: ocpp.StationID(in.Station), By: in.By, Action: in.Action}
	return paged(collect(ctx, in.page(), func(ctx context.Context, p store.Page) (store.List[store.AuditEntry], error) {
		return a.cfg.Authority.Audit(ctx, f, p)
	}, nil))
}
