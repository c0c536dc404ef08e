package csms

import (
	"context"
	"encoding/hex"

	"holdfast/ocpp"
	"holdfast/store"
)

// The steps of a password rotation (OCPP 2.0.1 A01).
const (
	stepSend    = "send"    // the station gets a new password
	stepConfirm = "confirm" // and connects with it, or with its new profile
)

// maxRounds is how often a station is told the same in vain.
const maxRounds = 3

// rotatePassword gives a station a new password. The old one is good until the
// new one was used. The password itself is nowhere but on its way: if its fate is
// unknown, the station's next connection tells, and another one is made.
var rotatePassword = &kind{
	first: stepSend,
	steps: map[string]stepFunc{stepSend: sendPassword, stepConfirm: confirmPassword},
	check: func(_ *CSMS, p *OperationParams) error {
		if *p != (OperationParams{}) {
			return &InvalidOperation{"params", "rotate-password takes none"}
		}
		return nil
	},
	undo: func(ctx context.Context, w *work) error {
		if !w.memory.Accepting || w.memory.Unknown {
			return nil // the station may have the new one: both stay good until it shows
		}
		_, err := w.c.authority.CancelRotation(ctx, w.By, w.Operation.Station)
		return err
	},
}

// sendPassword makes a password and sends it. As long as the fate of the last one
// is unknown it makes none: the station could be left with one that is forgotten.
func sendPassword(ctx context.Context, w *work) outcome {
	if w.memory.Unknown {
		return confirmPassword(ctx, w)
	}
	if !w.station.Connected {
		return offline()
	}
	if w.station.Profile == ocpp.ProfileMTLS {
		return failed("the station is connected with security profile 3: it has no password to rotate")
	}
	w.memory.Unknown, w.memory.Accepting = true, true
	w.memory.Rounds++
	w.told()
	if err := w.keep(ctx); err != nil {
		return await(w.c.settings.OperationRetry, "record: %v", err)
	}
	password, err := w.c.authority.NewPassword(ctx, w.By, w.Operation.Station)
	if err != nil { // it was not sent
		w.memory.Unknown = false
		w.memory.Rounds--
		return w.authorityFault("new password", err)
	}
	if !w.station.Version.Is2x() {
		// Printable characters: a station that takes the hex digits for the password
		// itself and one that decodes them are both understood.
		password = hex.EncodeToString([]byte(password))
	}
	r := w.writeTo(ctx, settingPassword, password)
	switch {
	case r.ok && (r.status == "Accepted" || r.status == "RebootRequired"):
		w.memory.Reset = r.status == "RebootRequired"
		return goOn(stepConfirm, "the station answers %s", r.status).by(r.command)
	case r.ok:
		w.memory.Unknown = false
		return failed("the station answers %s: the old password stays good", r.status).by(r.command)
	case r.unknown || r.stop.try:
		return await(w.c.settings.OperationUse, "%s; whether the station took the new password shows when it connects again", r.stop.detail).by(r.command)
	}
	w.memory.Unknown = false // it did not leave
	if r.stop.status == store.OperationFailed {
		return r.stop
	}
	if err := w.keep(ctx); err != nil {
		return await(w.c.settings.OperationRetry, "record: %v", err)
	}
	if _, err := w.c.authority.CancelRotation(ctx, w.By, w.Operation.Station); err != nil {
		return w.authorityFault("forget the new password", err)
	}
	w.memory.Accepting = false
	w.memory.Rounds--
	return r.stop
}

// confirmPassword waits for the connection that shows which password the station
// has.
func confirmPassword(ctx context.Context, w *work) outcome {
	s, err := w.c.authority.Station(ctx, w.Operation.Station)
	if err != nil {
		return w.authorityFault("station", err)
	}
	if !s.PasswordPending {
		w.memory.Unknown = false
		return done("the station connected with its new password; the old one is refused")
	}
	if w.memory.Reset && w.station.Connected && !w.returned() {
		k, stop, ok := w.reset(ctx)
		if !ok {
			return stop
		}
		w.memory.Reset = false
		return await(w.c.settings.OperationUse, "waits for the station to restart with its new password").by(k)
	}
	if !w.returned() {
		return w.comeBack(ctx, "waits for the station to connect with its new password")
	}
	// A first success of the new one would have ended the old one: it came with the old one.
	w.memory.Unknown = false
	if w.memory.Rounds < maxRounds {
		return goOn(stepSend, "the station came back with its old password: it gets another new one")
	}
	return failed("the station was given a new password %d times and came back with its old one, which stays good", w.memory.Rounds)
}
