# Holdfast. `make run` starts everything on this machine, `make test` runs every test.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)

.PHONY: build build-kms build-pkcs11 build-records run test vet e2e fuzz bench bench-memory bench-storm bench-scale bench-leak generate clean

build: ## bin/holdfast, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/holdfast ./cmd/holdfast

build-kms: ## bin/holdfast-kms, for an authority whose CA keys are in an HSM (PKCS#11, so with cgo) or a cloud's KMS
	CGO_ENABLED=1 $(GO) build -trimpath -tags kms -ldflags '$(LDFLAGS)' -o bin/holdfast-kms ./cmd/holdfast

build-pkcs11: ## bin/holdfast-pkcs11, for an authority whose CA keys are in an HSM, without the clouds' libraries
	CGO_ENABLED=1 $(GO) build -trimpath -tags pkcs11 -ldflags '$(LDFLAGS)' -o bin/holdfast-pkcs11 ./cmd/holdfast

build-records: ## bin/holdfast-records, whose idle TLS connections cost less than half; see docs/memory.md
	CGO_ENABLED=0 $(GO) build -trimpath -tags ws_records -ldflags '$(LDFLAGS)' -o bin/holdfast-records ./cmd/holdfast

run: build ## every role in one process, with 200 simulated stations that charge
	exec bin/holdfast all --data ./data --demo 200

test: vet ## everything, the race detector included
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /e2e)
	$(GO) test -tags ws_goroutine ./ws # as on other systems than Linux
	$(GO) test -tags ws_records ./ws # own records after the handshake
	$(GO) test ./memory # figures that the race detector would distort
	$(GO) test -run IdleMemory ./fleet
	$(GO) test -count=1 -p 1 -timeout 20m $$($(GO) list ./e2e/... | grep -v /faults) # whole processes, one kind at a time
	$(GO) test -count=1 -parallel 8 -timeout 20m ./e2e/faults # most of these wait

vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags leakfaults ./cmd/holdfast ./gateway
	cd bench && $(GO) vet ./...
	cd e2e/estserver && $(GO) vet ./...

e2e: ## only whole processes: an independent station (npm ocpp-rpc), peers' faults, crashes
	$(GO) test -count=1 -p 1 -timeout 20m $$($(GO) list ./e2e/... | grep -v /faults)
	$(GO) test -count=1 -parallel 8 -timeout 20m ./e2e/faults

fuzz: ## each fuzz target for a short time; FUZZTIME=10m for longer
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-10s} $$p || exit 1; \
	  done; done

bench: build ## figures beside peers, in one run
	cd bench && $(GO) run . all

bench-memory: build ## bytes per idle mutual-TLS station beside peers
	cd bench && $(GO) run . memory

bench-storm: build ## stations that lose their gateway all at once
	cd bench && $(GO) run . storm

bench-scale: build ## 95,000 mutual-TLS stations on five gateways of this machine, some minutes
	cd bench && $(GO) run . scale

bench-leak: build ## the leak detector on real gateways with faults; BENCH="--seeds 5 --first 7000" for other runs
	CGO_ENABLED=0 $(GO) build -trimpath -tags leakfaults -ldflags '$(LDFLAGS)' -o bin/holdfast-leakfaults ./cmd/holdfast
	bin/holdfast leak bench $(BENCH)

generate: ## the OCPP message types, from the published JSON schemas
	$(GO) run ./internal/ocppgen

clean:
	rm -rf bin data
