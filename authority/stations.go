package authority

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// NewStation is a station to be registered.
type NewStation struct {
	ID ocpp.StationID `json:"id" doc:"Identity, the last segment of the URL that the station connects to"`
	// Serial is the CN of the station's certificates. Empty: as ID.
	Serial string `json:"serial,omitempty" doc:"Serial number, the CN of the station's certificates; default: the identity"`
	// Profile zero means 2.
	Profile ocpp.SecurityProfile `json:"profile,omitempty" minimum:"1" maximum:"3" doc:"Security profile; default 2"`
	Version ocpp.Version         `json:"version,omitempty" enum:"1.6,2.0.1,2.1" doc:"The only OCPP version the station may speak; default: any"`
	Quirks  ocpp.Quirks          `json:"quirks,omitzero" doc:"Settings that differ because the station's firmware does"`
	Labels  map[string]string    `json:"labels,omitempty" doc:"Names and values of your own"`
	User    string               `json:"user,omitempty" doc:"Basic user name, if the station does not use its identity"`
	// Password is for a station that has one already. Empty: one is generated for
	// profiles 1 and 2.
	Password string `json:"password,omitempty" doc:"Password that the station has already, as text or hex; default: one is generated"`
	// Algorithm of the key made for profile 3. Empty: ECDSA.
	Algorithm pki.Algorithm `json:"algorithm,omitempty" enum:"ecdsa,rsa" doc:"Kind of key for profile 3; default ecdsa"`
	// NoCertificate registers a station for profile 3 that has a certificate of an
	// imported CA, or will send a signing request.
	NoCertificate bool `json:"no_certificate,omitempty" doc:"Make no key and certificate: the station has one, or sends a signing request"`
}

// Added is a registered station, with the secrets that are shown only now.
type Added struct {
	Station  store.Station `json:"station"`
	Password string        `json:"password,omitempty" doc:"Shown only now"`
	Issued   *Issued       `json:"issued,omitempty" doc:"Key and certificate of a station with profile 3; the key is shown only now"`
}

// AddStation registers a station and makes its credentials. ErrExists if the
// identity or the serial number is taken.
func (a *Authority) AddStation(ctx context.Context, by string, n NewStation) (Added, error) {
	now := a.cfg.Now()
	if n.Profile == 0 {
		n.Profile = ocpp.ProfileTLS
	}
	if n.Serial == "" {
		n.Serial = string(n.ID)
	}
	if n.Algorithm == "" {
		n.Algorithm = pki.ECDSA
	}
	r := store.StationRecord{Station: store.Station{
		ID: n.ID, Serial: n.Serial, Profile: n.Profile, Version: n.Version, Quirks: n.Quirks, Labels: n.Labels, User: n.User, Created: now, Updated: now,
	}}
	if err := checkStation(r.Station); err != nil {
		return Added{}, err
	}
	var added Added
	switch {
	case n.Password != "":
		if err := checkPasswordText(n.Password); err != nil {
			return Added{}, err
		}
		r.Password = hashPassword(n.Password, givenIterations)
	case n.Profile != ocpp.ProfileMTLS:
		added.Password = newPassword()
		r.Password = hashPassword(added.Password, generatedIterations)
	}
	var certificate *store.Certificate
	if n.Profile == ocpp.ProfileMTLS && !n.NoCertificate {
		// Before a certificate is made that nobody can use.
		if _, err := a.store.Station(ctx, n.ID); err == nil {
			return Added{}, fmt.Errorf("station %s: %w", n.ID, ErrExists)
		} else if !errors.Is(err, ErrNotFound) {
			return Added{}, err
		}
		issued, err := a.issueWithKey(ctx, r.Station, n.Algorithm, now)
		if err != nil {
			return Added{}, err
		}
		added.Issued, certificate = issued, &issued.Certificate
	}
	err := a.store.AddStation(ctx, r, certificate, a.entry(by, "station.add", n.ID, "", fmt.Sprintf("security profile %d, serial number %s", n.Profile, n.Serial)))
	if err != nil {
		if certificate != nil && certificate.ExternalCA != "" {
			a.unused(*certificate, err)
		}
		return Added{}, err
	}
	added.Station = r.Station
	added.Station.HasPassword = r.Password != ""
	a.attempts.forget(n.ID)
	a.publish(Change{Kind: ChangeStation, Station: n.ID})
	return added, nil
}

// Station returns a station. ErrNotFound without it.
func (a *Authority) Station(ctx context.Context, id ocpp.StationID) (store.Station, error) {
	a.flushAttempts(ctx)
	r, err := a.store.Station(ctx, id)
	return r.Station, err
}

// maxList is the most items of one list, so that it fits into a bus message.
const maxList = 200

func bounded(p store.Page) store.Page {
	p.Limit = min(p.Limit, maxList)
	return p
}

// Stations lists stations by identity, at most 200 at a time.
func (a *Authority) Stations(ctx context.Context, f store.StationFilter, p store.Page) (store.List[store.Station], error) {
	return a.store.Stations(ctx, f, bounded(p))
}

// StationPatch changes the fields that are not nil.
type StationPatch struct {
	Serial *string `json:"serial,omitempty" doc:"Serial number; certificates with the old one stop working"`
	// Profile starts a change: the old profile is accepted, too, until the station
	// has connected with the new one.
	Profile *ocpp.SecurityProfile `json:"profile,omitempty" minimum:"1" maximum:"3" doc:"Security profile to change to; the old one is accepted, too, until the station has connected with the new one"`
	// PreviousProfile can only be set to zero: the old profile is refused from now on.
	PreviousProfile *ocpp.SecurityProfile `json:"previous_profile,omitempty" minimum:"0" maximum:"0" doc:"0 refuses the old profile from now on"`
	Version         *ocpp.Version         `json:"version,omitempty" doc:"The only OCPP version the station may speak; empty: any"`
	Quirks          *ocpp.Quirks          `json:"quirks,omitempty"`
	Labels          *map[string]string    `json:"labels,omitempty" doc:"Replaces all labels"`
	User            *string               `json:"user,omitempty" doc:"Basic user name; empty: the identity"`
}

// UpdateStation changes a station's record.
func (a *Authority) UpdateStation(ctx context.Context, by string, id ocpp.StationID, p StationPatch) (store.Station, error) {
	drop := false
	var detail []string
	note := func(format string, args ...any) { detail = append(detail, fmt.Sprintf(format, args...)) }
	if p.Serial != nil {
		note("serial number %.64q", *p.Serial)
	}
	if p.Profile != nil {
		note("security profile %d", *p.Profile)
	}
	if p.PreviousProfile != nil {
		note("old security profile refused")
	}
	if p.Version != nil {
		note("version %.10q", *p.Version)
	}
	if p.Quirks != nil {
		note("quirks %+v", *p.Quirks)
	}
	if p.Labels != nil {
		note("%d labels", len(*p.Labels))
	}
	if p.User != nil {
		note("user %.64q", *p.User)
	}
	r, err := a.store.UpdateStation(ctx, id, a.cfg.Now(), func(r *store.StationRecord) error {
		drop = false
		if p.Serial != nil {
			drop = drop || !strings.EqualFold(r.Serial, *p.Serial) && r.Profile == ocpp.ProfileMTLS
			r.Serial = *p.Serial
		}
		if p.Profile != nil && *p.Profile != r.Profile {
			r.PreviousProfile, r.Profile = r.Profile, *p.Profile
			if r.Profile.Valid() && r.Profile != ocpp.ProfileMTLS && r.Password == "" && r.Pending == "" {
				return invalid("profile", "rotate the station's password first", "profile %d needs a password and the station has none", r.Profile)
			}
		}
		if p.PreviousProfile != nil {
			if *p.PreviousProfile != 0 {
				return invalid("previous_profile", "set profile to the new one instead", "can only be set to 0")
			}
			drop = drop || r.PreviousProfile != 0
			r.PreviousProfile = 0
		}
		if p.Version != nil {
			r.Version = *p.Version
		}
		if p.Quirks != nil {
			r.Quirks = *p.Quirks
		}
		if p.Labels != nil {
			r.Labels = *p.Labels
		}
		if p.User != nil {
			r.User = *p.User
		}
		return checkStation(r.Station)
	}, a.entry(by, "station.update", id, "", strings.Join(detail, ", ")))
	if err != nil {
		return store.Station{}, err
	}
	a.lockouts.forget(id.Fold())
	a.publish(Change{Kind: ChangeStation, Station: r.ID, Drop: drop})
	return r.Station, nil
}

// CancelProfileChange takes back a change of the security profile that the
// station has not used yet: only the old one is accepted from now on.
func (a *Authority) CancelProfileChange(ctx context.Context, by string, id ocpp.StationID) (store.Station, error) {
	r, err := a.store.UpdateStation(ctx, id, a.cfg.Now(), func(r *store.StationRecord) error {
		if r.PreviousProfile != 0 {
			r.Profile, r.PreviousProfile = r.PreviousProfile, 0
		}
		return nil
	}, a.entry(by, "station.profile.cancel", id, "", ""))
	if err != nil {
		return store.Station{}, err
	}
	a.publish(Change{Kind: ChangeStation, Station: r.ID})
	return r.Station, nil
}

// Operator returns the organization (O) in stations' certificates.
func (a *Authority) Operator(context.Context) (string, error) { return a.cfg.Operator, nil }

// BlockStation refuses a station from now on, whatever it presents, and ends its
// connection.
func (a *Authority) BlockStation(ctx context.Context, by string, id ocpp.StationID, reason string) (store.Station, error) {
	return a.setBlocked(ctx, by, id, true, clip(reason))
}

// UnblockStation ends a block.
func (a *Authority) UnblockStation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error) {
	return a.setBlocked(ctx, by, id, false, "")
}

func (a *Authority) setBlocked(ctx context.Context, by string, id ocpp.StationID, blocked bool, reason string) (store.Station, error) {
	action, change := "station.unblock", Change{Kind: ChangeStation}
	if blocked {
		action, change = "station.block", Change{Kind: ChangeBlocked, Drop: true}
	}
	r, err := a.store.UpdateStation(ctx, id, a.cfg.Now(), func(r *store.StationRecord) error {
		r.Blocked, r.BlockedReason = blocked, reason
		return nil
	}, a.entry(by, action, id, "", reason))
	if err != nil {
		return store.Station{}, err
	}
	change.Station = r.ID
	a.publish(change)
	return r.Station, nil
}

// RemoveStation forgets a station, ends its connection and revokes the
// certificates that were issued to it.
func (a *Authority) RemoveStation(ctx context.Context, by string, id ocpp.StationID) error {
	generation, err := a.store.RemoveStation(ctx, id, a.cfg.Now(), a.entry(by, "station.remove", id, "", ""))
	if err != nil {
		return err
	}
	a.attempts.forget(id)
	a.lockouts.forget(id.Fold())
	a.publish(Change{Kind: ChangeRemoved, Station: id, Generation: generation, Drop: true})
	return nil
}

// Rotated is a station's new password.
type Rotated struct {
	Station  store.Station `json:"station"`
	Password string        `json:"password,omitempty" doc:"Shown only now; absent if you chose it"`
}

// RotatePassword gives a station a new password: password, or a generated one if
// that is empty. The old one is accepted, too, until the first success of the
// new one, because whether the station took it is often unknown. A password
// that was pending before is forgotten.
func (a *Authority) RotatePassword(ctx context.Context, by string, id ocpp.StationID, password string) (Rotated, error) {
	var out Rotated
	hash := ""
	if password != "" {
		if err := checkPasswordText(password); err != nil {
			return out, err
		}
		hash = hashPassword(password, givenIterations)
	} else {
		out.Password = newPassword()
		hash = hashPassword(out.Password, generatedIterations)
	}
	r, err := a.store.UpdateStation(ctx, id, a.cfg.Now(), func(r *store.StationRecord) error {
		if r.Pending = hash; r.Password == "" {
			r.Password, r.Pending = hash, ""
		}
		return nil
	}, a.entry(by, "password.rotate", id, "", ""))
	if err != nil {
		return Rotated{}, err
	}
	out.Station = r.Station
	a.lockouts.forget(id.Fold())
	a.publish(Change{Kind: ChangePassword, Station: r.ID})
	return out, nil
}

// CancelRotation forgets a pending password: the station did not take it.
func (a *Authority) CancelRotation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error) {
	r, err := a.store.UpdateStation(ctx, id, a.cfg.Now(), func(r *store.StationRecord) error {
		r.Pending = ""
		return nil
	}, a.entry(by, "password.cancel", id, "", ""))
	if err != nil {
		return store.Station{}, err
	}
	a.publish(Change{Kind: ChangePassword, Station: r.ID})
	return r.Station, nil
}

// Attempts returns a station's attempts to connect, newest first, at most 50.
// The station need not be registered; without one, the attempts of all stations
// that are not registered.
func (a *Authority) Attempts(ctx context.Context, id ocpp.StationID) ([]store.Attempt, error) {
	a.flushAttempts(ctx)
	if id == "" {
		return a.store.UnregisteredAttempts(ctx)
	}
	return a.store.Attempts(ctx, id)
}

// flushAttempts writes what this process has gathered, so that a reader sees it.
func (a *Authority) flushAttempts(ctx context.Context) {
	if err := a.attempts.flush(ctx, a.store, true); err != nil {
		a.log.Warn("write attempts", "err", err)
	}
}

// Audit lists the audit record, newest first, at most 200 at a time.
func (a *Authority) Audit(ctx context.Context, f store.AuditFilter, p store.Page) (store.List[store.AuditEntry], error) {
	return a.store.Audit(ctx, f, bounded(p))
}

// entry makes a line of the audit record.
func (a *Authority) entry(by, action string, station ocpp.StationID, subject, detail string) store.AuditEntry {
	return store.AuditEntry{At: a.cfg.Now(), By: clip(by), Action: action, Station: station, Subject: subject, Detail: detail}
}

// Limits of what an operator registers.
const (
	maxLabels     = 16
	maxLabelName  = 64  // bytes
	maxLabelValue = 256 // bytes
	maxUser       = 128 // bytes
)

// checkStation reports what is wrong with a record.
func checkStation(s store.Station) error {
	if err := s.ID.Check(); err != nil {
		return invalid("id", "", "%v", err)
	}
	if strings.TrimSpace(string(s.ID)) != string(s.ID) {
		return invalid("id", "leave them out", "begins or ends with blanks")
	}
	if err := checkName("serial", s.Serial); err != nil {
		return err
	}
	if err := checkText("serial", s.Serial, 4*64); err != nil {
		return err
	}
	if !s.Profile.Valid() {
		return invalid("profile", "use 1 (plain), 2 (TLS) or 3 (TLS with client certificate)", "%d is not a security profile", s.Profile)
	}
	if s.Version != "" && !s.Version.Valid() {
		return invalid("version", "use one of 1.6, 2.0.1, 2.1, or leave it out", "%.20q is not a supported OCPP version", s.Version)
	}
	if err := checkText("user", s.User, maxUser); err != nil {
		return err
	}
	if len(s.Labels) > maxLabels {
		return invalid("labels", "", "%d labels, at most %d are allowed", len(s.Labels), maxLabels)
	}
	for name, value := range s.Labels {
		if name == "" {
			return invalid("labels", "", "a label has no name")
		}
		if err := checkText("labels", name, maxLabelName); err != nil {
			return err
		}
		if err := checkText("labels", value, maxLabelValue); err != nil {
			return err
		}
	}
	q := s.Quirks
	switch q.Ping {
	case "", "auto", "off", "require":
	default:
		return invalid("quirks.ping", "use auto, off or require", "%.20q", q.Ping)
	}
	for _, n := range []struct {
		field      string
		value, max int
	}{{"ping_interval", q.PingInterval, 86400}, {"hold_calls", q.HoldCalls, 600}, {"call_gap", q.CallGap, 60000}} {
		if n.value < 0 || n.value > n.max {
			return invalid("quirks."+n.field, fmt.Sprintf("use 0 to %d", n.max), "%d", n.value)
		}
	}
	return nil
}

func checkText(field, s string, max int) error {
	switch {
	case len(s) > max:
		return invalid(field, "", "%d bytes, at most %d are allowed", len(s), max)
	case !utf8.ValidString(s):
		return invalid(field, "", "not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return invalid(field, "", "holds a control character")
	}
	return nil
}
