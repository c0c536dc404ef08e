package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// maxBody is the largest request body, in bytes.
const maxBody = 1 << 20

// takeBody reads the whole body of a request, once it is known who sends it. The
// deadline is for the body alone: left on the connection, it would end a
// request that takes longer.
func takeBody(ctx huma.Context, limit time.Duration) error {
	r, w := humago.Unwrap(ctx)
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return problem(http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB")
		}
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			return problem(http.StatusRequestTimeout, "the body did not arrive within "+limit.String())
		}
		return problem(http.StatusBadRequest, "the body cannot be read")
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}
