# `make help` lists what there is. Everything needs Go and nothing else; tests use
# a redis-server where one is installed.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := all

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN     := $(CURDIR)/bin

# Pinned, so that a new release of the linter is a change of its own.
LINT_VERSION := v2.15.0
LINT         := $(BIN)/golangci-lint-$(LINT_VERSION)

# Equal sources make equal bytes: no C, no paths of this machine, no build id.
# The Dockerfile has the same.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags timetzdata \
	-ldflags "-s -w -buildid= -X main.version=$(VERSION)"

# What a test may take before it counts as stuck; the whole takes less.
TEST_TIMEOUT ?= 10m
FUZZTIME     ?= 30s
BENCH        ?= .
DEVICES      ?= 100000

.PHONY: all
all: lint test ## lint and test, to run before each push

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## send to 100,000 simulated devices, all in one process (DEVICES=n)
	go run ./cmd/pushfleet demo --devices $(DEVICES)

.PHONY: dev
dev: ## run the whole fleet in one process on fixed ports
	go run ./cmd/pushfleet dev

.PHONY: build
build: ## build bin/pushfleet: static, reproducible
	$(BUILD) -o $(BIN)/pushfleet ./cmd/pushfleet

# What a release has.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/arm64
DIST      ?= $(CURDIR)/dist
IMAGE     ?= ghcr.io/pushfleet/pushfleet
# IMAGE_OUTPUT=--push sends it to a registry.
IMAGE_OUTPUT ?= --output type=oci,dest=$(DIST)/pushfleet-$(VERSION)-image.tar

SHA256 := $(shell command -v sha256sum || echo shasum -a 256)
# with runs a command for each platform: GOOS, GOARCH, and the name of its binary.
with = set -e; for platform in $(PLATFORMS); do \
	export GOOS=$${platform%/*} GOARCH=$${platform\#*/}; name=pushfleet-$(VERSION)-$$GOOS-$$GOARCH; $(1); done

.PHONY: dist
dist: ## release: static binaries of all platforms, licences and checksums in dist/ (VERSION PLATFORMS DIST)
	@rm -rf $(DIST) && mkdir -p $(DIST)
	@$(call with,echo $$name; $(BUILD) -o $(DIST)/$$name ./cmd/pushfleet)
	@deploy/release/licenses $(PLATFORMS) > $(DIST)/LICENSES
	@cd $(DIST) && $(SHA256) pushfleet-* LICENSES > SHA256SUMS

.PHONY: sbom
sbom: ## release: a bill of materials (CycloneDX) for each platform in dist/
	@mkdir -p $(BIN) $(DIST)
	cd deploy/release && go build -o $(BIN)/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
	@$(call with,CGO_ENABLED=0 GOFLAGS=-tags=timetzdata $(BIN)/cyclonedx-gomod app -json -licenses -std -noserial -notimestamp \
		-main cmd/pushfleet -output $(DIST)/$$name.cdx.json .)

.PHONY: images
images: ## release: the image for linux/amd64 and linux/arm64 (needs docker buildx; IMAGE IMAGE_OUTPUT)
	@mkdir -p $(DIST)
	docker buildx build --platform linux/amd64,linux/arm64 --file deploy/Dockerfile --sbom=true --provenance=mode=max \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE):$(VERSION) $(IMAGE_OUTPUT) .

.PHONY: check-release
check-release: ## see that equal sources make equal bytes, and what is in them (FRESH=1 without a cache)
	cd deploy/release && go test -timeout 30m ./... $(if $(FRESH),-fresh)

# The longest first, or one of them runs alone at the end.
PACKAGES := ./cmd/... ./worker ./feedback ./store ./...

.PHONY: test
test: ## all tests, with the race detector
	go test -race -timeout $(TEST_TIMEOUT) $(PACKAGES)

# Each run prints its seed; SEED=n repeats its faults. PREVIOUS=rev runs half of
# the workers from that revision.
SEED     ?= 0
PREVIOUS ?=
CHAOS    := go test -tags chaos -v -timeout 0 -count 1 ./internal/chaos -chaos.seed=$(SEED) -chaos.previous=$(PREVIOUS)

.PHONY: chaos
chaos: ## break a fleet of processes for 30 minutes (SEED=n PREVIOUS=revision)
	$(CHAOS) -run 'TestChaos$$' -chaos.for=30m -chaos.notifications=1000000

.PHONY: chaos-short
chaos-short: ## the same, in about two minutes
	$(CHAOS) -run 'TestChaos$$'

.PHONY: chaos-mutants
chaos-mutants: ## see that workers with a promise taken out are found out
	$(CHAOS) -run TestMutants

# SCALE takes flags: SCALE='-scale.workers=2,8,2 -scale.rate=3000 -scale.failover'.
SCALE ?=

.PHONY: scale
scale: ## start and stop eight workers during a campaign, on clusters of NATS and Redis (SEED=n SCALE=flags)
	go test -tags chaos -v -timeout 0 -count 1 ./internal/chaos -run 'TestScale$$' -chaos.seed=$(SEED) $(SCALE)

.PHONY: cover
cover: ## test coverage, in total and as coverage.out
	go test -timeout $(TEST_TIMEOUT) -coverpkg=./... -coverprofile=coverage.out ./...
	@go tool cover -func=coverage.out | tail -1

.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
		for name in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$name"; \
			go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
		done; \
	done

.PHONY: bench
bench: build ## reproduce docs/benchmarks.md
	go build -o $(BIN)/nats-server github.com/nats-io/nats-server/v2
	./bin/pushfleet bench engine
	./bin/pushfleet bench store
	./bin/pushfleet bench api
	./bin/pushfleet bench api --notifications --step --duration 20s --nats-server $(BIN)/nats-server
	./bin/pushfleet bench jobs --nats-server $(BIN)/nats-server
	./bin/pushfleet bench fairness
	./bin/pushfleet bench campaign --nats-server $(BIN)/nats-server

.PHONY: bench-go
bench-go: ## Go benchmarks, ten runs each, for benchstat (BENCH=pattern)
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count 10 ./...

.PHONY: lint
lint: $(LINT) ## format and lint checks
	$(LINT) fmt --diff
	$(LINT) run
	cd deploy/check && $(LINT) run
	cd deploy/check-helm && $(LINT) run
	cd web/check && $(LINT) run
	cd deploy/release && $(LINT) run

.PHONY: fmt
fmt: $(LINT) ## format the code
	$(LINT) fmt

$(LINT):
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: docs
docs: ## write the generated part of docs/configuration.md
	go test ./config -run Reference -update

.PHONY: check-deploy
check-deploy: ## hold the files of deploy to the rules of Docker, Prometheus and Helm
	go test ./deploy
	cd deploy/check && go test ./...
	cd deploy/check-helm && go test ./...
	@if command -v promtool >/dev/null; then \
		promtool check rules deploy/prometheus/alerts.yml && \
		promtool check config --syntax-only deploy/prometheus/prometheus.yml && \
		promtool test rules deploy/prometheus/alerts_test.yml; \
	else echo "alerts are not tested: there is no promtool (apt install prometheus)"; fi

.PHONY: check-client
check-client: build ## make a client from the served OpenAPI document, and use it (needs Node and npm)
	api/client-check/run

.PHONY: check-page
check-page: ## drive the dashboard in a real Chromium, against a fleet (needs chromium)
	cd web/check && go test -count 1 -timeout $(TEST_TIMEOUT) ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) coverage.out
