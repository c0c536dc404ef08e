package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
	streamType  = "text/event-stream"
)

func humaConfig(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Holdfast", Version: version,
				Description: "The operators' interface of Holdfast, the connectivity platform of a charge point operator. " +
					"Identities in paths are percent-encoded. Times are RFC 3339. Lists have cursors. Errors are problem documents (RFC 9457).",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					security: {Type: "http", Scheme: "bearer", Description: "An API token, or a JWT of the OpenID Connect provider that GET /api/login names. Its role is read, operate (which includes read) or admin (which includes both); the role that an operation needs stands in its security requirement."},
				},
			},
			Tags: []*huma.Tag{
				{Name: tagStations, Description: "Charging stations: their registration, what they report, their connection."},
				{Name: tagCommands, Description: "CALLs to stations."},
				{Name: tagOperations, Description: "Changes of stations' credentials that take several steps."},
				{Name: tagTransactions, Description: "Charging transactions and their meter values."},
				{Name: tagIDTokens, Description: "Who may charge."},
				{Name: tagCertificates, Description: "Certificates and the CAs that are trusted."},
				{Name: tagAccess, Description: "Tokens of this interface, and the audit record."},
				{Name: tagEvents, Description: "What happens, as it happens."},
				{Name: tagMemory, Description: "What leaks."},
			},
		},
		Formats:                      map[string]huma.Format{jsonType: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                jsonType,
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{withoutValues},
	}
}

const (
	tagStations     = "stations"
	tagCommands     = "commands"
	tagOperations   = "operations"
	tagTransactions = "transactions"
	tagIDTokens     = "id-tokens"
	tagCertificates = "certificates"
	tagAccess       = "access"
	tagEvents       = "events"
	tagMemory       = "memory"
)

// maxDetails is how many details of a problem are told.
const maxDetails = 20

// withoutValues takes from problems the values that the caller sent: they may be
// large, or secret.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	m.Errors = m.Errors[:min(len(m.Errors), maxDetails)]
	for _, d := range m.Errors {
		d.Value = nil
	}
	return m, nil
}

// document is the OpenAPI document, encoded.
type document struct{ json, yaml []byte }

// finishDocument encodes the OpenAPI document when all operations are in it, and
// serves it, without a token: it holds no secrets.
func (a *API) finishDocument() error {
	spec := a.huma.OpenAPI()
	var err error
	if a.document.json, err = json.MarshalIndent(spec, "", "  "); err != nil {
		return fmt.Errorf("OpenAPI document: %w", err)
	}
	if a.document.yaml, err = spec.YAML(); err != nil {
		return fmt.Errorf("OpenAPI document: %w", err)
	}
	serve := func(path, contentType string, body []byte) {
		a.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Write(body)
		})
	}
	serve("/api/openapi.json", "application/openapi+json", a.document.json)
	serve("/api/openapi.yaml", "application/openapi+yaml", a.document.yaml)
	return nil
}

// OpenAPI returns the OpenAPI document as JSON.
func (a *API) OpenAPI() []byte { return slices.Clone(a.document.json) }

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// unknownPath answers what no operation matches: 404, or 405 if one does with
// another method.
func (a *API) unknownPath(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range methods {
		try := *r
		try.Method = method
		if _, pattern := a.mux.Handler(&try); pattern != "" && pattern != "/api/" {
			allowed = append(allowed, method)
		}
	}
	status, detail := http.StatusNotFound, "no such path; /api/openapi.json lists all"
	if len(allowed) > 0 {
		status, detail = http.StatusMethodNotAllowed, "this path takes "+strings.Join(allowed, ", ")
		w.Header().Set("Allow", strings.Join(allowed, ", "))
	}
	a.metrics.requests.WithLabelValues("none", statusClass(status)).Inc()
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}
