package main

import (
	"fmt"
	"io"
	"runtime"
)

// version is set by the linker.
var version = "unknown"

type versionCommand struct{}

func (c *versionCommand) Run(e *env) error {
	return e.print(map[string]string{"version": version, "go": runtime.Version()}, func(w io.Writer) {
		fmt.Fprintf(w, "holdfast %s, %s\n", version, runtime.Version())
	})
}
