package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/api"
	"holdfast/fleet"
	"holdfast/fleet/identity"
	"holdfast/fleet/scenario"
	"holdfast/ocpp"
)

// asksOperator reports whether the run talks to Holdfast's operator API.
func (c *fleetRun) asksOperator() bool { return c.Operator || c.registers() }

// registers reports whether the stations' credentials come from that API.
func (c *fleetRun) registers() bool { return c.CACert == "" && c.Identities == "" && c.Password == "" }

// stations makes the stations of the plan, with credentials for those of this
// process.
func (c *fleetRun) stations(e *env, operator *fleetOperator, cfg *scenario.Config) error {
	s := cfg.Scenario
	shard, shards, err := c.shard()
	if err != nil {
		return err
	}
	if c.Identities != "" {
		list, err := identity.Folder(e.ctx, c.Identities, s.Profiles, s.Versions)
		if err != nil {
			return err
		}
		if s.Stations = len(list); c.Stations > 0 && c.Stations < len(list) {
			list, s.Stations = list[:c.Stations], c.Stations
		}
		cfg.Stations = s.Assign(list, true)
	} else {
		plan := identity.Plan{Stations: s.Stations, ID: c.Template}
		if plan.ID == "" {
			plan.ID = identity.Template(strings.ReplaceAll(c.Prefix, "%", "%%") + "-%05d")
		}
		list, err := plan.Identities()
		if err != nil {
			return &usageError{err.Error()}
		}
		cfg.Stations = s.Assign(list, false)
	}
	first, end := len(cfg.Stations)*(shard-1)/shards, len(cfg.Stations)*shard/shards
	if first == end {
		return &usageError{fmt.Sprintf("--shard %s: no stations of %d are left for it", c.Shard, len(cfg.Stations))}
	}
	cfg.Mine = func(i int) bool { return i >= first && i < end }
	if operator != nil {
		if err := operator.addTokens(e.ctx, s); err != nil {
			return err
		}
	}
	if c.Identities != "" {
		return nil
	}
	return c.credentials(e, operator, s, cfg.Stations, first, end)
}

// credentials fills those of the stations from first to end.
func (c *fleetRun) credentials(e *env, operator *fleetOperator, s *scenario.Scenario, stations []scenario.Station, first, end int) error {
	mine := make([]fleet.Identity, end-first)
	for i := range mine {
		mine[i] = stations[first+i].Identity
	}
	keyOf := func(i int) string { return s.Cohorts[stations[first+i].Cohort].TLS.Key }
	parallel := 0
	var fill func(context.Context, int, *fleet.Identity) error
	if c.registers() {
		parallel = registering
		fill = func(ctx context.Context, i int, id *fleet.Identity) error {
			return operator.register(ctx, id, keyOf(i))
		}
	} else {
		var err error
		if fill, err = c.mint(e.ctx, len(stations), first, keyOf, mine); err != nil {
			return err
		}
	}
	var filled atomic.Int64
	watched, stop := context.WithCancel(e.ctx)
	var watching sync.WaitGroup
	watching.Go(func() { progress(watched, e, &filled, len(mine)) })
	err := identity.Fill(e.ctx, mine, parallel, func(ctx context.Context, i int, id *fleet.Identity) error {
		err := fill(ctx, i, id)
		filled.Add(1)
		return err
	})
	stop()
	watching.Wait()
	if err != nil {
		return err
	}
	for i := range mine {
		stations[first+i].Identity = mine[i]
	}
	return nil
}

// progress tells now and then how many stations have credentials, until ctx ends.
func progress(ctx context.Context, e *env, filled *atomic.Int64, of int) {
	tick := time.NewTicker(lineEvery * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !e.json {
				fmt.Fprintf(e.stdout, "credentials for %d of %d stations\n", filled.Load(), of)
			}
		case <-ctx.Done():
			return
		}
	}
}

// mint returns what makes credentials with the user's CA and password template.
func (c *fleetRun) mint(ctx context.Context, stations, first int, keyOf func(int) string, mine []fleet.Identity) (func(context.Context, int, *fleet.Identity) error, error) {
	withTLS := slices.ContainsFunc(mine, func(id fleet.Identity) bool { return id.Profile == ocpp.ProfileMTLS })
	withPassword := slices.ContainsFunc(mine, func(id fleet.Identity) bool { return id.Profile != ocpp.ProfileMTLS })
	switch {
	case withTLS && c.CACert == "":
		return nil, &usageError{"stations of security profile 3 need --ca-cert and --ca-key, or give other --profiles"}
	case withPassword && c.Password == "":
		return nil, &usageError{"stations of security profiles 1 and 2 need --password, or give --profiles 3"}
	}
	password := identity.Password(identity.Plan{}, c.Password)
	fill := func(ctx context.Context, i int, id *fleet.Identity) error {
		if id.Profile == ocpp.ProfileMTLS {
			return nil
		}
		return password(ctx, first+i, id)
	}
	if !withTLS {
		return fill, nil
	}
	ca, err := identity.LoadCA(c.CACert, c.CAKey)
	if err != nil {
		return nil, err
	}
	keys := make(map[ocpp.StationID]identity.KeyKind)
	for i := range mine {
		if keyOf(i) == string(identity.RSA) {
			keys[mine[i].ID] = identity.RSA
		}
	}
	certificate, err := ca.Filler(ctx, identity.Plan{Stations: stations}, func(id *fleet.Identity) identity.Leaf { return identity.Leaf{Key: keys[id.ID]} }, len(keys) > 0)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, i int, id *fleet.Identity) error {
		return errors.Join(fill(ctx, i, id), certificate(ctx, first+i, id))
	}, nil
}

// registering is how many stations are registered at a time.
const registering = 16

// register adds a station to the server; one of an earlier run gets new
// credentials. key is the kind of its key.
func (o *fleetOperator) register(ctx context.Context, id *fleet.Identity, key string) error {
	body := map[string]any{"id": id.ID, "profile": id.Profile}
	if key != "" && id.Profile == ocpp.ProfileMTLS {
		body["algorithm"] = key
	}
	var added api.AddedStation
	add := func() error { return o.do(ctx, http.MethodPost, "/api/v1/stations", nil, body, &added) }
	err := add()
	if problem, ok := errors.AsType[*apiError](err); ok && problem.Status == http.StatusConflict {
		if err = o.do(ctx, http.MethodDelete, stationURL(string(id.ID)), nil, nil, nil); err == nil {
			err = add()
		}
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	id.Password = added.Password
	if added.Certificate != nil {
		pair, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		pair.Leaf = nil // parsed again when it is needed
		id.Certificate = &pair
	}
	return nil
}

// addTokens makes the server accept the drivers' ID tokens.
func (o *fleetOperator) addTokens(ctx context.Context, s *scenario.Scenario) error {
	for _, tag := range s.IDTags() {
		err := o.do(ctx, http.MethodPut, "/api/v1/id-tokens/"+url.PathEscape(tag), nil, map[string]any{"status": "Accepted"}, nil)
		if err != nil {
			return fmt.Errorf("add ID token %s: %w", tag, err)
		}
	}
	return nil
}
