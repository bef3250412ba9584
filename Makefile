# Everything a newcomer needs: `make demo`, `make test`. Both set up their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the demo needs, and what tests and checks need beyond it.
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
# statsforecast needs an older pandas than everything else.
STATS_VENV := .venv-statsforecast
STATS_STAMP := $(STATS_VENV)/.installed
# Says what it fetches and installs, one line each.
PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
# Debian's npm brings its own Node.js, which conflicts with one from elsewhere: only where there is none.
SERVERS = prometheus prometheus-alertmanager chromium kcat openjdk-17-jre-headless maven openssl libgomp1 \
	$(if $(shell command -v npm),,npm)

# Tests run in so many processes: as many as there are cores, and one more where many tests wait for servers.
CORES := $(shell n=$$(nproc); [ $$n -lt 2 ] && n=2; [ $$n -gt 8 ] && n=8; echo $$n)
WORKERS ?= $(CORES)
# Rewriting the asserts of the tests takes each process half of its start: what was rewritten is kept, also where the
# environment says that Python shall keep no compiled files.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS)
FAST := not slow and not integration and not faults and not e2e and not real and not preview and not statsforecast

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-again unit check test-statsforecast test-real test-kubernetes preview preview-build \
	lint lint-style lint-types lint-layers lint-generated format lock dashboards reference release-check system-deps clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tokentide needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up Tokentide once, in $(VENV): $$($(PYTHON) --version), $$(grep -c '^[a-z].*==' requirements.lock) packages as locked"
	@echo "1/3 creating $(VENV) and bringing pip up to date"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --quiet --upgrade pip
	@echo "2/3 downloading and installing the locked packages (a minute or two)"
	@$(PIP) --require-hashes -r requirements.lock
	@echo "3/3 installing Tokentide itself"
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

$(DEV_STAMP): $(STAMP) requirements-dev.lock
	@echo "installing what tests and checks need: $$(grep -c '^[a-z].*==' requirements-dev.lock) packages as locked"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $(DEV_STAMP)

$(STATS_STAMP): requirements-statsforecast.lock pyproject.toml
	$(PYTHON) -m venv $(STATS_VENV)
	$(STATS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(STATS_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-statsforecast.lock
	$(STATS_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STATS_STAMP)

setup: $(DEV_STAMP) ## install everything for development into .venv, as locked

demo: $(STAMP) ## run the whole product with a simulated fleet; Ctrl-C stops it
	@$(BIN)/tokentide demo $(ARGS)

test: WORKERS = $(shell echo $$(($(CORES) + 1)))
test: $(DEV_STAMP) ## run every test; those whose server is not installed are skipped and named
	$(PYTEST) $(ARGS)

test-again: $(DEV_STAMP) ## run what failed last time once more, one after the other, and name what passes now
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none -rA --no-header --tb=short $(ARGS)

unit: $(DEV_STAMP) ## run the fast tests, without servers, in a minute
	$(PYTEST) -q -m "$(FAST)" --hypothesis-profile=quick tests/unit tests/contract pipeline sizing $(ARGS)

check: lint ## what continuous integration runs, without the slow tests and those with servers
	$(PYTEST) -q -m "$(FAST)" $(ARGS)

test-statsforecast: $(STATS_STAMP) ## run the tests of the extras statsforecast, batch and prophet, in an environment of their own
	$(STATS_VENV)/bin/python -m pytest -n $(WORKERS) -q -m statsforecast tests/unit/forecast/test_scheduled_refit.py tests/unit/forecast/test_chosen_experts.py $(ARGS)

test-real: $(DEV_STAMP) ## real vLLM and LiteLLM (CPU, about 3 GB, installed apart) against the emitters
	bash tests/real/install.sh .venv-real
	REAL_SERVERS=$(CURDIR)/.venv-real $(BIN)/python -m pytest tests/real $(ARGS)

test-kubernetes: $(DEV_STAMP) ## a real API server, HPA controller and KEDA (built with Go, once) against the manifests and the fleet
	bash tests/real/kubernetes/build.sh .kubernetes
	KUBERNETES_PROGRAMS=$(CURDIR)/.kubernetes $(BIN)/python -m pytest tests/real/kubernetes $(ARGS)

preview: preview-build $(DEV_STAMP) ## draw the Grafana dashboards with Grafana's own packages (npm); an empty panel is an error
	$(BIN)/python -m pytest tests/preview $(ARGS)

preview-build:
	cd dashboards/preview && npm ci --ignore-scripts --legacy-peer-deps --no-audit --no-fund && npm run --silent build

lint: lint-style lint-types lint-layers lint-generated ## style, types, layers, generated files

lint-style: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(DEV_STAMP)
	$(BIN)/mypy

lint-layers: $(DEV_STAMP)
	$(BIN)/lint-imports

lint-generated: $(DEV_STAMP)
	$(BIN)/python dashboards/generate.py --check
	$(BIN)/python docs/reference/generate.py --check
	$(BIN)/python -m pipeline.publish.http.openapi --check

format: $(DEV_STAMP) ## rewrite the sources in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(DEV_STAMP) ## generate the Grafana dashboards and the files of the alert rules again
	$(BIN)/python dashboards/generate.py

reference: $(DEV_STAMP) ## generate the API reference again
	$(BIN)/python docs/reference/generate.py

LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --upgrade -q
lock: $(DEV_STAMP) ## pin the dependencies again: the product, what development adds, the environment of statsforecast
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	$(LOCK) --extra embedded --extra grafana --extra calendar --extra keda --extra build -o requirements.lock
	$(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) --extra statsforecast --extra batch --extra prophet --extra test --extra build -o requirements-statsforecast.lock

release-check: $(DEV_STAMP) ## build wheel and sdist, install them as locked into an empty environment, run the demo there
	.ci/release-check $(ARGS)

system-deps: ## install the servers that the integration tests talk to (Debian, as root)
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(SERVERS)

clean: ## remove the environments and what tools left
	rm -rf $(VENV) $(STATS_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
