# Millrace: `make help` lists the targets.
SHELL := /bin/bash
PYTHON := $(shell for p in python3.11 python3.12 python3; do $$p -c 'import sys; sys.exit(not (3,11)<=sys.version_info[:2]<=(3,12))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PROJECT ?= app.project:PROJECT
export MILLRACE_HOME ?= $(CURDIR)/.millrace

.PHONY: help env demo up down test test-full check chaos object-store lock clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "bench-NAME    run benchmarks/bench_NAME.py (QUICK=1: under a minute)"

env: .venv/.ready ## make .venv from the lock file

.venv/.ready: requirements.lock
	@test -n "$(PYTHON)" || { echo "Millrace needs Python 3.11 or 3.12 on the PATH; found neither."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m app.training.prebuild
	@touch $@

demo: env ## the whole loop on a year of real flights, then a report
	@$(BIN)/millrace demo --project $(PROJECT)

up: env ## start the platform (Ray, dashboard, Serve) and keep it running
	@$(BIN)/millrace up --project $(PROJECT)

down: env ## stop what `make up` started
	@$(BIN)/millrace down

check: env ## format, lint, types, import direction
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each file of tests on a real Ray gets a head of its own, so that none inherits another's leftovers.
RAY_TESTS := $(sort $(wildcard tests/cluster/test_*.py tests/e2e/test_*.py tests/gpu/test_*.py))
# pytest ends with 5 where a file holds long tests only.
each_file = set -e; for file in $(RAY_TESTS); do $(BIN)/python -m pytest -m $(1) $$file || test $$? -eq 5; done

test: check ## checks and tests, at most 25 minutes on 2 cores
	@$(call each_file,"not full")
	$(BIN)/python -m pytest -m "not full" tests/unit tests/architecture tests/contract

test-full: test ## also the long tests
	@$(call each_file,full)
	$(BIN)/python -m pytest -m full tests/unit tests/architecture tests/contract || test $$? -eq 5

chaos: env ## five minutes of load while parts are killed and ten rollouts run; writes benchmarks/results/chaos.json
	$(BIN)/python -m pytest -m full tests/cluster/test_chaos.py

object-store: env ## an S3 server for tests/contract/test_object_store.py, in .peers
	$(BIN)/python -c 'from benchmarks.peers import peer_python; peer_python("moto")'

bench-%: env
	PYTHONPATH=$(CURDIR) $(BIN)/python benchmarks/bench_$*.py $(if $(QUICK),--quick)

lock: ## recompile requirements.lock (needs uv; LINKS: folder with a CPU build of torch)
	sh cluster/lock.sh $(LINKS)

clean: ## remove the environment and all stored data
	rm -rf .venv .millrace
