package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/ocpp"
)

func open(t *testing.T) *Bus {
	t.Helper()
	b, err := Open(t.Context(), Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestToken(t *testing.T) {
	for _, tt := range []struct {
		id   ocpp.StationID
		want string
	}{
		{"CS-1", "cs-1"},
		{"a.b", "a%2Eb"},
		{"RDAM 123", "rdam%20123"},
		{"*>", "%2A%3E"},
		{"50%", "50%25"},
		{"ü", "%C3%BC"},
	} {
		if got := token(tt.id); got != tt.want {
			t.Errorf("token(%q) = %q, want %q", tt.id, got, tt.want)
		}
	}
	for action, want := range map[string]string{"Heartbeat": "Heartbeat", "a.b": "unknown", "": "", "*": "unknown", "Foo-Signed": "unknown"} {
		if got := actionToken(action); got != want && action != "" {
			t.Errorf("actionToken(%q) = %q, want %q", action, got, want)
		}
	}
}

// TestCalls takes CALLs through a real server, both ways, with each outcome.
func TestCalls(t *testing.T) {
	b := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	call := ocpp.Call{Version: ocpp.V16, ID: "1", Action: "Heartbeat", Payload: json.RawMessage(`{}`)}
	if _, err := b.Call(ctx, "CS 1", call); !errors.Is(err, ocpp.ErrUnavailable) {
		t.Errorf("call without csms: %v", err)
	}
	if _, err := b.CallStation(ctx, "CS 1", call); !errors.Is(err, ocpp.ErrOffline) {
		t.Errorf("call to an offline station: %v", err)
	}
	ended := make(chan error, 2)
	go func() {
		ended <- b.ServeCalls(ctx, func(ctx context.Context, id ocpp.StationID, c ocpp.Call) (json.RawMessage, error) {
			switch c.Action {
			case "Refused":
				return nil, &ocpp.Error{Code: ocpp.SecurityError, Description: "two\nlines", Details: json.RawMessage(`{"a":1}`)}
			case "Broken":
				return nil, errors.New("secret detail")
			case "Slow":
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return json.RawMessage(fmt.Sprintf(`{"station":%q,"id":%q,"action":%q}`, id, c.ID, c.Action)), nil
		})
	}()
	for b.PingCSMS(ctx) != nil {
		runtime.Gosched()
	}
	got, err := b.Call(ctx, "CS 1", call)
	if string(got) != `{"station":"CS 1","id":"1","action":"Heartbeat"}` || err != nil {
		t.Errorf("call: %s, %v", got, err)
	}
	call.Action = "Refused"
	_, err = b.Call(ctx, "CS 1", call)
	if e, ok := errors.AsType[*ocpp.Error](err); !ok || e.Code != ocpp.SecurityError || e.Description != "two lines" || string(e.Details) != `{"a":1}` {
		t.Errorf("refused call: %v", err)
	}
	call.Action = "Broken"
	_, err = b.Call(ctx, "CS 1", call)
	if e, ok := errors.AsType[*ocpp.Error](err); !ok || e.Code != ocpp.InternalError || e.Description != "" {
		t.Errorf("broken handler: %v", err)
	}
	call.Action = "Slow"
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	if _, err = b.Call(short, "CS 1", call); !errors.Is(err, ocpp.ErrTimeout) {
		t.Errorf("slow handler: %v", err)
	}
	stop()

	var attached atomic.Int32
	go func() {
		ended <- b.ServeDown(ctx, func(_ context.Context, id ocpp.StationID, c ocpp.Call) (json.RawMessage, error) {
			if attached.Add(1) > 1 {
				return nil, ocpp.ErrConnectionLost
			}
			return json.RawMessage(`{"status":"Accepted"}`), nil
		})
	}()
	first, err := b.Attach("CS 1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Attach("cs 1")
	if err != nil {
		t.Fatal(err)
	}
	first.Unsubscribe() // the late detach of an old connection takes nothing from the new one
	if got, err := b.CallStation(ctx, "Cs 1", call); string(got) != `{"status":"Accepted"}` || err != nil {
		t.Errorf("call to a station: %s, %v", got, err)
	}
	if _, err := b.CallStation(ctx, "CS 1", call); !errors.Is(err, ocpp.ErrConnectionLost) {
		t.Errorf("lost connection: %v", err)
	}
	second.Unsubscribe()
	if _, err := b.CallStation(ctx, "CS 1", call); !errors.Is(err, ocpp.ErrOffline) {
		t.Errorf("after detach: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestLog(t *testing.T) {
	b := open(t)
	if err := b.OpenLog(t.Context(), LogLimits{PerStation: 20}); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		b.LogFrame("gw", "CS.1", ocpp.Up, fmt.Appendf(nil, `[3,"%d",{}]`, i))
		b.LogFrame("gw", "CS.2", ocpp.Down, []byte(`[3,"x",{}]`))
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := b.Frames(t.Context(), "cs.1", 0, 100, false)
	if err != nil || len(all) != 20 || all[0].Frame != `[3,"10",{}]` || all[0].Station != "CS.1" || all[0].Direction != ocpp.Up {
		t.Fatalf("%d frames, %v: %+v", len(all), err, all)
	}
	page, err := b.Frames(t.Context(), "CS.1", all[4].Seq, 3, false)
	if err != nil || len(page) != 3 || page[0].Frame != `[3,"15",{}]` {
		t.Errorf("page: %v %+v", err, page)
	}
	last, err := b.Frames(t.Context(), "CS.1", 0, 2, true)
	if err != nil || len(last) != 2 || last[1].Frame != `[3,"29",{}]` {
		t.Errorf("last: %v %+v", err, last)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	b.FollowFrames(ctx, "CS.1", all[18].Seq, func(f Frame) error {
		if n++; n == 1 {
			b.LogFrame("gw", "CS.1", ocpp.Up, []byte(`new`))
		} else {
			cancel()
		}
		return nil
	})
	if n != 2 {
		t.Errorf("followed %d frames", n)
	}
	if none, err := b.Frames(t.Context(), "never", 0, 2, true); err != nil || len(none) != 0 {
		t.Errorf("unknown station: %v %v", none, err)
	}
}
