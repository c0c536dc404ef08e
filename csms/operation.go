package csms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// Kinds of operations: what can be done to a station's credentials.
const (
	RenewCertificate = "renew-certificate"
	RotatePassword   = "rotate-password"
	ChangeProfile    = "change-profile"
	InstallRoot      = "install-root"
	Onboard          = "onboard"
)

// Kinds are all kinds of operations.
var Kinds = []string{RenewCertificate, RotatePassword, ChangeProfile, InstallRoot, Onboard}

// OperationParams say what is wanted, by kind.
type OperationParams struct {
	// Profile is what change-profile changes to.
	Profile ocpp.SecurityProfile `json:"profile,omitempty" enum:"2,3" doc:"change-profile, onboard: the security profile to change to"`
	// URL is where a station finds its server with that profile.
	URL string `json:"url,omitempty" maxLength:"512" doc:"change-profile: address of the server for the new profile, without the identity; OCPP 2.x needs it, absent: the server's own setting"`
	// URLKey is a configuration key of OCPP 1.6.
	URLKey string `json:"url_key,omitempty" maxLength:"50" doc:"change-profile, OCPP 1.6: the maker's configuration key that holds the server's address, if it has to change with the profile"`
	// Certificates are the roots that install-root installs.
	Certificates string `json:"certificates,omitempty" maxLength:"65536" doc:"install-root: the root certificates to install, PEM; absent: those that servers' certificates rest on now"`
}

// InvalidOperation: an operation that cannot be.
type InvalidOperation struct {
	Field   string // as spelled in JSON
	Problem string
}

func (e *InvalidOperation) Error() string { return e.Field + ": " + e.Problem }

// kind is how one kind of operation goes.
type kind struct {
	first string              // step
	steps map[string]stepFunc // by name
	// check reports what is wrong with params; it may complete them.
	check func(c *CSMS, p *OperationParams) error
	// after is the step that follows the one that was done, with a fresh memory;
	// empty: the operation is done. Nil: it always is.
	after func(w *work) string
	// undo puts back what can be put back when an operation does not succeed.
	undo func(ctx context.Context, w *work) error
}

// kindOf returns how operations of a kind go, nil for an unknown one.
func kindOf(name string) *kind {
	switch name {
	case RenewCertificate:
		return renewCertificate
	case RotatePassword:
		return rotatePassword
	case ChangeProfile:
		return changeProfile
	case InstallRoot:
		return installRoot
	case Onboard:
		return onboard
	}
	return nil
}

// Operate starts an operation on a station, or returns the one of this kind
// that is not over yet: asking twice changes nothing.
func (c *CSMS) Operate(ctx context.Context, station ocpp.StationID, name string, params OperationParams, by string) (o store.Operation, started bool, err error) {
	k, raw, err := c.checkOperation(name, params)
	if err != nil {
		return o, false, err
	}
	s, err := c.authority.Station(ctx, station)
	if err != nil {
		return o, false, fmt.Errorf("start operation: %w", err)
	}
	if err := checkFor(s, name, params); err != nil {
		return o, false, err
	}
	if name == Onboard {
		if err := c.holdBack(ctx, s.ID, by); err != nil {
			return o, false, fmt.Errorf("start operation: %w", err)
		}
	}
	o, started, err = c.store.StartOperation(ctx, c.newOperation(s.ID, name, k, raw, by))
	if err != nil {
		return o, false, fmt.Errorf("start operation: %w", err)
	}
	if started {
		c.log.Info("operation started", "station", o.Station, "operation", o.ID, "kind", o.Kind, "by", o.By)
	}
	c.wakeOperations()
	return o, started, nil
}

// checkFor says why an operation makes no sense for a station, nil if it does.
func checkFor(s store.Station, name string, params OperationParams) error {
	switch {
	case s.PreviousProfile != 0: // it is being changed: what is said below may not hold any more
	case name == ChangeProfile && s.Profile >= params.Profile:
		return &InvalidOperation{"params.profile", fmt.Sprintf("station %s is registered for security profile %d already", s.ID, s.Profile)}
	case name == RotatePassword && s.Profile == ocpp.ProfileMTLS:
		return &InvalidOperation{"kind", fmt.Sprintf("station %s uses security profile 3: it has no password to rotate", s.ID)}
	}
	return nil
}

// checkOperation completes params and returns how the kind goes.
func (c *CSMS) checkOperation(name string, params OperationParams) (*kind, json.RawMessage, error) {
	k := kindOf(name)
	if k == nil {
		return nil, nil, &InvalidOperation{"kind", fmt.Sprintf("%.40q is none of %v", name, Kinds)}
	}
	if c.authority == nil {
		return nil, nil, errors.New("operations need an authority")
	}
	if err := k.check(c, &params); err != nil {
		return nil, nil, err
	}
	if params == (OperationParams{}) {
		return k, nil, nil
	}
	raw, err := json.Marshal(params)
	return k, raw, err
}

func (c *CSMS) newOperation(station ocpp.StationID, name string, k *kind, params json.RawMessage, by string) store.Operation {
	now, limit := c.now(), c.settings.OperationTime
	if name == Onboard {
		limit = onboardTime
	}
	return store.Operation{Station: station, Kind: name, Status: store.OperationRunning, Step: k.first, StepAt: now, By: clip(by, maxText), Params: params,
		CreatedAt: now, StartedAt: now, UpdatedAt: now, Deadline: now.Add(limit), NextAt: now}
}

// CancelOperation has an operation ended, and undone as far as it can be, after
// its current step. One that is over stays as it is.
func (c *CSMS) CancelOperation(ctx context.Context, id, by string) (store.Operation, error) {
	o, err := c.store.CancelOperation(ctx, id, clip(by, maxText), c.now())
	if err == nil {
		c.wakeOperations()
	}
	return o, err
}

// RetryOperation begins an operation that failed from its first step.
func (c *CSMS) RetryOperation(ctx context.Context, id string) (store.Operation, error) {
	o, err := c.store.Operation(ctx, id)
	if err != nil {
		return o, err
	}
	now := c.now()
	if o, err = c.store.RetryOperation(ctx, id, kindOf(o.Kind).first, now, now.Add(c.settings.OperationTime)); err == nil {
		c.wakeOperations()
	}
	return o, err
}

// work is one operation in the hands of this process.
type work struct {
	c *CSMS
	store.Operation
	params  OperationParams
	memory  memory
	station store.StationState // when the step began
}

// memory is what the steps of an operation keep for each other.
type memory struct {
	ChainLimit  int       `json:"chain_limit,omitempty"` // bytes of CertificateSigned
	TriggeredAt time.Time `json:"triggered_at,omitzero"` // the station accepted to send its request
	Signed      string    `json:"signed,omitempty"`      // digest of the request that was signed
	Fingerprint string    `json:"fingerprint,omitempty"` // of the certificate for it
	Slot        int       `json:"slot,omitempty"`        // network profile of OCPP 2.x
	Priority    string    `json:"priority,omitempty"`    // NetworkConfigurationPriority before
	From        int       `json:"from,omitempty"`        // security profile before
	Accepting   bool      `json:"accepting,omitempty"`   // the authority accepts both profiles, or both passwords
	Unknown     bool      `json:"unknown,omitempty"`     // the station may have got what it was told, or not
	ToldEpoch   uint64    `json:"told_epoch,omitempty"`  // the connection on which it was told
	ToldAt      time.Time `json:"told_at,omitzero"`      // and when
	Closed      bool      `json:"closed,omitempty"`      // that connection was closed, so that it comes back
	Rounds      int       `json:"rounds,omitempty"`      // how often it was told
	Reset       bool      `json:"reset,omitempty"`       // it has to reset first
	Installed   string    `json:"installed,omitempty"`   // what came of the roots, for people
	NoReport    bool      `json:"no_report,omitempty"`   // it cannot list its roots
}

// told notes that the station is told something now whose effect shows at its
// next connection.
func (w *work) told() {
	w.memory.ToldEpoch, w.memory.ToldAt, w.memory.Closed = w.station.Epoch, w.c.now(), false
}

// returned reports whether the station has come back since it was told. The
// record may not have had the connection on which it was told: its age tells.
func (w *work) returned() bool {
	return w.station.Connected && w.station.Epoch > w.memory.ToldEpoch && w.station.Since.After(w.memory.ToldAt)
}

// stepFunc does one step. What it did must not harm when it is done again: the
// process may end before the outcome is recorded.
type stepFunc func(ctx context.Context, w *work) outcome

// outcome is what a step came to: one of the functions below makes it.
type outcome struct {
	next    string // the step that follows
	status  store.OperationStatus
	wait    time.Duration
	try     bool // counts as a try in vain
	detail  string
	command string
}

// goOn ends a step; next follows.
func goOn(next, format string, args ...any) outcome {
	return outcome{next: next, status: store.OperationRunning, detail: fmt.Sprintf(format, args...)}
}

// done ends the operation with success.
func done(format string, args ...any) outcome {
	return outcome{status: store.OperationDone, detail: fmt.Sprintf(format, args...)}
}

// failed ends the operation: nothing that Holdfast could repeat mends it.
func failed(format string, args ...any) outcome {
	return outcome{status: store.OperationFailed, detail: fmt.Sprintf(format, args...)}
}

// await looks at the step again after a time, or when the station does something.
func await(d time.Duration, format string, args ...any) outcome {
	return outcome{status: store.OperationWaiting, wait: d, detail: fmt.Sprintf(format, args...)}
}

// again is a try in vain: the step is repeated, later each time, at most maxTries times.
func again(format string, args ...any) outcome {
	return outcome{status: store.OperationWaiting, try: true, detail: fmt.Sprintf(format, args...)}
}

// by returns o with the CALL that it rests on.
func (o outcome) by(k store.Command) outcome {
	o.command = k.ID
	return o
}

// offline waits for the station.
func offline() outcome { return await(maxWait, "the station is not connected") }

// authorityFault is the outcome of a step that an error of the authority stopped.
func (w *work) authorityFault(what string, err error) outcome {
	if w.c.invalid(err) {
		return failed("%s: %v", what, err)
	}
	if errors.Is(err, store.ErrNotFound) {
		return failed("%s: %v", what, err)
	}
	return await(w.c.settings.OperationRetry, "%s: the authority does not answer: %v", what, err)
}

// comeBack waits until the station connects anew. One that stays is disconnected
// after a while, once, so that it does.
func (w *work) comeBack(ctx context.Context, why string) outcome {
	switch patience := w.c.settings.OperationUse; {
	case !w.station.Connected:
		return await(maxWait, "the station is away: %s", why)
	case w.memory.Closed:
		return await(patience, "%s", why)
	case w.c.now().Sub(w.memory.ToldAt) < patience:
		return await(patience-w.c.now().Sub(w.memory.ToldAt), "%s", why)
	}
	w.memory.Closed = true
	if err := w.c.disconnect(ctx, w.station.Station); err != nil && !errors.Is(err, ocpp.ErrOffline) {
		w.c.log.Warn("disconnect a station that has to come back", "station", w.Station, "operation", w.ID, "err", err)
	}
	return await(w.c.settings.OperationUse, "%s; its connection was closed for it", why)
}

// settled reports whether the station's present connection is old enough to show
// what it made of what it was told.
func (w *work) settled() bool {
	return w.c.now().Sub(w.station.Since) >= w.c.settings.OperationUse
}

// refusal is the newest refused attempt of the station since it was told
// something, in words; empty if there is none.
func (w *work) refusal(ctx context.Context) string {
	attempts, err := w.c.authority.Attempts(ctx, w.Station)
	if err != nil {
		return ""
	}
	for _, a := range attempts {
		if a.Reason != ocpp.ReasonAdmitted && !a.At.Before(w.memory.ToldAt) {
			return fmt.Sprintf("; it was refused with security profile %d: %s: %s", a.Profile, a.Reason, a.Detail)
		}
	}
	return ""
}
