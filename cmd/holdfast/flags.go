package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/bus"
	"holdfast/gateway"
	"holdfast/ocpp"
	"holdfast/ws"
)

// busFlags name the NATS that the roles talk over.
type busFlags struct {
	NATS            string `name:"nats" help:"External NATS, nats://user:password@host:4222; several with commas." placeholder:"URL"`
	NATSCredentials string `name:"nats-credentials" help:"This role's credentials for it (holdfast nats credentials), or a NATS .creds file." type:"path" placeholder:"FILE"`
	NATSCA          string `name:"nats-ca" help:"PEM file with the CA of its certificate. Default: the system's." type:"path" placeholder:"FILE"`
	NATSOpen        bool   `name:"nats-open" help:"Accept a NATS on another machine that lets anybody in."`
}

// config is the bus of a role.
func (f *busFlags) config(role bus.Role) bus.Config {
	return bus.Config{URL: f.NATS, Credentials: f.NATSCredentials, CA: f.NATSCA, Open: f.NATSOpen, Name: "holdfast " + string(role), Role: role}
}

// adminFlags are of every role.
type adminFlags struct {
	ListenAdmin    string `help:"Address of health, metrics and profiles. On loopback it asks for no token." default:"127.0.0.1:8801"`
	AdminTokenFile string `help:"File with the token (Authorization: Bearer) that metrics and profiles ask for." type:"path" placeholder:"FILE"`
	AdminOpen      bool   `help:"Serve metrics and profiles without a token, also on an address that is not loopback: its network is closed."`
	MemoryHistory  string `help:"File that keeps a week of this process's memory over restarts, 300 KB. Default: DATA/memory-ROLE.history where there is --data; none in a gateway." type:"path" placeholder:"FILE"`
	Evidence       string `help:"Directory for profiles of leaks, at most 256 MB. Default: in memory, at most 8 MB." type:"path" placeholder:"DIR"`
	MemoryTarget   int64  `help:"Memory in bytes at which an autoscaler holds a pod, for the forecast of a leak. Default: 80 % of the memory limit." default:"0"`
	pyroscopeFlags
}

// databaseFlags name the record.
type databaseFlags struct {
	Data     string `help:"Directory for SQLite, keys and streams. Only its owner can read it." type:"path" default:"./data" placeholder:"DIR"`
	Database string `help:"postgres://user:password@host/name instead of SQLite." placeholder:"URL"`
}

// where returns what store opens.
func (f *databaseFlags) where() string {
	if f.Database != "" {
		return f.Database
	}
	return f.Data
}

// explain adds to a fault of an external database what can be done about it.
func (f *databaseFlags) explain(err error) error {
	if f.Database == "" {
		return err
	}
	return fmt.Errorf("%w (is it running, is --database right?)", err)
}

// prepare creates the data directory for its owner alone.
func (f *databaseFlags) prepare() error {
	if err := os.MkdirAll(f.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w (choose another with --data)", err)
	}
	probe := filepath.Join(f.Data, ".write-test")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("data directory: %w (its owner must be the user that runs holdfast, or choose another with --data)", err)
	}
	return os.Remove(probe)
}

// gatewayFlags are of the gateway, alone or in all.
type gatewayFlags struct {
	GatewayID         string        `help:"Name of this gateway in events and logs. Default: the host name." placeholder:"NAME"`
	Plain             bool          `help:"Accept security profile 1: passwords in clear text, for trusted networks only."`
	ListenPlain       string        `help:"Address of security profile 1 (with --plain)." default:":8881"`
	ListenTLS         string        `name:"listen-tls" help:"Address of security profile 2 (TLS and password)." default:":8882"`
	ListenMTLS        string        `name:"listen-mtls" help:"Address of security profile 3 (TLS with client certificates)." default:":8883"`
	Profiles          []int         `help:"Security profiles to accept with TLS." default:"2,3"`
	ServerNames       []string      `help:"Names and addresses in the server certificate that the authority issues. Default: those of this machine." placeholder:"NAME"`
	ServerCert        []string      `help:"PEM files with server certificate chains instead, ECDSA first; reloaded when they change." type:"path" placeholder:"FILE"`
	ServerKey         []string      `help:"PEM files with their keys, in the same order." type:"path" placeholder:"FILE"`
	MaxConnections    int           `help:"Connections at most; then the gateway is not ready. 0: as many as open files allow." default:"0"`
	MaxMessage        int           `help:"Largest message of a station, in bytes." default:"1048576"`
	CallTime          time.Duration `help:"How long a CALL may take, in either direction." default:"30s"`
	HoldCalls         time.Duration `help:"How long the first CALL to a station waits at most for the station's own first one." default:"3s"`
	PingInterval      time.Duration `help:"Time between pings to a station." default:"50s"`
	PongTime          time.Duration `help:"How long a ping may go unanswered before a station that has to pong is closed." default:"75s"`
	AwayTime          time.Duration `help:"How long bus or csms may be away before stations are disconnected." default:"2m"`
	DrainTime         time.Duration `help:"Time over which stations are closed after SIGTERM." default:"10s"`
	RefuseSubprotocol bool          `help:"Answer 400 if no offered subprotocol is acceptable, instead of 101 and close."`
	HideUnknown       bool          `help:"Answer 401 instead of 404 to unknown identities."`
	TrustProxy        []string      `help:"Networks (CIDR) of load balancers that speak PROXY protocol v2." placeholder:"CIDR"`
	ConnectRate       float64       `help:"Connections of one station per minute in the long run (50 minutes' worth at once); a station beyond is refused for a while. 0: no limit." default:"12"`
	PerSource         float64       `help:"New connections per second and source address, before TLS; 0: no limit." default:"0"`
}

func (f *gatewayFlags) config() (gateway.Config, error) {
	cfg := gateway.Config{
		ID: f.GatewayID, CallTime: f.CallTime, HoldCalls: f.HoldCalls, AwayTime: f.AwayTime,
		RefuseSubprotocol: f.RefuseSubprotocol, HideUnknown: f.HideUnknown,
		WS: ws.Config{MaxMessage: f.MaxMessage, MaxConnections: f.MaxConnections, PingInterval: f.PingInterval, PongTime: f.PongTime, PerSourceRate: f.PerSource},
	}
	if cfg.ConnectRate = f.ConnectRate; f.ConnectRate <= 0 {
		cfg.ConnectRate = -1
	}
	if cfg.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return cfg, fmt.Errorf("host name: %w (set --gateway-id)", err)
		}
		cfg.ID = host
	}
	if strings.ContainsAny(cfg.ID, " .*>\r\n") || len(cfg.ID) > 64 {
		return cfg, &usageError{fmt.Sprintf("--gateway-id %q: at most 64 characters, no blanks, dots, stars", cfg.ID)}
	}
	for _, s := range f.TrustProxy {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return cfg, &usageError{fmt.Sprintf("--trust-proxy %q: want a network such as 10.0.0.0/8", s)}
		}
		cfg.TrustProxy = append(cfg.TrustProxy, p)
	}
	if len(f.ServerCert) != len(f.ServerKey) {
		return cfg, &usageError{"--server-cert and --server-key: as many keys as certificates"}
	}
	return cfg, nil
}

// check finds wrong usage before anything is started.
func (f *gatewayFlags) check() error {
	if _, err := f.config(); err != nil {
		return err
	}
	_, err := f.ports()
	return err
}

// ports returns flag name and address of each security profile that is on.
func (f *gatewayFlags) ports() (map[ocpp.SecurityProfile][2]string, error) {
	ports := make(map[ocpp.SecurityProfile][2]string)
	if f.Plain {
		ports[ocpp.ProfilePlain] = [2]string{"listen-plain", f.ListenPlain}
	}
	for _, p := range f.Profiles {
		switch ocpp.SecurityProfile(p) {
		case ocpp.ProfilePlain:
			ports[ocpp.ProfilePlain] = [2]string{"listen-plain", f.ListenPlain}
		case ocpp.ProfileTLS:
			ports[ocpp.ProfileTLS] = [2]string{"listen-tls", f.ListenTLS}
		case ocpp.ProfileMTLS:
			ports[ocpp.ProfileMTLS] = [2]string{"listen-mtls", f.ListenMTLS}
		default:
			return nil, &usageError{fmt.Sprintf("--profiles %d: security profiles are 1, 2 and 3", p)}
		}
	}
	if len(ports) == 0 {
		return nil, errors.New("no security profile to accept: see --profiles and --plain")
	}
	return ports, nil
}
