package fleet

import (
	"slices"

	"holdfast/ocpp"
)

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
	{CleanClose, "clean_close", "ends the connection with a close handshake", provoked, anyone, served("answers the close frame; the station may come back")},
	{Cut, "reset", "ends the connection with a TCP RST", provoked, anyone, served("frees the connection at once; the station may come back")},
	{Silent, "silent", "keeps the connection and answers nothing any more, as behind a NAT that forgot it", provoked, anyone, served("closes after the pongs stay out, and admits the next connection")},
	{HalfOpen, "half_open", "leaves its connection open, reads nothing from it any more, and connects anew", provoked, anyone, served("admits the new connection, ends the old one with its own close code")},
	{DeafUntilReconnect, "deaf_until_reconnect", "answers pings, and no CALL until it has connected anew", provoked, anyone, closed(closeGoingAway, "closes with 1001 after some CALLs without an answer; the station recovers")},
	{TruncatedJSON, "truncated_json", "sends a CALL whose JSON ends in the middle", provoked, anyone, served("answers CALLERROR if the message id is readable, counts it, keeps the connection")},
	{LeadingComma, "leading_comma", "sends a CALL whose payload begins with a comma", provoked, anyone, served("answers CALLERROR, counts it, keeps the connection")},
	{NULInString, "nul_in_string", "sends a CALL with a NUL byte in a string", provoked, anyone, served("answers CALLERROR, or reads it; keeps the connection")},
	{BadEscape, "bad_escape", "sends a CALL with an escape that JSON does not have", provoked, anyone, served("answers CALLERROR, counts it, keeps the connection")},
	{TrailingNUL, "trailing_nul", "sends a CALL with NUL bytes after its JSON", provoked, anyone, served("reads the CALL, or answers CALLERROR; keeps the connection")},
	{UnknownMessageType, "unknown_message_type", "sends a message of type 9", provoked, anyone, served("ignores it, keeps the connection")},
	{UnknownAction, "unknown_action", "sends a CALL of an action that does not exist", provoked, anyone, served("answers NotImplemented")},
	{StrayAnswer, "stray_answer", "sends a CALLRESULT that nobody waits for", provoked, anyone, served("discards and counts it")},
	{Burst, "burst", "sends 20 CALLs without waiting for answers", provoked, anyone, served("queues and answers all of them in order")},
	{HistoryFlood, "history_flood", "sends 300 meter values of the past hours without waiting for answers", provoked, anyone, served("answers all of them in order, at its own pace")},
	{TextPong, "text_pong", "sends the text message pong", provoked, anyone, served("ignores it")},
	{ReservedBits, "reserved_bits", "sends a frame with RSV2 set, as without any negotiation", provoked, anyone, closed(closeProtocol, "closes with 1002; the station may come back")},
	{Compressed, "compressed", "sends a compressed frame (RSV1) that nobody agreed on", provoked, anyone, closed(closeProtocol, "closes with 1002; the station may come back")},
	{Unmasked, "unmasked", "sends a frame without a mask", provoked, anyone, closed(closeProtocol, "closes with 1002 (RFC 6455 §5.1)")},
	{InvalidUTF8, "invalid_utf8", "sends a text message that is not UTF-8", provoked, anyone, closed(closeInvalidText, "closes with 1007 (RFC 6455 §8.1)")},
	{Oversized, "oversized", "begins a message of 1 GiB", provoked, anyone, closed(closeTooBig, "closes with 1009 before it is there; memory does not grow")},

	{WrongPassword, "wrong_password", "connects with a wrong password (profiles 1, 2)", attempted, password, refused(errorUnauthorized, "HTTP 401 before the upgrade")},
	{EmptyPassword, "empty_password", "connects with an empty password (profiles 1, 2)", attempted, password, refused(errorUnauthorized, "HTTP 401 before the upgrade")},
	{WrongUser, "wrong_user", "connects with another user name than its identity (profiles 1, 2)", attempted, password, refused(errorUnauthorized, "HTTP 401, unless the station's record has that user name")},
	{NoCredentials, "no_credentials", "connects without an Authorization header (profiles 1, 2)", attempted, password, refused(errorUnauthorized, "HTTP 401 with WWW-Authenticate")},
	{WrongSubprotocol, "wrong_subprotocol", "offers a version that no server has", attempted, anyone, refused(errorSubprotocol, "upgrades without a subprotocol and closes at once")},
	{NoSubprotocol, "no_subprotocol", "offers no subprotocol", attempted, anyone, closed(closeProtocol, "upgrades without a subprotocol and closes at once, unless the station's record assumes 1.6")},
	{OtherVersion, "other_version", "connects with another OCPP version than before", attempted, anyone, served("takes the version from the connection")},
	{UnknownIdentity, "unknown_identity", "connects with an identity that nobody registered", attempted, anyone, Reaction{Refused: errorNames[errorNotFound], Says: "HTTP 404 (or 401, where identities must not be guessed)"}},
	{BorrowedIdentity, "borrowed_identity", "connects with the identity of another station and its own credentials", attempted, anyone, refused(errorUnauthorized, "HTTP 401; the other station keeps its connection")},
	{NoIdentity, "no_identity", "connects without an identity in the path", attempted, anyone, refused(errorNotFound, "HTTP 404")},
	{FailedHandshake, "cut_in_handshake", "ends the TCP connection in the middle of the handshake", attempted, anyone, served("frees what the handshake held, at once")},
	{StalledHandshake, "stalled_handshake", "opens a TCP connection and sends nothing", attempted, anyone, served("ends it when its time for handshakes is over")},
	{Garbage, "garbage", "opens a TCP connection and sends what is neither TLS nor HTTP", attempted, anyone, served("ends it")},
	{NoTLS, "no_tls", "speaks HTTP without TLS (profiles 2, 3)", attempted, overTLS, refused(errorRefused, "HTTP 400, and ends the connection")},
	{NoCertificate, "no_certificate", "presents no client certificate (profile 3)", attempted, mutual, refused(errorTLS, "ends the TLS handshake")},
	{ForeignCertificate, "foreign_certificate", "presents a certificate of another CA (profile 3)", attempted, mutual, refused(errorTLS, "ends the TLS handshake")},
	{OldTLS, "old_tls", "speaks TLS 1.1 at most (profiles 2, 3)", attempted, overTLS, refused(errorTLS, "alert protocol_version")},

	{DoubledSlashes, "doubled_slashes", "doubles the slashes of its path and adds one at the end", habit, anyone, served("takes the last segment as the identity")},
	{RawIdentity, "raw_identity", "does not escape its identity in the path", habit, anyone, served("decodes once, takes what is not escaped as it is")},
	{RepeatedIdentity, "repeated_identity", "has its identity twice at the end of its path", habit, anyone, served("takes the last segment as the identity")},
	{AbsoluteURI, "absolute_uri", "requests ws://host/path instead of the path", habit, anyone, served("takes the path of it")},
	{NoConnectionHeader, "no_connection_header", "upgrades without Connection: Upgrade", habit, anyone, served("upgrades all the same")},
	{OddHeaderCase, "odd_header_case", "writes upgrade: WebSocket and basic in other cases", habit, anyone, served("compares without regard to case")},
	{NoVersion, "no_version", "offers no subprotocol and speaks 1.6 all the same (1.6)", habit, v16, served("upgrades without a subprotocol, if the station's record assumes 1.6")},
	{HexPassword, "hex_password", "sends its password as hex digits (1.6, profiles 1, 2)", habit, v16 | password, served("compares both forms")},
	{NoServerName, "no_sni", "sends no server name (profiles 2, 3)", habit, overTLS, served("presents its default certificate")},
	{StaticRSA, "static_rsa", "speaks TLS 1.2 with TLS_RSA_WITH_AES_128_GCM_SHA256 alone (profiles 2, 3)", habit, overTLS, served("has an RSA certificate besides the ECDSA one")},
	{LeafOnly, "leaf_only", "presents its certificate without the intermediates (profile 3)", habit, mutual, served("completes the chain from its own store")},
	{FixedRoot, "fixed_root", "has its CA certificates in the firmware and installs none", habit, anyone, served("lives with its answer, and with its old root")},
	{NeverPongs, "never_pongs", "answers no ping", habit, anyone, served("requires pongs only of stations known to pong")},
	{TextPongs, "text_pongs", "answers pings with the text message pong", habit, anyone, served("ignores the text")},
	{DropsAtPing, "drops_at_ping", "drops the connection when it is pinged", habit, anyone, served("pings it not, if the station's record says so")},
	{NeedsPings, "needs_pings", "drops the connection when it was not pinged for 30 seconds", habit, anyone, served("pings it often enough")},
	{NoBackOff, "no_back_off", "comes back at once whenever its connection ends", habit, anyone, served("admits it, at the pace of its limits")},
	{SlowReturn, "slow_return", "comes back after 5 minutes when its connection ended without a close frame", habit, anyone, served("ends connections with a close frame when it stops")},
	{AlwaysBoots, "always_boots", "sends BootNotification on every connection", habit, anyone, served("answers it; transactions go on")},
	{NeverBoots, "never_boots", "never sends BootNotification", habit, anyone, served("takes the registration from its record")},
	{HeartbeatStorm, "heartbeat_storm", "sends a heartbeat every second whatever the interval", habit, anyone, served("answers, within its limits")},
	{RareHeartbeats, "rare_heartbeats", "sends a heartbeat every 12 hours whatever the interval", habit, anyone, served("takes it for alive by its pongs and messages")},
	{IgnoresPending, "ignores_pending", "treats Pending and Rejected as Accepted", habit, anyone, served("tolerates what belongs to a registration, or answers SecurityError")},
	{WaitsOnPending, "waits_on_pending", "sends no other BootNotification after Pending or Rejected unless it is triggered", habit, anyone, served("triggers it when it is accepted")},
	{StatusWhilePending, "status_while_pending", "sends StatusNotification while it is Pending", habit, anyone, served("tolerates it, or answers SecurityError; keeps the connection")},
	{DropsEarlyCalls, "drops_early_calls", "drops the connection at a CALL before its BootNotification was answered", habit, anyone, served("holds its CALLs until then")},
	{DropsFastCalls, "drops_fast_calls", "drops the connection at a CALL within 200 ms of the one before", habit, anyone, served("leaves time between its CALLs, if the station's record says so")},
	{DeafToCalls, "deaf_to_calls", "is alive and answers no CALL", habit, anyone, served("gives up after its timeout, and tells the operator")},
	{LateAnswers, "late_answers", "answers every CALL 5 seconds late", habit, anyone, served("discards and counts an answer after its timeout")},
	{DoubledAnswers, "doubled_answers", "answers every CALL twice", habit, anyone, served("discards and counts the second")},
	{DoubledStart, "doubled_start", "sends each start of a transaction twice, with two message ids", habit, anyone, served("records one transaction")},
	{RepeatedID, "repeated_id", "sends each start of a transaction twice, with the same message id", habit, anyone, served("records one transaction")},
	{DoubledStop, "doubled_stop", "sends each end of a transaction twice, with two message ids", habit, anyone, served("records one end")},
	{StopAgain, "stop_again", "sends the last end of a transaction again whenever it connects", habit, anyone, served("records one end")},
	{ZeroTransaction, "zero_transaction", "ends transactions with transactionId 0 (1.6)", habit, v16, served("answers it and keeps the end apart, as of an unknown transaction")},
	{MinusOneTransaction, "minus_one_transaction", "ends transactions with transactionId -1 (1.6)", habit, v16, served("answers it and keeps the end apart, as of an unknown transaction")},
	{NoTimeZone, "no_time_zone", "writes times without a zone", habit, anyone, served("reads them as UTC")},
	{ShortOffset, "short_offset", "writes times with the offset +02", habit, anyone, served("reads them")},
	{LocalTime, "local_time", "writes local time, two hours ahead, as UTC", habit, anyone, served("records what it says, and when it came")},
	{EpochClock, "epoch_clock", "has a clock that began in 1970 when it started", habit, anyone, served("records what it says, and when it came")},
	{ClockBehind, "clock_behind", "has a clock that is an hour behind, for certificates, too", habit, anyone, served("presents certificates that were valid an hour ago")},
	{SevenDigits, "seven_digits", "writes times with seven fraction digits", habit, anyone, served("reads them")},
	{NoFractions, "no_fractions", "drops the connection at a time with a fraction of a second", habit, anyone, served("sends times without fractions")},
	{LongModel, "long_model", "has a model name of 60 characters", habit, anyone, served("tolerates it: a boot is not refused for looks")},
	{NullOptionals, "null_optionals", "writes null for what it leaves out", habit, anyone, served("tolerates it")},
	{EmptyStrings, "empty_strings", "has an empty vendor name", habit, anyone, served("tolerates it")},
	{UnknownErrorCode, "unknown_error_code", "reports the errorCode Error, which does not exist (1.6)", habit, v16, served("tolerates it, or answers CALLERROR; keeps the connection")},
	{UnknownUnit, "unknown_unit", "adds meter values of the measurand Request.Energy and the unit Hz, which do not exist", habit, anyone, served("tolerates them and records the others")},
	{LongValues, "long_values", "has a configuration value of 3,000 characters", habit, anyone, served("takes the answer")},
	{EventStorm, "event_storm", "sends 50 security events of a kind whenever it was accepted", habit, anyone, served("answers all of them")},
	{TellsSecrets, "tells_secrets", "answers with its password when it is asked for its configuration", habit, password, served("keeps it out of records, logs and answers")},
	{Fragments, "fragments", "sends every message in fragments of 32 bytes", habit, anyone, served("puts them together")},
	{SlowSender, "slow_sender", "sends every message 32 bytes at a time, with pauses", habit, anyone, served("waits for the whole message, within its time")},
	{SlowReader, "slow_reader", "reads one message in 100 ms", habit, anyone, served("keeps what it has to send, within its limits")},
}

type faultName struct {
	fault    Fault
	name     string
	about    string
	kind     faultKind
	fits     fits
	reaction Reaction
}

// fits says which stations can do it.
type fits uint8

const (
	anyone   fits = 0
	password fits = 1 << iota // security profiles 1 and 2
	overTLS                   // 2 and 3
	mutual                    // 3
	v16                       // OCPP 1.6
)

// Suits reports whether it means something to a station of a security profile
// and a version.
func (f Fault) Suits(profile ocpp.SecurityProfile, version ocpp.Version) bool {
	i := f.index()
	if i < 0 {
		return true
	}
	can := faultNames[i].fits
	return (can&password == 0 || profile != ocpp.ProfileMTLS) && (can&overTLS == 0 || profile != ocpp.ProfilePlain) &&
		(can&mutual == 0 || profile == ocpp.ProfileMTLS) && (can&v16 == 0 || version == ocpp.V16)
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
