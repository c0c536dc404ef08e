package authority

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/pki"
)

// maxPublished is how many requests for revocation lists and OCSP responses are
// answered at a time; more get 503, or the OCSP answer to try later.
const maxPublished = 32

// publishedTime is how long one request may take.
const publishedTime = 30 * time.Second

// Published serves, without authentication, what everybody may know about our
// CAs and their certificates:
//
//	GET  /pki/crl/NAME.crl   revocation list, DER; NAME as for CRL
//	GET  /pki/ca/NAME.crt    a CA's certificate, DER
//	GET  /pki/ca.crt         what stations trust, PEM
//	POST /pki/ocsp           OCSP; also GET /pki/ocsp/BASE64 (RFC 6960 appendix A)
//
// Lists and responses carry their own signature, so plain HTTP is the usual way:
// a client that had to verify TLS in order to verify certificates would go round
// in circles.
func (a *Authority) Published() http.Handler {
	running := make(chan struct{}, maxPublished)
	bounded := func(serve func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case running <- struct{}{}:
				defer func() { <-running }()
				c := http.NewResponseController(w) // a client that is slow must not hold its place
				c.SetReadDeadline(time.Now().Add(publishedTime))
				c.SetWriteDeadline(time.Now().Add(publishedTime))
				serve(w, r)
				c.Flush()
				c.SetWriteDeadline(time.Time{})
			default:
				w.Header().Set("Retry-After", "5")
				http.Error(w, "too many requests are being answered", http.StatusServiceUnavailable)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pki/crl/{file}", bounded(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutSuffix(r.PathValue("file"), ".crl")
		if !ok {
			http.NotFound(w, r)
			return
		}
		der, next, err := a.CRL(r.Context(), name)
		a.write(w, r, "application/pkix-crl", der, next, err)
	}))
	mux.HandleFunc("GET /pki/ca/{file}", bounded(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutSuffix(r.PathValue("file"), ".crt")
		if !ok {
			http.NotFound(w, r)
			return
		}
		der, err := a.caCertificate(r.Context(), name)
		a.write(w, r, "application/pkix-cert", der, time.Time{}, err)
	}))
	mux.HandleFunc("GET /pki/ca.crt", bounded(func(w http.ResponseWriter, r *http.Request) {
		h, err := a.hierarchy(r.Context())
		var text string
		if err == nil {
			text = pki.EncodeCertificates(h.roots()...)
		}
		a.write(w, r, "application/x-pem-file", []byte(text), time.Time{}, err)
	}))
	mux.HandleFunc("POST /pki/ocsp", bounded(func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pki.MaxOCSPRequest))
		if err != nil {
			http.Error(w, "an OCSP request has at most 4096 bytes", http.StatusRequestEntityTooLarge)
			return
		}
		a.writeOCSP(w, r, request)
	}))
	mux.HandleFunc("GET /pki/ocsp/{request...}", bounded(func(w http.ResponseWriter, r *http.Request) {
		// The base64 may hold slashes; clients escape them or do not.
		text, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/pki/ocsp/"))
		var request []byte
		if err == nil {
			request, err = base64.StdEncoding.DecodeString(text)
		}
		if err != nil {
			request = nil // answered as malformed
		}
		a.writeOCSP(w, r, request)
	}))
	return mux
}

func (a *Authority) writeOCSP(w http.ResponseWriter, r *http.Request, request []byte) {
	der, until := a.OCSP(r.Context(), request)
	a.write(w, r, "application/ocsp-response", der, until, nil)
}

// write sends a body that may be cached until its time is over.
func (a *Authority) write(w http.ResponseWriter, r *http.Request, kind string, body []byte, until time.Time, err error) {
	if errors.Is(err, ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		a.log.Error("publish", "path", r.URL.Path, "err", err)
		http.Error(w, "not available now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if left := until.Sub(a.cfg.Now()); left > 0 {
		// Half of it, so that a copy is never the last good one.
		w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(left.Seconds()/2)))
	}
	w.Write(body) // the client may be gone
}
