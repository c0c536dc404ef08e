package memory

import "fmt"

// Cohort is what stations have in common that may make a difference to the
// memory of their connections.
type Cohort struct {
	Profile string `json:"profile"` // security profile: "1", "2", "3", "none"
	TLS     string `json:"tls"`     // "1.2", "1.3", "none"
	Version string `json:"version"` // of OCPP: "1.6", "2.0.1", "2.1", "none"
}

// String is the cohort in one line, the key of Sample.Cohorts.
func (c Cohort) String() string {
	return fmt.Sprintf("profile %s, TLS %s, OCPP %s", c.Profile, c.TLS, c.Version)
}

// unknown reports whether this is the cohort of connections beyond those that a
// gateway tells apart.
func (c Cohort) unknown() bool { return c.Profile == "" || c.Profile == "none" }

// Connected is the open connections of one cohort.
type Connected struct {
	Cohort
	Connections int `json:"connections"`
	// SocketBuffers is what the kernel holds in the buffers of their sockets, in
	// bytes: 0 while all are idle.
	SocketBuffers int64 `json:"socket_buffer_bytes"`
}

// Retired counts the objects of one kind and cohort whose connection ended.
type Retired struct {
	Object string `json:"object"` // "websocket", "tls", "station"
	Cohort
	Closed    uint64 `json:"closed"`    // given up
	Collected uint64 `json:"collected"` // of these, taken by the garbage collector
	// Zombies were given up more than two collections ago and are still there:
	// something holds them.
	Zombies uint64 `json:"zombies"`
}

// Stations is what an Account asks of a gateway. Any field may be nil.
type Stations struct {
	// Connections counts the stations by security profile ("1", "2", "3").
	Connections func() map[string]int
	// Sockets says whose each socket of this process is: of[fd] is 0 if the
	// descriptor is no station's, otherwise the place of its cohort in names
	// plus one.
	Sockets func() (of []uint16, names []Cohort)
	// Census counts the objects of connections that ended.
	Census func() []Retired
}
