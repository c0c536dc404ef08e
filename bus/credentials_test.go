package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"holdfast/ocpp"
)

// external runs a NATS server with the configuration that an operator writes:
// JetStream, and authorization.conf of dir.
func external(t *testing.T, dir string) *server.Server {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\nmax_payload: 4MB\ninclude %q\n", t.TempDir(), relative(t, conf, filepath.Join(dir, authorizationTo)))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	return s
}

// relative is how a configuration file includes another one.
func relative(t *testing.T, from, to string) string {
	t.Helper()
	path, err := filepath.Rel(filepath.Dir(from), to)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// credentials makes those of every role in a directory of the test.
func credentials(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, role := range Roles {
		if err := MakeCredentials(dir, string(role), role); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := WriteAuthorization(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func as(t *testing.T, url, dir string, role Role) *Bus {
	t.Helper()
	b, err := Open(t.Context(), Config{URL: url, Role: role, Credentials: filepath.Join(dir, string(role)+credentialsExt), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestPermissions tries subjects with each role's credentials on a real server
// and looks at what the server says.
func TestPermissions(t *testing.T) {
	dir := credentials(t)
	url := external(t, dir).ClientURL()
	if err := as(t, url, dir, RoleCSMS).OpenLog(t.Context(), LogLimits{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		role            Role
		publish         []string
		refusePublish   []string
		subscribe       []string
		refuseSubscribe []string
	}{
		{
			role: RoleGateway,
			publish: []string{"up.16.Heartbeat", "up.ping", "authority.admit", "authority.note", "authority.trust", "authority.tickets", "authority.certificate.server",
				"event.connected", "event.disconnected", "gateway.present", "log.cs-1"},
			refusePublish: []string{
				"authority.certificate.issue", "authority.certificate.sign", "authority.certificate.revoke", "authority.certificate.list", "authority.certificate.get", "authority.certificate.crl",
				"authority.audit.list",
				"authority.station.add", "authority.station.get", "authority.station.list", "authority.station.update", "authority.station.block", "authority.station.unblock", "authority.station.remove", "authority.station.attempts",
				"authority.password.rotate", "authority.password.cancel", "authority.ca.import", "authority.ca.remove", "authority.ca.list", "authority.anything.new",
				"change.trust", "change.blocked", "lockout.change", "down.cs-1", "gateway.disconnect", "gateway.report", "live.transaction",
				"$JS.API.INFO", "$JS.API.STREAM.INFO.MESSAGES", "$JS.API.STREAM.PURGE.MESSAGES", "$JS.API.STREAM.DELETE.MESSAGES", "$JS.API.STREAM.MSG.GET.MESSAGES", "$JS.API.STREAM.MSG.DELETE.MESSAGES",
				"$JS.API.DIRECT.GET.MESSAGES.log.cs-1", "$JS.API.CONSUMER.CREATE.MESSAGES", "$JS.API.CONSUMER.CREATE.MESSAGES.x.log.cs-1", "$JS.API.CONSUMER.MSG.NEXT.MESSAGES.x",
				"_INBOX.csms.x", "_INBOX.authority.x", "_INBOX.gateway.x", "_INBOX.x", "anything",
			},
			subscribe:       []string{"_INBOX.gateway.x.*", "down.cs-1", "event.connected", "change.>", "gateway.report", "gateway.disconnect"},
			refuseSubscribe: []string{"authority.>", "authority.admit", "authority.audit.list", "up.>", "up.16.StartTransaction", "log.>", "log.cs-1", "live.>", "event.disconnected", "_INBOX.>", "_INBOX.csms.>", "_INBOX.authority.>", "$JS.>", ">"},
		},
		{
			role:            RoleAuthority,
			publish:         []string{"change.trust", "lockout.change"},
			refusePublish:   []string{"up.16.Heartbeat", "down.cs-1", "authority.admit", "event.connected", "gateway.disconnect", "live.x", "log.cs-1", "$JS.API.STREAM.DELETE.MESSAGES", "_INBOX.csms.x"},
			subscribe:       []string{"authority.>", "lockout.change", "_INBOX.authority.x"},
			refuseSubscribe: []string{"up.>", "down.*", "log.>", "event.connected", "live.>", "_INBOX.gateway.>", ">"},
		},
		{
			role: RoleCSMS,
			publish: []string{"down.cs-1", "authority.station.add", "authority.audit.list", "gateway.report", "gateway.disconnect", "live.x",
				"$JS.API.STREAM.INFO.MESSAGES", "$JS.API.CONSUMER.INFO.MESSAGES.x"},
			refusePublish: []string{"change.trust", "up.16.StartTransaction", "log.cs-1", "event.connected", "gateway.present", "_INBOX.gateway.x",
				"$JS.API.STREAM.DELETE.MESSAGES", "$JS.API.STREAM.PURGE.MESSAGES", "$JS.API.STREAM.MSG.DELETE.MESSAGES", "$JS.API.STREAM.CREATE.OTHER"},
			subscribe:       []string{"up.>", "up.16.Heartbeat", "event.connected", "event.disconnected", "gateway.present", "live.>", "_INBOX.csms.x"},
			refuseSubscribe: []string{"authority.>", "authority.admit", "down.*", "log.>", "_INBOX.gateway.>", "_INBOX.authority.>", ">"},
		},
		{role: RoleAll, publish: []string{"up.16.x", "authority.audit.list", "change.trust"}, subscribe: []string{">"}},
	} {
		t.Run(string(tt.role), func(t *testing.T) {
			nc := probe(t, url, filepath.Join(dir, string(tt.role)+credentialsExt))
			for _, list := range []struct {
				subjects []string
				refused  bool
				do       func(subject string) error
			}{
				{tt.publish, false, func(s string) error { return nc.Publish(s, nil) }},
				{tt.subscribe, false, func(s string) error { return nc.subscribe(s) }},
				{tt.refusePublish, true, func(s string) error { return nc.Publish(s, nil) }},
				{tt.refuseSubscribe, true, func(s string) error { return nc.subscribe(s) }},
			} {
				for _, subject := range list.subjects {
					if err := list.do(subject); err != nil {
						t.Fatal(err)
					}
					switch refused := nc.refused(t); {
					case refused && !list.refused:
						t.Errorf("%s is refused", subject)
					case !refused && list.refused:
						t.Errorf("%s is allowed", subject)
					}
				}
			}
		})
	}
}

// prober is a NATS connection whose refusals are collected.
type prober struct {
	*nats.Conn
	errs chan error
}

func probe(t *testing.T, url, file string) prober {
	t.Helper()
	options, err := clientOptions(file)
	if err != nil {
		t.Fatal(err)
	}
	p := prober{errs: make(chan error, 16)}
	p.Conn, err = nats.Connect(url, append(options, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { p.errs <- err }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (p prober) subscribe(subject string) error {
	_, err := p.ChanSubscribe(subject, make(chan *nats.Msg, 1024))
	return err
}

// refused reports whether the server refused what was sent last. It answers in
// order, so its word on it is there before the answer to a ping. The client hands
// it out in a goroutine of its own.
func (p prober) refused(t *testing.T) bool {
	t.Helper()
	before := p.LastError()
	if err := p.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if before == nil && p.LastError() == nil {
		return false
	}
	select {
	case err := <-p.errs:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Fatal(err)
		}
		return true
	case <-time.After(100 * time.Millisecond): // an older refusal is still the last error
		return false
	}
}

// TestRolesTogether has a station's CALL, a CALL to it, a request to the
// authority and the message log work with the credentials of the roles.
func TestRolesTogether(t *testing.T) {
	dir := credentials(t)
	url := external(t, dir).ClientURL()
	gateway, csms, authority := as(t, url, dir, RoleGateway), as(t, url, dir, RoleCSMS), as(t, url, dir, RoleAuthority)
	workTogether(t, gateway, csms, authority)
}

func workTogether(t *testing.T, gateway, csms, authority *Bus) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 4)
	defer func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	if err := csms.OpenLog(ctx, LogLimits{}); err != nil {
		t.Fatal(err)
	}
	echo := func(_ context.Context, _ ocpp.StationID, c ocpp.Call) (json.RawMessage, error) { return c.Payload, nil }
	go func() { ended <- csms.ServeCalls(ctx, echo) }()
	go func() { ended <- gateway.ServeDown(ctx, echo) }()
	go func() {
		ended <- authority.Serve(ctx, "authority.>", "authority", func(_ context.Context, subject string, _ []byte) ([]byte, error) { return []byte(subject), nil })
	}()
	heard := make(chan string, 16)
	go func() {
		ended <- gateway.Listen(ctx, "change.>", "", func(subject string, _ []byte) {
			select {
			case heard <- subject:
			default:
			}
		})
	}()
	within(t, "a CALL of a station", func() bool {
		answer, err := gateway.Call(ctx, "CS 1", ocpp.Call{Version: ocpp.V16, Action: "Heartbeat", Payload: []byte(`{"a":1}`)})
		return err == nil && string(answer) == `{"a":1}`
	})
	a, err := gateway.Attach("CS 1")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Unsubscribe()
	within(t, "a CALL to a station", func() bool {
		answer, err := csms.CallStation(ctx, "CS 1", ocpp.Call{Version: ocpp.V16, Action: "Reset", Payload: []byte(`{"b":1}`)})
		return err == nil && string(answer) == `{"b":1}`
	})
	within(t, "a decision", func() bool {
		answer, err := gateway.Request(ctx, "authority.admit", nil)
		return err == nil && string(answer) == "authority.admit"
	})
	if answer, err := csms.Request(ctx, "authority.audit.list", nil); err != nil || string(answer) != "authority.audit.list" {
		t.Errorf("audit for the csms: %s, %v", answer, err)
	}
	brief, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if answer, err := gateway.Request(brief, "authority.audit.list", nil); err == nil {
		t.Errorf("a gateway read the audit record: %s", answer)
	}
	within(t, "a change", func() bool {
		if err := authority.Publish("change.trust", nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-heard:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	if err := gateway.LogFrame("gw", "CS 1", ocpp.Up, []byte(`[2,"1","Heartbeat",{}]`)); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	within(t, "a logged frame", func() bool {
		frames, err := csms.Frames(ctx, "CS 1", 0, 10, true)
		if err != nil {
			t.Fatal(err)
		}
		return len(frames) == 1
	})
	if _, err := gateway.Frames(brief, "CS 1", 0, 10, true); err == nil {
		t.Error("a gateway read the message log")
	}
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in ten seconds: %s", what)
		}
	}
}

// TestListenIsClosed: an embedded server that listens lets in who has
// credentials of its directory, over TLS, and nobody else.
func TestListenIsClosed(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(t.Context(), Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", CredentialsDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	url := "nats://" + b.embedded.Addr().String()
	for name, options := range map[string][]nats.Option{
		"nobody":               nil,
		"somebody":             {nats.UserInfo("admin", "admin")},
		"nobody, TLS not seen": {nats.Secure(nil)},
	} {
		if nc, err := nats.Connect(url, options...); err == nil {
			nc.Close()
			t.Errorf("%s got in", name)
		}
	}
	stranger := credentials(t) // of another installation
	if b, err := Open(t.Context(), Config{URL: url, Role: RoleGateway, Credentials: filepath.Join(stranger, "gateway.creds"), Logger: slog.New(slog.DiscardHandler)}); err == nil {
		b.Close()
		t.Error("credentials of another installation got in")
	}
	workTogether(t, as(t, url, dir, RoleGateway), as(t, url, dir, RoleCSMS), as(t, url, dir, RoleAuthority))

	// The certificate is pinned: credentials of one server do not speak to another one.
	other, err := Open(t.Context(), Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", CredentialsDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	_, err = Open(t.Context(), Config{URL: "nats://" + other.embedded.Addr().String(), Role: RoleGateway, Credentials: filepath.Join(dir, "gateway.creds"), Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Errorf("another server: %v", err)
	}
	for _, name := range []string{"gateway.creds", "server.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestMakeCredentials(t *testing.T) {
	dir := credentials(t)
	before, err := os.ReadFile(filepath.Join(dir, "gateway.creds"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		role Role
		want string // in the error; empty: none
	}{
		{"gateway", RoleGateway, ""},
		{"gateway-2", RoleGateway, ""},
		{"gateway", RoleCSMS, "choose another name"},
		{"x", "root", "no role"},
		{"../x", RoleGateway, "letters"},
		{"", RoleGateway, "letters"},
	} {
		err := MakeCredentials(dir, tt.name, tt.role)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s as %s: %v", tt.name, tt.role, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "gateway.creds")); err != nil || string(after) != string(before) {
		t.Errorf("making it again replaced it: %v", err)
	}
	path, err := WriteAuthorization(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "\nSU") || strings.Count(string(text), "nkey:") != len(Roles)+1 {
		t.Errorf("%v\n%s", err, text)
	}
	for name, bad := range map[string]string{"empty": "", "garbage": "role: gateway\nSUXX", "no role": string(before[strings.Index(string(before), "-----BEGIN"):])} {
		file := filepath.Join(dir, "bad.creds")
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := WriteAuthorization(dir); err == nil || !strings.Contains(err.Error(), "bad.creds") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenServerElsewhere: what lets anybody in is accepted on this machine
// only, unless an operator says so.
func TestOpenServerElsewhere(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "0.0.0.0", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := ""
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			elsewhere = n.IP.String()
		}
	}
	if elsewhere == "" {
		t.Log("this machine has only loopback addresses: a part of this test has nothing to connect to")
		return
	}
	for _, tt := range []struct {
		host string
		open bool
		ok   bool
	}{{"127.0.0.1", false, true}, {elsewhere, false, false}, {elsewhere, true, true}} {
		b, err := Open(t.Context(), Config{URL: "nats://" + tt.host + ":" + port, Open: tt.open, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			b.Close()
		}
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "lets anybody in") {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
