package csms_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/authority"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

// rig is a csms with a real authority and one station that the test plays.
type rig struct {
	*csms.CSMS
	authority realAuthority
	password  string // that the station was registered with

	mu    sync.Mutex
	epoch uint64
	// told are the values of ChangeConfiguration, by key, newest last.
	told map[string][]string
	// answer is what becomes of a ChangeConfiguration.
	answer func(key, value string) (status string, err error)
}

const quick = 50 * time.Millisecond

func newRig(t *testing.T, where string, profile ocpp.SecurityProfile) *rig {
	t.Helper()
	r := &rig{authority: openAuthority(t), told: make(map[string][]string)}
	added, err := r.authority.AddStation(t.Context(), "test", authority.NewStation{ID: "CS", Profile: profile})
	if err != nil {
		t.Fatal(err)
	}
	r.password = added.Password
	r.CSMS = r.process(t, where)
	return r
}

// process is a csms process over the record at where.
func (r *rig) process(t *testing.T, where string) *csms.CSMS {
	return open(t, where, csms.Config{Authority: r.authority, Call: r.call,
		Invalid:  func(err error) bool { _, ok := errors.AsType[*authority.InvalidError](err); return ok },
		Settings: csms.Settings{OperationRetry: quick, OperationAnswer: time.Minute, OperationUse: quick}})
}

// call is the station.
func (r *rig) call(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
	switch call.Action {
	case "ChangeConfiguration":
		var p struct{ Key, Value string }
		if err := json.Unmarshal(call.Payload, &p); err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told[p.Key] = append(r.told[p.Key], p.Value)
		status, err := r.answer(p.Key, p.Value)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]string{"status": status})
	case "GetInstalledCertificateIds":
		roots, err := r.authority.ServerRoots(context.Background())
		if err != nil {
			return nil, err
		}
		hashes, err := csms.Hashes(roots)
		return json.RawMessage(`{"status":"Accepted","certificateHashData":[` + strings.Join(hashes, ",") + `]}`), err
	}
	return json.RawMessage(`{"status":"Accepted"}`), nil
}

// values are what the station was told for a key.
func (r *rig) values(key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.told[key]...)
}

// comes has the station try to connect; the csms hears of it if it is admitted.
func (r *rig) comes(t *testing.T, c *csms.CSMS, profile ocpp.SecurityProfile, password string) ocpp.Reason {
	t.Helper()
	credentials := ocpp.Credentials{Station: "CS", Profile: profile, Remote: netip.MustParseAddrPort("192.0.2.1:40000"), Basic: []byte("CS:" + password),
		Subprotocol: []string{"ocpp1.6"}}
	d, err := r.authority.Admit(t.Context(), credentials)
	if err != nil {
		t.Fatal(err)
	}
	if d.Reason == ocpp.ReasonAdmitted {
		r.epoch++
		e := ocpp.Connected{Station: "CS", Gateway: "gw", Epoch: r.epoch, Version: ocpp.V16, Profile: profile, At: time.Now()}
		if err := c.Connected(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return d.Reason
}

func (r *rig) start(t *testing.T, kind string, params csms.OperationParams) store.Operation {
	t.Helper()
	o, started, err := r.Operate(t.Context(), "CS", kind, params, "test")
	if err != nil || !started {
		t.Fatalf("start: %t, %v", started, err)
	}
	return o
}

// reaches waits for an operation's status.
func (r *rig) reaches(t *testing.T, id string, want store.OperationStatus) store.Operation {
	t.Helper()
	var o store.Operation
	eventually(t, func() bool {
		var err error
		if o, err = r.Record().Operation(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return o.Status == want || o.Status.Ended()
	}, "the operation is not "+string(want))
	if o.Status != want {
		steps, err := r.Record().OperationSteps(t.Context(), id)
		t.Fatalf("the operation is %s, not %s: %s: %+v (%v)", o.Status, want, o.Cause, steps, err)
	}
	return o
}

// unhex is the password in the hex text that a station of 1.6 is told.
func unhex(t *testing.T, text string) string {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A password whose fate is unknown: both are good until the station comes.
func TestPasswordUnknown(t *testing.T) {
	for _, took := range []bool{true, false} {
		name := map[bool]string{true: "the station took it", false: "it did not"}[took]
		t.Run(name, func(t *testing.T) {
			r := newRig(t, storetest.SQLite(t), ocpp.ProfileTLS)
			r.answer = func(string, string) (string, error) { return "", context.DeadlineExceeded }
			run(t, r.CSMS)
			if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password); got != ocpp.ReasonAdmitted {
				t.Fatal(got)
			}
			o := r.start(t, csms.RotatePassword, csms.OperationParams{})
			r.reaches(t, o.ID, store.OperationWaiting)
			sent := r.values("AuthorizationKey")
			if len(sent) != 1 {
				t.Fatalf("told %d passwords while the fate of the first is unknown", len(sent))
			}
			fresh := unhex(t, sent[0])
			r.mu.Lock()
			r.answer = func(string, string) (string, error) { return "Accepted", nil }
			r.mu.Unlock()
			if !took { // it shows that it has the old one: it gets another
				if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password); got != ocpp.ReasonAdmitted {
					t.Fatalf("old password: %s", got)
				}
				eventually(t, func() bool { return len(r.values("AuthorizationKey")) == 2 }, "no second password")
				fresh = unhex(t, r.values("AuthorizationKey")[1])
			}
			if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, fresh); got != ocpp.ReasonAdmitted {
				t.Fatalf("new password: %s", got)
			}
			r.reaches(t, o.ID, store.OperationDone)
			if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password); got != ocpp.ReasonWrongPassword {
				t.Errorf("old password after the first success of the new one: %s", got)
			}
			if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, fresh); got != ocpp.ReasonAdmitted {
				t.Errorf("new password: %s", got)
			}
		})
	}
}

// A station that says no keeps its password, and the new one is good for nothing.
func TestPasswordRejected(t *testing.T) {
	r := newRig(t, storetest.SQLite(t), ocpp.ProfileTLS)
	r.answer = func(string, string) (string, error) { return "Rejected", nil }
	run(t, r.CSMS)
	r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password)
	o := r.start(t, csms.RotatePassword, csms.OperationParams{})
	if o = r.reaches(t, o.ID, store.OperationFailed); !strings.Contains(o.Cause, "Rejected") {
		t.Errorf("cause: %s", o.Cause)
	}
	if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, unhex(t, r.values("AuthorizationKey")[0])); got != ocpp.ReasonWrongPassword {
		t.Errorf("the password that was rejected: %s", got)
	}
	if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password); got != ocpp.ReasonAdmitted {
		t.Errorf("old password: %s", got)
	}
}

// The process ends after the password left and before its outcome is recorded:
// another one takes the operation over and sends no second password.
func TestPasswordCrash(t *testing.T) {
	where := storetest.SQLite(t)
	r := newRig(t, where, ocpp.ProfileTLS)
	ctx, crash := context.WithCancel(t.Context())
	r.answer = func(string, string) (string, error) { crash(); return "", context.Canceled }
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password)
	o := r.start(t, csms.RotatePassword, csms.OperationParams{})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	other := r.process(t, where)
	r.mu.Lock()
	r.answer = func(string, string) (string, error) { return "Accepted", nil }
	r.mu.Unlock()
	run(t, other)
	r.reaches(t, o.ID, store.OperationWaiting)
	sent := r.values("AuthorizationKey")
	if got := r.comes(t, other, ocpp.ProfileTLS, unhex(t, sent[0])); got != ocpp.ReasonAdmitted {
		t.Fatalf("the password that left before the crash: %s (%d were sent)", got, len(sent))
	}
	r.reaches(t, o.ID, store.OperationDone)
	if n := len(r.values("AuthorizationKey")); n != 1 {
		t.Errorf("%d passwords were sent", n)
	}
}

// A station that cannot connect with its new profile falls back: both profiles
// are good until it has shown that, then the old one alone.
func TestProfileFallback(t *testing.T) {
	r := newRig(t, storetest.SQLite(t), ocpp.ProfilePlain)
	r.answer = func(string, string) (string, error) { return "Accepted", nil }
	run(t, r.CSMS)
	r.comes(t, r.CSMS, ocpp.ProfilePlain, r.password)
	o := r.start(t, csms.ChangeProfile, csms.OperationParams{Profile: ocpp.ProfileTLS})
	eventually(t, func() bool { return len(r.values("SecurityProfile")) == 1 }, "the station is not told")
	r.reaches(t, o.ID, store.OperationWaiting)
	if got := r.comes(t, r.CSMS, ocpp.ProfilePlain, r.password); got != ocpp.ReasonAdmitted {
		t.Fatalf("old profile: %s", got)
	}
	if o = r.reaches(t, o.ID, store.OperationFailed); !strings.Contains(o.Cause, "fell back to security profile 1") {
		t.Errorf("cause: %s", o.Cause)
	}
	s, err := r.authority.Station(t.Context(), "CS")
	if err != nil || s.Profile != ocpp.ProfilePlain || s.PreviousProfile != 0 {
		t.Errorf("registered for profile %d, before %d (%v)", s.Profile, s.PreviousProfile, err)
	}
	// The second time it works, and there is no way back.
	if _, err := r.RetryOperation(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(r.values("SecurityProfile")) == 2 }, "the station is not told again")
	r.reaches(t, o.ID, store.OperationWaiting)
	if got := r.comes(t, r.CSMS, ocpp.ProfileTLS, r.password); got != ocpp.ReasonAdmitted {
		t.Fatalf("new profile: %s", got)
	}
	r.reaches(t, o.ID, store.OperationDone)
	if got := r.comes(t, r.CSMS, ocpp.ProfilePlain, r.password); got != ocpp.ReasonWrongProfile {
		t.Errorf("old profile after the first success of the new one: %s", got)
	}
}
