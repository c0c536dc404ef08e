package certificates_test

import (
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/e2e"
	"holdfast/store"
)

// TestRefusedRequest: what becomes of a station's change to security profile 3
// when its request for a certificate is refused. A CA elsewhere that refuses it
// ends the operation with the CA's own words; one that is out of order is asked
// again later, by itself, until it works.
func TestRefusedRequest(t *testing.T) {
	t.Parallel()
	x := newESTServer(t)
	n := e2e.Ports(t, t.TempDir())
	start := func(label string) {
		t.Helper()
		if len(n.Args) > 0 {
			n.Kill()
		}
		n.Args = append([]string{"all", "--data", n.Data, "--drain-time", "1s", "--station-url", "2=" + n.TLS + ";3=" + n.MTLS, "--operator", "Op",
			"--est", "https://" + x.address + "/.well-known/est/" + label, "--est-ca", x.file("root.crt"), "--est-user", "holdfast", "--est-password-file", x.file("password"),
			"--est-cert", x.file("client.crt"), "--est-key", x.file("client.key")}, n.ListenArgs("api", "admin", "tls", "mtls")...)
		n.Restart()
		n.AwaitReady()
	}
	start("refusing")
	command(t, n, nil, "cert", "external-ca", "-o", x.file("ca.pem"))
	command(t, n, nil, "cert", "trust", x.file("ca.pem"))
	e2e.Start(t, e2e.Build(t, "holdfast/cmd/holdfast"), "fleet", "run", "--idle", "--for", "10m", "--url", n.API, "--data", n.Data, "--stations", "1", "--profiles", "2",
		"--targets", "2="+n.TLS+";3="+n.MTLS)
	const id = "FLEET-00001"
	connected := func() bool {
		var s struct{ State store.StationState }
		return n.Do("GET", "/api/v1/stations/"+id, nil, &s) == 200 && s.State.Connected
	}
	e2e.Await(t, "the station is connected", patience, connected)
	var o api.OperationView
	show := func() api.OperationView {
		n.Do("GET", "/api/v1/operations/"+o.ID, nil, &o)
		return o
	}
	command(t, n, &o, "station", "upgrade", id, "--profile", "3")
	e2e.Await(t, "the operation ends", patience, func() bool { return show().Status.Ended() })
	if o.Status != store.OperationFailed || o.Step != "sign" || !strings.Contains(o.Cause, "no certificates on Thursdays") || !strings.Contains(o.Cause, "check what the CA certifies") {
		t.Errorf("refused by the CA: %s at %s: %s", o.Status, o.Step, o.Cause)
	}
	if !connected() {
		t.Error("the station was disconnected")
	}

	start("broken")
	e2e.Await(t, "the station is connected", patience, connected)
	command(t, n, &o, "operation", "retry", o.ID)
	e2e.Await(t, "the operation waits for the CA", patience, func() bool {
		return strings.Contains(show().Cause, "database away") || o.Status.Ended()
	})
	if o.Status != store.OperationWaiting || o.Step != "sign" {
		t.Errorf("the CA is out of order: %s at %s: %s", o.Status, o.Step, o.Cause)
	}
	start("stations")
	e2e.Await(t, "the operation ends", 4*patience, func() bool { return show().Status.Ended() })
	if o.Status != store.OperationDone {
		t.Errorf("the CA is back: %s at %s: %s", o.Status, o.Step, o.Cause)
	}
}
