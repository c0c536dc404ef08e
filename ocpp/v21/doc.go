// Package v21 holds the message types of OCPP 2.1: its 90 actions and one SEND,
// NotifyPeriodicEventStream. Everything but this file is generated from the
// JSON schemas by internal/ocppgen, one file per action; types that several
// actions use have files of their own.
//
// A field's limits are in its ocpp tag, where ocpp.Decode and ocpp.Encode find
// them; encoding/json works too, without the checks. A field that may be left
// out is a pointer, or a type whose zero value (an empty string or slice, a
// zero ocpp.DateTime) means that it is absent. The package has no state and
// starts no goroutines.
package v21
