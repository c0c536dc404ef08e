package csms

import (
	"context"
	"errors"
	"maps"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// The steps of an onboarding that it alone has (OCPP 2.0.1 B02; the others are
// those of a password rotation, a renewal and a change of the profile).
const (
	stepContact = "contact" // the station connects for the first time and boots
	stepAdmit   = "admit"   // it may charge
)

const (
	// onboardTime is how long a station may take to its first connection: it may be
	// in a warehouse.
	onboardTime = 400 * 24 * time.Hour
	// bootWait is the time between two looks at whether a station has booted.
	bootWait = 2 * time.Second
)

// onboard takes a new station from what it came with, a password for its first
// connection or a certificate of its maker, to credentials of its own, and to a
// higher security profile if that is wanted. It is Pending until then.
var onboard = &kind{
	first: stepContact,
	steps: onboardSteps(),
	check: func(c *CSMS, p *OperationParams) error {
		if p.Profile != 0 || *p != (OperationParams{}) {
			return changeProfile.check(c, p)
		}
		return nil
	},
	after: func(w *work) string {
		switch {
		case w.Step == stepConfirm && w.memory.From == 0 && w.params.Profile > w.station.Profile:
			return stepRoots
		case w.Step == stepConfirm, w.Step == stepUse:
			return stepAdmit
		}
		return ""
	},
	undo: func(ctx context.Context, w *work) error {
		if w.memory.From != 0 {
			return undoProfile(ctx, w)
		}
		return rotatePassword.undo(ctx, w)
	},
}

func onboardSteps() map[string]stepFunc {
	steps := maps.Clone(changeProfile.steps)
	steps[stepContact] = awaitContact
	steps[stepSend] = sendPassword
	steps[stepUse] = useCertificate
	steps[stepDeliver] = func(ctx context.Context, w *work) outcome {
		next := stepAccept
		if w.station.Profile == ocpp.ProfileMTLS { // in the place of its maker's
			next = stepUse
		}
		return deliverCertificate(next)(ctx, w)
	}
	steps[stepConfirm] = func(ctx context.Context, w *work) outcome {
		if w.memory.From != 0 {
			return confirmProfile(ctx, w)
		}
		return confirmPassword(ctx, w)
	}
	steps[stepAdmit] = admitStation
	return steps
}

// awaitContact waits until the station has connected and booted.
func awaitContact(_ context.Context, w *work) outcome {
	switch {
	case !w.station.Connected:
		return await(maxWait, "waits for the station's first connection")
	case w.station.BootAt.IsZero():
		return await(bootWait, "waits for the station's BootNotification")
	case w.station.Profile == ocpp.ProfileMTLS:
		return goOn(stepLimits, "the station came with a certificate: it gets one of its own")
	}
	return goOn(stepSend, "the station came with the password that it was registered with: it gets one that only it knows")
}

// admitStation lets the station charge.
func admitStation(ctx context.Context, w *work) outcome {
	if err := w.c.SetRegistration(ctx, w.Operation.Station, store.Accepted, w.By); err != nil {
		return await(w.c.settings.OperationRetry, "%v", err)
	}
	return done("the station is accepted")
}

// holdBack has a station that never booted told Pending when it does.
func (c *CSMS) holdBack(ctx context.Context, id ocpp.StationID, by string) error {
	s, err := c.store.Station(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if !s.BootAt.IsZero() {
		return nil
	}
	return c.SetRegistration(ctx, id, store.Pending, by)
}
