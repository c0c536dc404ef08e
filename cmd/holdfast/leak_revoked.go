package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/identity"
	"holdfast/ocpp"
)

// revokedStations is how many stations with a revoked certificate a Holdfast
// registers for a hunt, and revocationTime how long it may take to heed that.
const (
	revokedStations = 8
	revocationTime  = 15 * time.Second
)

// revoked are the stations that the server has to refuse for their certificates:
// those of a directory, or some of a Holdfast that are registered and revoked.
// Nil without the activity.
func (c *leakHunt) revoked(e *env, profiles []ocpp.SecurityProfile) ([]fleet.Identity, error) {
	if !slices.Contains(c.Activities, "revoked") {
		return nil, nil
	}
	if !slices.Contains(profiles, ocpp.ProfileMTLS) {
		return nil, &usageError{"--activities revoked: certificates are of security profile 3, there is no --target of it"}
	}
	mtls := []ocpp.SecurityProfile{ocpp.ProfileMTLS}
	if c.Revoked != "" {
		list, err := identity.Folder(e.ctx, c.Revoked, mtls, []ocpp.Version{c.Version})
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("--revoked %s: no certificates, want ID.crt and ID.key", c.Revoked)
		}
		return list, err
	}
	if c.CACert != "" || c.Identities != "" {
		return nil, &usageError{"--activities revoked: which certificates are they? Give --revoked, or let a Holdfast register the stations (--url)"}
	}
	list, err := identity.Plan{Stations: revokedStations, ID: "REVOKED-" + identity.Template(c.ID), Profiles: mtls, Versions: []ocpp.Version{c.Version}}.Identities()
	if err != nil {
		return nil, err
	}
	cl, err := (&clientFlags{URL: c.URL, Token: c.Token, Data: c.Data}).client()
	if err != nil {
		return nil, err
	}
	return list, identity.Fill(e.ctx, list, registering, func(ctx context.Context, _ int, id *fleet.Identity) error {
		if err := registerAnew(ctx, cl, id); err != nil {
			return err
		}
		serial := fmt.Sprintf("%x", id.Certificate.Leaf.SerialNumber)
		return cl.do(ctx, http.MethodPost, "/api/v1/certificates/"+url.PathEscape(serial)+"/revoke", nil, map[string]string{"reason": "cessation_of_operation"}, nil)
	})
}

// awaitRefusal waits until the server refuses the revoked stations.
func (h *hunter) awaitRefusal(ctx context.Context) error {
	until := time.Now().Add(revocationTime)
	for _, id := range h.revoked {
		for h.comeRevoked(ctx, nil, id, 0) != nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			if time.Now().After(until) {
				return fmt.Errorf("station %s is admitted with a certificate that is said to be revoked", id)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// comeRevoked tries to connect, in vain.
func (h *hunter) comeRevoked(ctx context.Context, _ *cohort, id ocpp.StationID, _ uint64) error {
	return probing(fleet.CleanClose)(h, ctx, nil, id, 0)
}
