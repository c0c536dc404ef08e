package api

import "github.com/danielgtaylor/huma/v2"

// Huma gives tests the operations and schemas as they are served.
func (a *API) Huma() huma.API { return a.huma }
