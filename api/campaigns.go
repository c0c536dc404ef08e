package api

import (
	"context"
	"net/http"

	"holdfast/csms"
	"holdfast/store"
)

func (a *API) registerCampaigns() {
	const path = "/api/v1/campaigns"
	register(a, operation{id: "start-campaign", method: "POST", path: path, role: RoleAdmin, tag: tagOperations, status: http.StatusCreated,
		summary: "Start an operation on many stations, at a pace",
		detail: "Stations that have an operation of the kind under way, or for which it makes no sense, stay out. " +
			"The campaign halts when more operations than max_failures have failed."}, a.startCampaign)
	register(a, operation{id: "list-campaigns", method: "GET", path: path, role: RoleRead, tag: tagOperations,
		summary: "List campaigns", detail: "Newest first."}, a.listCampaigns)
	register(a, operation{id: "get-campaign", method: "GET", path: path + "/{id}", role: RoleRead, tag: tagOperations,
		summary: "Show a campaign and how far it is", detail: "Its operations: GET /api/v1/operations?campaign=ID.", errors: []int{http.StatusNotFound}}, a.getCampaign)
	register(a, operation{id: "cancel-campaign", method: "POST", path: path + "/{id}/cancel", role: RoleAdmin, tag: tagOperations,
		summary: "Cancel a campaign", detail: "No more operations begin; those under way go on. One that is over stays as it is.", errors: []int{http.StatusNotFound}}, a.cancelCampaign)
	register(a, operation{id: "resume-campaign", method: "POST", path: path + "/{id}/resume", role: RoleAdmin, tag: tagOperations,
		summary: "Go on with a campaign that halted", detail: "max_failures more may fail. One that did not halt stays as it is.", errors: []int{http.StatusNotFound}}, a.resumeCampaign)
}

type campaignOutput struct {
	Location string `header:"Location" doc:"Path of the campaign"`
	Body     csms.CampaignState
}

func (a *API) startCampaign(ctx context.Context, in *struct{ Body csms.NewCampaign }) (*campaignOutput, error) {
	k, err := a.cfg.CSMS.StartCampaign(ctx, in.Body, by(ctx))
	if err != nil {
		return nil, err
	}
	a.audit(ctx, "campaign.start", "", k.ID, k.Kind)
	return &campaignOutput{Location: "/api/v1/campaigns/" + k.ID, Body: k}, nil
}

func (a *API) listCampaigns(ctx context.Context, in *struct{ Paging }) (*output[Page[store.Campaign]], error) {
	return paged(a.cfg.CSMS.Record().Campaigns(ctx, in.page()))
}

type CampaignRef struct {
	ID string `path:"id" maxLength:"36" doc:"Id of the campaign"`
}

func (a *API) getCampaign(ctx context.Context, in *CampaignRef) (*output[csms.CampaignState], error) {
	return answer(a.cfg.CSMS.Campaign(ctx, in.ID))
}

func (a *API) cancelCampaign(ctx context.Context, in *CampaignRef) (*output[csms.CampaignState], error) {
	k, err := a.cfg.CSMS.CancelCampaign(ctx, in.ID, by(ctx))
	if err == nil {
		a.audit(ctx, "campaign.cancel", "", k.ID, k.Kind)
	}
	return answer(k, err)
}

func (a *API) resumeCampaign(ctx context.Context, in *CampaignRef) (*output[csms.CampaignState], error) {
	k, err := a.cfg.CSMS.ResumeCampaign(ctx, in.ID)
	if err == nil {
		a.audit(ctx, "campaign.resume", "", k.ID, k.Kind)
	}
	return answer(k, err)
}
