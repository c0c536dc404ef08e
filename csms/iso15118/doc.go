// Package iso15118 asks others on behalf of stations that charge by ISO 15118:
// the provider of contract certificates, and OCSP responders. What it asks is
// bounded in number, time and size, and which hosts is the operator's choice.
package iso15118
