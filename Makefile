# Everything here needs Go alone, except what says otherwise. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO ?= go
FUZZTIME ?= 20s
FUZZLONG ?= 10m
BENCHFLAGS ?=
IMAGE ?= quadnine:dev
# Where `make deps` keeps what it installs; nothing goes into the tree.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/quadnine
# Modules of their own: their dependencies stay out of the product's go.mod. They
# read the kernel's accounting and start Debian's programs: for Linux only.
MODULES := . $(if $(filter Linux,$(shell uname -s)),bench conformance)
TOOL = $(GO) tool -modfile=$(CURDIR)/tools/go.mod

.PHONY: help build test cross race fuzz fuzz-long lint fmt check generate conformance judge soak bench deps image

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

build: ## build bin/quadnine
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/quadnine

test: ## run all tests, and compile what the other modules hold (Go alone)
	for m in $(filter-out .,$(MODULES)); do (cd $$m && $(GO) vet ./...); done
	$(if $(filter bench,$(MODULES)),cd bench && $(GO) test ./...)
	$(GO) test ./...

cross: ## compile for the other systems that it runs on: tests too
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=linux GOARCH=arm64 $(GO) vet ./...

race: ## run all tests under the race detector, invariants checked
	$(GO) test -race -tags invariants ./...

fuzz: ## run each fuzz target for FUZZTIME (20s); plain tests replay the corpora
	GO='$(GO)' FUZZTIME=$(FUZZTIME) tools/fuzz

fuzz-long: ## the same for FUZZLONG (10m) each: hours
	$(MAKE) fuzz FUZZTIME=$(FUZZLONG)

lint: ## golangci-lint over every module
	for m in $(MODULES); do (cd $$m && $(TOOL) golangci-lint run --config $(CURDIR)/.golangci.yml ./...); done

fmt: ## gofumpt and gci over every module
	for m in $(MODULES); do (cd $$m && $(TOOL) golangci-lint fmt --config $(CURDIR)/.golangci.yml ./...); done

check: ## all that must hold before a change goes in: vet, fix, lint, race, vulnerabilities, generated files
	for m in $(MODULES); do (cd $$m && $(GO) vet ./...); done
	$(GO) vet -tags invariants ./...
	$(MAKE) cross
	for m in $(MODULES); do (cd $$m && GO='$(GO)' $(CURDIR)/tools/modern); done
	$(MAKE) lint
	$(MAKE) race
	GO='$(GO)' tools/vulncheck
	GO='$(GO)' tools/generate check

generate: ## write generated files anew (protoc comes from make deps)
	GO='$(GO)' tools/generate

conformance: ## real clients, servers and specifications against the built binary (needs make deps)
	cd conformance && $(GO) test -v -p 1 -count=1 -timeout 20m ./...

judge: ## Envoy Gateway starts and drives quadnine (installs it into the cache on first use: minutes)
	GO='$(GO)' CACHE='$(CACHE)' tools/judge
	cd conformance && QUADNINE_JUDGE=1 $(GO) test -v -count=1 -timeout 10m ./judge

soak: ## conformance with every loop at full length (needs make deps; about an hour)
	QUADNINE_KILLS=500 $(GO) test -count=1 -timeout 60m -run "Kill|PowerCut" ./loader
	QUADNINE_SHARED_VERSIONS=200 $(GO) test -count=1 -timeout 30m -run ReadersInAnotherProcess ./loader/share
	QUADNINE_INJECTIONS=1000 $(GO) test -count=1 -timeout 30m -run NothingIsRouted ./cmd/quadnine
	cd conformance && QUADNINE_SOAK=1 $(GO) test -v -p 1 -count=1 -timeout 120m ./...

bench: ## what a request costs beside the rivals, a change of configuration, a model version (needs make deps, two CPUs, half an hour)
	cd bench && $(GO) run . $(BENCHFLAGS)

deps: ## install rivals, clients and h2spec (apt packages as root on Debian; the rest into the user's cache)
	GO='$(GO)' CACHE='$(CACHE)' tools/deps

image: ## build the container image
	docker build -t $(IMAGE) .
