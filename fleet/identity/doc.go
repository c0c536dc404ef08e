// Package identity gives simulated stations their names and credentials: names
// from a template, certificates minted with a CA key that the user has, or
// whatever lies in a folder. It talks to no server; stations that Holdfast
// registers get their credentials from its API instead.
//
// A fleet's identities are filled by any number of goroutines, which all have
// ended when Fill returns. Keys and passwords stay in the identities.
package identity
