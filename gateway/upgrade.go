package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"holdfast/ocpp"
	"holdfast/ws"
)

// endpoint is the port of one security profile.
func (g *Gateway) endpoint(profile ocpp.SecurityProfile) ws.Endpoint {
	e := ws.Endpoint{
		Label:      profile.Label(),
		TrustProxy: g.cfg.TrustProxy,
		Upgrade: func(ctx context.Context, r *ws.Request) ws.Response {
			return g.upgrade(ctx, r, profile)
		},
		Failed: func(remote netip.AddrPort, err error) { g.handshakeFailed(profile, remote, err) },
	}
	if profile != ocpp.ProfilePlain {
		e.TLS = g.tls.config(profile)
	}
	return e
}

// upgrade answers one upgrade request. The order of the checks is: can anybody
// be served, path, then what the authority checks (identity, profile,
// credentials), then the subprotocol.
func (g *Gateway) upgrade(ctx context.Context, r *ws.Request, profile ocpp.SecurityProfile) ws.Response {
	id, err := ocpp.ParseStationID(r.Path)
	if err != nil {
		d := ocpp.Decision{Reason: ocpp.ReasonNoIdentity, Detail: err.Error()}
		g.note(ocpp.Credentials{Profile: profile, Remote: r.Remote}, d)
		return g.refuse(r, profile, "", d)
	}
	if g.draining.Load() {
		return g.refuse(r, profile, id, ocpp.Decision{Reason: ocpp.ReasonUnavailable, Detail: "draining"})
	}
	if away := g.bus.Load(); away != nil {
		d := ocpp.Decision{Reason: ocpp.ReasonUnavailable, Detail: (*away).Error()}
		g.note(ocpp.Credentials{Station: id, Profile: profile, Remote: r.Remote}, d)
		return g.refuse(r, profile, id, d)
	}
	cred := ocpp.Credentials{Station: id, Profile: profile, Remote: r.Remote, Subprotocol: r.Subprotocols, Basic: basic(r.Header)}
	var leaf [16]byte
	if r.TLS != nil && profile == ocpp.ProfileMTLS {
		for _, cert := range r.TLS.PeerCertificates {
			cred.Chain = append(cred.Chain, cert.Raw)
		}
		if len(cred.Chain) > 0 {
			sum := sha256.Sum256(cred.Chain[0])
			copy(leaf[:], sum[:])
		}
	}
	asked := time.Now().UnixMicro()
	d, err := g.admit.decide(ctx, cred)
	if err != nil {
		d = ocpp.Decision{Reason: ocpp.ReasonUnavailable, Detail: err.Error()}
		g.note(ocpp.Credentials{Station: id, Profile: profile, Remote: r.Remote}, d)
		return g.refuse(r, profile, id, d)
	}
	if !d.Allowed {
		return g.refuse(r, profile, id, d)
	}
	known := ocpp.Credentials{Station: d.Station, Profile: profile, Remote: r.Remote, Subprotocol: r.Subprotocols}
	if wait, first := g.often.add(d.Station.Fold(), time.Now()); wait > 0 {
		d.Reason, d.Detail = ocpp.ReasonTooOften, fmt.Sprintf("more than %.0f connections at once and %g per minute after that; refused for %s", g.cfg.ConnectRate*connectBurst, g.cfg.ConnectRate, wait.Round(time.Second))
		if first {
			g.note(known, d)
		}
		resp := g.refuse(r, profile, d.Station, d)
		resp.Header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		return resp
	}
	name, version, ok := choose(r.Subprotocols, d)
	if !ok {
		d.Reason = ocpp.ReasonNoSubprotocol
		d.Detail = "offered: " + strings.Join(r.Subprotocols, ", ")
		if len(r.Subprotocols) == 0 {
			d.Detail = "offered none: quirk assume_v16 takes that for OCPP 1.6"
		}
		if d.Pin != "" {
			d.Detail += "; pinned: " + string(d.Pin)
		}
		resp := g.refuse(r, profile, d.Station, d)
		g.note(known, d)
		if g.cfg.RefuseSubprotocol {
			return resp
		}
		// OCPP-J 1.6 §3.2, 2.x part 4 §3.2: finish the handshake without the header, then close.
		return ws.Response{Status: http.StatusSwitchingProtocols, CloseCode: closeProtocolError, CloseText: "no common subprotocol", Session: unspoken{}}
	}
	c := &conn{
		g: g, id: d.Station, version: codeOf(version), profile: profile, leaf: leaf, since: asked,
		hold: inMilliseconds(g.cfg.HoldCalls), gap: inMilliseconds(time.Duration(d.Quirks.CallGap) * time.Millisecond),
	}
	if d.Quirks.HoldCalls > 0 {
		c.hold = inMilliseconds(time.Duration(d.Quirks.HoldCalls) * time.Second)
	}
	g.metrics.upgrades.WithLabelValues(profile.Label(), "admitted").Inc()
	g.cfg.Logger.Info("connected", "station", d.Station, "profile", profile.Label(), "version", version, "remote", r.Remote.Addr().Unmap().String())
	return ws.Response{
		Status: http.StatusSwitchingProtocols, Subprotocol: name, Session: c,
		// Required of a CSMS for 2.x (part 4 §3.4); 1.6 stations rarely offer it and some break.
		Deflate: version.Is2x() && !d.Quirks.NoCompression,
		Ping: ws.Ping{
			Off: d.Quirks.Ping == "off", Require: d.Quirks.Ping == "require",
			Interval: time.Duration(d.Quirks.PingInterval) * time.Second,
		},
	}
}

// unspoken is the session of a connection that is closed at once.
type unspoken struct{}

func (unspoken) Opened(*ws.Conn)                 {}
func (unspoken) Message(*ws.Conn, []byte)        {}
func (unspoken) Closed(*ws.Conn, ws.CloseReason) {}

// choose picks the first offered version that is supported and not ruled out,
// and the name to answer with: as the station spelled it.
func choose(offered []string, d ocpp.Decision) (name string, v ocpp.Version, ok bool) {
	for _, name := range offered {
		if v, ok := ocpp.VersionOf(name); ok && (d.Pin == "" || d.Pin == v) {
			return name, v, true
		}
	}
	if len(offered) == 0 && d.Quirks.AssumeV16 && (d.Pin == "" || d.Pin == ocpp.V16) {
		return "", ocpp.V16, true // a client must fail if it is answered with a name it did not offer
	}
	return "", "", false
}

// basic returns the decoded Basic credentials; nil if there are none.
func basic(h http.Header) []byte {
	scheme, value, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "basic") {
		return nil
	}
	value = strings.TrimRight(strings.TrimSpace(value), "=")
	decoded, err := base64.RawStdEncoding.DecodeString(value)
	if err != nil {
		return nil
	}
	return decoded
}

// refuse counts and logs a refusal and builds its HTTP answer. The station is
// told as little as it needs; the operator reads the reason in the log, the
// metric and the station's attempts.
func (g *Gateway) refuse(r *ws.Request, profile ocpp.SecurityProfile, id ocpp.StationID, d ocpp.Decision) ws.Response {
	g.metrics.upgrades.WithLabelValues(profile.Label(), "refused").Inc()
	g.metrics.rejections.WithLabelValues(profile.Label(), string(d.Reason)).Inc()
	if g.refused.Allow() {
		g.cfg.Logger.Warn("refused", "station", id, "profile", profile.Label(), "reason", d.Reason, "detail", d.Detail, "remote", r.Remote.Addr().Unmap().String())
	} else {
		g.metrics.unlogged.Inc()
	}
	answer := func(status int, body string, header ...string) ws.Response {
		h := make(http.Header, len(header)/2)
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return ws.Response{Status: status, Header: h, Body: body}
	}
	unauthorized := func() ws.Response {
		if profile == ocpp.ProfileMTLS {
			return answer(http.StatusUnauthorized, "the certificate is not this station's")
		}
		return answer(http.StatusUnauthorized, "wrong credentials", "WWW-Authenticate", `Basic realm="ocpp", charset="UTF-8"`)
	}
	switch d.Reason {
	case ocpp.ReasonNoIdentity:
		return answer(http.StatusNotFound, "no station identity in the path: connect to /ocpp/{identity}")
	case ocpp.ReasonUnknownStation:
		if g.cfg.HideUnknown {
			return unauthorized()
		}
		return answer(http.StatusNotFound, "unknown station")
	case ocpp.ReasonBlocked:
		return answer(http.StatusForbidden, "station is blocked")
	case ocpp.ReasonWrongProfile:
		return answer(http.StatusForbidden, "security profile is not the registered one")
	case ocpp.ReasonLockedOut, ocpp.ReasonOverload, ocpp.ReasonTooOften:
		return answer(http.StatusTooManyRequests, "too many attempts", "Retry-After", "60")
	case ocpp.ReasonUnavailable:
		return answer(http.StatusServiceUnavailable, "try again later", "Retry-After", "10")
	case ocpp.ReasonNoSubprotocol, ocpp.ReasonBadRequest:
		return answer(http.StatusBadRequest, "no common subprotocol")
	}
	return unauthorized()
}

// note tells of a refusal that the authority does not know of.
func (g *Gateway) note(c ocpp.Credentials, d ocpp.Decision) {
	if g.cfg.Refused != nil {
		g.cfg.Refused(c, d.Reason, d.Detail)
	}
}

// handshakeFailed counts, logs and notes a TLS handshake that did not come about.
func (g *Gateway) handshakeFailed(profile ocpp.SecurityProfile, remote netip.AddrPort, err error) {
	reason := ocpp.ReasonTLS
	subject := ""
	if e, ok := errors.AsType[*certificateError](err); ok {
		reason, subject = e.reason, e.subject
	} else if strings.Contains(err.Error(), "didn't provide a certificate") {
		reason = ocpp.ReasonNoCertificate
	} else if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // the station's alert
		if strings.Contains(op.Err.Error(), "certificate") {
			reason = ocpp.ReasonServerRefused
		}
	} else if !isTLSFault(err) {
		return // ended or timed out: nobody was refused
	}
	g.metrics.rejections.WithLabelValues(profile.Label(), string(reason)).Inc()
	if !g.refused.Allow() {
		g.metrics.unlogged.Inc()
		return
	}
	detail := handshakeDetail(err)
	g.cfg.Logger.Warn("refused", "profile", profile.Label(), "reason", reason, "certificate", subject, "remote", remote.Addr().Unmap().String(), "err", detail)
	g.note(ocpp.Credentials{Serial: subject, Profile: profile, Remote: remote}, ocpp.Decision{Reason: reason, Detail: detail})
}

// handshakeDetail is what an operator reads of a failed handshake: TLS versions
// by name where crypto/tls has numbers.
func handshakeDetail(err error) string {
	text := err.Error()
	before, list, ok := strings.Cut(text, "client offered only unsupported versions: [")
	if !ok {
		return text
	}
	var names []string
	for _, number := range strings.Fields(strings.TrimSuffix(list, "]")) {
		n, err := strconv.ParseUint(number, 16, 16)
		if err != nil {
			return text
		}
		names = append(names, tls.VersionName(uint16(n)))
	}
	return before + "it offers only " + strings.Join(names, ", ") + "; TLS 1.2 is the least"
}

// isTLSFault reports whether the two sides could not agree on TLS.
func isTLSFault(err error) bool {
	_, alert := errors.AsType[tls.AlertError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return alert || record || strings.HasPrefix(err.Error(), "tls:")
}
