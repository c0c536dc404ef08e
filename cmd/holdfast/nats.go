package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"holdfast/bus"
)

type natsCommands struct {
	Credentials natsCredentials `cmd:"" help:"Make the roles' credentials for an external NATS, and the configuration that it includes."`
}

type natsCredentials struct {
	Out  string `help:"Directory for ROLE.creds and authorization.conf. Files that are there are kept." type:"path" default:"./nats-credentials" placeholder:"DIR"`
	Role string `help:"Make only credentials of this role: gateway, authority, csms, or all for holdfast all." enum:",gateway,authority,csms,all" default:""`
	Name string `help:"Name of the file with --role, to give one process its own or to replace what others know. Default: the role." placeholder:"NAME"`
}

// Run makes what is missing. authorization.conf is written anew from all files
// of the directory: deleting one and running this again takes it out.
func (c *natsCredentials) Run(e *env) error {
	if c.Name != "" && c.Role == "" {
		return &usageError{"--name: give --role, too"}
	}
	wanted := map[string]bus.Role{}
	switch {
	case c.Role == "":
		for _, role := range []bus.Role{bus.RoleGateway, bus.RoleAuthority, bus.RoleCSMS} {
			wanted[string(role)] = role
		}
	case c.Name == "":
		wanted[c.Role] = bus.Role(c.Role)
	default:
		wanted[c.Name] = bus.Role(c.Role)
	}
	for name, role := range wanted {
		if err := bus.MakeCredentials(c.Out, name, role); err != nil {
			return err
		}
	}
	authorization, err := bus.WriteAuthorization(c.Out)
	if err != nil {
		return err
	}
	users, err := bus.Users(c.Out)
	if err != nil {
		return err
	}
	result := struct {
		Authorization string     `json:"authorization"`
		Users         []bus.User `json:"users"`
	}{authorization, users}
	return e.print(result, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "ROLE\tPUBLIC KEY\tFILE")
		for _, u := range users {
			fmt.Fprintf(tw, "%s\t%s\t%s\n", u.Role, u.Key, u.File)
		}
		tw.Flush()
		fmt.Fprintf(w, "\nThe NATS servers include %s; each process gets its role's file with --nats-credentials.\n", authorization)
	})
}
