package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"holdfast/authority"
	"holdfast/fleet"
	"holdfast/ocpp"
	"holdfast/store"
)

// logFile opens the log of a process whose terminal shows the summary.
func logFile(dir string) (io.WriteCloser, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w (choose another with --data)", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "holdfast.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, nil
}

// demoStation is what a simulated station proves itself with, kept in
// DATA/demo.json so that the next start finds the same stations.
type demoStation struct {
	ID       ocpp.StationID       `json:"id"`
	Profile  ocpp.SecurityProfile `json:"profile"`
	Version  ocpp.Version         `json:"version"`
	Password string               `json:"password,omitempty"`
	Chain    string               `json:"chain,omitempty"`
	Key      string               `json:"key,omitempty"`
}

// startDemo registers n stations, as an operator would, and lets them charge.
func (p *process) startDemo(n int, dir string, f *gatewayFlags) error {
	targets := make(map[ocpp.SecurityProfile]string)
	ports, err := f.ports()
	if err != nil {
		return err
	}
	for profile, port := range ports {
		scheme := "wss"
		if profile == ocpp.ProfilePlain {
			scheme = "ws"
		}
		_, number, err := net.SplitHostPort(port[1])
		if err != nil {
			return fmt.Errorf("--%s %q: %w", port[0], port[1], err)
		}
		targets[profile] = scheme + "://127.0.0.1:" + number + "/ocpp"
	}
	if targets[ocpp.ProfileTLS] == "" || targets[ocpp.ProfileMTLS] == "" {
		return &usageError{"--demo needs the security profiles 2 and 3: see --profiles"}
	}
	client := p.authorityClient()
	if err := awaitAuthority(p.ctx, client); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	stations, err := p.demoStations(client, n, filepath.Join(dir, "demo.json"))
	if err != nil {
		return fmt.Errorf("register demo stations: %w", err)
	}
	err = p.csms.PutIDToken(p.ctx, store.IDToken{Token: demoTag, Status: "Accepted", Note: "drivers at the simulated stations"})
	if err != nil {
		return fmt.Errorf("ID token of the demo: %w", err)
	}
	trust, err := client.Trust(p.ctx)
	if err != nil {
		return fmt.Errorf("trust anchor of the demo stations: %w", err)
	}
	roots, err := fleet.ParseRoots([]byte(trust.ServerRoots))
	if err != nil {
		return fmt.Errorf("trust anchor of the demo stations: %w", err)
	}
	fl, err := fleet.New(fleet.Config{
		Targets: targets, Stations: stations, Roots: roots, Rate: 200, Seed: 1, Logger: p.log.With("service", "demo"),
		BackOff: fleet.BackOff{Minimum: time.Second, Random: 2 * time.Second, Repeat: 3},
		Resend:  fleet.Resend{Attempts: 5, Interval: 10 * time.Second},
		// Six times as fast as real cars, so that there is something to see.
		Behaviour: fleet.Behaviour{TimeFactor: 6, SessionGap: 10 * time.Minute, SessionLength: 20 * time.Minute, IDTags: []string{demoTag}},
	})
	if err != nil {
		return fmt.Errorf("demo stations: %w", err)
	}
	p.services.start("demo stations", fl.Run, nil)
	return nil
}

// demoTag is the ID token of everybody who charges at a demo station.
const demoTag = "DEMO"

// demoStations returns the stations of an earlier start, and registers those
// that are missing.
func (p *process) demoStations(client *authority.Client, n int, path string) ([]fleet.Identity, error) {
	kept := make(map[ocpp.StationID]demoStation)
	switch data, err := os.ReadFile(path); {
	case err == nil:
		if err := json.Unmarshal(data, &kept); err != nil {
			return nil, fmt.Errorf("%s: %w (delete it: the stations are then registered anew)", path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	identities := make([]fleet.Identity, n)
	for i := range n {
		id := ocpp.StationID(fmt.Sprintf("DEMO-%04d", i+1))
		profile := ocpp.ProfileTLS
		if i%2 == 1 {
			profile = ocpp.ProfileMTLS
		}
		s, known := kept[id]
		if _, err := client.Station(p.ctx, id); errors.Is(err, store.ErrNotFound) {
			known = false
		} else if err != nil {
			return nil, err
		} else if !known { // its secret is lost
			if err := client.RemoveStation(p.ctx, "demo", id); err != nil {
				return nil, err
			}
		}
		if !known {
			added, err := client.AddStation(p.ctx, "demo", authority.NewStation{ID: id, Profile: profile, Labels: map[string]string{"demo": "true"}})
			if err != nil {
				return nil, err
			}
			s = demoStation{ID: id, Profile: profile, Version: ocpp.Versions[i/2%len(ocpp.Versions)], Password: added.Password}
			if added.Issued != nil {
				s.Chain, s.Key = added.Issued.Chain, added.Issued.Key
			}
			kept[id] = s
		}
		identities[i] = fleet.Identity{ID: s.ID, Profile: s.Profile, Version: s.Version, Password: s.Password}
		if s.Profile == ocpp.ProfileMTLS {
			pair, err := tls.X509KeyPair([]byte(s.Chain), []byte(s.Key))
			if err != nil {
				return nil, fmt.Errorf("%s: certificate of %s: %w", path, id, err)
			}
			identities[i].Certificate = &pair
		}
	}
	data, err := json.MarshalIndent(kept, "", " ")
	if err != nil {
		return nil, err
	}
	return identities, os.WriteFile(path, data, 0o600)
}

// awaitAuthority waits until the authority answers: its subscription takes a moment.
func awaitAuthority(ctx context.Context, client *authority.Client) error {
	for {
		_, err := client.Trust(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
