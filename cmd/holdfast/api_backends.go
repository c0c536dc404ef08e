package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/api"
	"holdfast/authority"
	"holdfast/bus"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// authorityOfAPI is the authority as the operator API wants it.
type authorityOfAPI struct{ *authority.Client }

// newAuthorityOfAPI asks the authority over a bus. Nobody there is a condition
// that the API tells apart.
func newAuthorityOfAPI(client *authority.Client) authorityOfAPI {
	return authorityOfAPI{&authority.Client{Do: func(ctx context.Context, subject string, data []byte) ([]byte, error) {
		answer, err := client.Do(ctx, subject, data)
		if errors.Is(err, bus.ErrNobody) {
			err = fmt.Errorf("%w: %w", ocpp.ErrUnavailable, err)
		}
		return answer, err
	}}}
}

func (a authorityOfAPI) AddStation(ctx context.Context, by string, n api.NewStation) (api.AddedStation, error) {
	added, err := a.Client.AddStation(ctx, by, authority.NewStation{
		ID: n.ID, Serial: n.Serial, Profile: n.Profile, Version: n.Version, Quirks: n.Quirks, Labels: n.Labels, User: n.User,
		Password: n.Password, Algorithm: pki.Algorithm(n.Algorithm), NoCertificate: n.NoCertificate,
	})
	out := api.AddedStation{Station: added.Station, Password: added.Password}
	if added.Issued != nil {
		issued := api.IssuedCertificate(*added.Issued)
		out.Certificate = &issued
	}
	return out, err
}

func (a authorityOfAPI) UpdateStation(ctx context.Context, by string, id ocpp.StationID, c api.StationChange) (store.Station, error) {
	return a.Client.UpdateStation(ctx, by, id, authority.StationPatch(c))
}

func (a authorityOfAPI) RotatePassword(ctx context.Context, by string, id ocpp.StationID, password string) (api.NewPassword, error) {
	rotated, err := a.Client.RotatePassword(ctx, by, id, password)
	return api.NewPassword(rotated), err
}

func (a authorityOfAPI) IssueStation(ctx context.Context, by string, id ocpp.StationID, algorithm string) (api.IssuedCertificate, error) {
	issued, err := a.Client.IssueStation(ctx, by, id, pki.Algorithm(algorithm))
	return api.IssuedCertificate(issued), err
}

func (a authorityOfAPI) SignCSR(ctx context.Context, by string, id ocpp.StationID, csr string) (api.SignedCertificate, error) {
	signed, err := a.Client.SignCSR(ctx, by, id, csr)
	return api.SignedCertificate(signed), err
}

func (a authorityOfAPI) PrepareRoot(ctx context.Context, by, algorithm string) (api.PreparedRoot, error) {
	prepared, err := a.Client.PrepareRoot(ctx, by, pki.Algorithm(algorithm))
	return api.PreparedRoot(prepared), err
}

func (a authorityOfAPI) RequestCA(ctx context.Context, by, role, algorithm string) (api.RequestedCA, error) {
	requested, err := a.Client.RequestCA(ctx, by, role, pki.Algorithm(algorithm))
	return api.RequestedCA(requested), err
}

func (a authorityOfAPI) ExternalCA(ctx context.Context) (api.ExternalCA, error) {
	x, err := a.Client.ExternalCA(ctx)
	out := api.ExternalCA{Address: x.Address, CAs: make([]api.ExternalCACert, len(x.CAs))}
	for i, c := range x.CAs {
		out.CAs[i] = api.ExternalCACert(c)
	}
	return out, err
}

// upstreamFailed recognizes what the authority says of the external CA.
func upstreamFailed(err error) (detail string, after time.Duration, ok bool) {
	e, ok := errors.AsType[*authority.ExternalCAError](err)
	if !ok {
		return "", 0, false
	}
	return e.Error(), e.RetryAfter, true
}

// invalidRequest recognizes what the authority says of requests that cannot be.
func invalidRequest(err error) (field, detail string, ok bool) {
	e, ok := errors.AsType[*authority.InvalidError](err)
	if !ok {
		return "", "", false
	}
	return e.Field, e.Error(), true
}

// messagesOfAPI is the message log as the operator API wants it.
type messagesOfAPI struct{ *bus.Bus }

func (m messagesOfAPI) Frames(ctx context.Context, station ocpp.StationID, after uint64, limit int, last bool) ([]api.Frame, error) {
	frames, err := m.Bus.Frames(ctx, station, after, limit, last)
	out := make([]api.Frame, len(frames))
	for i, f := range frames {
		out[i] = api.Frame(f)
	}
	return out, err
}

func (m messagesOfAPI) FollowFrames(ctx context.Context, station ocpp.StationID, after uint64, do func(api.Frame) error) error {
	return m.Bus.FollowFrames(ctx, station, after, func(f bus.Frame) error { return do(api.Frame(f)) })
}

// liveEvents are the events of all csms processes.
func liveEvents(b *bus.Bus) api.Events {
	return func(ctx context.Context, do func(csms.Event)) error {
		return b.Listen(ctx, subjectLive+">", "", func(_ string, data []byte) {
			var e csms.Event
			if json.Unmarshal(data, &e) == nil {
				do(e)
			}
		})
	}
}

// disconnectBy asks all gateways to let go of a station that the record shows
// as connected.
func disconnectBy(b *bus.Bus, core *csms.CSMS) api.Disconnect {
	return func(ctx context.Context, station ocpp.StationID) error {
		s, err := core.Record().Station(ctx, station)
		if errors.Is(err, store.ErrNotFound) || err == nil && !s.Connected {
			return fmt.Errorf("station %s: %w", station, ocpp.ErrOffline)
		}
		if err != nil {
			return err
		}
		if err := b.Publish(subjectDisconnect, []byte(s.Station)); err != nil {
			return fmt.Errorf("disconnect station %s: %w: %w", station, ocpp.ErrUnavailable, err)
		}
		return b.Flush(ctx)
	}
}
