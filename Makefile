# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: packages
packages: ## install the Debian packages that build, tests and demo need (root)
	@scripts/packages

.PHONY: venv
venv: $(VENV)/.ready ## create .venv with the locked dependencies

$(VENV)/.ready: requirements.lock pyproject.toml
	@scripts/packages
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

.PHONY: lock
lock: ## write the locks anew from pyproject.toml
	@scripts/lock

.PHONY: lint
lint: venv ## ruff, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

.PHONY: exposure
exposure: ## what systemd's sandbox leaves open to the agent; the unit says why
	@systemd-analyze security --offline=true --no-pager systemd/storpool-agent.service | grep --invert-match ^✓

.PHONY: unit
unit: venv ## the tests that need no service
	$(BIN)/pytest -q -n auto tests/unit

.PHONY: check
check: lint unit ## lint, types, imports and unit tests: under a minute, no services

.PHONY: integration
integration: venv ## the tests on real parts: RabbitMQ, libvirt, QEMU, loop devices (root)
	@scripts/services start
	CI=1 $(BIN)/pytest -q -n 2 --dist loadfile -m "not long" tests/integration

.PHONY: test-long
test-long: venv ## on real parts, too: every death and fault in turn, libvirt's whole contract, the test bench (root)
	@scripts/services start
	CI=1 $(BIN)/pytest -q -n 2 --dist loadfile -m long tests/integration

.PHONY: deb
deb: ## build the Debian packages into dist
	@scripts/packages packaging
	packaging/deb/build

.PHONY: rpm
rpm: ## build the RPM packages into dist
	@scripts/packages packaging
	packaging/rpm/build

.PHONY: test-package
test-package: venv ## build the packages and test them, in a Debian that boots (root)
	@scripts/packages packaging
	@packaging/wheels >/dev/null
	@$(MAKE) --no-print-directory --jobs 2 deb rpm
	@scripts/services start
	CI=1 $(BIN)/pytest -q tests/package

.PHONY: test-migration
test-migration: venv ## machines between two hosts, with every part killed at every phase (root)
	@scripts/services start
	CI=1 $(BIN)/pytest -q -n 2 --dist loadfile tests/migration

.PHONY: test
test: check exposure integration ## what to run before a commit; installs and starts what it needs (root)

.PHONY: demo
demo: venv ## the main job end to end, with a real guest, in one command (root)
	@scripts/services start
	PYTHONPATH=tests $(BIN)/python -m demo

.PHONY: bench
bench: venv ## ratios against bare floors and peers, in one run (root)
	@scripts/services start
	PYTHONPATH=tests $(BIN)/python -m bench.run $(BENCH)

.PHONY: bench-copy
bench-copy: venv ## copies against qemu-img by itself and bare devices, in one run (root)
	@scripts/services start
	PYTHONPATH=tests $(BIN)/python -m bench.copies $(BENCH)

.PHONY: schema
schema: venv ## write docs/commands.schema.json anew from the models
	$(BIN)/python -m storpool_commands.schema > docs/commands.schema.json

.PHONY: dashboard
dashboard: venv ## write packaging/observability/dashboard.json anew
	$(BIN)/python packaging/observability/dashboard.py > packaging/observability/dashboard.json

.PHONY: protocol
protocol: venv ## write the replies in docs/protocol.md anew from a real agent (root)
	@scripts/services start
	PYTHONPATH=tests $(BIN)/python -m protocol_examples

.PHONY: wheel
wheel: venv ## build the wheels
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist . ./commands

.PHONY: sbom
sbom: venv ## write dist/storpool-agent.cdx.json, what a release contains, as CycloneDX
	@scripts/sbom

.PHONY: audit
audit: ## ask whether anything in requirements.lock has a known vulnerability (OFFLINE=1: pass over it)
	@scripts/audit

.PHONY: clean
clean: ## remove what builds and tests left
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
