package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Why a stream ended: the reasons of holdfast_api_stream_ends_total.
const (
	endClosed = "closed" // the client went, or the server stops
	endSlow   = "slow"   // the client did not keep up
	endToken  = "token"  // its token expired or was revoked
	endFailed = "failed" // what feeds it broke
)

var errStreamSlow = errors.New("client does not keep up")

// stream writes server-sent events to one client.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration // for one event
}

// write sends one event; an empty name makes a comment, which keeps the
// connection alive.
func (s *stream) write(name, id string, data any) error {
	text := ": alive\n\n"
	if name != "" {
		body, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
		if id != "" {
			id = "id: " + id + "\n"
		}
		text = id + "event: " + name + "\ndata: " + string(body) + "\n\n"
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(s.limit)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// streaming answers with a stream. follow calls send for each event until its
// context ends, send fails, or there is nothing more to follow.
func (a *API) streaming(operation string, follow func(ctx context.Context, send func(name, id string, data any) error) error) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		s := &stream{w: w, control: http.NewResponseController(w), limit: a.cfg.WriteTime}
		hctx.SetHeader("Content-Type", streamType)
		hctx.SetHeader("X-Accel-Buffering", "no") // proxies that buffer would hold events back
		hctx.SetStatus(http.StatusOK)
		reason := a.runStream(hctx.Context(), s, follow)
		a.metrics.streamEnds.WithLabelValues(operation, reason).Inc()
		if reason != endClosed {
			s.write("end", "", map[string]string{"reason": reason}) // the client may be gone
		}
	}}, nil
}

// runStream writes what follow sends, and heartbeats, and returns why it ended.
func (a *API) runStream(ctx context.Context, s *stream, follow func(ctx context.Context, send func(name, id string, data any) error) error) string {
	type event struct {
		name, id string
		data     any
	}
	events, done := make(chan event), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		done <- follow(ctx, func(name, id string, data any) error {
			select {
			case events <- event{name, id, data}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	ended := false
	defer func() {
		cancel()
		if !ended {
			<-done
		}
	}()
	check, _ := ctx.Value(checkKey{}).(func(context.Context) bool)
	heartbeat := time.NewTicker(a.cfg.Heartbeat)
	defer heartbeat.Stop()
	err := s.write("", "", nil) // the client learns at once that the stream is open
	for err == nil {
		select {
		case e := <-events:
			err = s.write(e.name, e.id, e.data)
		case <-heartbeat.C:
			if check != nil && !check(ctx) {
				return endToken
			}
			err = s.write("", "", nil)
		case <-ctx.Done():
			return endClosed
		case err := <-done:
			ended = true
			switch {
			case ctx.Err() != nil:
				return endClosed
			case errors.Is(err, errStreamSlow):
				return endSlow
			}
			a.log.Warn("stream broke", "err", err)
			return endFailed
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return endSlow
	}
	return endClosed
}
