# Moldau. `make help` lists the targets.
export GOTOOLCHAIN := go1.27.3
export CGO_ENABLED := 0
GO ?= go
ARGS ?=

.PHONY: help run build test check-full race interop diff disk power checker soak lint generate bench demo clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build and start one node on localhost:9092, data in ./moldau-data
	./moldau start

build: ## build ./moldau, one static binary
	$(GO) build -trimpath -ldflags "-s -w" -o moldau ./cmd/moldau

test: ## unit, scenario, golden, seeded and embedded tests (<= 10 minutes on 2 cores)
	$(GO) vet ./...
	$(GO) test -timeout 9m ./...
	MOLDAU_EMBEDDED_LINE=tcp $(GO) test -timeout 3m ./embedded

check-full: build ## everything CI runs besides `test` (<= 25 minutes more): two suites at a time, since most of them wait more than they work
	$(MAKE) --no-print-directory -j2 -Otarget -o build interop race diff disk power checker

race: ## race detector over the concurrent rooms; tests that have nothing for it say so (internal/base/race)
	CGO_ENABLED=1 $(GO) test -race -timeout 12m ./internal/broker/... ./internal/engine/... ./internal/base/... ./internal/node/... ./embedded/...

diff: build ## side by side with Apache Kafka 4.4: the same requests, the answers field by field
	$(GO) test -count=1 -timeout 20m ./test/diff -kafka -v
	MOLDAU_SLOW=1 $(GO) test -count=1 -timeout 10m ./internal/cli -run BesideKafka -v

disk: ## one directory handed between Apache Kafka and Moldau, to and fro; ARGS="-rounds 20" for longer
	$(GO) test -count=1 -timeout 60m ./test/disk -kafka -v $(ARGS)
	MOLDAU_SLOW=1 $(GO) test -count=1 -timeout 10m ./internal/engine/quorum ./internal/broker/ctlhandler -run Kafka -v

power: ## the power goes, the disk fills, fsync fails, on real file systems (needs root); ARGS="-rounds 500" for longer
	$(GO) test -count=1 -timeout 60m ./test/power -power -v $(ARGS)

interop: build ## unmodified clients of other houses against a node
	test/interop/run

checker: build ## faults the checker must find, then clients, kills and verdicts on the real process (FOR=2h for longer, SEED=2 for others)
	MOLDAU_CHECKER=1 $(GO) test -count=1 -timeout 15m ./test/checker
	$(GO) run ./test/checker/run -for $(or $(FOR),3m) -seed $(or $(SEED),1)

soak: build ## the long runs (hours), by hand: FUZZTIME=30m COUNT=500; record the figures in docs/evidence.md
	test/soak/run

lint: ## gofmt, vet and the house's own rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) test ./tool/arch

generate: ## codecs from internal/wire/schema, docs/config.md from the key table
	$(GO) run ./tool/wiregen
	$(GO) run ./tool/confdoc > docs/config.md

bench: build ## ratios beside Apache Kafka in one run (needs ../shared/oracle)
	$(GO) run ./bench/run $(ARGS)

demo: build ## a real data set through a node in every codec, read back by a group of three (ARGS="-file F")
	$(GO) run ./bench/demo $(ARGS)

clean: ## remove what the build made
	rm -f moldau
