package ocpp

import "encoding/json"

// ErrorCode is the code of a CALLERROR or CALLRESULTERROR, spelled as in
// OCPP 2.x; For gives the spelling and the nearest code of another version.
type ErrorCode string

const (
	FormatViolation               ErrorCode = "FormatViolation"
	GenericError                  ErrorCode = "GenericError"
	InternalError                 ErrorCode = "InternalError"
	MessageTypeNotSupported       ErrorCode = "MessageTypeNotSupported"
	NotImplemented                ErrorCode = "NotImplemented"
	NotSupported                  ErrorCode = "NotSupported"
	OccurrenceConstraintViolation ErrorCode = "OccurrenceConstraintViolation"
	PropertyConstraintViolation   ErrorCode = "PropertyConstraintViolation"
	ProtocolError                 ErrorCode = "ProtocolError"
	RPCFrameworkError             ErrorCode = "RpcFrameworkError"
	SecurityError                 ErrorCode = "SecurityError"
	TypeConstraintViolation       ErrorCode = "TypeConstraintViolation"
)

// For returns c as version v spells it. 1.6 published FormationViolation and
// OccurenceConstraintViolation (with one r) and will not mend them; it lacks
// the two codes about the envelope.
func (c ErrorCode) For(v Version) ErrorCode {
	if v != V16 {
		return c
	}
	switch c {
	case FormatViolation, RPCFrameworkError:
		return "FormationViolation"
	case OccurrenceConstraintViolation:
		return "OccurenceConstraintViolation"
	case MessageTypeNotSupported:
		return ProtocolError
	}
	return c
}

// Error is a CALLERROR: the receiver of a CALL answers with it instead of a
// CALLRESULT. A negative business result (status Rejected) is not an Error.
type Error struct {
	Code        ErrorCode
	Description string          // at most 255 characters on the wire; may be empty
	Details     json.RawMessage // a JSON object; nil stands for {}
}

func (e *Error) Error() string {
	if e.Description == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Description
}
