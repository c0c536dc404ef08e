package csms

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"holdfast/ocpp"
)

// The steps of a change of the security profile (OCPP 2.0.1 A05; the security
// white paper of 1.6). For profile 3 the station gets a certificate between
// stepProof and stepAccept.
const (
	stepAccept   = "accept"   // the authority accepts both profiles
	stepURL      = "url"      // 1.6: the server's new address goes into the maker's key
	stepTell     = "tell"     // 1.6: the station is told its new profile
	stepNetwork  = "network"  // 2.x: a network profile with it is written
	stepPriority = "priority" // 2.x: and comes first, the old one second
	stepReset    = "reset"    // 2.x: the station restarts when nobody charges
)

// changeProfile takes a station to a higher security profile: root first,
// certificate first for profile 3, both profiles accepted during the change, the
// lower one refused after the first success. A station that cannot connect with
// the new one falls back, and is registered for the old one again.
var changeProfile = &kind{
	first: stepRoots,
	steps: map[string]stepFunc{
		stepRoots:   readRoots(stepInstall),
		stepInstall: installRoots(stepProof),
		stepProof: func(ctx context.Context, w *work) outcome {
			next := stepAccept
			if w.params.Profile == ocpp.ProfileMTLS {
				next = stepLimits
			}
			return proveRoots(next)(ctx, w)
		},
		stepLimits:   readLimits(stepRequest),
		stepRequest:  requestCertificate,
		stepSign:     signCertificate,
		stepDeliver:  deliverCertificate(stepAccept),
		stepAccept:   acceptProfile,
		stepURL:      tellURL,
		stepTell:     tellProfile,
		stepNetwork:  writeNetworkProfile,
		stepPriority: writePriority,
		stepReset:    resetForProfile,
		stepConfirm:  confirmProfile,
	},
	check: func(c *CSMS, p *OperationParams) error {
		if p.Certificates != "" {
			return &InvalidOperation{"params.certificates", "change-profile takes none: it installs the roots of the servers' certificates"}
		}
		if p.Profile != ocpp.ProfileTLS && p.Profile != ocpp.ProfileMTLS {
			return &InvalidOperation{"params.profile", "change-profile goes up, to security profile 2 or 3 (OCPP forbids the way down: register the station anew for it)"}
		}
		if p.URL == "" {
			p.URL = c.settings.StationURLs[p.Profile]
		}
		if p.URL != "" {
			u, err := url.Parse(p.URL)
			if err != nil || u.Scheme != "wss" || u.Host == "" || u.User != nil {
				return &InvalidOperation{"params.url", "want wss://host[:port]/path, the address of the server without the station's identity"}
			}
		}
		if p.URLKey != "" && p.URL == "" {
			return &InvalidOperation{"params.url_key", "needs a url"}
		}
		return nil
	},
	undo: undoProfile,
}

// acceptProfile has the authority admit the station with either profile.
func acceptProfile(ctx context.Context, w *work) outcome {
	s, err := w.c.authority.Station(ctx, w.Operation.Station)
	if err != nil {
		return w.authorityFault("station", err)
	}
	if s.Profile != w.params.Profile {
		if s.Profile > w.params.Profile {
			return failed("the station is registered for security profile %d by now", s.Profile)
		}
		w.memory.From, w.memory.Accepting = int(s.Profile), true
		if err := w.keep(ctx); err != nil {
			return await(w.c.settings.OperationRetry, "record: %v", err)
		}
		if _, err := w.c.authority.ChangeProfile(ctx, w.By, w.Operation.Station, w.params.Profile); err != nil {
			return w.authorityFault("accept both security profiles", err)
		}
	} else if w.memory.From == 0 && s.PreviousProfile != 0 { // somebody began it by hand
		w.memory.From, w.memory.Accepting = int(s.PreviousProfile), true
	}
	w.memory.Rounds = 0
	w.told()
	next := stepURL
	if w.station.Version.Is2x() {
		next = stepNetwork
	}
	return goOn(next, "security profiles %d and %d are accepted", w.memory.From, w.params.Profile)
}

// tellURL writes the server's address for the new profile, for stations of 1.6
// that keep it in a key: OCPP 1.6 has none for it.
func tellURL(ctx context.Context, w *work) outcome {
	if w.params.URLKey == "" {
		return goOn(stepTell, "no configuration key for the server's address is given: the station knows it")
	}
	r := w.writeTo(ctx, setting{key: w.params.URLKey}, w.params.URL)
	switch {
	case !r.ok:
		return r.stop
	case r.status != "Accepted" && r.status != "RebootRequired":
		return failed("ChangeConfiguration %s: the station answers %s", w.params.URLKey, r.status).by(r.command)
	}
	return goOn(stepTell, "%s is %s: %s", w.params.URLKey, w.params.URL, r.status).by(r.command)
}

// tellProfile sets SecurityProfile: the station disconnects and comes back.
func tellProfile(ctx context.Context, w *work) outcome {
	if w.memory.Unknown && w.station.Connected && w.station.Profile == w.params.Profile {
		return goOn(stepConfirm, "the station took it")
	}
	if !w.station.Connected {
		return offline()
	}
	before := w.memory.Unknown
	w.memory.Unknown = true
	w.told()
	if err := w.keep(ctx); err != nil {
		return await(w.c.settings.OperationRetry, "record: %v", err)
	}
	r := w.writeTo(ctx, settingProfile, w.params.Profile.Label())
	switch {
	case !r.ok:
		w.memory.Unknown = before || r.unknown
		return r.stop
	case r.status == "Accepted" || r.status == "RebootRequired":
		w.memory.Unknown, w.memory.Reset = false, r.status == "RebootRequired"
		return goOn(stepConfirm, "the station answers %s", r.status).by(r.command)
	case before: // Rejected may mean that it has it already
		return goOn(stepConfirm, "told again after an unknown outcome: the station answers %s", r.status).by(r.command)
	}
	return failed("ChangeConfiguration SecurityProfile: the station answers %s", r.status).by(r.command)
}

type networkProfile struct {
	Slot int            `json:"configurationSlot"`
	Data connectionData `json:"connectionData"`
}

type connectionData struct {
	Version   string `json:"ocppVersion"`
	Transport string `json:"ocppTransport"`
	URL       string `json:"ocppCsmsUrl"`
	Timeout   int    `json:"messageTimeout"`
	Profile   int    `json:"securityProfile"`
	Interface string `json:"ocppInterface"`
}

const (
	// maxSlots is how many network profiles are looked at for a free one.
	maxSlots = 4
	// messageTimeout is written into network profiles, in seconds.
	messageTimeout = 30
)

// writeNetworkProfile writes the new profile into a slot that is not in use.
func writeNetworkProfile(ctx context.Context, w *work) outcome {
	if w.params.URL == "" {
		return failed("OCPP %s needs the server's address for security profile %d: give a url, or set --station-url", w.station.Version, w.params.Profile)
	}
	values, stop, ok := w.readSettings(ctx, settingPriority)
	if !ok {
		return stop
	}
	if w.memory.Priority == "" { // not what an earlier try has written
		w.memory.Priority = values[settingPriority]
	}
	used := slots(w.memory.Priority)
	n := networkProfile{Data: connectionData{Version: "OCPP20", Transport: "JSON", URL: w.params.URL, Timeout: messageTimeout, Profile: int(w.params.Profile), Interface: "Wired0"}}
	if w.station.Version == ocpp.V21 {
		n.Data.Version, n.Data.Interface = "OCPP21", "Any"
	}
	var answers []string
	for n.Slot = 1; n.Slot <= maxSlots; n.Slot++ {
		if slices.Contains(used, n.Slot) {
			continue
		}
		var answer statusOnly
		k, stop, _, ok := w.ask(ctx, "SetNetworkProfile", &n, &answer)
		if !ok {
			return stop
		}
		if answer.Status == "Accepted" {
			w.memory.Slot = n.Slot
			return goOn(stepPriority, "network profile %d is wss with security profile %d", n.Slot, w.params.Profile).by(k)
		}
		answers = append(answers, fmt.Sprintf("%d %s", n.Slot, answer.Status))
	}
	return failed("SetNetworkProfile: no slot beside %s takes the new profile (%s)", or(w.memory.Priority, "those in use"), strings.Join(answers, ", "))
}

// slots reads NetworkConfigurationPriority.
func slots(priority string) (list []int) {
	for s := range strings.SplitSeq(priority, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
			list = append(list, n)
		}
	}
	return list
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// writePriority puts the new network profile first and keeps the old ones behind
// it, to fall back to.
func writePriority(ctx context.Context, w *work) outcome {
	priority := strconv.Itoa(w.memory.Slot)
	for _, s := range slots(w.memory.Priority) {
		if s != w.memory.Slot {
			priority += "," + strconv.Itoa(s)
		}
	}
	r := w.writeTo(ctx, settingPriority, priority)
	switch {
	case !r.ok:
		return r.stop
	case r.status != "Accepted" && r.status != "RebootRequired":
		return failed("SetVariables NetworkConfigurationPriority %s: the station answers %s", priority, r.status).by(r.command)
	}
	return goOn(stepReset, "NetworkConfigurationPriority is %s", priority).by(r.command)
}

// resetForProfile has the station restart, which is when it takes the new profile.
func resetForProfile(ctx context.Context, w *work) outcome {
	if w.station.Connected && w.station.Profile == w.params.Profile { // it did so by itself
		return goOn(stepConfirm, "the station changed by itself")
	}
	w.told()
	if err := w.keep(ctx); err != nil {
		return await(w.c.settings.OperationRetry, "record: %v", err)
	}
	k, stop, ok := w.reset(ctx)
	if !ok {
		return stop
	}
	w.memory.Closed = true // it restarts when its transactions are over: do not disturb it
	return goOn(stepConfirm, "the station restarts when nobody charges").by(k)
}

// confirmProfile waits for the station to connect with its new profile: its first
// success ends the old one at the authority.
func confirmProfile(ctx context.Context, w *work) outcome {
	if w.station.Connected && w.station.Profile == w.params.Profile {
		s, err := w.c.authority.Station(ctx, w.Operation.Station)
		if err != nil {
			return w.authorityFault("station", err)
		}
		if s.PreviousProfile == 0 && s.Profile == w.params.Profile {
			return done("the station connected with security profile %d; %d is refused", w.params.Profile, w.memory.From)
		}
		// It is connected with the new profile, the authority is about to say so.
		return await(w.c.settings.OperationRetry, "connected with security profile %d; the old one is still accepted", w.params.Profile)
	}
	why := fmt.Sprintf("waits for the station to connect with security profile %d", w.params.Profile)
	if w.memory.Reset && w.station.Connected && !w.returned() {
		k, stop, ok := w.reset(ctx)
		if !ok {
			return stop
		}
		w.memory.Reset = false
		return await(w.c.settings.OperationUse, "%s, after its restart", why).by(k)
	}
	if !w.returned() {
		return w.comeBack(ctx, why)
	}
	if !w.settled() { // a station that falls back may try the new profile again
		return await(w.c.settings.OperationUse, "the station came back with security profile %d; it may still change%s", w.station.Profile, w.refusal(ctx))
	}
	return failed("the station fell back to security profile %d, which stays good%s", w.station.Profile, w.refusal(ctx))
}

// undoProfile has the authority admit the station with its old profile only,
// unless it has come with the new one, or may still do so.
func undoProfile(ctx context.Context, w *work) error {
	if !w.memory.Accepting {
		return nil
	}
	told := !w.memory.ToldAt.IsZero() && slices.Contains([]string{stepTell, stepReset, stepConfirm}, w.Step)
	if told && !(w.returned() && w.station.Profile == ocpp.SecurityProfile(w.memory.From)) && (w.Step == stepConfirm || w.memory.Unknown) {
		return nil // it may come with either: both stay good until it shows
	}
	if w.memory.Slot != 0 && w.station.Connected && w.memory.Priority != "" {
		w.writeTo(ctx, settingPriority, w.memory.Priority) // else it tries the new one first at each start
	}
	_, err := w.c.authority.CancelProfileChange(ctx, w.By, w.Operation.Station)
	return err
}
