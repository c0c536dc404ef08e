package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// MessagePage is a part of a station's message log.
type MessagePage struct {
	Items []Frame `json:"items" nullable:"false"`
	After uint64  `json:"after" doc:"Position of the last item: pass it as after to go on"`
}

func (a *API) registerMessages() {
	const path = stationPath + "/messages"
	register(a, operation{id: "list-messages", method: "GET", path: path, role: RoleRead, tag: tagStations,
		summary: "List a station's OCPP messages", detail: "Oldest first, both directions, secrets redacted. The log is bounded: the oldest messages go."}, a.listMessages)
	register(a, operation{id: "follow-messages", method: "GET", path: path + "/follow", role: RoleRead, tag: tagStations, stream: true, item: Frame{},
		summary: "Follow a station's OCPP messages", detail: "Server-sent events named message, as messages come; their id is the position in the log."}, a.followMessages)
}

type messagesInput struct {
	StationRef
	After uint64 `query:"after" doc:"Only messages after this position"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most items to return"`
	Last  bool   `query:"last" doc:"The newest messages instead of the oldest"`
}

func (a *API) listMessages(ctx context.Context, in *messagesInput) (*output[MessagePage], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	frames, err := a.cfg.Messages.Frames(ctx, id, in.After, in.Limit, in.Last)
	if err != nil {
		return nil, err
	}
	page := MessagePage{Items: frames, After: in.After}
	if len(frames) > 0 {
		page.After = frames[len(frames)-1].Seq
	} else {
		page.Items = []Frame{}
	}
	return answer(page, nil)
}

func (a *API) followMessages(ctx context.Context, in *struct {
	StationRef
	After uint64 `query:"after" doc:"Begin after this position; absent: with new messages"`
	Tail  int    `query:"tail" minimum:"0" maximum:"1000" doc:"Begin with so many of the newest messages instead"`
}) (*huma.StreamResponse, error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	if in.Tail > 0 && in.After > 0 {
		return nil, problem(http.StatusUnprocessableEntity, "give after or tail, not both", at("query.tail", "after is given, too"))
	}
	after := in.After
	var first []Frame
	if after == 0 {
		if first, err = a.cfg.Messages.Frames(ctx, id, 0, max(in.Tail, 1), true); err != nil {
			return nil, err
		}
		if len(first) > 0 {
			after = first[len(first)-1].Seq
		}
		first = first[max(0, len(first)-in.Tail):]
	}
	return a.streaming("follow-messages", func(ctx context.Context, send func(name, id string, data any) error) error {
		do := func(f Frame) error { return send("message", strconv.FormatUint(f.Seq, 10), f) }
		for _, f := range first {
			if err := do(f); err != nil {
				return err
			}
		}
		return a.cfg.Messages.FollowFrames(ctx, id, after, do)
	})
}
