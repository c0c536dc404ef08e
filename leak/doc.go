// Package leak decides whether a process leaks memory, in which class of it,
// for which kind of connection, how fast and when it will hurt.
//
// It is fed with numbers and opens no connections: a Detector takes samples of
// one process and gives states, a Contrast takes blocks of many processes and
// names the cohort of connections that leaks, an Evidence keeps profiles of the
// moment of a verdict and Diff says which stacks grew between them. The
// statistics that they rest on are exported, each in a file of its own.
//
// Nothing here starts a goroutine; whoever feeds a Detector owns it.
package leak
