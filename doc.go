// Package holdfast is the root of the module. It holds no code: the listing of
// its folders is the architecture, and deps_test.go keeps it that way. Start
// reading at README.md, then docs/architecture.md.
package holdfast
