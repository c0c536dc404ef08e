package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"holdfast/api"
)

// oidcFlags name the OpenID Connect provider of the people who use the operator
// API.
type oidcFlags struct {
	OIDCIssuer    string            `name:"oidc-issuer" help:"URL of the OpenID Connect provider whose people may use the operator API." placeholder:"URL"`
	OIDCClientID  string            `name:"oidc-client-id" help:"What Holdfast is called there: a public client with the device flow; tokens must be for it (claim aud)." placeholder:"ID"`
	OIDCAudiences []string          `name:"oidc-audiences" help:"Further values of the claim aud that are good." placeholder:"AUD"`
	OIDCRoleClaim string            `name:"oidc-role-claim" help:"Claim with roles or groups, or a path of claims such as realm_access.roles." default:"roles"`
	OIDCRoles     map[string]string `name:"oidc-roles" help:"Values of that claim that give a role, several with a bar: admin=platform;operate=noc|support. Default: the roles' own names: read, operate, admin." placeholder:"ROLE=VALUE"`
	OIDCNameClaim string            `name:"oidc-name-claim" help:"Claim that the audit record cites. Default: a verified email, else preferred_username, else sub." placeholder:"CLAIM"`
	OIDCScopes    []string          `name:"oidc-scopes" help:"Scopes to ask for at the login." default:"openid,profile,email,offline_access"`
	OIDCCA        string            `name:"oidc-ca" help:"PEM file with the CA of the provider's certificate. Default: the system's." type:"path" placeholder:"FILE"`
}

func (f *oidcFlags) config() (api.OIDC, error) {
	cfg := api.OIDC{Issuer: f.OIDCIssuer, ClientID: f.OIDCClientID, Audiences: f.OIDCAudiences, RoleClaim: f.OIDCRoleClaim, NameClaim: f.OIDCNameClaim, Scopes: f.OIDCScopes}
	if f.OIDCIssuer == "" {
		return api.OIDC{}, nil
	}
	if len(f.OIDCRoles) > 0 {
		cfg.Roles = make(map[api.Role][]string)
	}
	for role, value := range f.OIDCRoles {
		if !api.Role(role).Valid() {
			return cfg, &usageError{fmt.Sprintf("--oidc-roles %s=%s: the roles are read, operate and admin", role, value)}
		}
		cfg.Roles[api.Role(role)] = strings.Split(value, "|")
	}
	if f.OIDCCA != "" {
		text, err := os.ReadFile(f.OIDCCA)
		if err != nil {
			return cfg, fmt.Errorf("CA of the OIDC provider: %w (see --oidc-ca)", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return cfg, fmt.Errorf("CA of the OIDC provider: %s holds no certificate as PEM (see --oidc-ca)", f.OIDCCA)
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
		cfg.Client = &http.Client{Transport: t}
	}
	return cfg, nil
}
