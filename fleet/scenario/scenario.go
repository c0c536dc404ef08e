package scenario

import (
	"time"

	"holdfast/ocpp"
)

// Limits of a scenario file.
const (
	MaxFile    = 1 << 20 // bytes
	maxCohorts = 64
	maxPhases  = 256
	maxStreams = 64 // of one kind in a phase
	maxAsserts = 256
	maxEvents  = 10_000_000 // of a stream in a phase
)

// Scenario is one file. The field comments are the schema; docs/fleet.md has it
// with examples. Every key may be left out but name and phases.
type Scenario struct {
	// Name is for reports: letters, digits, hyphens.
	Name string `yaml:"name"`
	// About says in a sentence what the scenario is for.
	About string `yaml:"about"`
	// Stations is how many there are. Zero means 100. --stations has precedence.
	Stations int `yaml:"stations"`
	// Profiles and Versions are given to the stations in turn, the profiles faster.
	// Empty means profiles 2 and 3, and every version. --profiles and --versions
	// have precedence.
	Profiles []ocpp.SecurityProfile `yaml:"profiles"`
	Versions []ocpp.Version         `yaml:"versions"`
	// Connectors of each station. Zero means 1.
	Connectors int `yaml:"connectors"`
	// Speed is how much faster than real time the stations' time runs: a day of
	// charging takes ten minutes at 144. Zero means 1.
	Speed float64 `yaml:"speed"`
	// Behaviour is what stations do, unless their cohort says otherwise.
	Behaviour Behaviour `yaml:"behaviour"`
	// Cohorts are kinds of stations. What their shares leave over is the cohort
	// "rest".
	Cohorts []Cohort `yaml:"cohorts"`
	// Phases follow one another.
	Phases []Phase `yaml:"phases"`
	// Assert is what must hold at the end: see Assertion.
	Assert []Assertion `yaml:"assert"`

	source source
}

// Cohort is a share of the stations that has something in common.
type Cohort struct {
	// Name is what phases call it: letters, digits, hyphens; not all, not rest.
	Name string `yaml:"name"`
	// Share of all stations, in whole percent.
	Share Share `yaml:"share"`
	// Profiles and Versions, in turn, instead of the scenario's.
	Profiles []ocpp.SecurityProfile `yaml:"profiles"`
	Versions []ocpp.Version         `yaml:"versions"`
	// Quirks are habits of real stations, by name: holdfast fleet quirks lists them.
	Quirks []string `yaml:"quirks"`
	// TLS is how the stations speak it.
	TLS TLS `yaml:"tls"`
	// Behaviour has precedence over the scenario's, key by key.
	Behaviour Behaviour `yaml:"behaviour"`
}

// TLS is how stations speak TLS.
type TLS struct {
	Min    TLSVersion    `yaml:"min"` // "1.2" or "1.3"
	Max    TLSVersion    `yaml:"max"`
	Suites []CipherSuite `yaml:"suites"` // of TLS 1.2, by their IANA names
	// Resume offers the session ticket of the last connection.
	Resume bool `yaml:"resume"`
	// NoSNI leaves out the server's name.
	NoSNI bool `yaml:"no_sni"`
	// LeafOnly presents a certificate without the CA's.
	LeafOnly bool `yaml:"leaf_only"`
	// Key is the kind of key of certificates that the fleet has made: ecdsa or rsa.
	// Empty means ecdsa.
	Key string `yaml:"key"`
}

// Behaviour is what stations and drivers do. Durations are in the stations' time
// where that is said, else in real time. Zero means the default.
type Behaviour struct {
	// SessionGap is the mean time between two charging sessions at a connector, in
	// the stations' time; "never": nobody charges. Default 30m.
	SessionGap Duration `yaml:"session_gap"`
	// Arrival is how drivers come: poisson (the default) or diurnal, for which the
	// stations' day begins with the run. Session_gap is the mean of the day.
	Arrival Arrival `yaml:"arrival"`
	// SessionLength is the mean length of a session, in the stations' time. Default 40m.
	SessionLength Duration `yaml:"session_length"`
	// MeterInterval is the time between meter values, in the stations' time. Default 1m.
	MeterInterval Duration `yaml:"meter_interval"`
	// UnplugDelay is how long a car stays after its session, in the stations' time. Default 1m.
	UnplugDelay Duration `yaml:"unplug_delay"`
	// Curve is the power in W over a session. Default 11 kW that fall to 2 kW at the end.
	Curve []float64 `yaml:"curve"`
	// IDTags are what drivers show. Default FLEET.
	IDTags []string `yaml:"id_tags"`
	// Heartbeat is the interval between heartbeats, whatever the server says.
	// Default: the server's.
	Heartbeat Duration `yaml:"heartbeat"`
	// Ping is the time between a station's WebSocket pings; "never" is the default.
	Ping Duration `yaml:"ping"`
	// CallTimeout is how long a station waits for an answer. Default 30s.
	CallTimeout Duration `yaml:"call_timeout"`
	// RebootTime is how long a station is away when it is reset. Default 2s.
	RebootTime Duration `yaml:"reboot_time"`
	// BackOff is how stations come back: after minimum plus a random time up to
	// random; every failure doubles minimum, at most doublings times. Defaults 3s,
	// 10s, 3.
	BackOff struct {
		Minimum   Duration `yaml:"minimum"`
		Random    Duration `yaml:"random"` // "never": none
		Doublings int      `yaml:"doublings"`
	} `yaml:"back_off"`
	// Resend is how often and when a transaction message is repeated. Defaults 3, 60s.
	Resend struct {
		Attempts int      `yaml:"attempts"`
		Interval Duration `yaml:"interval"`
	} `yaml:"resend"`
}

// Phase is a time with its own traffic.
type Phase struct {
	// Name is for reports.
	Name string `yaml:"name"`
	// For is how long the phase lasts. --for stretches all phases in proportion.
	For Duration `yaml:"for"`
	// Connect makes stations come, Leave makes them go; until a phase lets them
	// connect they are away.
	Connect []Presence `yaml:"connect"`
	Leave   []Presence `yaml:"leave"`
	// Churn are faults of single stations again and again.
	Churn []Churn `yaml:"churn"`
	// Storm is one fault of many stations at once.
	Storm []Storm `yaml:"storm"`
	// Duplicates are stations whose identity a second station has, too, during the
	// phase: both want the connection, and fight for it.
	Duplicates []Duplicates `yaml:"duplicates"`
	// Commands are CALLs from the operator's side.
	Commands []Command `yaml:"commands"`
}

// Presence is a change in how many stations are here.
type Presence struct {
	Who string `yaml:"who"` // a cohort; empty or all: everybody
	// Share of Who that is here at the end (connect), or goes (leave). Zero means 100%.
	Share Share `yaml:"share"`
	// Arrival is how they are spread over Within.
	Arrival Arrival `yaml:"arrival"`
	// Within is the time that it takes. Zero means the phase. --ramp has precedence.
	Within Duration `yaml:"within"`
	// Rate, instead of Within. --rate has precedence.
	Rate Rate `yaml:"rate"`
}

// Churn is a stream of faults.
type Churn struct {
	Who string `yaml:"who"`
	// Rate is how many happen, over all of Who. Required.
	Rate    Rate    `yaml:"rate"`
	Arrival Arrival `yaml:"arrival"` // empty: poisson
	// Faults by name, with their weights.
	Faults map[string]int `yaml:"faults"`
}

// Storm is one fault of many.
type Storm struct {
	Who   string `yaml:"who"`
	Share Share  `yaml:"share"` // zero: 100%
	Fault string `yaml:"fault"`
	// At is when in the phase; Within how long it takes for all of them. Zero means
	// at once.
	At     Duration `yaml:"at"`
	Within Duration `yaml:"within"`
}

// Duplicates are stations with a double.
type Duplicates struct {
	Who   string `yaml:"who"`
	Share Share  `yaml:"share"` // required
}

// Command is a stream of CALLs from the operator.
type Command struct {
	Who     string         `yaml:"who"`
	Version []ocpp.Version `yaml:"versions"` // of the stations that it is for; empty: all
	Rate    Rate           `yaml:"rate"`
	Arrival Arrival        `yaml:"arrival"` // empty: poisson
	Action  string         `yaml:"action"`
	Payload map[string]any `yaml:"payload"`
}

// For is how long the scenario lasts.
func (s *Scenario) For() time.Duration {
	var d time.Duration
	for _, p := range s.Phases {
		d += time.Duration(p.For)
	}
	return d
}
