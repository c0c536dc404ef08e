package csms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// The steps by which a station gets a certificate (OCPP 2.0.1 A02, A03; the
// security white paper of 1.6). A request that the station sends by itself begins
// at stepSign.
const (
	stepLimits  = "limits"  // what the station can take, and whose name it puts into its request
	stepRequest = "request" // the station is asked for a signing request
	stepSign    = "sign"    // the authority checks and signs it
	stepDeliver = "deliver" // the station gets the certificate
	stepUse     = "use"     // and connects with it
)

const (
	// defaultChainLimit is the longest chain of a station that does not tell its
	// limit, in characters: that of the schema.
	defaultChainLimit = 10_000
	// signPause lets the answer to SignCertificate reach the station before
	// CertificateSigned does.
	signPause = time.Second
	// maxTriggers is how often a station is asked for a signing request.
	maxTriggers = 3
)

// renewCertificate gives a station a new certificate. The old one is good until
// the new one was used.
var renewCertificate = &kind{
	first: stepLimits,
	steps: map[string]stepFunc{
		stepLimits:  readLimits(stepRequest),
		stepRequest: requestCertificate,
		stepSign:    signCertificate,
		stepDeliver: deliverCertificate(stepUse),
		stepUse:     useCertificate,
	},
	check: func(_ *CSMS, p *OperationParams) error {
		if *p != (OperationParams{}) {
			return &InvalidOperation{"params", "renew-certificate takes none"}
		}
		return nil
	},
}

// readLimits reads the longest chain that the station takes, and sets the
// organization that it puts into its request.
func readLimits(next string) stepFunc {
	return func(ctx context.Context, w *work) outcome {
		operator, err := w.c.authority.Operator(ctx)
		if err != nil {
			return w.authorityFault("operator's name", err)
		}
		values, stop, ok := w.readSettings(ctx, settingChainLimit, settingOrganization)
		if !ok && stop.status != store.OperationFailed && !stop.try {
			return stop // it is away
		}
		detail := w.takeChainLimit(values)
		if have, known := values[settingOrganization]; known && have != operator {
			status, stop, ok := w.writeSetting(ctx, settingOrganization, operator)
			if !ok && stop.status != store.OperationFailed && !stop.try {
				return stop
			}
			if ok {
				detail += "; organization set to " + operator + ": " + status
			} else {
				detail += "; organization not set: " + stop.detail
			}
		}
		return goOn(next, "%s", detail)
	}
}

// takeChainLimit keeps the limit among a station's settings, and says it.
func (w *work) takeChainLimit(values map[setting]string) string {
	if n := atoi(values[settingChainLimit]); n > 0 {
		w.memory.ChainLimit = n
		return fmt.Sprintf("takes a chain of up to %d characters", n)
	}
	w.memory.ChainLimit = defaultChainLimit
	return fmt.Sprintf("a chain of up to %d characters is assumed", defaultChainLimit)
}

// requestCertificate asks the station for a signing request and waits for it.
func requestCertificate(ctx context.Context, w *work) outcome {
	if len(w.Request) > 0 {
		return goOn(stepSign, "the station sent its certificate signing request")
	}
	const waits = "waits for the station's certificate signing request"
	patience := w.c.settings.OperationAnswer
	if asked := w.memory.TriggeredAt; !asked.IsZero() && w.station.Connected && w.c.now().Sub(asked) < patience {
		return await(patience-w.c.now().Sub(asked), waits)
	}
	if !w.station.Connected {
		return offline()
	}
	if w.memory.Rounds >= maxTriggers {
		return failed("the station was asked %d times for a certificate signing request and sent none", maxTriggers)
	}
	action, payload := "ExtendedTriggerMessage", triggerCertificate16
	if w.station.Version.Is2x() {
		action, payload = "TriggerMessage", triggerCertificate2x
	}
	var answer statusOnly
	k, stop, unknown, ok := w.ask(ctx, action, &payload, &answer)
	switch {
	case !ok && !unknown:
		return stop
	case ok && answer.Status != "Accepted":
		return failed("%s for a certificate signing request: the station answers %s", action, answer.Status).by(k)
	}
	w.memory.TriggeredAt = w.c.now()
	w.memory.Rounds++
	return await(patience, waits).by(k)
}

// signCertificate has the authority check the request and sign it.
func signCertificate(ctx context.Context, w *work) outcome {
	var r signingRequest
	if err := json.Unmarshal(w.Request, &r); err != nil {
		return failed("the station's request is damaged: %v", err)
	}
	cert, err := w.c.authority.SignRequest(ctx, w.By, w.Operation.Station, r.CSR)
	if err != nil {
		return w.authorityFault("certificate signing request", err)
	}
	w.memory.Signed, w.memory.Fingerprint, w.memory.Unknown = digestOf(r.CSR), cert.Fingerprint, false
	return goOn(stepDeliver, "certificate %s, valid to %s", cert.Serial, cert.NotAfter.UTC().Format(time.RFC3339))
}

func digestOf(csr string) string {
	sum := sha256.Sum256([]byte(csr))
	return hex.EncodeToString(sum[:])
}

// deliverCertificate sends the chain; next follows when the station has it.
func deliverCertificate(next string) stepFunc {
	return func(ctx context.Context, w *work) outcome {
		var r signingRequest
		if err := json.Unmarshal(w.Request, &r); err != nil {
			return failed("the station's request is damaged: %v", err)
		}
		if digestOf(r.CSR) != w.memory.Signed {
			return goOn(stepSign, "the station made another key and sent another request")
		}
		if early := signPause - w.c.now().Sub(r.At); early > 0 && early <= signPause {
			return await(early, "the answer to the station's request goes first")
		}
		if !w.station.Connected {
			return offline()
		}
		if w.memory.ChainLimit == 0 { // the request came unasked
			values, stop, ok := w.readSettings(ctx, settingChainLimit)
			if !ok && stop.status != store.OperationFailed && !stop.try {
				return stop
			}
			w.takeChainLimit(values)
		}
		cert, err := w.c.authority.Certificate(ctx, w.memory.Fingerprint)
		if err != nil {
			return w.authorityFault("certificate "+w.memory.Fingerprint, err)
		}
		chain, cut := fitChain(cert.PEM, w.memory.ChainLimit)
		if chain == "" {
			return failed("the certificate has %d characters, the station takes %d", len(leafOf(cert.PEM)), w.memory.ChainLimit)
		}
		protocol, ok := w.c.protocols[w.station.Version]
		if !ok || protocol.CertificateSigned == nil {
			return failed("OCPP %q has no CertificateSigned", w.station.Version)
		}
		if w.memory.Unknown && w.returned() { // it may have come back with the new one
			if cert, err := w.c.authority.Certificate(ctx, w.memory.Fingerprint); err == nil && !cert.FirstUsed.IsZero() {
				return goOn(next, "the station has it: it connected with it")
			}
		}
		before := w.memory.Unknown
		w.memory.Unknown = true
		w.told()
		if err := w.keep(ctx); err != nil {
			return await(w.c.settings.OperationRetry, "record: %v", err)
		}
		var answer statusOnly
		k, stop, unknown, ok := w.ask(ctx, "CertificateSigned", protocol.CertificateSigned(SignedCertificate{Chain: chain, Type: r.Type, RequestID: r.RequestID}), &answer)
		switch {
		case !ok:
			w.memory.Unknown = before || unknown
			return stop
		case answer.Status != "Accepted" && !before:
			return failed("the station answers CertificateSigned with %s: the old certificate stays good", answer.Status).by(k)
		case answer.Status != "Accepted":
			// It has no open request any more if it took the certificate the first time.
			return goOn(next, "sent again after an unknown outcome: the station answers %s", answer.Status).by(k)
		}
		w.memory.Unknown = false
		if cut {
			return goOn(next, "the station has it, without the issuing CA, which is beyond its limit of %d characters", w.memory.ChainLimit).by(k)
		}
		return goOn(next, "the station has it").by(k)
	}
}

// fitChain returns the chain, or only its first certificate if the chain is
// longer than limit; empty if that is, too. Gateways know the CA between.
func fitChain(chain string, limit int) (fit string, cut bool) {
	if chain = strings.TrimSpace(chain) + "\n"; len(chain) <= limit {
		return chain, false
	}
	if leaf := leafOf(chain); len(leaf) <= limit {
		return leaf, true
	}
	return "", false
}

func leafOf(chain string) string {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return ""
	}
	return string(pem.EncodeToMemory(block))
}

// useCertificate waits until the station was admitted with the new certificate:
// from then on the old one is superseded.
func useCertificate(ctx context.Context, w *work) outcome {
	cert, err := w.c.authority.Certificate(ctx, w.memory.Fingerprint)
	if err != nil {
		return w.authorityFault("certificate "+w.memory.Fingerprint, err)
	}
	switch {
	case !cert.FirstUsed.IsZero():
		return done("the station connected with certificate %s; the one before is superseded", cert.Serial)
	case cert.Status == store.StatusRevoked:
		return failed("certificate %s was revoked before the station used it", cert.Serial)
	case w.station.Connected && w.station.Profile != ocpp.ProfileMTLS:
		return done("the station keeps certificate %s for security profile 3", cert.Serial)
	case !w.returned():
		return w.comeBack(ctx, "waits for the station to connect with its new certificate")
	case !w.settled():
		return await(w.c.settings.OperationUse, "the station came back with its old certificate; it may still change")
	}
	return failed("the station came back with its old certificate, which stays good%s", w.refusal(ctx))
}

// errDamaged: PEM that holds no certificate.
var errDamaged = errors.New("not a PEM certificate")
