package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// operation is one thing that a caller can ask for.
type operation struct {
	id      string // names it in the OpenAPI document, in metrics and in the log
	method  string
	path    string
	role    Role // that a caller needs
	tag     string
	summary string
	detail  string
	status  int           // of success; zero: 200, or 204 without a body
	errors  []int         // statuses of problems beside those that any operation can have
	stream  bool          // text/event-stream: not counted as a request, but as a stream
	item    any           // of a stream: what the data of an event is
	time    time.Duration // how long it may take; zero: requestTime. Streams take as long as they like.
}

// requestTime is how long an operation may take.
const requestTime = 30 * time.Second

// security is the name of the security scheme.
const security = "token"

// anyErrors are the statuses of problems that every operation can have;
// bodyErrors are those of operations that take a body.
var (
	anyErrors = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	bodyErrors = []int{http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
)

func (o operation) huma(a *API) huma.Operation {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.detail, Tags: []string{o.tag},
		DefaultStatus: o.status,
		// OpenAPI 3.1: for a scheme that is not OAuth, the list names the roles needed.
		Security: []map[string][]string{{security: {string(o.role)}}},
		Errors:   slices.Concat(anyErrors, o.errors),
		Middlewares: huma.Middlewares{
			func(ctx huma.Context, next func(huma.Context)) { a.guard(o, ctx, next) },
		},
		// takeBody reads it, within its own limits of time and size.
		BodyReadTimeout: -1,
		MaxBodyBytes:    maxBody + 1,
	}
	if o.method != http.MethodGet && o.method != http.MethodDelete {
		op.Errors = append(op.Errors, bodyErrors...)
	}
	if o.stream {
		data := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(o.item), true, "")
		op.Responses = map[string]*huma.Response{"200": {Description: "Server-sent events", Content: map[string]*huma.MediaType{
			streamType: {Schema: &huma.Schema{Type: huma.TypeString, Description: "The data of each event is JSON.",
				Extensions: map[string]any{"contentMediaType": jsonType, "contentSchema": data}}},
		}}}
	}
	return op
}

// register adds an operation. What handle returns as an error is translated
// once, here.
func register[I, O any](a *API, o operation, handle func(ctx context.Context, in *I) (*O, error)) {
	huma.Register(a.huma, o.huma(a), func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, o.id, err)
		}
		return out, nil
	})
}

// guard is what every operation passes: counting, limits, who asks, the body.
func (a *API) guard(o operation, ctx huma.Context, next func(huma.Context)) {
	began := time.Now()
	defer func() {
		if r := recover(); r != nil {
			if r == http.ErrAbortHandler {
				panic(r)
			}
			a.log.Error("request panicked", "operation", o.id, "err", r)
			if ctx.Status() == 0 {
				a.write(ctx, problem(http.StatusInternalServerError, "internal error; the log of this process has the cause"))
			}
		}
		a.metrics.served(o.id, ctx.Status(), time.Since(began), o.stream)
	}()
	caller, err := a.authenticate(ctx)
	if err != nil {
		a.write(ctx, err)
		return
	}
	if !caller.Role.includes(o.role) {
		a.metrics.authFailed.WithLabelValues(failedRole).Inc()
		has := "has role " + string(caller.Role)
		if caller.Role == "" {
			has = "has no role here (the OIDC provider's claim " + a.people.cfg.RoleClaim + " gives none)"
		}
		a.write(ctx, problem(http.StatusForbidden, caller.Name+" "+has+", "+o.id+" needs role "+string(o.role)))
		return
	}
	places, what := a.running, "requests"
	if o.stream {
		places, what = a.streams, "streams"
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		a.write(ctx, retryLater(http.StatusServiceUnavailable, time.Second, "too many "+what+" at a time; try again in a moment"))
		return
	}
	if o.stream {
		a.metrics.streams.WithLabelValues(o.id).Inc()
		defer a.metrics.streams.WithLabelValues(o.id).Dec()
	} else {
		a.metrics.running.Inc()
		defer a.metrics.running.Dec()
	}
	if err := takeBody(ctx, a.cfg.BodyTime); err != nil {
		a.write(ctx, err)
		return
	}
	ctx = huma.WithValue(ctx, callerKey{}, caller)
	if !o.stream {
		limited, cancel := context.WithTimeout(ctx.Context(), cmp.Or(o.time, requestTime))
		defer cancel()
		ctx = huma.WithContext(ctx, limited)
	} else {
		ctx = huma.WithValue(ctx, checkKey{}, func(context.Context) bool {
			again, err := a.authenticate(ctx)
			return err == nil && again.Role.includes(o.role)
		})
	}
	next(ctx)
}

// checkKey is where a stream's context keeps a func(context.Context) bool that
// says whether its token is still good.
type checkKey struct{}

// authenticate says who sent a request.
func (a *API) authenticate(ctx huma.Context) (Caller, error) {
	challenge := http.Header{"WWW-Authenticate": {`Bearer realm="holdfast"`}}
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		a.metrics.authFailed.WithLabelValues(failedMissing).Inc()
		return Caller{}, huma.ErrorWithHeaders(problem(http.StatusUnauthorized,
			"no token; send it as Authorization: Bearer TOKEN (holdfast all leaves one in DATA/token)"), challenge)
	}
	token = strings.TrimSpace(token)
	why := "this token is unknown, expired or revoked; an administrator makes a new one with holdfast token add"
	var caller Caller
	var err error
	if a.people != nil && looksLikeJWT(token) {
		caller, err = a.people.authenticate(ctx.Context(), token)
		why = "this token is not one of the OIDC provider for this API, or it has expired; log in again with holdfast login"
	} else {
		caller, err = a.tokens.authenticate(ctx.Context(), token)
	}
	switch {
	case err == nil:
		return caller, nil
	case errors.Is(err, errTokensStale):
		a.metrics.authFailed.WithLabelValues(failedStale).Inc()
		return Caller{}, retryLater(http.StatusServiceUnavailable, 5*time.Second, err.Error())
	case errors.Is(err, errProviderAway):
		a.metrics.authFailed.WithLabelValues(failedStale).Inc()
		a.log.Error("tokens of the OIDC provider cannot be checked", "issuer", a.people.cfg.Issuer, "err", err)
		return Caller{}, retryLater(http.StatusServiceUnavailable, 5*time.Second, "tokens of the OIDC provider cannot be checked: it does not answer")
	}
	if wait := a.failures.add(ctx.RemoteAddr(), a.cfg.Now()); wait > 0 {
		a.metrics.authFailed.WithLabelValues(failedLimited).Inc()
		return Caller{}, retryLater(http.StatusTooManyRequests, wait, "too many wrong tokens from this address")
	}
	a.metrics.authFailed.WithLabelValues(failedUnknown).Inc()
	a.log.Warn("API token refused", "operation", ctx.Operation().OperationID, "remote", ctx.RemoteAddr(), "err", err)
	return Caller{}, huma.ErrorWithHeaders(problem(http.StatusUnauthorized, why), challenge)
}

// write answers with a problem.
func (a *API) write(ctx huma.Context, err error) {
	if h, ok := errors.AsType[huma.HeadersError](err); ok {
		for name, values := range h.GetHeaders() {
			for _, v := range values {
				ctx.SetHeader(name, v)
			}
		}
	}
	model, ok := errors.AsType[*huma.ErrorModel](err)
	if !ok {
		a.log.Error("request failed", "operation", ctx.Operation().OperationID, "err", err)
		model = &huma.ErrorModel{Status: http.StatusInternalServerError, Detail: "internal error; the log of this process has the cause"}
	}
	huma.WriteErr(a.huma, ctx, model.Status, model.Detail) // fails only if the client is gone
}
