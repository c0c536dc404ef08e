package ws

// peerState is what a connection's peer did before its opening.
type peerState uint8

const (
	peerSilent peerState = iota // connected, and said nothing yet
	peerSpoke
	peerLeft // closed or reset
)
