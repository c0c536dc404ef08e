// Package report tells what a run of a scenario showed: it gathers latencies and
// samples while the run goes, judges the assertions, and writes the result as
// lines for a terminal, JSON, one HTML page, and JUnit XML.
//
// It starts no goroutines and opens no files; whoever uses it calls Sample about
// once a second.
package report
