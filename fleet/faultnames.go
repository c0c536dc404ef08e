package fleet

import "slices"

// faultNames are the names of faults and quirks in scenarios, reports and on the
// command line: the one table of them. A fault is one event: Provoke does it to a
// connected station, or Probe in an attempt to connect. A quirk is a habit that a
// station of Identity has for life; there are none yet.
var faultNames = []faultName{
	{CleanClose, "clean_close", "ends the connection with a close handshake", false, false},
	{Cut, "reset", "ends the connection with a TCP RST", false, false},
	{Silent, "silent", "keeps the connection and answers nothing any more", false, false},
	{WrongPassword, "wrong_password", "connects with a wrong password (profiles 1, 2)", true, false},
	{WrongSubprotocol, "wrong_subprotocol", "offers a version that no server has", true, false},
	{NoSubprotocol, "no_subprotocol", "offers no subprotocol", true, false},
	{FailedHandshake, "cut_in_handshake", "ends the TCP connection in the middle of the handshake", true, false},
	{NoCertificate, "no_certificate", "presents no client certificate (profile 3)", true, false},
}

type faultName struct {
	fault Fault
	name  string
	about string
	probe bool // by Probe, not by Provoke
	quirk bool // by Identity, neither by Provoke nor by Probe
}

// FaultByName finds a fault or quirk.
func FaultByName(name string) (Fault, bool) {
	for _, f := range faultNames {
		if f.name == name {
			return f.fault, true
		}
	}
	return NoFault, false
}

// Faults are all faults and quirks.
func Faults() []Fault {
	list := make([]Fault, len(faultNames))
	for i, f := range faultNames {
		list[i] = f.fault
	}
	return list
}

// String is the fault's name.
func (f Fault) String() string {
	if i := f.index(); i >= 0 {
		return faultNames[i].name
	}
	return "none"
}

// About says in a few words what the fault does.
func (f Fault) About() string {
	if i := f.index(); i >= 0 {
		return faultNames[i].about
	}
	return ""
}

// Connecting reports whether it is a fault of connecting, for Probe.
func (f Fault) Connecting() bool { i := f.index(); return i >= 0 && faultNames[i].probe }

// Quirk reports whether it is a habit of a station, for its Identity.
func (f Fault) Quirk() bool { i := f.index(); return i >= 0 && faultNames[i].quirk }

func (f Fault) index() int {
	return slices.IndexFunc(faultNames, func(x faultName) bool { return x.fault == f })
}
