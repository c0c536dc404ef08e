package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
)

// problem makes a problem document (RFC 9457).
func problem(status int, detail string, where ...error) error {
	return huma.NewError(status, detail, where...)
}

// at says where in the request something is wrong: "body.profile", "query.cursor".
func at(location, message string) error {
	return &huma.ErrorDetail{Location: location, Message: message}
}

// retryLater is a problem that goes away by itself.
func retryLater(status int, after time.Duration, detail string) error {
	return huma.ErrorWithHeaders(problem(status, detail), http.Header{"Retry-After": {retryAfter(after)}})
}

// retryAfter returns whole seconds, rounded up.
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// statusClientGone is what is counted when the client went away; nobody reads it.
const statusClientGone = 499

// problemOf translates an error of what is behind the API, once, here at the
// edge. What the caller cannot mend is logged, not told.
func (a *API) problemOf(ctx context.Context, operation string, err error) error {
	if _, ok := errors.AsType[huma.StatusError](err); ok {
		return err
	}
	if field, detail, ok := a.cfg.Invalid(err); ok {
		return problem(http.StatusUnprocessableEntity, detail, at("body."+field, detail))
	}
	if e, ok := errors.AsType[*csms.InvalidOperation](err); ok {
		return problem(http.StatusUnprocessableEntity, e.Problem, at("body."+e.Field, e.Problem))
	}
	if detail, after, ok := a.cfg.Upstream(err); ok {
		a.log.Error("request not served", "operation", operation, "err", err)
		if after == 0 {
			return problem(http.StatusBadGateway, detail)
		}
		return retryLater(http.StatusServiceUnavailable, after, detail)
	}
	switch {
	case errors.Is(err, store.ErrNotFailed):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, store.ErrNotFound):
		return problem(http.StatusNotFound, err.Error())
	case errors.Is(err, store.ErrExists):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, store.ErrBadCursor):
		return problem(http.StatusBadRequest, "this cursor does not belong to this list; leave it out to start from the beginning", at("query.cursor", err.Error()))
	case errors.Is(err, store.ErrTooManyTokens):
		return problem(http.StatusConflict, err.Error()+"; they are deleted a year after they expired or were revoked")
	case errors.Is(err, store.ErrBusy), errors.Is(err, ocpp.ErrBusy):
		return retryLater(http.StatusServiceUnavailable, 2*time.Second, "overloaded; try again in a moment")
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return problem(statusClientGone, "the client went away")
	case errors.Is(err, ocpp.ErrUnavailable):
		a.log.Error("request not served", "operation", operation, "err", err)
		return retryLater(http.StatusServiceUnavailable, 5*time.Second, "a part of Holdfast that this request needs does not answer; /readyz on the admin port says which")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ocpp.ErrTimeout):
		a.log.Error("request not served", "operation", operation, "err", err)
		return retryLater(http.StatusGatewayTimeout, 5*time.Second, "a part of Holdfast that this request needs did not answer in time; whether it took effect is unknown")
	}
	a.log.Error("request failed", "operation", operation, "err", err)
	return problem(http.StatusInternalServerError, "internal error; the log of this process has the cause")
}
