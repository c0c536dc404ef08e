// Package pki is the X.509 of Holdfast without I/O: certificate profiles as
// data, checks of signing requests, signing, chains, revocation lists, OCSP, PEM.
//
// Everything is a function of its arguments: times are parameters, keys are
// crypto.Signers (which may live in an HSM), nothing is stored and nothing is
// logged. It starts no goroutines. Deciding who gets a certificate is the
// authority's business.
//
// Signatures are SHA-256 with ECDSA or with RSA PKCS#1 v1.5: OCPP advises
// RSA-PSS, but many stations' TLS stacks verify only the older form
// (CA.PSS switches).
package pki
