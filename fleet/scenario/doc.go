// Package scenario is what a fleet goes through, as data: who there is, when
// they come and go, what befalls them, and what must be true at the end. It
// reads and checks scenario files, makes of a scenario and a seed the sequence
// of what is done to the stations (the plan), and runs a plan on fleets.
//
// It knows no server. Credentials come with the identities, and commands from
// the operator's side go through a function that it is given.
//
// The same scenario, number of stations and seed make the same plan, whatever
// the machine and the server. Run starts goroutines and returns when they have
// ended.
package scenario
