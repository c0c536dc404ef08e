// Package bench measures the leak detector: simulated series, what others'
// detectors make of the same ones, and the score of real runs. Nothing of it runs
// in production. It starts processors' worth of goroutines in RunSynthetic, and
// waits for them.
package bench
