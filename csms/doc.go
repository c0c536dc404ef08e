// Package csms holds the management rules of Holdfast: what a station is
// answered when it boots, authorizes, charges and reports, and what becomes of
// the CALLs that operators send it.
//
// A station's CALL comes in through Handle. The table of its OCPP version
// (Config.Protocols; packages action16, action201 and action21) decodes it and
// calls one rule of CSMS, a method that takes the Message and speaks no version
// of its own; what 2.0.1 and 2.1 answer alike is in the files named …2x. A rule is one idempotent transaction of the record; the answer
// leaves after the commit. Operators' CALLs go out through Command.
//
// The package knows no transport: calls to stations and live events leave
// through functions in Config. It holds nothing of a station but a bounded cache
// of registrations. New starts nothing; Run owns all goroutines and waits for
// them.
package csms
