# The commands of the repository; `make help` lists them. What a target needs
# from the machine is checked by tools/need: root gets it installed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Builds must not depend on how the checkout came here (an owner that git
# distrusts makes VCS stamping an error); the version is stamped below instead.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Every Go module of the repository. testbed/kubebox only wraps Kubernetes'
# own programs; it is built and verified, not linted.
MODULES := . testbed testbed/eligibility testbed/kubebox tools
LINTED  := . testbed testbed/eligibility

# The packages whose tests need Postgres, the mutants, which compile the core
# once for each, and the long sweep (20,000 simulated nights). test-fast is all
# the others, and runs them with a PG_BIN that can not work: a test that belongs
# here and is not listed fails instead of hiding.
# Of these, the ones whose tests are simulations on one thread, or compile them. The
# race detector has nothing to find there and makes them ten times as long.
ONE_THREAD := playbook/playbooktest/(mutants|sweep)
NOT_FAST := cmd|migrations|store|playbook/playbooktest/(mutants|sweep)

# What each fuzz target gets: a number of executions (1000000x) or a time (10m).
FUZZTIME ?= 1000000x

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## the runbook's four example alerts, broken and repaired on real control planes (ONCE=1: once, with a verdict)
	@tools/need postgres
	@$(MAKE) build testbed
	bin/testbed demo $(if $(ONCE),--once)

.PHONY: test
test: ## the whole suite, against real Postgres and the real control plane
	@tools/need postgres gcc sshd spin chromium
	@$(MAKE) build testbed
	docs/model/check "0 1" "1 0"
	go test -race -count=1 -timeout 20m $$(go list ./... | grep -vE '^[^/]+/[^/]+/[^/]+/($(ONE_THREAD))$$')
	go test -count=1 -timeout 20m $$(go list ./... | grep -E '^[^/]+/[^/]+/[^/]+/($(ONE_THREAD))$$')
	@# One package at a time: each starts control planes of its own, and two at once starve each other on two cores.
	cd testbed && go test -count=1 -p 1 -timeout 20m ./...
	cd testbed/eligibility && go test -count=1 ./...

.PHONY: test-fast
test-fast: ## what needs neither Postgres nor the control plane
	PG_BIN=/nonexistent go test $$(go list ./... | grep -vE '^[^/]+/[^/]+/[^/]+/($(NOT_FAST))(/|$$)')

# What chaos brings in a soak. SOAK=long: a thousand kills. SEED=n repeats a night.
SEED ?= 0
# How many nights are simulated in a soak, from SEED on.
SEEDS ?= 200000
KILLS := $(if $(filter long,$(SOAK)),1000,200)
SOAKING := go test -count=1 -v -timeout 12h ./chaos -seed $(SEED)

.PHONY: soak
soak: ## an hour of faults: kills, freezes, a lost database and bad remotes (SOAK=long: more kills; SEED=n: that night again)
	@tools/need postgres
	@$(MAKE) build testbed
	go test -count=1 -v -timeout 12h ./playbook/playbooktest/sweep -run 'TestSimulation$$' -from=$(SEED) -seeds=$(SEEDS)
	cd testbed && go test -count=1 -v -timeout 1h ./scenario -run TestEachRightIsNeeded -every-right
	cd testbed && $(SOAKING) -run TestStorm
	cd testbed && $(SOAKING) -run TestPagerAway -pager-away 12m
	cd testbed && $(SOAKING) -run TestBadAPIServer -latency 5s -bad-for 5m
	cd testbed && $(SOAKING) -run TestReplicas -kills $(KILLS) -freezes 50 -longest-freeze 60s -restarts 20 -postmaster-kills 5 -gap 5s

.PHONY: model
model: ## the exhaustive search through a model of lease, intent, touch and obligation (BOUNDS='"2 1"': crashes and take-overs)
	@tools/need gcc spin
	docs/model/check $(BOUNDS)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (1000000x: a million executions) each
	tools/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## the benchmarks, as ratios to limits measured in the same run
	@tools/need postgres chromium
	@$(MAKE) build testbed
	cd testbed && go run ./bench

# Not a part of lint: without a database nothing was checked, and lint must not look as if it had been.
.PHONY: vuln
vuln: ## known vulnerabilities of the dependencies; NOT CHECKED where no database is at hand (GOVULNDB=file:///dir)
	@tools/vuln $(LINTED)

.PHONY: lint
lint: bin/golangci-lint ## go vet and the linters of .golangci.yml
	@for module in $(LINTED); do \
		echo "linting module $$module"; \
		(cd $$module && go vet ./... && $(CURDIR)/bin/golangci-lint run --allow-serial-runners --config $(CURDIR)/.golangci.yml ./...); \
	done

.PHONY: generate
generate: ## the generated files (docs/runbook.md and others)
	@for module in $(LINTED); do (cd $$module && go generate ./...); done

.PHONY: verify
verify: ## that generated files, go.mod files and formatting are fresh, alert rules and docs hold
	@echo "formatting"
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		if [[ -n $$unformatted ]]; then echo "not formatted by gofmt: $$unformatted" >&2; exit 1; fi
	@for module in $(MODULES); do \
		echo "module $$module: go.mod is tidy, downloads are intact"; \
		(cd $$module && go mod tidy -diff && go mod verify); \
	done
	@echo "Helm chart"
	@cd testbed && go run ./cmd/chart lint ../deploy/helm/drydock
	@echo "generated files"
	@tools/fresh
	@tools/need promtool
	promtool check rules deploy/prometheus/alerts.yaml
	promtool test rules deploy/prometheus/alerts_test.yaml
	@echo "links, commands and tables of the docs"
	go test -count=1 ./docs/...
	@cd tools && go test -count=1 ./sbom

# Without -trimpath, which deploy/Dockerfile has: it would compile every
# dependency a second time, beside what tests, testbed and linter share. Without
# gin's msgpack, which nothing here speaks: 6 MB.
.PHONY: build
build: ## bin/drydock
	@tools/gobuild -tags nomsgpack -ldflags '-s -w -X main.version=$(VERSION)' -o bin/drydock ./cmd/drydock

.PHONY: release
release: ## dist/: static binaries that can be built again to the byte, SBOMs, checksums (VERSION=v1.2.3, CLEAN=1: with an empty cache)
	@tools/release $(VERSION)

.PHONY: testbed
testbed: ## bin/testbed, and bin/kubebox with Kubernetes' own programs (minutes the first time)
	@cd testbed && ../tools/gobuild -o ../bin/testbed ./cmd/testbed
	bin/testbed build

bin/golangci-lint: tools/go.mod tools/go.sum
	@tools/gobuild -modfile=tools/go.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
