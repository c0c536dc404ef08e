package bus

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestGatewayDies ends the connection of a gateway that carries a CALL: the
// caller learns it at once, not at its deadline.
func TestGatewayDies(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	csms, err := Open(t.Context(), Config{Dir: t.TempDir(), Listen: address, CredentialsDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(csms.Close)
	gateway, err := Open(t.Context(), Config{URL: "nats://" + address, Role: RoleGateway, Credentials: filepath.Join(dir, "gateway.creds"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.Attach("CS-1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := gateway.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	arrived, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- gateway.ServeDown(ctx, func(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) {
			close(arrived)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	}()
	result := make(chan error, 1)
	go func() {
		_, err := csms.CallStation(ctx, "CS-1", ocpp.Call{Version: ocpp.V16, Action: "Reset", Payload: json.RawMessage(`{}`)})
		result <- err
	}()
	<-arrived
	for id := range gateway.carried.ids { // one, and nothing writes to it now
		if carried, known := csms.still(ctx, "down."+token("CS-1"), id); !carried || !known {
			t.Errorf("the call is carried: %t, known: %t", carried, known)
		}
	}
	if carried, known := csms.still(ctx, "down."+token("CS-1"), "another"); carried || !known {
		t.Errorf("another call is carried: %t, known: %t", carried, known)
	}
	gateway.Close()
	if err := <-result; !errors.Is(err, ocpp.ErrConnectionLost) {
		t.Errorf("the gateway died: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
