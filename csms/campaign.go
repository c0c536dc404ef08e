package csms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// Limits of campaigns.
const (
	// MaxCampaignStations is how many stations a campaign may name one by one.
	MaxCampaignStations = 1000
	// MaxPerMinute is the fastest pace.
	MaxPerMinute = 6000
	// defaultPerMinute and defaultFailures are for a campaign that says nothing.
	defaultPerMinute = 60
	defaultFailures  = 10
	// campaignPage is how many stations are read and entered at a time.
	campaignPage = 200
)

// NewCampaign says what is done to which stations, and how fast.
type NewCampaign struct {
	Kind   string          `json:"kind" enum:"renew-certificate,rotate-password,change-profile,install-root" doc:"What is done to each station"`
	Params OperationParams `json:"params,omitzero" doc:"What is wanted, by kind"`
	// Stations, or those that the fields below choose.
	Stations []ocpp.StationID     `json:"stations,omitempty" maxItems:"1000" doc:"These stations; absent: those that the other fields choose"`
	Profile  ocpp.SecurityProfile `json:"profile,omitempty" enum:"1,2,3" doc:"Stations that are registered for this security profile; renew-certificate: default 3"`
	Search   string               `json:"search,omitempty" maxLength:"255" doc:"Stations with this in their identity or serial number"`
	Labels   map[string]string    `json:"labels,omitempty" doc:"Stations with all of these labels"`
	Expiring int                  `json:"expiring,omitempty" minimum:"1" maximum:"3650" doc:"renew-certificate: stations whose certificate expires within this number of days"`
	// PerMinute zero means 60.
	PerMinute int `json:"per_minute,omitempty" minimum:"0" maximum:"6000" doc:"How many operations begin per minute; default 60"`
	// MaxFailures nil means 10.
	MaxFailures *int `json:"max_failures,omitempty" minimum:"0" maximum:"1000000" doc:"The campaign halts when more operations than this have failed; default 10"`
}

// CampaignState is a campaign with how far it is.
type CampaignState struct {
	store.Campaign
	Stations  int            `json:"stations" doc:"How many it has"`
	Progress  map[string]int `json:"progress" doc:"Its operations by status"`
	ExpectEnd time.Time      `json:"expect_end,omitzero" doc:"When its last operation begins at this pace"`
}

// StartCampaign chooses stations, enters an operation for each, and begins them at
// a pace. Stations for which the operation makes no sense, or that have one of
// its kind under way, stay out.
func (c *CSMS) StartCampaign(ctx context.Context, k NewCampaign, by string) (CampaignState, error) {
	kind, params, err := c.checkOperation(k.Kind, k.Params)
	if err != nil {
		return CampaignState{}, err
	}
	switch {
	case k.Kind == Onboard:
		return CampaignState{}, &InvalidOperation{"kind", "an onboarding begins by itself when its station comes: start it for each station"}
	case k.PerMinute < 0 || k.PerMinute > MaxPerMinute:
		return CampaignState{}, &InvalidOperation{"per_minute", fmt.Sprintf("want 1 to %d", MaxPerMinute)}
	case len(k.Stations) > MaxCampaignStations:
		return CampaignState{}, &InvalidOperation{"stations", fmt.Sprintf("at most %d: choose them by label instead", MaxCampaignStations)}
	case k.Expiring != 0 && k.Kind != RenewCertificate:
		return CampaignState{}, &InvalidOperation{"expiring", "goes with renew-certificate only"}
	}
	if k.PerMinute == 0 {
		k.PerMinute = defaultPerMinute
	}
	if k.Kind == RenewCertificate && k.Profile == 0 {
		k.Profile = ocpp.ProfileMTLS // others have no use for a certificate now
	}
	failures := defaultFailures
	if k.MaxFailures != nil {
		failures = *k.MaxFailures
	}
	recorded, err := c.store.AddCampaign(ctx, store.Campaign{Kind: k.Kind, Status: store.CampaignChoosing, By: clip(by, maxText), Params: params,
		PerMinute: k.PerMinute, MaxFailures: failures, CreatedAt: c.now(), TimeLimit: c.settings.OperationTime})
	if err != nil {
		return CampaignState{}, fmt.Errorf("start campaign: %w", err)
	}
	total := 0
	err = c.choose(ctx, k, func(stations []store.Station) error {
		var operations []store.Operation
		for _, s := range stations {
			if checkFor(s, k.Kind, k.Params) != nil {
				continue
			}
			o := c.newOperation(s.ID, k.Kind, kind, params, by)
			o.Campaign, o.StepAt, o.StartedAt, o.Deadline = recorded.ID, time.Time{}, time.Time{}, time.Time{}
			operations = append(operations, o)
		}
		n, err := c.store.QueueOperations(ctx, operations)
		total += n
		return err
	})
	if err == nil && total == 0 {
		err = &InvalidOperation{"kind", fmt.Sprintf("no station is chosen for which %s makes sense and is not under way", k.Kind)}
	}
	if err == nil {
		recorded, err = c.store.RunCampaign(ctx, recorded.ID, c.now())
	}
	if err != nil { // what was entered is of no use
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if _, undo := c.store.CancelCampaign(last, recorded.ID, by, c.now()); undo != nil {
			c.log.Error("campaign not cancelled", "campaign", recorded.ID, "err", undo)
		}
		return CampaignState{}, fmt.Errorf("start campaign: %w", err)
	}
	c.log.Info("campaign started", "campaign", recorded.ID, "kind", recorded.Kind, "stations", total, "per_minute", recorded.PerMinute, "by", recorded.By)
	c.wakeOperations()
	return c.campaignState(ctx, recorded, nil)
}

// choose calls each with the stations of a campaign, page by page.
func (c *CSMS) choose(ctx context.Context, k NewCampaign, each func([]store.Station) error) error {
	if len(k.Stations) > 0 {
		for _, id := range k.Stations {
			s, err := c.authority.Station(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				return &InvalidOperation{"stations", fmt.Sprintf("station %.64q is not registered", id)}
			}
			if err != nil {
				return err
			}
			if err := each([]store.Station{s}); err != nil {
				return err
			}
		}
		return nil
	}
	expiring, err := c.expiring(ctx, k.Expiring)
	if err != nil {
		return err
	}
	for page := (store.Page{Limit: campaignPage}); ; {
		l, err := c.authority.Stations(ctx, store.StationFilter{Search: k.Search, Profile: k.Profile}, page)
		if err != nil {
			return err
		}
		var chosen []store.Station
		for _, s := range l.Items {
			if hasLabels(s, k.Labels) && (k.Expiring == 0 || expiring[s.ID.Fold()]) {
				chosen = append(chosen, s)
			}
		}
		if err := each(chosen); err != nil || l.Next == "" {
			return err
		}
		page.After = l.Next
	}
}

// expiring are the stations with a certificate that is used and expires within
// days; expired ones count.
func (c *CSMS) expiring(ctx context.Context, days int) (map[string]bool, error) {
	stations := make(map[string]bool)
	if days == 0 {
		return stations, nil
	}
	f := store.CertificateFilter{Status: store.StatusActive, Kind: store.KindStation, ExpiresBefore: c.now().Add(time.Duration(days) * 24 * time.Hour)}
	for page := (store.Page{Limit: campaignPage}); ; {
		l, err := c.authority.Certificates(ctx, f, page)
		if err != nil {
			return nil, err
		}
		for _, cert := range l.Items {
			stations[cert.Station.Fold()] = true
		}
		if l.Next == "" {
			return stations, nil
		}
		page.After = l.Next
	}
}

func hasLabels(s store.Station, labels map[string]string) bool {
	for name, value := range labels {
		if s.Labels[name] != value {
			return false
		}
	}
	return true
}

// Campaign returns a campaign with how far it is.
func (c *CSMS) Campaign(ctx context.Context, id string) (CampaignState, error) {
	k, err := c.store.Campaign(ctx, id)
	return c.campaignState(ctx, k, err)
}

// CancelCampaign ends a campaign: no more operations begin, those under way go on.
func (c *CSMS) CancelCampaign(ctx context.Context, id, by string) (CampaignState, error) {
	k, err := c.store.CancelCampaign(ctx, id, clip(by, maxText), c.now())
	return c.campaignState(ctx, k, err)
}

// ResumeCampaign goes on with a campaign that halted.
func (c *CSMS) ResumeCampaign(ctx context.Context, id string) (CampaignState, error) {
	k, err := c.store.RunCampaign(ctx, id, c.now())
	if err == nil {
		c.wakeOperations()
	}
	return c.campaignState(ctx, k, err)
}

func (c *CSMS) campaignState(ctx context.Context, k store.Campaign, err error) (CampaignState, error) {
	if err != nil {
		return CampaignState{}, err
	}
	counts, err := c.store.CampaignProgress(ctx, k.ID)
	if err != nil {
		return CampaignState{}, err
	}
	state := CampaignState{Campaign: k, Progress: make(map[string]int)}
	for status, n := range counts {
		state.Stations += n
		state.Progress[string(status)] = n
	}
	if queued := counts[store.OperationQueued]; queued > 0 && k.Status == store.CampaignRunning {
		state.ExpectEnd = c.now().Add(time.Duration(queued) * time.Minute / time.Duration(max(k.PerMinute, 1))).Truncate(time.Second)
	}
	return state, nil
}
