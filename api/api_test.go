package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/api"
	"holdfast/authority"
	"holdfast/bus"
	"holdfast/csms"
	"holdfast/csms/action16"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// caKeys are the files of the first test's CA: making RSA keys takes seconds.
var caKeys struct {
	sync.Mutex
	files map[string][]byte
}

// caDir returns a directory for an authority's keys, the same ones in every test.
func caDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	caKeys.Lock()
	defer caKeys.Unlock()
	for name, data := range caKeys.files {
		check(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return dir
}

// keepKeys remembers the keys that the first authority made.
func keepKeys(t testing.TB, dir string) {
	t.Helper()
	caKeys.Lock()
	defer caKeys.Unlock()
	if caKeys.files != nil {
		return
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	caKeys.files = make(map[string][]byte)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		check(t, err)
		caKeys.files[e.Name()] = data
	}
}

const adminToken = "hf_admin-token-of-the-tests"

// fixture is the API over HTTP, before the real core, authority, bus and databases.
type fixture struct {
	t     testing.TB
	api   *api.API
	core  *csms.CSMS
	bus   *bus.Bus
	url   string
	token string // sent with requests

	config api.Config

	mu   sync.Mutex
	call ocpp.CallFunc // answers CALLs to stations
	now  time.Time     // zero: the real time
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now.IsZero() {
		return time.Now()
	}
	return f.now
}

func (f *fixture) answer(call ocpp.CallFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.call = call
}

// open starts everything over the databases at where and stops it with the test.
func open(t testing.TB, where string, change func(*api.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, token: adminToken, call: func(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) { return nil, ocpp.ErrOffline }}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), Name: "test", Logger: log})
	check(t, err)
	t.Cleanup(b.Close)
	check(t, b.OpenLog(t.Context(), bus.LogLimits{}))
	records, err := store.OpenCSMS(t.Context(), where)
	check(t, err)
	t.Cleanup(func() { check(t, records.Close()) })
	register, err := store.OpenAuthority(t.Context(), where)
	check(t, err)
	t.Cleanup(func() { check(t, register.Close()) })
	keys := caDir(t)
	a, err := authority.Open(t.Context(), authority.Config{Store: register, Dir: keys, Logger: log})
	check(t, err)
	keepKeys(t, keys)
	core, err := csms.New(csms.Config{
		Store: records, Logger: log, Protocols: map[ocpp.Version]csms.Protocol{ocpp.V16: action16.Protocol()},
		Call: func(ctx context.Context, station ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
			f.mu.Lock()
			answer := f.call
			f.mu.Unlock()
			return answer(ctx, station, call)
		},
		Publish: func(e csms.Event) {
			if data, err := json.Marshal(e); err == nil {
				b.Publish("live."+string(e.Kind), data)
			}
		},
	})
	check(t, err)
	cfg := api.Config{
		CSMS: core, Authority: backend{a}, Messages: messages{b}, AdminToken: adminToken, Now: f.clock, Logger: log,
		Events: func(ctx context.Context, do func(csms.Event)) error {
			return b.Listen(ctx, "live.>", "", func(_ string, data []byte) {
				var e csms.Event
				if json.Unmarshal(data, &e) == nil {
					do(e)
				}
			})
		},
		Disconnect: func(ctx context.Context, station ocpp.StationID) error {
			s, err := records.Station(ctx, station)
			if err != nil || !s.Connected {
				return ocpp.ErrOffline
			}
			return b.Publish("gateway.disconnect", []byte(station))
		},
		Invalid: func(err error) (string, string, bool) {
			e, ok := errors.AsType[*authority.InvalidError](err)
			if !ok {
				return "", "", false
			}
			return e.Field, e.Error(), true
		},
	}
	if change != nil {
		change(&cfg)
	}
	f.config = cfg
	f.api, err = api.New(cfg)
	check(t, err)
	f.core, f.bus = core, b
	run(t, core.Run)
	run(t, f.api.Run)
	srv := httptest.NewServer(f.api)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	f.url = srv.URL
	return f
}

// run runs part until the test ends.
func run(t testing.TB, part func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// backend is the authority as the API wants it.
type backend struct{ *authority.Authority }

func (b backend) AddStation(ctx context.Context, by string, n api.NewStation) (api.AddedStation, error) {
	added, err := b.Authority.AddStation(ctx, by, authority.NewStation{
		ID: n.ID, Serial: n.Serial, Profile: n.Profile, Version: n.Version, Quirks: n.Quirks, Labels: n.Labels, User: n.User,
		Password: n.Password, Algorithm: pki.Algorithm(n.Algorithm), NoCertificate: n.NoCertificate,
	})
	out := api.AddedStation{Station: added.Station, Password: added.Password}
	if added.Issued != nil {
		issued := api.IssuedCertificate(*added.Issued)
		out.Certificate = &issued
	}
	return out, err
}

func (b backend) UpdateStation(ctx context.Context, by string, id ocpp.StationID, c api.StationChange) (store.Station, error) {
	return b.Authority.UpdateStation(ctx, by, id, authority.StationPatch(c))
}

func (b backend) RotatePassword(ctx context.Context, by string, id ocpp.StationID, password string) (api.NewPassword, error) {
	rotated, err := b.Authority.RotatePassword(ctx, by, id, password)
	return api.NewPassword(rotated), err
}

func (b backend) IssueStation(ctx context.Context, by string, id ocpp.StationID, algorithm string) (api.IssuedCertificate, error) {
	issued, err := b.Authority.IssueStation(ctx, by, id, pki.Algorithm(algorithm))
	return api.IssuedCertificate(issued), err
}

func (b backend) PrepareRoot(ctx context.Context, by, algorithm string) (api.PreparedRoot, error) {
	prepared, err := b.Authority.PrepareRoot(ctx, by, pki.Algorithm(algorithm))
	return api.PreparedRoot(prepared), err
}

func (b backend) ExternalCA(ctx context.Context) (api.ExternalCA, error) {
	x, err := b.Authority.ExternalCA(ctx)
	return api.ExternalCA{Address: x.Address}, err
}

func (b backend) RequestCA(ctx context.Context, by, role, algorithm string) (api.RequestedCA, error) {
	requested, err := b.Authority.RequestCA(ctx, by, role, pki.Algorithm(algorithm))
	return api.RequestedCA(requested), err
}

func (b backend) SignCSR(ctx context.Context, by string, id ocpp.StationID, csr string) (api.SignedCertificate, error) {
	signed, err := b.Authority.SignCSR(ctx, by, id, csr)
	return api.SignedCertificate(signed), err
}

// messages is the message log as the API wants it.
type messages struct{ *bus.Bus }

func (m messages) Frames(ctx context.Context, station ocpp.StationID, after uint64, limit int, last bool) ([]api.Frame, error) {
	frames, err := m.Bus.Frames(ctx, station, after, limit, last)
	out := make([]api.Frame, len(frames))
	for i, f := range frames {
		out[i] = api.Frame(f)
	}
	return out, err
}

func (m messages) FollowFrames(ctx context.Context, station ocpp.StationID, after uint64, do func(api.Frame) error) error {
	return m.Bus.FollowFrames(ctx, station, after, func(f bus.Frame) error { return do(api.Frame(f)) })
}

// reply is an answer of the API.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send makes a request; a body that is no io.Reader is sent as JSON.
func (f *fixture) send(method, path string, body any) reply {
	f.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r = b
	default:
		data, err := json.Marshal(b)
		check(f.t, err)
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, f.url+path, r)
	check(f.t, err)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	answer, err := http.DefaultClient.Do(req)
	check(f.t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	check(f.t, err)
	out := reply{answer.StatusCode, answer.Header, data}
	f.conforms(req, out)
	return out
}

// want makes a request that has to be answered with status, and decodes the answer.
func want[T any](f *fixture, status int, method, path string, body any) (out T) {
	f.t.Helper()
	r := f.send(method, path, body)
	if r.status != status {
		f.t.Fatalf("%s %s: %d %s, want %d", method, path, r.status, r.body, status)
	}
	if len(r.body) > 0 {
		if err := json.Unmarshal(r.body, &out); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, r.body)
		}
	}
	return out
}

type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
		Value    any    `json:"value"`
	} `json:"errors"`
}

// refused makes a request that has to be answered with a problem.
func (f *fixture) refused(status int, method, path string, body any) problem {
	f.t.Helper()
	r := f.send(method, path, body)
	if r.status != status || r.header.Get("Content-Type") != "application/problem+json" {
		f.t.Fatalf("%s %s: %d %s %s, want problem %d", method, path, r.status, r.header.Get("Content-Type"), r.body, status)
	}
	var p problem
	check(f.t, json.Unmarshal(r.body, &p))
	if p.Status != status || p.Title == "" || p.Detail == "" {
		f.t.Errorf("%s %s: problem %s lacks status, title or detail", method, path, r.body)
	}
	for _, e := range p.Errors {
		if e.Value != nil {
			f.t.Errorf("%s %s: problem %s repeats what was sent", method, path, r.body)
		}
	}
	return p
}

// conforms checks that an answer is as the OpenAPI document says.
func (f *fixture) conforms(req *http.Request, r reply) {
	f.t.Helper()
	op := f.operation(req)
	if op == nil {
		return
	}
	response := op.Responses[fmt.Sprint(r.status)]
	if response == nil {
		f.t.Errorf("%s %s: status %d is not documented: %s", op.Method, op.Path, r.status, r.body)
		return
	}
	if len(r.body) == 0 {
		if len(response.Content) > 0 {
			f.t.Errorf("%s %s: status %d has no body", op.Method, op.Path, r.status)
		}
		return
	}
	content := response.Content[r.header.Get("Content-Type")]
	if content == nil {
		f.t.Errorf("%s %s: status %d has undocumented type %q: %s", op.Method, op.Path, r.status, r.header.Get("Content-Type"), r.body)
		return
	}
	if strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		return
	}
	var value any
	if err := json.Unmarshal(r.body, &value); err != nil {
		f.t.Errorf("%s %s: %v in %s", op.Method, op.Path, err, r.body)
		return
	}
	result := &huma.ValidateResult{}
	huma.Validate(f.api.Huma().OpenAPI().Components.Schemas, content.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, result)
	for _, err := range result.Errors {
		f.t.Errorf("%s %s: answer %d is not as documented: %v in %.500s", op.Method, op.Path, r.status, err, r.body)
	}
}

// operation finds the operation that a request is for.
func (f *fixture) operation(req *http.Request) *huma.Operation {
	segments := strings.Split(req.URL.EscapedPath(), "/")
	var found *huma.Operation
	for path, item := range f.api.Huma().OpenAPI().Paths {
		pattern := strings.Split(path, "/")
		ok, literal := len(pattern) == len(segments), 0
		for i := 0; ok && i < len(pattern); i++ {
			if pattern[i] == segments[i] {
				literal++
				continue
			}
			ok = strings.HasPrefix(pattern[i], "{")
		}
		if op := operations(item)[req.Method]; ok && op != nil {
			found = op
		}
	}
	return found
}

func operations(item *huma.PathItem) map[string]*huma.Operation {
	all := map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete}
	for method, op := range all {
		if op == nil {
			delete(all, method)
		}
	}
	return all
}

// eventually polls until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// station makes a CALL of a station.
func (f *fixture) station(id ocpp.StationID, action, payload string) json.RawMessage {
	f.t.Helper()
	answer, err := f.core.Handle(context.Background(), id, ocpp.Call{Version: ocpp.V16, ID: "1", Action: action, Payload: json.RawMessage(payload)})
	if err != nil {
		f.t.Fatalf("%s of station %s: %v", action, id, err)
	}
	return answer
}

// connected records that a station has a connection.
func (f *fixture) connected(id ocpp.StationID) {
	f.t.Helper()
	check(f.t, f.core.Connected(context.Background(), ocpp.Connected{
		Station: id, Gateway: "g", Epoch: uint64(time.Now().UnixNano()), Version: ocpp.V16, Profile: ocpp.ProfileTLS, Remote: "127.0.0.1:1", At: time.Now(),
	}))
}
