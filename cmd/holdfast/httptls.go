package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// certificateFiles are a server certificate and its key in two files, which are
// read again when they change.
type certificateFiles struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	read    [2]time.Time // modification times of what pair is
	looked  time.Time
	failing bool
}

// certificateLook is the least time between two looks at the files.
const certificateLook = 10 * time.Second

// listenTLS wraps l in TLS with a certificate from files; without any, it is l.
func listenTLS(l net.Listener, flag, cert, key string, log *slog.Logger) (net.Listener, error) {
	if cert == "" && key == "" {
		if !loopbackListener(l) {
			log.Warn("tokens cross the network in clear text: give a certificate, or put a proxy that ends TLS before it", "address", l.Addr().String(), "flag", "--"+flag)
		}
		return l, nil
	}
	f := &certificateFiles{cert: cert, key: key, log: log}
	if err := f.load(); err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: f.get}), nil
}

func loopbackListener(l net.Listener) bool {
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

func (f *certificateFiles) load() error {
	var read [2]time.Time
	for i, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("certificate of the operator API: %w (see --api-cert and --api-key)", err)
		}
		read[i] = info.ModTime()
	}
	if f.pair != nil && read == f.read {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("certificate of the operator API: %s with %s: %w (--api-cert and --api-key must be PEM and belong together)", f.cert, f.key, err)
	}
	f.pair, f.read = &pair, read
	return nil
}

// get returns the certificate; files that cannot be read leave the last good one.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= certificateLook {
		f.looked = now
		err := f.load()
		if err != nil && !f.failing {
			f.log.Error("certificate files could not be read again", "err", err)
		}
		f.failing = err != nil
	}
	return f.pair, nil
}
