package fleet

import "slices"

// faultKind says how a fault comes about.
type faultKind uint8

const (
	provoked  faultKind = iota // one event on a connection: Provoke
	attempted                  // one attempt to connect: Probe
	habit                      // for life: Identity.Quirks
)

// Reaction is what a good server does about a fault or a quirk.
type Reaction struct {
	// Refused is the kind of error (as in Stats.Errors) that the attempt to connect
	// ends with. Empty: the station gets its connection.
	Refused string
	// Code is the close code that ends the connection. Zero: the connection goes on
	// and is served, unless the fault itself ends it.
	Code int
	// Says is the reaction in words.
	Says string
}

func served(says string) Reaction               { return Reaction{Says: says} }
func refused(kind errorKind, s string) Reaction { return Reaction{Refused: errorNames[kind], Says: s} }
func closed(code int, says string) Reaction     { return Reaction{Code: code, Says: says} }

// faultNames are the names of faults and quirks in scenarios, reports and on the
// command line: the one table of them. A fault is one event: Provoke does it to a
// connected station, or Probe in an attempt to connect. A quirk is a habit that a
// station of Identity.Quirks has for life. All of them were seen in the field.
var faultNames = []faultName{
	{CleanClose, "clean_close", "ends the connection with a close handshake", provoked, served("answers the close frame; the station may come back")},
	{Cut, "reset", "ends the connection with a TCP RST", provoked, served("frees the connection at once; the station may come back")},
	{Silent, "silent", "keeps the connection and answers nothing any more, as behind a NAT that forgot it", provoked, served("closes after the pongs stay out, and admits the next connection")},
	{TruncatedJSON, "truncated_json", "sends a CALL whose JSON ends in the middle", provoked, served("answers CALLERROR if the message id is readable, counts it, keeps the connection")},
	{TrailingNUL, "trailing_nul", "sends a CALL with NUL bytes after its JSON", provoked, served("reads the CALL, or answers CALLERROR; keeps the connection")},
	{UnknownMessageType, "unknown_message_type", "sends a message of type 9", provoked, served("ignores it, keeps the connection")},
	{UnknownAction, "unknown_action", "sends a CALL of an action that does not exist", provoked, served("answers NotImplemented")},
	{StrayAnswer, "stray_answer", "sends a CALLRESULT that nobody waits for", provoked, served("discards and counts it")},
	{Burst, "burst", "sends 20 CALLs without waiting for answers", provoked, served("queues and answers all of them in order")},
	{TextPong, "text_pong", "sends the text message pong", provoked, served("ignores it")},
	{ReservedBits, "reserved_bits", "sends a frame with RSV2 set, as without any negotiation", provoked, closed(closeProtocol, "closes with 1002; the station may come back")},
	{Unmasked, "unmasked", "sends a frame without a mask", provoked, closed(closeProtocol, "closes with 1002 (RFC 6455 §5.1)")},
	{InvalidUTF8, "invalid_utf8", "sends a text message that is not UTF-8", provoked, closed(closeInvalidText, "closes with 1007 (RFC 6455 §8.1)")},
	{Oversized, "oversized", "begins a message of 1 GiB", provoked, closed(closeTooBig, "closes with 1009 before it is there; memory does not grow")},

	{WrongPassword, "wrong_password", "connects with a wrong password (profiles 1, 2)", attempted, refused(errorUnauthorized, "HTTP 401 before the upgrade")},
	{EmptyPassword, "empty_password", "connects with an empty password (profiles 1, 2)", attempted, refused(errorUnauthorized, "HTTP 401 before the upgrade")},
	{WrongUser, "wrong_user", "connects with another user name than its identity (profiles 1, 2)", attempted, refused(errorUnauthorized, "HTTP 401, unless the station's record has that user name")},
	{NoCredentials, "no_credentials", "connects without an Authorization header (profiles 1, 2)", attempted, refused(errorUnauthorized, "HTTP 401 with WWW-Authenticate")},
	{WrongSubprotocol, "wrong_subprotocol", "offers a version that no server has", attempted, refused(errorSubprotocol, "upgrades without a subprotocol and closes at once")},
	{NoSubprotocol, "no_subprotocol", "offers no subprotocol", attempted, closed(closeProtocol, "upgrades without a subprotocol and closes at once, unless the station's record assumes 1.6")},
	{OtherVersion, "other_version", "connects with another OCPP version than before", attempted, served("takes the version from the connection")},
	{UnknownIdentity, "unknown_identity", "connects with an identity that nobody registered", attempted, Reaction{Refused: errorNames[errorNotFound], Says: "HTTP 404 (or 401, where identities must not be guessed)"}},
	{FailedHandshake, "cut_in_handshake", "ends the TCP connection in the middle of the handshake", attempted, served("frees what the handshake held, at once")},
	{NoCertificate, "no_certificate", "presents no client certificate (profile 3)", attempted, refused(errorTLS, "ends the TLS handshake")},
	{ForeignCertificate, "foreign_certificate", "presents a certificate of another CA (profile 3)", attempted, refused(errorTLS, "ends the TLS handshake")},
	{OldTLS, "old_tls", "speaks TLS 1.1 at most (profiles 2, 3)", attempted, refused(errorTLS, "alert protocol_version")},

	{DoubledSlashes, "doubled_slashes", "doubles the slashes of its path and adds one at the end", habit, served("takes the last segment as the identity")},
	{RawIdentity, "raw_identity", "does not escape its identity in the path", habit, served("decodes once, takes what is not escaped as it is")},
	{NoConnectionHeader, "no_connection_header", "upgrades without Connection: Upgrade", habit, served("upgrades all the same")},
	{OddHeaderCase, "odd_header_case", "writes upgrade: WebSocket and basic in other cases", habit, served("compares without regard to case")},
	{NoServerName, "no_sni", "sends no server name (profiles 2, 3)", habit, served("presents its default certificate")},
	{StaticRSA, "static_rsa", "speaks TLS 1.2 with TLS_RSA_WITH_AES_128_GCM_SHA256 alone (profiles 2, 3)", habit, served("has an RSA certificate besides the ECDSA one")},
	{LeafOnly, "leaf_only", "presents its certificate without the intermediates (profile 3)", habit, served("completes the chain from its own store")},
	{NeverPongs, "never_pongs", "answers no ping", habit, served("requires pongs only of stations known to pong")},
	{TextPongs, "text_pongs", "answers pings with the text message pong", habit, served("ignores the text")},
	{NoBackOff, "no_back_off", "comes back at once whenever its connection ends", habit, served("admits it, at the pace of its limits")},
	{AlwaysBoots, "always_boots", "sends BootNotification on every connection", habit, served("answers it; transactions go on")},
	{NeverBoots, "never_boots", "never sends BootNotification", habit, served("takes the registration from its record")},
	{HeartbeatStorm, "heartbeat_storm", "sends a heartbeat every second whatever the interval", habit, served("answers, within its limits")},
	{IgnoresPending, "ignores_pending", "treats Pending and Rejected as Accepted", habit, served("tolerates what belongs to a registration, or answers SecurityError")},
	{DropsEarlyCalls, "drops_early_calls", "drops the connection at a CALL before its BootNotification was answered", habit, served("holds its CALLs until then")},
	{DeafToCalls, "deaf_to_calls", "is alive and answers no CALL", habit, served("gives up after its timeout, and tells the operator")},
	{DoubledAnswers, "doubled_answers", "answers every CALL twice", habit, served("discards and counts the second")},
	{DoubledStart, "doubled_start", "sends each start of a transaction twice, with two message ids", habit, served("records one transaction")},
	{DoubledStop, "doubled_stop", "sends each end of a transaction twice, with two message ids", habit, served("records one end")},
	{NoTimeZone, "no_time_zone", "writes times without a zone", habit, served("reads them as UTC")},
	{SevenDigits, "seven_digits", "writes times with seven fraction digits", habit, served("reads them")},
	{LongModel, "long_model", "has a model name of 60 characters", habit, served("tolerates it: a boot is not refused for looks")},
	{NullOptionals, "null_optionals", "writes null for what it leaves out", habit, served("tolerates it")},
	{UnknownErrorCode, "unknown_error_code", "reports the errorCode Error, which does not exist (1.6)", habit, served("tolerates it, or answers CALLERROR; keeps the connection")},
}

type faultName struct {
	fault    Fault
	name     string
	about    string
	kind     faultKind
	reaction Reaction
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

// Reaction is what a good server does about it.
func (f Fault) Reaction() Reaction {
	if i := f.index(); i >= 0 {
		return faultNames[i].reaction
	}
	return Reaction{}
}

// Connecting reports whether it is a fault of connecting, for Probe.
func (f Fault) Connecting() bool { i := f.index(); return i >= 0 && faultNames[i].kind == attempted }

// Quirk reports whether it is a habit of a station, for its Identity.
func (f Fault) Quirk() bool { i := f.index(); return i >= 0 && faultNames[i].kind == habit }

func (f Fault) index() int {
	return slices.IndexFunc(faultNames, func(x faultName) bool { return x.fault == f })
}
