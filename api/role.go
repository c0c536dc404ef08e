package api

import "slices"

// Role is what a caller may do. A role includes those before it.
type Role string

const (
	RoleRead    Role = "read"    // look at everything but tokens
	RoleOperate Role = "operate" // and command stations, block them, administer ID tokens
	RoleAdmin   Role = "admin"   // and register stations, issue and revoke credentials, administer tokens
)

// Roles are all roles, the least first.
var Roles = []Role{RoleRead, RoleOperate, RoleAdmin}

// Valid reports whether r is one of Roles.
func (r Role) Valid() bool { return slices.Contains(Roles, r) }

// includes reports whether somebody with role r may do what needs role needed.
func (r Role) includes(needed Role) bool {
	return r.Valid() && slices.Index(Roles, r) >= slices.Index(Roles, needed)
}

// Caller is who sent a request.
type Caller struct {
	Name string `json:"name" doc:"As the audit record cites it"`
	Role Role   `json:"role" enum:"read,operate,admin"`
}
