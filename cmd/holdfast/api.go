package main

import (
	"context"
	"fmt"
	"path/filepath"

	"holdfast/api"
	"holdfast/authority"
	"holdfast/csms"
)

// startAPI serves operators. DATA/token holds the first admin token.
func (p *process) startAPI(f *csmsFlags, db *databaseFlags, core *csms.CSMS, client *authority.Client) error {
	people, err := f.oidcFlags.config()
	if err != nil {
		return err
	}
	token, err := ensureToken(filepath.Join(db.Data, "token"))
	if err != nil {
		return err
	}
	a, err := api.New(api.Config{
		CSMS: core, Authority: newAuthorityOfAPI(client), Messages: messagesOfAPI{p.bus}, Events: liveEvents(p.bus),
		Disconnect: disconnectBy(p.bus, core), Invalid: invalidRequest, Upstream: upstreamFailed, AdminToken: token, OIDC: people, Version: version, Logger: p.log,
	})
	if err != nil {
		return fmt.Errorf("operator API: %w", err)
	}
	l, err := listen("listen-api", f.ListenAPI)
	if err != nil {
		return err
	}
	if l, err = listenTLS(l, "api-cert", f.APICert, f.APIKey, p.log); err != nil {
		return err
	}
	p.admin.register(a.Collectors())
	p.services.start("operator API's events", a.Run, nil)
	p.services.start("operator API", func(ctx context.Context) error { return serveHTTP(ctx, l, a) }, nil)
	p.log.Info("operator API", "address", l.Addr().String(), "token", filepath.Join(db.Data, "token"))
	return nil
}
