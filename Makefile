# Everything a person types.  `make help` lists it.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check fmt bench soak lambdas

# A Python that was removed or upgraded leaves a .venv that runs nothing.
ifneq ($(shell test -x $(BIN)/python && echo runs),runs)
$(shell rm -f $(VENV)/*.stamp)
endif

# The same of a node_modules that was removed.
ifeq ($(wildcard node_modules/hls.js)$(shell cat $(VENV)/hls.stamp 2>/dev/null),installed)
$(shell rm -f $(VENV)/hls.stamp)
endif

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/run.stamp $(VENV)/hls.stamp  ## the whole local cloud (PORT=8080 DATABASE_URL= DATA_DIR=)
	@exec $(BIN)/python -m local

test: $(VENV)/test.stamp $(VENV)/hls.stamp  ## every test; ARGS="-k name" for some, "-n 0 -s" to look on
	@.ci/install-browser
	@exec $(BIN)/python -m pytest -n 2 $(ARGS)

check: $(VENV)/test.stamp  ## format, lint, types, import contracts, what is in deploy/
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint --regions ap-northeast-2 us-east-1 eu-central-1 -- deploy/aws/template.yaml
	@.ci/install-browser
	$(BIN)/python -m pytest -q -m config tests/unit/deploy tests/system

fmt: $(VENV)/test.stamp  ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: $(VENV)/soak.stamp  ## faults and crowds on purpose, each judged; ARGS="--part churn" for one
	@$(if $(findstring --help,$(ARGS)),,.ci/install-browser)
	@exec $(BIN)/python -m bench.soak $(ARGS)

bench: $(VENV)/test.stamp  ## our figures and the peers', side by side
	@exec $(BIN)/python -m bench $(ARGS)

lambdas:  ## the functions' zips for AWS, into build/lambdas
	@$(PYTHON) deploy/aws/zips.py build/lambdas

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Reelready needs Python 3.11 or later as $(PYTHON): install it, or name another by PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/made.stamp
	@echo "Installing what Reelready needs into $(VENV), once (150 MB to download, 450 MB there) ..." >&2
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# The test lock holds everything of the run lock, so it makes both stamps.
$(VENV)/test.stamp: requirements/test.txt requirements/media.txt pyproject.toml | $(VENV)/made.stamp
	@echo "Installing what the tests need into $(VENV), once ..." >&2
	@$(PIP) install --require-hashes -r requirements/test.txt
	@$(PIP) install --require-hashes --no-deps -r requirements/media.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/run.stamp

$(VENV)/soak.stamp: requirements/soak.txt | $(VENV)/test.stamp
	@echo "Installing what the soak needs into $(VENV), once ..." >&2
	@$(PIP) install --require-hashes -r requirements/soak.txt
	@touch $@

# hls.js is for browsers that do not play HLS themselves: without it the page
# offers a link instead.  Tried once, as soon as there is an npm, since without a
# network it takes long; that there is none is said every time.
$(VENV)/hls.stamp: package-lock.json | $(VENV)/made.stamp
	@if command -v npm >/dev/null; then \
	  if npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
	    --fetch-retries=1 --fetch-timeout=20000 >/dev/null 2>&1; \
	  then echo installed >$@; \
	  else \
	    echo "hls.js could not be installed, some browsers will not play (retry: npm ci)" >&2; \
	    echo failed >$@; \
	  fi; \
	elif ! test -d node_modules/hls.js; then \
	  echo "there is no npm, so no hls.js: some browsers will not play" >&2; \
	fi
