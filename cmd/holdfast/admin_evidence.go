package main

import (
	"net/http"

	"holdfast/leak"
)

// serveEvidence lets operators fetch the profiles of leaks, also from gateways
// without a disk.
func (a *admin) serveEvidence(mux *http.ServeMux) {
	with := func(f func(w http.ResponseWriter, r *http.Request, e *leak.Evidence)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			a.mu.Lock()
			e := a.evidence
			a.mu.Unlock()
			if e == nil {
				writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": "starting"})
				return
			}
			f(w, r, e)
		}
	}
	mux.HandleFunc("GET /debug/leak/evidence", with(func(w http.ResponseWriter, _ *http.Request, e *leak.Evidence) {
		writeJSON(w, http.StatusOK, e.List())
	}))
	mux.HandleFunc("GET /debug/leak/evidence/{bundle}/{file}", with(func(w http.ResponseWriter, r *http.Request, e *leak.Evidence) {
		data, err := e.File(r.PathValue("bundle"), r.PathValue("file"))
		if err != nil {
			writeJSON(w, http.StatusNotFound, map[string]any{"error": "no such file; /debug/leak/evidence lists all"})
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(data)
	}))
	mux.HandleFunc("GET /debug/leak/findings/{verdict}", with(func(w http.ResponseWriter, r *http.Request, e *leak.Evidence) {
		f, err := e.Findings(r.PathValue("verdict"))
		if err != nil {
			writeJSON(w, http.StatusNotFound, map[string]any{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, f)
	}))
}
