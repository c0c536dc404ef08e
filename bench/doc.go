// Command bench measures Holdfast beside other servers, on one machine, in one
// run, with one client: bytes and CPU per mutual-TLS connection (bench memory),
// what a running Holdfast answers per second and how fast (bench speed), how a
// gateway's stations come back after it was killed (bench storm), and where the
// bytes of a connection are, by part and variant (bench table).
//
// Every server and every client is a process of its own: this binary executes
// itself. Everything stays on 127.0.0.0/8. It reads /proc and runs on Linux.
//
// The other servers are written the way their libraries' documentation shows;
// they echo, and do nothing else. This module is apart from Holdfast's so that
// Holdfast does not depend on them.
package main
