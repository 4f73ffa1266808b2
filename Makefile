# workersd: everything a person types is a target here; `make help` lists them.
SHELL   := /bin/bash
GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
FUZZTIME ?= 1m
LIST    ?= deploy/examples/queues.toml
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The programs are static: the same file runs on any Linux of the architecture.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X github.com/workersd/workersd/pkg/daemon.Version=$(VERSION)'

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/workersd, bin/workersctl and the example workers
	$(BUILD) -o bin/ ./cmd/... ./deploy/examples/...

.PHONY: run
run: build ## the main job in this terminal; Ctrl-C ends it (LIST=deploy/examples/languages.toml: another)
	@PATH="$(CURDIR)/bin:$$PATH" exec bin/workersd --config $(LIST)

.PHONY: test
test: ## everything: checks, tests with the race detector, and the tests in a VM
	deploy/test/needs.sh
	$(MAKE) check
	$(MAKE) test-go
	$(MAKE) test-vm

.PHONY: test-go
test-go: build ## tests that need no VM, with the race detector
	$(GO) test -race -timeout 20m ./...
	$(GO) test -timeout 20m -run 'Invariants' ./pkg/internal/lifecycle -lifecycle.steps=1000000

.PHONY: test-vm
test-vm: ## tests in a VM with systemd and cgroup v2 (WORKERSD_VM_SUITE=bookworm: systemd 252)
	deploy/vm/test.sh

.PHONY: soak
soak: ## 100 times SIGKILL of the manager, in the VM
	WORKERSD_SOAK=1 deploy/vm/test.sh -test.run Soak

.PHONY: bench
bench: build ## side by side with a floor and the supervisors installed here, as ratios
	deploy/bench/run.sh

.PHONY: fuzz
fuzz: ## each fuzz target for a minute (FUZZTIME=10m: for longer)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z]*' pkg | while IFS=: read -r file target; do \
		echo "$$file $${target#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 200x "./$$(dirname "$$file")" </dev/null || exit 1; \
	done

.PHONY: check
check: ## format, vet, staticcheck, import levels, tidy
	@f=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$f" ] || { echo "gofmt would change: $$f" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./pkg/internal/levels
	$(GO) mod tidy -diff
	bash -n deploy/test/needs.sh deploy/vm/*.sh deploy/bench/run.sh .ci/run

.PHONY: install
install: build ## programs, units and what belongs to them; DESTDIR and PREFIX as usual
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/workersd bin/workersctl
	install -d -m 0755 $(DESTDIR)/etc/workersd/workers.toml.d
	sed 's|/usr/bin/|$(PREFIX)/bin/|' units/workersd.service | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/workersd.service
	sed 's|/usr/bin/|$(PREFIX)/bin/|' units/user/workersd.service | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/user/workersd.service
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system units/workersd.slice
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog units/workersd.catalog
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d deploy/sysusers.d/workersd.conf
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d deploy/tmpfiles.d/workersd.conf
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/workersd README.md LICENSE
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/workersd/examples units/hardened.conf deploy/examples/*.toml deploy/examples/PROTOCOL.md
	bin/workersctl completion bash | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/bash-completion/completions/workersctl
	bin/workersctl completion zsh | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_workersctl
	bin/workersctl completion fish | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/workersctl.fish

.PHONY: clean
clean: ## what build made
	rm -rf bin
