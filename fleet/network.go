package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/ocpp"
)

// maxSlots is how many network configurations a station has room for.
const maxSlots = 4

// networkAttempts is how often a network configuration is tried before the next
// one, unless NetworkProfileConnectionAttempts says otherwise.
const networkAttempts = 3

// slot is one network configuration (OCPP 2.x B09, B10). The fields are as the
// server gave them; resolve says whether they make sense.
type slot struct {
	url       string
	profile   string // security profile
	version   string
	transport string
	iface     string
	timeout   string
	identity  string // 2.1; empty: the station's
	password  string // 2.1; empty: the station's
}

// network is a station's network configurations once the server changed them.
// Until then there is one: slot 1, the fleet's target of the station's profile.
//
// A 1.6 station that is told to raise its SecurityProfile has the old profile in
// slot 1 and tries slot 2 first.
type network struct {
	slots    [maxSlots]*slot // slot n is at n-1
	priority []int           // NetworkConfigurationPriority
	order    []int           // the priority in force: that of the last start
	at       int             // which of order is tried or connected
	tries    int             // failed attempts with it
	last     int             // the slot of the last connection
}

// networks returns the station's own network configurations, made if need be.
func (s *station) networks() *network {
	x := s.more()
	if x.network == nil {
		own := &slot{url: s.f.targets[s.profile].url.String(), profile: s.profile.Label(), version: versionName(s.id.Version),
			transport: "JSON", iface: "Wired0", timeout: s.messageTimeout()}
		x.network = &network{slots: [maxSlots]*slot{own}, priority: []int{1}, order: []int{1}, last: 1}
	}
	return x.network
}

func (s *station) messageTimeout() string { return strconv.Itoa(int(s.f.cfg.CallTimeout.Seconds())) }

// versionName is an OCPP version as OCPPVersionEnumType has it.
func versionName(v ocpp.Version) string {
	switch v {
	case ocpp.V16:
		return "OCPP16"
	case ocpp.V201:
		return "OCPP20"
	}
	return "OCPP21"
}

// current is the slot that is tried or connected; nil: the fleet's target.
func (s *station) current() *slot {
	if s.extra == nil || s.extra.network == nil {
		return nil
	}
	n := s.extra.network
	return n.slots[n.order[n.at]-1]
}

// resolve makes a slot usable, or says why it is not, as a reasonCode.
func (s *station) resolve(x *slot) (target, ocpp.SecurityProfile, string) {
	n, err := strconv.Atoi(x.profile)
	profile := ocpp.SecurityProfile(n)
	if err != nil || n < 1 || n > 3 || x.transport != "" && x.transport != "JSON" {
		return target{}, 0, "InvalidNetworkConf"
	}
	t, err := newTarget(profile, x.url)
	switch {
	case err != nil,
		x.identity != "" && ocpp.StationID(x.identity).Check() != nil,
		profile != ocpp.ProfileMTLS && x.password == "" && s.password == "",
		profile != ocpp.ProfilePlain && !s.trustsSomebody(),
		profile == ocpp.ProfileMTLS && s.id.Certificate == nil: // A05: the credentials come first
		return target{}, 0, "InvalidNetworkConf"
	case profile < s.profile: // AllowSecurityProfileDowngrade is false
		return target{}, 0, "NoSecurityDowngrade"
	}
	return t, profile, ""
}

// setNetworkProfile applies SetNetworkProfile.
func (s *station) setNetworkProfile(number int, x slot) (status, why string) {
	if why := s.editable(number); why != "" {
		return "Rejected", why
	}
	if _, _, why := s.resolve(&x); why != "" {
		return "Rejected", why
	}
	s.networks().slots[number-1] = &x
	return "Accepted", ""
}

// editable says why a slot must not be written: it does not exist, or it is in
// use (B09.FR.21, FR.22).
func (s *station) editable(number int) (why string) {
	n := s.networks()
	if number < 1 || number > maxSlots || slices.Contains(n.priority, number) || n.order[n.at] == number {
		return "InvalidConfSlot"
	}
	return ""
}

// setPriority applies NetworkConfigurationPriority, which counts from the next
// start on (B10, A05).
func (s *station) setPriority(value string) string {
	n := s.networks()
	var priority []int
	for part := range strings.SplitSeq(value, ",") {
		number, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || number < 1 || number > maxSlots || n.slots[number-1] == nil || slices.Contains(priority, number) {
			return "Rejected"
		}
		if _, _, why := s.resolve(n.slots[number-1]); why != "" {
			return "Rejected"
		}
		priority = append(priority, number)
	}
	n.priority = priority
	return "Accepted"
}

func (s *station) priority() string {
	if s.extra == nil || s.extra.network == nil {
		return "1"
	}
	var parts []string
	for _, n := range s.extra.network.priority {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ",")
}

// raiseProfile applies the 1.6 key SecurityProfile (white paper A05): only
// upwards, and only with what the new profile needs. The station comes back with
// it, and returns to the old one if that does not work.
func (s *station) raiseProfile(value string) string {
	number, err := strconv.Atoi(value)
	profile := ocpp.SecurityProfile(number)
	if err != nil || number < 1 || number > 3 || profile <= s.profile {
		return "Rejected"
	}
	to, ok := s.f.targets[profile]
	if !ok {
		s.f.log.Warn("no target for the security profile that the server asks for", "station", s.id.ID, "profile", number)
		return "Rejected"
	}
	fresh := &slot{url: to.url.String(), profile: value}
	if _, _, why := s.resolve(fresh); why != "" {
		return "Rejected"
	}
	n := s.networks()
	n.slots[1], n.order, n.priority = fresh, []int{2, 1}, []int{2, 1}
	n.at, n.tries = 0, 0
	s.then(func() { s.reconnectNow("new security profile") })
	return "Accepted"
}

// restartNetwork puts the priority into force; a start does.
func (s *station) restartNetwork() {
	if s.extra != nil && s.extra.network != nil {
		n := s.extra.network
		n.order, n.at, n.tries = slices.Clone(n.priority), 0, 0
	}
}

// networkFailed counts a failed attempt; after so many of them it is the next
// slot's turn, for ever (B10.FR.03, FR.07).
func (s *station) networkFailed() {
	if s.extra == nil || s.extra.network == nil {
		return
	}
	n := s.extra.network
	attempts := networkAttempts
	if set, ok := s.changed("OCPPCommCtrlr.NetworkProfileConnectionAttempts."); ok && set > 0 {
		attempts = set
	}
	if n.tries++; n.tries >= attempts {
		n.at, n.tries = (n.at+1)%len(n.order), 0
	}
}

// networkWorks notes which slot made the connection. Another one than before
// needs a BootNotification (B10.FR.10); a higher security profile removes the
// lower ones for good (A05).
func (s *station) networkWorks() {
	if s.extra == nil || s.extra.network == nil {
		return
	}
	n := s.extra.network
	n.tries = 0
	number := n.order[n.at]
	changed := number != n.last
	n.last = number
	if before := s.profile; s.conn.profile > before {
		s.profile = s.conn.profile
		s.securityEvent(eventReconfiguration, fmt.Sprintf("security profile %s to %s", before.Label(), s.profile.Label()))
		n.drop(func(x *slot) bool { return x.profile < s.profile.Label() })
	}
	if !s.id.Version.Is2x() { // nothing is left to fall back to, or to try again
		n.drop(func(x *slot) bool { return x != n.slots[number-1] })
	} else if changed && s.bootReason == "" {
		s.bootReason = "ApplicationReset"
	}
}

// drop removes slots, and from the order and the priority what does not exist
// any more. The slot in use stays.
func (n *network) drop(remove func(*slot) bool) {
	used := n.order[n.at]
	for i, x := range n.slots {
		if x != nil && i+1 != used && remove(x) {
			n.slots[i] = nil
		}
	}
	gone := func(number int) bool { return n.slots[number-1] == nil }
	n.order = slices.DeleteFunc(n.order, gone)
	n.priority = slices.DeleteFunc(n.priority, gone)
	if len(n.priority) == 0 {
		n.priority = []int{used}
	}
	n.at = slices.Index(n.order, used)
}

// field finds a variable of the component NetworkConfiguration (2.1).
func (x *slot) field(variable string) (field *string, secret bool) {
	switch strings.ToLower(variable) {
	case "ocppcsmsurl":
		return &x.url, false
	case "securityprofile":
		return &x.profile, false
	case "ocppversion":
		return &x.version, false
	case "ocpptransport":
		return &x.transport, false
	case "ocppinterface":
		return &x.iface, false
	case "messagetimeout":
		return &x.timeout, false
	case "identity":
		return &x.identity, false
	case "basicauthpassword":
		return &x.password, true
	}
	return nil, false
}

// networkVariable reads or, if value is not nil, writes a variable of
// NetworkConfiguration[slot], as 2.1 prefers to SetNetworkProfile. What is
// written is checked when the slot is put into NetworkConfigurationPriority.
func (s *station) networkVariable(instance, variable string, value *string) (status, current string) {
	number, err := strconv.Atoi(instance)
	if err != nil || number < 1 || number > maxSlots {
		return "UnknownComponent", ""
	}
	n := s.networks()
	x := n.slots[number-1]
	if x == nil {
		x = new(slot)
	}
	field, secret := x.field(variable)
	switch {
	case field == nil:
		return "UnknownVariable", ""
	case value == nil && secret:
		return "Rejected", "" // write-only
	case value == nil:
		return "Accepted", *field
	case s.editable(number) != "" || len(*value) > 2000:
		return "Rejected", ""
	}
	*field, n.slots[number-1] = *value, x
	return "Accepted", ""
}
