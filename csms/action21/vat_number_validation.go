package action21

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v21"
)

// vatNumberValidation knows of no VAT number that it is valid.
func vatNumberValidation(ctx context.Context, c *csms.CSMS, m csms.Message, request *v21.VATNumberValidationRequest) (*v21.VATNumberValidationResponse, error) {
	// The answer repeats parts of the request, so they have to be right.
	if _, err := m.Action.ValidateRequest(m.Payload); err != nil {
		return nil, err
	}
	return &v21.VATNumberValidationResponse{
		VATNumber: request.VATNumber,
		EVSEID:    request.EVSEID,
		Status:    v21.GenericStatusRejected,
	}, c.Keep(ctx, m)
}
