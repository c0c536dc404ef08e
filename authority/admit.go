package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// verdict is a Decision in the making.
type verdict struct {
	reason ocpp.Reason
	detail string        // for operators
	until  time.Time     // the credentials end then; zero: they do not
	wait   time.Duration // of a lockout
}

func refuse(reason ocpp.Reason, format string, args ...any) verdict {
	return verdict{reason: reason, detail: clip(fmt.Sprintf(format, args...))}
}

// maxDetail is the longest detail of a decision, in bytes: parts of it come from stations.
const maxDetail = 200

func clip(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail] + "…"
	}
	return s
}

// Admit decides whether a station may connect. A refusal is a Decision; an error
// means that it could not be decided. It is an ocpp.AdmitFunc.
//
// The order of checks: identity known, blocked, security profile, credentials.
// That an unknown station is answered faster than a known one is not hidden: it
// gets HTTP 404 anyway, as OCPP-J wants.
func (a *Authority) Admit(ctx context.Context, c ocpp.Credentials) (ocpp.Decision, error) {
	start := time.Now()
	now := a.cfg.Now()
	r, certificate, v, err := a.decide(ctx, c, now)
	if err != nil {
		return ocpp.Decision{}, fmt.Errorf("admit station %s: %w", c.Station, err)
	}
	d := ocpp.Decision{Allowed: v.reason == ocpp.ReasonAdmitted, Reason: v.reason, Detail: v.detail, Station: c.Station}
	if r.ID != "" {
		d.Station = r.ID
	}
	if d.Allowed {
		d.Pin, d.Quirks = r.Version, r.Quirks
		d.TTL, d.Grace = a.cfg.DecisionTTL, a.cfg.Grace
		if left := v.until.Sub(now); !v.until.IsZero() { // a verdict must not outlive the certificate
			d.TTL = min(d.TTL, left)
			d.Grace = min(d.Grace, left-d.TTL)
		}
	} else if d.TTL = a.cfg.RefusalTTL; v.wait > 0 {
		d.TTL = min(d.TTL, v.wait)
	}
	a.record(ctx, c, certificate.Fingerprint, d, r.ID != "", now)
	a.metrics.decided(d.Reason, time.Since(start))
	return d, nil
}

// decide returns the verdict on c, the station if it is known, and the
// certificate that it presented, if one counts for its profile.
func (a *Authority) decide(ctx context.Context, c ocpp.Credentials, now time.Time) (r store.StationRecord, cert store.Certificate, v verdict, err error) {
	if c.Station == "" {
		return r, cert, refuse(ocpp.ReasonNoIdentity, "the URL names no station"), nil
	}
	if err := c.Station.Check(); err != nil {
		return r, cert, refuse(ocpp.ReasonBadRequest, "%v", err), nil
	}
	if !c.Profile.Valid() {
		return r, cert, refuse(ocpp.ReasonBadRequest, "security profile %d", c.Profile), nil
	}
	var leaf *presented
	if c.Profile == ocpp.ProfileMTLS {
		leaf = readChain(c.Chain)
		cert.Fingerprint = leaf.fingerprint
	}
	r, known, err := a.store.Admission(ctx, c.Station, cert.Fingerprint)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return r, cert, refuse(ocpp.ReasonUnknownStation, "no station with this identity is registered"), nil
	case err != nil:
		return r, cert, v, err
	case r.Blocked && r.BlockedReason != "":
		return r, cert, refuse(ocpp.ReasonBlocked, "blocked: %s", r.BlockedReason), nil
	case r.Blocked:
		return r, cert, refuse(ocpp.ReasonBlocked, "blocked by an operator"), nil
	case c.Profile != r.Profile && c.Profile != r.PreviousProfile: // OCPP 2.0.1 A00.FR.002
		return r, cert, refuse(ocpp.ReasonWrongProfile, "came with security profile %d, is registered for %d", c.Profile, r.Profile), nil
	case leaf != nil:
		v, err = a.checkCertificate(ctx, r, leaf, known, now)
	default:
		v, err = a.checkBasic(ctx, r, c, now)
	}
	if err == nil && v.reason == ocpp.ReasonAdmitted && r.PreviousProfile != 0 && c.Profile == r.Profile {
		a.endProfileChange(ctx, r)
	}
	return r, cert, v, err
}

func (a *Authority) checkBasic(ctx context.Context, r store.StationRecord, c ocpp.Credentials, now time.Time) (verdict, error) {
	if c.Basic == nil {
		return refuse(ocpp.ReasonNoCredentials, "no HTTP Basic credentials"), nil
	}
	if len(c.Basic) > maxBasic {
		return refuse(ocpp.ReasonWrongPassword, "Basic credentials of %d bytes, at most %d are looked at", len(c.Basic), maxBasic), nil
	}
	key := lockoutKey{station: r.ID.Fold(), source: sourceOf(c.Remote.Addr())}
	if wait, whole := a.lockouts.begin(key, now); wait > 0 {
		v := refuse(ocpp.ReasonLockedOut, "too many wrong passwords from %s", key.source.Addr())
		if whole {
			v = refuse(ocpp.ReasonLockedOut, "too many wrong passwords for many stations from %s", key.source.Addr())
		}
		v.wait = wait
		return v, nil
	}
	password, named := basicPassword(c.Basic, r.User, r.ID, c.Station)
	if !named {
		password = c.Basic // checked all the same, to take as long
	}
	result, err := a.passwords.check(ctx, r, password)
	switch {
	case errors.Is(err, errBusy):
		a.lockouts.undecided(key)
		return refuse(ocpp.ReasonOverload, "too many passwords are being checked"), nil
	case err != nil:
		a.lockouts.undecided(key)
		return verdict{}, err
	}
	if !named || result == wrongPassword {
		a.lockouts.failed(key)
	}
	switch {
	case !named: // OCPP 2.0.1 A00.FR.207: user name, identity and password match together
		return refuse(ocpp.ReasonWrongPassword, "the user name is neither the station's identity nor the one set for it"), nil
	case r.Password == "" && r.Pending == "":
		return refuse(ocpp.ReasonWrongPassword, "no password is set for this station: rotate its password"), nil
	case result == wrongPassword && len(password) == 0:
		return refuse(ocpp.ReasonWrongPassword, "the password is empty"), nil
	case result == wrongPassword:
		return refuse(ocpp.ReasonWrongPassword, "the password (%d bytes) is wrong", len(password)), nil
	}
	a.lockouts.succeeded(key)
	if result == pendingPassword {
		if err := a.promotePassword(ctx, r); err != nil {
			return verdict{}, err
		}
	}
	return verdict{reason: ocpp.ReasonAdmitted}, nil
}

// promotePassword ends the old password after the new one's first success. A
// station is not admitted before that is written: that it came with the old one
// must show.
func (a *Authority) promotePassword(ctx context.Context, r store.StationRecord) error {
	promoted, err := a.store.PromotePassword(ctx, r.ID, r.Pending, a.entry(stationItself, "password.confirm", r.ID, "", "first use of the new password"))
	if err != nil {
		return fmt.Errorf("end the old password: %w", err)
	}
	if promoted {
		a.publish(Change{Kind: ChangePassword, Station: r.ID})
	}
	return nil
}

// endProfileChange ends the old profile after the new one's first success: no
// lower one is accepted any more (OCPP 2.0.1 A05).
func (a *Authority) endProfileChange(ctx context.Context, r store.StationRecord) {
	ended, err := a.store.EndProfileChange(ctx, r.ID, r.Profile, a.entry(stationItself, "station.profile", r.ID, "",
		fmt.Sprintf("connected with security profile %d, %d is no longer accepted", r.Profile, r.PreviousProfile)))
	if err != nil {
		a.log.Error("end the old security profile", "station", r.ID, "err", err)
	}
	if ended {
		a.publish(Change{Kind: ChangeStation, Station: r.ID})
	}
}

// stationItself stands in the audit record where nobody did it but the station.
const stationItself = "station"

// Refusal is a refusal that a gateway decided itself: a failed handshake, no
// identity in the URL, no common subprotocol, connects too often, nobody to ask.
type Refusal struct {
	Credentials ocpp.Credentials `json:"credentials"` // what is known of them
	Reason      ocpp.Reason      `json:"reason"`
	Detail      string           `json:"detail,omitempty"`
	At          time.Time        `json:"at,omitzero"` // zero: now
}

// lateNote is how long a refusal may wait until the authority can be told of it.
const lateNote = 24 * time.Hour

// Note records a refusal of a gateway as an attempt of the station. It counts
// neither as a decision nor for lockouts.
func (a *Authority) Note(ctx context.Context, n Refusal) error {
	if !reasons[n.Reason] || n.Reason == ocpp.ReasonAdmitted {
		return invalid("reason", "use one of the reasons of ocpp", "%.40q is not a refusal", n.Reason)
	}
	r, err := a.refused(ctx, n.Credentials)
	if err != nil {
		return err
	}
	c, now := n.Credentials, a.cfg.Now()
	at := n.At
	if at.After(now) || now.Sub(at) > lateNote {
		at = now
	}
	d := ocpp.Decision{Reason: n.Reason, Detail: clip(n.Detail), Station: r.ID}
	fingerprint := ""
	if len(c.Chain) > 0 {
		fingerprint = readChain(c.Chain).fingerprint
	}
	a.record(ctx, c, fingerprint, d, !r.Created.IsZero(), at)
	return nil
}

// refused finds the station that a gateway refused: by its identity, or by the
// serial number in a certificate. If it is not registered, it is who it says it
// is; the identity is empty if it said nothing.
func (a *Authority) refused(ctx context.Context, c ocpp.Credentials) (r store.StationRecord, err error) {
	id := c.Station
	switch {
	case id != "":
		if err := id.Check(); err != nil {
			return r, invalid("station", "", "%v", err)
		}
		r, err = a.store.Station(ctx, id)
	case c.Serial != "":
		if id = ocpp.StationID(c.Serial); id.Check() != nil {
			return store.StationRecord{}, nil
		}
		r, err = a.store.StationBySerial(ctx, c.Serial)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	if r.ID == "" {
		r.ID = id
	}
	return r, err
}

// record puts a decision into the station's attempts, where it stays even if this
// process dies now, and into the log. A repetition is logged as detail only:
// refused stations come back for ever.
func (a *Authority) record(ctx context.Context, c ocpp.Credentials, fingerprint string, d ocpp.Decision, registered bool, now time.Time) {
	if d.Reason == ocpp.ReasonBadRequest {
		return // there is no telling whose it is
	}
	remote := ""
	if c.Remote.IsValid() {
		remote = c.Remote.Addr().Unmap().String()
	}
	level, word := slog.LevelInfo, "station admitted"
	if !d.Allowed {
		word = "station refused"
	}
	id, isNew := a.attempts.add(store.Attempt{
		Station: d.Station, Reason: d.Reason, Detail: d.Detail, Profile: c.Profile, Remote: remote, Fingerprint: fingerprint, At: now, Registered: registered,
	})
	if id != "" { // a fault is reported by Run, which tries again
		a.attempts.settle(ctx, a.store, id)
	}
	if !isNew {
		level = slog.LevelDebug
	}
	a.log.Log(context.Background(), level, word, "station", d.Station, "reason", d.Reason, "detail", d.Detail, "profile", c.Profile.Label(), "remote", remote)
}

// reasons is the closed list, for what comes from outside.
var reasons = map[ocpp.Reason]bool{
	ocpp.ReasonAdmitted: true, ocpp.ReasonNoIdentity: true, ocpp.ReasonUnknownStation: true, ocpp.ReasonBlocked: true,
	ocpp.ReasonWrongProfile: true, ocpp.ReasonNoCredentials: true, ocpp.ReasonWrongPassword: true, ocpp.ReasonLockedOut: true,
	ocpp.ReasonNoCertificate: true, ocpp.ReasonUnknownCA: true, ocpp.ReasonExpired: true, ocpp.ReasonNotYetValid: true,
	ocpp.ReasonBadCertificate: true, ocpp.ReasonWrongSerial: true, ocpp.ReasonWrongOwner: true, ocpp.ReasonRevoked: true,
	ocpp.ReasonNoSubprotocol: true, ocpp.ReasonTLS: true, ocpp.ReasonServerRefused: true, ocpp.ReasonTooOften: true,
	ocpp.ReasonUnavailable: true, ocpp.ReasonOverload: true, ocpp.ReasonBadRequest: true,
}
