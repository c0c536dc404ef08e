package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
)

func authorize(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.AuthorizeRequest) (*v16.AuthorizeResponse, error) {
	v, err := c.Authorize(ctx, m, request.IDTag, "")
	if err != nil {
		return nil, err
	}
	return &v16.AuthorizeResponse{IDTagInfo: idTagInfo(v)}, nil
}
