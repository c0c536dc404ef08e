package api

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

func (a *API) registerAudit() {
	register(a, operation{id: "list-audit", method: "GET", path: "/api/v1/audit", role: RoleRead, tag: tagAccess,
		summary: "List who changed what", detail: "Newest first: stations, credentials, certificates, trust, ID tokens, API tokens. CALLs to stations are listed by list-commands."}, a.listAudit)
}

type listAuditInput struct {
	Paging
	Station string `query:"station" maxLength:"255" doc:"Only about this station"`
	By      string `query:"by" maxLength:"255" doc:"Only of this caller"`
	Action  string `query:"action" maxLength:"64" doc:"Only of this kind, such as station.add"`
}

func (a *API) listAudit(ctx context.Context, in *listAuditInput) (*output[Page[store.AuditEntry]], error) {
	f, p := store.AuditFilter{Station: ocpp.StationID(in.Station), By: in.By, Action: in.Action}, in.page()
	theirs, err := collect(ctx, p, func(ctx context.Context, p store.Page) (store.List[store.AuditEntry], error) {
		return a.cfg.Authority.Audit(ctx, f, p)
	}, nil)
	if err != nil {
		return nil, err
	}
	ours, err := a.cfg.CSMS.Record().Audit(ctx, f, p)
	if err != nil {
		return nil, err
	}
	return paged(store.MergeAudit(p, theirs, ours), nil)
}

// audit records what the authority does not know of, once it is done.
func (a *API) audit(ctx context.Context, action string, station ocpp.StationID, subject, detail string) {
	e := store.AuditEntry{At: a.cfg.Now(), By: by(ctx), Action: action, Station: station, Subject: subject, Detail: detail}
	if err := a.cfg.CSMS.Record().AddAudit(context.WithoutCancel(ctx), e); err != nil {
		a.log.Error("not in the audit record", "action", action, "station", station, "by", e.By, "err", err)
	}
}
