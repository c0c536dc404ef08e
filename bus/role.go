package bus

// Role is a kind of process on the bus. Its credentials let it do what that kind
// needs, and nothing else.
type Role string

const (
	RoleGateway   Role = "gateway"
	RoleAuthority Role = "authority"
	RoleCSMS      Role = "csms"
	RoleAll       Role = "all" // every role in one process
)

// Roles are all roles.
var Roles = []Role{RoleGateway, RoleAuthority, RoleCSMS, RoleAll}

// inbox is where answers to a process of this role arrive. Each role has its
// own, so that none can listen to the answers that another one gets.
func (r Role) inbox() string { return "_INBOX." + string(r) }

// permissions are the subjects that a role may use.
type permissions struct {
	publish   []string
	subscribe []string
}

// permissionsOf is the security of the bus: who may say and hear what. What is
// not listed is refused by NATS. Whoever serves requests may also answer each of
// them once, within replyTime.
//
// A gateway stands in front of strangers, so it is trusted least: of the
// authority it may ask for decisions, trust, ticket keys and a certificate for
// itself. It cannot issue or revoke, register stations, read the audit record,
// call other gateways' stations, read or delete the message log, or tell others
// that something changed.
var permissionsOf = map[Role]permissions{
	RoleGateway: {
		publish: []string{
			"up.>",
			"authority.admit", "authority.note", "authority.trust", "authority.tickets", "authority.certificate.server",
			"event.connected", "event.disconnected", "gateway.present",
			"leak.block", "leak.verdict",
			"log.>",
		},
		subscribe: []string{"down.*", "event.connected", "change.>", "gateway.report", "gateway.disconnect"},
	},
	// An authority only answers, and tells what changed, other authorities
	// included, and those of wrong passwords.
	RoleAuthority: {
		publish:   []string{"change.>", "lockout.change", "leak.block", "leak.verdict"},
		subscribe: []string{"authority.>", "change.>", "lockout.change"},
	},
	// The csms serves operators, so it may ask the authority for everything that
	// an operator may. Of the message log, it cannot delete or forge a frame.
	RoleCSMS: {
		publish: []string{
			"down.*", "authority.>", "gateway.report", "gateway.disconnect", "live.>",
			"leak.block", "leak.verdict", "leak.fleet",
			"$JS.API.INFO",
			"$JS.API.STREAM.INFO." + logStream, "$JS.API.STREAM.CREATE." + logStream, "$JS.API.STREAM.UPDATE." + logStream,
			"$JS.API.CONSUMER.CREATE." + logStream, "$JS.API.CONSUMER.CREATE." + logStream + ".>",
			"$JS.API.CONSUMER.INFO." + logStream + ".*", "$JS.API.CONSUMER.DELETE." + logStream + ".*",
			"$JS.API.CONSUMER.MSG.NEXT." + logStream + ".*", "$JS.ACK." + logStream + ".>",
		},
		subscribe: []string{"up.>", "event.*", "gateway.present", "live.>", "leak.*"},
	},
	RoleAll: {publish: []string{">"}, subscribe: []string{">"}},
}

// permissions are what is in the table, and the role's own answers.
func (r Role) permissions() permissions {
	p := permissionsOf[r]
	p.subscribe = append([]string{r.inbox() + ".>"}, p.subscribe...)
	return p
}
