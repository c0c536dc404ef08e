package ocpp

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// MessageType is the first element of an OCPP-J message.
type MessageType uint8

const (
	TypeCall        MessageType = 2
	TypeResult      MessageType = 3
	TypeError       MessageType = 4
	TypeResultError MessageType = 5 // OCPP 2.1
	TypeSend        MessageType = 6 // OCPP 2.1
)

// Frame is one parsed OCPP-J message.
type Frame struct {
	Type    MessageType
	ID      MessageID
	Action  string          // of a CALL or SEND
	Payload json.RawMessage // of a CALL, CALLRESULT or SEND: a JSON object; null is read as {}
	Err     *Error          // of a CALLERROR or CALLRESULTERROR
}

// FrameError says why a message is not OCPP-J, and what can be answered.
type FrameError struct {
	Type MessageType // zero if unreadable
	ID   MessageID   // "-1" if unreadable (OCPP 2.x part 4, 4.2.3)
	Code ErrorCode
	What string
}

func (e *FrameError) Error() string { return string(e.Code) + ": " + e.What }

// unreadableID answers a message whose id cannot be read.
const unreadableID MessageID = "-1"

// maxMessageID is the longest id that is answered. OCPP allows 36 characters;
// a few stations send longer ones.
const maxMessageID = 255

// salvage finds type and id at the head of a message that is not valid JSON.
var salvage = regexp.MustCompile(`^[\s,]*\[[\s,]*([0-9]{1,3})\s*,\s*"([^"\\\x00-\x1f]{1,36})"`)

var emptyObject = json.RawMessage(`{}`)

// Parse reads one message. Bytes of data are shared with the returned Frame. On
// a FrameError of a CALL, answer with its code and id; never close the
// connection for one bad message.
func Parse(data []byte) (Frame, *FrameError) {
	data = bytes.TrimRight(data, "\x00 \t\r\n")
	var parts []json.RawMessage
	if !utf8.Valid(data) {
		return Frame{}, salvaged(data, "not UTF-8")
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return Frame{}, salvaged(data, "not a JSON array")
	}
	fail := func(t MessageType, id MessageID, code ErrorCode, what string) (Frame, *FrameError) {
		return Frame{}, &FrameError{Type: t, ID: id, Code: code, What: what}
	}
	if len(parts) == 0 {
		return fail(0, unreadableID, RPCFrameworkError, "empty array")
	}
	number, err := strconv.ParseUint(string(parts[0]), 10, 8)
	if err != nil {
		return fail(0, idOf(parts), RPCFrameworkError, "message type is not a number")
	}
	t := MessageType(number)
	if t < TypeCall || t > TypeSend {
		return fail(t, idOf(parts), MessageTypeNotSupported, "message type "+strconv.Itoa(int(t)))
	}
	id := idOf(parts)
	if id == unreadableID {
		return fail(t, id, RPCFrameworkError, "message id is not a string of 1 to 36 characters")
	}
	f := Frame{Type: t, ID: id}
	switch t {
	case TypeCall, TypeSend:
		if len(parts) != 4 {
			return fail(t, id, ProtocolError, "a CALL has 4 elements, this has "+strconv.Itoa(len(parts)))
		}
		if json.Unmarshal(parts[2], &f.Action) != nil || f.Action == "" {
			return fail(t, id, ProtocolError, "action is not a string")
		}
		f.Payload = asObject(parts[3])
	case TypeResult:
		if len(parts) != 3 {
			return fail(t, id, ProtocolError, "a CALLRESULT has 3 elements, this has "+strconv.Itoa(len(parts)))
		}
		f.Payload = asObject(parts[2])
	case TypeError, TypeResultError:
		if len(parts) < 3 {
			return fail(t, id, ProtocolError, "a CALLERROR has 5 elements, this has "+strconv.Itoa(len(parts)))
		}
		f.Err = &Error{Code: GenericError}
		json.Unmarshal(parts[2], &f.Err.Code) // whatever it is spelled like
		if len(parts) > 3 {
			json.Unmarshal(parts[3], &f.Err.Description)
		}
		if len(parts) > 4 {
			f.Err.Details = asObject(parts[4])
		}
		return f, nil
	}
	if f.Payload == nil {
		return fail(t, id, FormatViolation, "payload is not an object")
	}
	return f, nil
}

// salvaged reports broken JSON with the type and id at its head, if there are any.
func salvaged(data []byte, what string) *FrameError {
	e := &FrameError{ID: unreadableID, Code: RPCFrameworkError, What: what}
	if m := salvage.FindSubmatch(data); m != nil && utf8.Valid(m[2]) {
		if n, err := strconv.ParseUint(string(m[1]), 10, 8); err == nil {
			e.Type, e.ID, e.Code = MessageType(n), MessageID(m[2]), FormatViolation
		}
	}
	return e
}

func idOf(parts []json.RawMessage) MessageID {
	var id string
	if len(parts) < 2 || json.Unmarshal(parts[1], &id) != nil || id == "" || len(id) > maxMessageID {
		return unreadableID
	}
	return MessageID(id)
}

// asObject returns raw if it is a JSON object, {} if it is null, else nil.
func asObject(raw json.RawMessage) json.RawMessage {
	if raw[0] == '{' {
		return raw
	}
	if string(raw) == "null" {
		return emptyObject
	}
	return nil
}

// AppendCall appends a CALL, or a SEND if send is set.
func AppendCall(b []byte, id MessageID, action string, payload json.RawMessage, send bool) []byte {
	head := `[2,`
	if send {
		head = `[6,`
	}
	b = appendString(append(b, head...), string(id))
	b = appendString(append(b, ','), action)
	return appendPayload(append(b, ','), payload)
}

// AppendResult appends a CALLRESULT.
func AppendResult(b []byte, id MessageID, payload json.RawMessage) []byte {
	b = appendString(append(b, `[3,`...), string(id))
	return appendPayload(append(b, ','), payload)
}

// AppendError appends a CALLERROR with the spelling of version v. The
// description is cut to 255 characters.
func AppendError(b []byte, v Version, id MessageID, e *Error) []byte {
	return appendFailure(append(b, `[4,`...), v, id, e)
}

// AppendResultError appends a CALLRESULTERROR of OCPP 2.1.
func AppendResultError(b []byte, id MessageID, e *Error) []byte {
	return appendFailure(append(b, `[5,`...), V21, id, e)
}

func appendFailure(b []byte, v Version, id MessageID, e *Error) []byte {
	b = appendString(b, string(id))
	b = appendString(append(b, ','), string(e.Code.For(v)))
	description := []rune(e.Description)
	if len(description) > 255 {
		description = description[:255]
	}
	b = appendString(append(b, ','), string(description))
	return appendPayload(append(b, ','), e.Details)
}

func appendPayload(b []byte, payload json.RawMessage) []byte {
	if len(payload) == 0 {
		payload = emptyObject
	}
	return append(append(b, payload...), ']')
}

func appendString(b []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string always encodes
	return append(b, quoted...)
}
