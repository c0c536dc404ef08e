// Command bench measures Holdfast beside other servers, on one machine, in one
// run, with one client: bytes and CPU per mutual-TLS connection (bench memory),
// and what a running Holdfast answers per second and how fast (bench speed).
//
// Every server and every client is a process of its own: this binary executes
// itself. Everything stays on 127.0.0.0/8. It reads /proc and runs on Linux.
//
// The other servers are written the way their libraries' documentation shows;
// they echo, and do nothing else. This module is apart from Holdfast's so that
// Holdfast does not depend on them.
package main
