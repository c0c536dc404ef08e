package fleet

import (
	"fmt"

	"holdfast/ocpp"
)

// Fault is a way for a station to misbehave: faultNames says what each one is,
// and what a good server does about it.
type Fault uint8

const (
	NoFault Fault = iota

	// Events on a connection, for Provoke.
	CleanClose
	Cut
	Silent
	HalfOpen
	DeafUntilReconnect
	TruncatedJSON
	LeadingComma
	NULInString
	BadEscape
	TrailingNUL
	UnknownMessageType
	UnknownAction
	StrayAnswer
	Burst
	HistoryFlood
	TextPong
	ReservedBits
	Compressed
	Unmasked
	InvalidUTF8
	Oversized

	// Attempts to connect, for Probe, which also takes CleanClose, Cut and Silent.
	WrongPassword
	EmptyPassword
	WrongUser
	NoCredentials
	WrongSubprotocol
	NoSubprotocol
	OtherVersion
	UnknownIdentity
	BorrowedIdentity
	NoIdentity
	FailedHandshake
	StalledHandshake
	Garbage
	NoTLS
	NoCertificate
	ForeignCertificate
	OldTLS

	// Habits, for Identity.Quirks.
	DoubledSlashes
	RawIdentity
	RepeatedIdentity
	AbsoluteURI
	NoConnectionHeader
	OddHeaderCase
	NoVersion
	HexPassword
	NoServerName
	StaticRSA
	LeafOnly
	FixedRoot
	NeverPongs
	TextPongs
	DropsAtPing
	NeedsPings
	NoBackOff
	SlowReturn
	AlwaysBoots
	NeverBoots
	HeartbeatStorm
	RareHeartbeats
	IgnoresPending
	WaitsOnPending
	StatusWhilePending
	DropsEarlyCalls
	DropsFastCalls
	DeafToCalls
	LateAnswers
	DoubledAnswers
	DoubledStart
	RepeatedID
	DoubledStop
	StopAgain
	ZeroTransaction
	MinusOneTransaction
	NoTimeZone
	ShortOffset
	LocalTime
	EpochClock
	ClockBehind
	SevenDigits
	NoFractions
	LongModel
	NullOptionals
	EmptyStrings
	UnknownErrorCode
	UnknownUnit
	LongValues
	EventStorm
	TellsSecrets
	Fragments
	SlowSender
	SlowReader

	faultCount
)

const firstHabit = DoubledSlashes

// Provoke makes a running, connected station misbehave, with a fault that is
// neither Connecting nor a Quirk. Where that ends the connection it comes back by
// its back-off; a silent station once the server has closed its connection, its
// own pings stay unanswered (Config.PingInterval), or at Settle.
func (f *Fleet) Provoke(id ocpp.StationID, fault Fault) error {
	s, ok := f.byID[id.Fold()]
	if !ok {
		return fmt.Errorf("fleet: no station %s", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == nil {
		return fmt.Errorf("fleet: station %s: %w", id, errOffline)
	}
	switch {
	case fault == NoFault || fault.Connecting() || fault.Quirk():
		return fmt.Errorf("fleet: %s is nothing that a connected station does", fault)
	default:
		s.fault = fault
		if s.idle {
			s.line.tcp.SetReadDeadline(past)
		}
	}
	return nil
}

// takeFault does what Provoke asked for.
func (s *station) takeFault() {
	s.mu.Lock()
	fault := s.fault
	s.fault = NoFault
	s.mu.Unlock()
	if s.conn == nil {
		return
	}
	switch fault {
	case CleanClose:
		s.disconnect(func(c *conn) { c.close(closeNormal, "") })
	case Cut:
		s.disconnect((*conn).reset)
	case Silent:
		s.conn.fallSilent()
		return
	case HalfOpen:
		s.disconnect(s.leaveOpen)
		s.reconnect(0)
		return
	default:
		s.misbehave(fault)
		return
	}
	s.reconnect(s.backOff(0))
}
