# `make` alone lists what can be made.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON  ?= python3
WORKERS ?= 2
BIN     := .venv/bin
# .venv belongs to one lock, one project file and one folder; when any of them changes, setup runs again.
LOCKED  := .venv/.locked-$(shell { cat requirements-dev.lock pyproject.toml; pwd; } | sha256sum | cut -c1-16)

.PHONY: help setup run test check bench demo fuzz crash soak docs lock peers clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(LOCKED) ## make .venv with the pinned, hash-locked dependencies and .venv/bin/broker

$(LOCKED):
	@scripts/setup "$(PYTHON)"
	@touch $@

run: setup ## start the broker on channels.yaml, with its data under ./data
	@exec $(BIN)/broker run

demo: setup ## play a simulated morning against a broker and show what came of it
	@$(BIN)/broker simulate --start

check: setup ## ruff, mypy, import layers, the shipped configuration, generated docs current
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/broker check
	$(BIN)/broker test
	$(BIN)/broker schema --check

peers:
	@scripts/peers

test: setup peers ## all tests; installs DCMTK, Orthanc, dicom3tools, PostgreSQL and promtool first where it may
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

fuzz: setup ## hostile bytes, FUZZ=100 times as many as in `make test`, and other ones each time
	FUZZ=$(or $(FUZZ),100) $(BIN)/pytest tests/fuzz $(ARGS)

crash: setup peers ## kill and restart under load, CRASH_KILLS=200 times
	CRASH_KILLS=$(or $(CRASH_KILLS),200) $(BIN)/pytest -s tests/crash $(ARGS)

soak: setup ## load for SOAK_SECONDS=3600: all delivered in order, memory bounded
	SOAK_SECONDS=$(or $(SOAK_SECONDS),3600) $(BIN)/pytest -s tests/soak $(ARGS)

bench: setup peers ## measure against peers and yardsticks, in one run
	$(BIN)/python bench/run.py $(ARGS)

docs: setup ## write the generated parts of docs/
	$(BIN)/broker schema

lock: setup ## resolve the dependencies again (UPGRADE=1 for the newest)
	@scripts/lock

clean: ## remove .venv and caches; ./data stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
