// Package bus carries CALLs and events between the processes of Holdfast over
// NATS: an embedded server by default, an external one in production. There is
// one code path: the embedded server is spoken to like an external one, over an
// in-process pipe.
//
// Subjects:
//
//	up.<version>.<action>   CALL of a station, queue group csms, request and reply
//	up.ping                 is a csms there?
//	down.<token>            CALL to a station, heard by the gateway that holds it
//	authority.<method>      requests to the authority, queue group authority
//	gateway.report          gateways, say whom you hold
//	event.<kind>            a gateway says that a station came or went
//	gateway.present         a gateway says that it lives, and whom it holds
//	gateway.disconnect      gateways, let go of a station
//	live.<kind>             what happened, committed, for API and console
//	change.<kind>           what the authority changed, for gateways and its other replicas
//	lockout.change          wrong passwords, from one authority to the others
//	log.<token>             every frame of a station, kept in the stream MESSAGES
//
// A <token> is an escaped identity, for identities may hold dots, stars and
// blanks. NATS interest is the registry of stations: no listener on down.<token>
// means that the station is offline, and the caller knows at once.
//
// The package starts one goroutine per call of Serve… or Listen, which that
// call waits for, and those of the NATS client and server, which Close ends.
package bus
