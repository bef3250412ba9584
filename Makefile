# Everything a newcomer needs: `make demo`, `make test`. Both set up their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVERS := prometheus prometheus-alertmanager chromium kcat openjdk-17-jre-headless maven

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format lock dashboards system-deps clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tokentide needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

setup: $(STAMP) ## install everything into .venv, as locked

demo: $(STAMP) ## run the whole product with a simulated fleet; Ctrl-C stops it
	@$(BIN)/tokentide demo $(ARGS)

test: $(STAMP) ## run every test; those whose server is not installed are skipped and named
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python dashboards/generate.py --check

format: $(STAMP) ## rewrite the sources in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(STAMP) ## generate the Grafana dashboards again
	$(BIN)/python dashboards/generate.py

lock: $(STAMP) ## pin the dependencies again (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --upgrade -q -o requirements.lock

system-deps: ## install the servers that the integration tests talk to (Debian, as root)
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(SERVERS)

clean: ## remove the environment and what tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
