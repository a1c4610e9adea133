# Two commands do everything: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet
.DEFAULT_GOAL := help
.PHONY: help run test lint types check faults bench bench-quick clean chromium

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

run: $(VENV)/.runtime ## Run the whole gateway on http://127.0.0.1:8000, with demo accounts
	$(BIN)/python manage.py gateway --demo $(ARGS)

test: $(VENV)/.development chromium ## Run every test
	$(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

lint: $(VENV)/.development ## Check style and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development ## Check types
	$(BIN)/mypy

check: lint types test ## Everything that CI does

faults: $(VENV)/.development ## Break it in every way and print what was lost (12 minutes)
	$(BIN)/python -m tests.faults $(ARGS)

bench: $(VENV)/.benchmarks ## Measure it beside its peers on this machine (10 minutes)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.benchmarks ## The same, roughly (2 minutes)
	$(BIN)/python -m benchmarks --quick $(ARGS)

chromium:
	@command -v chromium >/dev/null || { \
	  echo "installing chromium for the browser tests"; \
	  if [ "$$(id -u)" = 0 ]; then S=; else S="sudo -n"; fi; \
	  $$S apt-get update -qq && $$S apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	} || echo "chromium could not be installed: the browser tests will be skipped"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	$(PIP) install -r requirements.txt
	@touch $@

$(VENV)/.development: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	$(PIP) install -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime

$(VENV)/.benchmarks: benchmarks/requirements.txt $(VENV)/.development
	$(PIP) install -r benchmarks/requirements.txt
	@touch $@

clean: ## Remove what was made here, data included
	rm -rf $(VENV) var staticfiles .pytest_cache .mypy_cache .ruff_cache .hypothesis
