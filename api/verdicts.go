package api

import (
	"context"

	"holdfast/store"
)

func (a *API) registerVerdicts() {
	register(a, operation{id: "list-verdicts", method: "GET", path: "/api/v1/verdicts", role: RoleRead, tag: tagMemory,
		summary: "List what leaks",
		detail:  "The verdicts of the leak detectors of all processes, and of the comparison of gateways, those that changed last first. A verdict stays when it ended. 10,000 are kept."}, a.listVerdicts)
}

type listVerdictsInput struct {
	Paging
	Process string `query:"process" maxLength:"255" doc:"Only of this process"`
	Class   string `query:"class" maxLength:"64" doc:"Only of this class, such as heap_live"`
	Open    bool   `query:"open" doc:"Only those that have not ended"`
}

func (a *API) listVerdicts(ctx context.Context, in *listVerdictsInput) (*output[Page[store.LeakVerdict]], error) {
	return paged(a.cfg.CSMS.Record().LeakVerdicts(ctx, store.LeakVerdictFilter{Process: in.Process, Class: in.Class, Open: in.Open}, in.page()))
}
