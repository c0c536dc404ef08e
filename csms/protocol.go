package csms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// Protocol is all that the rules need to know of one OCPP version.
type Protocol struct {
	// Lookup returns an action of the version.
	Lookup func(action string) (ocpp.Action, bool)
	// Handlers answer the actions that a station may send.
	Handlers map[string]Handler
	// Learn tells what to keep of a station's answers to our own CALLs; may lack
	// any action.
	Learn map[string]Learn
	// CertificateSigned makes the CALL that installs a signed certificate.
	CertificateSigned func(signed SignedCertificate) any
}

// Learn returns the variables that a station's answer to our own CALL tells of;
// request and answer are valid.
type Learn func(request, answer json.RawMessage) ([]store.Variable, error)

// Learned makes a Learn of a function over a version's types.
func Learned[Request, Response any](variables func(*Request, *Response) []store.Variable) Learn {
	return func(request, answer json.RawMessage) ([]store.Variable, error) {
		var asked Request
		if _, err := ocpp.Decode(request, &asked, ocpp.Tolerant); err != nil {
			return nil, err
		}
		var answered Response
		if _, err := ocpp.Decode(answer, &answered, ocpp.Tolerant); err != nil {
			return nil, err
		}
		return variables(&asked, &answered), nil
	}
}

// Message is a station's CALL as a rule sees it.
type Message struct {
	Station    ocpp.StationID // registered spelling
	Version    ocpp.Version
	ID         ocpp.MessageID
	Action     ocpp.Action
	Payload    json.RawMessage
	ReceivedAt time.Time
	Quality    string // what was tolerated in it, for people; set once it is decoded
}

// Handler answers one action with the payload of a CALLRESULT. An *ocpp.Error is
// a CALLERROR; any other error is one of ours, which the station learns nothing of.
type Handler func(ctx context.Context, c *CSMS, m Message) (json.RawMessage, error)

// Typed makes a Handler of a rule over a version's types: the request is decoded
// tolerantly, the response encoded strictly.
func Typed[Request, Response any](rule func(ctx context.Context, c *CSMS, m Message, request *Request) (*Response, error)) Handler {
	return func(ctx context.Context, c *CSMS, m Message) (json.RawMessage, error) {
		var request Request
		tolerated, err := ocpp.Decode(m.Payload, &request, ocpp.Tolerant)
		if err != nil {
			return nil, err
		}
		m.Quality = quality(tolerated)
		response, err := rule(ctx, c, m, &request)
		if err != nil {
			return nil, err
		}
		return encode(m, response)
	}
}

// Recording makes a Handler of an action that no rule reads: it is validated,
// recorded and answered with response.
func Recording(response any) Handler {
	return func(ctx context.Context, c *CSMS, m Message) (json.RawMessage, error) {
		tolerated, err := ocpp.Decode(m.Payload, m.Action.NewRequest(), ocpp.Tolerant)
		if err != nil {
			return nil, err
		}
		m.Quality = quality(tolerated)
		if err := c.Keep(ctx, m); err != nil {
			return nil, err
		}
		if m.Action.Send {
			return nil, nil
		}
		return encode(m, response)
	}
}

func encode(m Message, response any) (json.RawMessage, error) {
	payload, err := ocpp.Encode(response)
	if err != nil {
		// Not the station's fault: its CALLERROR must not blame it.
		return nil, fmt.Errorf("encode answer to %s: %s", m.Action.Name, err)
	}
	return payload, nil
}

// maxQuality is how much is kept of what was tolerated in a message, in bytes.
const maxQuality = 500

// quality says for people what was tolerated in a message; empty if nothing.
func quality(tolerated []ocpp.Violation) string {
	if len(tolerated) == 0 {
		return ""
	}
	parts := make([]string, len(tolerated))
	for i, v := range tolerated {
		parts[i] = v.String()
	}
	return clip(strings.Join(parts, "; "), maxQuality)
}

// clip cuts s to n bytes, between characters, and takes out NUL, which
// PostgreSQL does not take in.
func clip(s string, n int) string {
	s = strings.ReplaceAll(s, "\x00", "")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// refused makes a CALLERROR.
func refused(code ocpp.ErrorCode, format string, args ...any) error {
	return &ocpp.Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

// tooMany turns the record's limit into the CALLERROR for it.
func tooMany(err error) error {
	if errors.Is(err, store.ErrTooMany) {
		return refused(ocpp.OccurrenceConstraintViolation, "%s", err)
	}
	return err
}
