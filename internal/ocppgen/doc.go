// Command ocppgen writes the message types of OCPP 1.6 (with the security
// extension), 2.0.1 and 2.1 from the OCPP JSON schemas: ocpp/v16, ocpp/v201 and
// ocpp/v21. It takes names, types, limits and enumerations, and no prose.
//
//	go run ./internal/ocppgen          fetch the schemas and write
//	go run ./internal/ocppgen -check   fetch, list where the sources differ, compare with the files
//
// The schemas are in two npm packages that it fetches, compares field by field
// and throws away again. What they lack or disagree on is settled in
// decisions.go; docs/ocpp-types.md says why.
//
// How the rules are written into struct tags, and what checks them, is in
// package ocpp.
package main
