package gateway

import "holdfast/ws"

// Why the gateway ends a connection; ws has the reasons of the wire.
const (
	closeReplaced     ws.CloseReason = "replaced"     // the station connected again
	closeDrain        ws.CloseReason = "drain"        // this gateway is shutting down
	closeAway         ws.CloseReason = "csms_away"    // bus or csms away for longer than Config.AwayTime
	closeUnresponsive ws.CloseReason = "unresponsive" // pongs, but answers no CALL
	closeProtocol     ws.CloseReason = "subprotocol"  // nothing in common
	closeBus          ws.CloseReason = "bus"          // the bus did not take the station
	CloseOperator     ws.CloseReason = "operator"     // an operator asked for it
	CloseRevoked      ws.CloseReason = "revoked"      // blocked, removed or its certificate revoked
	CloseSerial       ws.CloseReason = "wrong_serial" // BootNotification has another serial number than the certificate
	CloseChanged      ws.CloseReason = "changed"      // its security profile or version pin changed
)

// Close codes: RFC 6455 §7.4.1, and one of the private range.
const (
	closeGoingAway     = 1001
	closePolicy        = 1008
	closeProtocolError = 1002
	closeTryAgain      = 1013
	closeTakenOver     = 4001 // replaced by a newer connection of the same station
)

// reasons are all close reasons: a closed list of metric labels.
var reasons = append([]ws.CloseReason{closeReplaced, closeDrain, closeAway, closeUnresponsive, closeProtocol, closeBus,
	CloseOperator, CloseRevoked, CloseSerial, CloseChanged}, ws.Reasons...)
