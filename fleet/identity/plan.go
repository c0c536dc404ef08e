package identity

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// MaxStations bounds a plan: more are several processes.
const MaxStations = 1_000_000

// Plan says which stations there are. Station n is the same whatever part of the
// plan a process runs.
type Plan struct {
	// Stations is how many there are.
	Stations int
	// ID is the template of the identities. Empty means CS-%05d.
	ID Template
	// Serial is the template of the serial numbers. Empty means the identity, cut
	// to 25 characters.
	Serial Text
	// Profiles and Versions are given in turn, the profiles faster. Empty means
	// profile 3, version 1.6.
	Profiles []ocpp.SecurityProfile
	Versions []ocpp.Version
	// Connectors of each station. Zero means 1.
	Connectors int
	// Shard and Shards: this process runs the Shard-th of Shards parts, counted
	// from 1. Zero means all of it.
	Shard, Shards int
}

// Identities are the plan's stations, without credentials.
func (p Plan) Identities() ([]fleet.Identity, error) {
	if p.ID == "" {
		p.ID = "CS-%05d"
	}
	if p.Shards == 0 {
		p.Shard, p.Shards = 1, 1
	}
	switch {
	case p.Stations < 1 || p.Stations > MaxStations:
		return nil, fmt.Errorf("%d stations: 1 to %d", p.Stations, MaxStations)
	case p.Shard < 1 || p.Shard > p.Shards:
		return nil, fmt.Errorf("shard %d of %d: want 1 to %d", p.Shard, p.Shards, p.Shards)
	}
	if err := p.ID.Check(); err != nil {
		return nil, err
	}
	first, end := p.Stations*(p.Shard-1)/p.Shards, p.Stations*p.Shard/p.Shards
	list := make([]fleet.Identity, 0, end-first)
	for i := first; i < end; i++ {
		id := fleet.Identity{ID: p.ID.Station(i + 1), Profile: ocpp.ProfileMTLS, Version: ocpp.V16, Connectors: p.Connectors}
		if n := len(p.Profiles); n > 0 {
			id.Profile = p.Profiles[i%n]
		}
		if n := len(p.Versions); n > 0 {
			id.Version = p.Versions[i/max(1, len(p.Profiles))%n]
		}
		id.Serial = string(id.ID[:min(25, len(id.ID))])
		if p.Serial != "" {
			id.Serial = p.Serial.of(id, i+1)
		}
		list = append(list, id)
	}
	return list, nil
}

// Number is the number of the plan's i-th identity in this shard, from 1.
func (p Plan) Number(i int) int {
	if p.Shards == 0 {
		return i + 1
	}
	return p.Stations*(p.Shard-1)/p.Shards + i + 1
}

// Fill does fill for every identity, at most parallel at a time (zero: one per
// processor), and returns the first error.
func Fill(ctx context.Context, list []fleet.Identity, parallel int, fill func(ctx context.Context, i int, id *fleet.Identity) error) error {
	if parallel == 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	eg, filling := errgroup.WithContext(ctx)
	eg.SetLimit(parallel)
	for i := range list {
		if filling.Err() != nil {
			break
		}
		eg.Go(func() error {
			if err := fill(filling, i, &list[i]); err != nil {
				return fmt.Errorf("station %s: %w", list[i].ID, err)
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// Template makes identities of numbers: text with one %d, such as CS-%05d.
type Template string

// verb is %d with a width, and %% before and after.
var verb = regexp.MustCompile(`^([^%]|%%)*%0?[0-9]?d([^%]|%%)*$`)

// Check reports what is wrong with the template.
func (t Template) Check() error {
	if !verb.MatchString(string(t)) {
		return fmt.Errorf("identity template %q: want text with one %%d for the number, such as CS-%%05d", string(t))
	}
	return t.Station(1).Check()
}

// Station is the identity of station n.
func (t Template) Station(n int) ocpp.StationID {
	return ocpp.StationID(fmt.Sprintf(string(t), n))
}

// Text is a template of what a station says of itself: {id}, {serial} and {n}
// stand for its identity, its serial number and its number.
type Text string

func (t Text) of(id fleet.Identity, n int) string {
	return strings.NewReplacer("{id}", string(id.ID), "{serial}", id.Serial, "{n}", strconv.Itoa(n)).Replace(string(t))
}

// Password fills passwords by a template, for a server that knows them by the
// same rule.
func Password(p Plan, text Text) func(context.Context, int, *fleet.Identity) error {
	return func(_ context.Context, i int, id *fleet.Identity) error {
		id.Password = text.of(*id, p.Number(i))
		return nil
	}
}
