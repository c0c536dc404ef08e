package main

import (
	"context"

	"holdfast/authority"
	"holdfast/ocpp"
	"holdfast/store"
)

// authorityOfCSMS is the authority as the operations of the management core want it.
type authorityOfCSMS struct{ *authority.Client }

func (a authorityOfCSMS) SignRequest(ctx context.Context, by string, id ocpp.StationID, csr string) (store.Certificate, error) {
	signed, err := a.Client.SignCSR(ctx, by, id, csr)
	return signed.Certificate, err
}

func (a authorityOfCSMS) NewPassword(ctx context.Context, by string, id ocpp.StationID) (string, error) {
	rotated, err := a.Client.RotatePassword(ctx, by, id, "")
	return rotated.Password, err
}

func (a authorityOfCSMS) ChangeProfile(ctx context.Context, by string, id ocpp.StationID, profile ocpp.SecurityProfile) (store.Station, error) {
	return a.Client.UpdateStation(ctx, by, id, authority.StationPatch{Profile: &profile})
}

func (a authorityOfCSMS) ServerRoots(ctx context.Context) (string, error) {
	trust, err := a.Client.Trust(ctx)
	return trust.ServerRoots, err
}
