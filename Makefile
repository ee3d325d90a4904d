# SPDX-License-Identifier: Apache-2.0
# make demo    the whole story on this machine      (ONCE=1 ends by itself, JSON=1 result as JSON, DIR=path keeps files)
# make test    every test, after setting up what they need
# make check   the static checks, then every test: what CI runs
.DELETE_ON_ERROR:
.PHONY: demo test check lint bench lock setup

# The system's Python first, where it will do: distributions build it with profiles of its own use, which is a tenth of
# the time of everything here; one that was compiled by hand seldom is.
PYTHON ?= $(or $(firstword $(foreach one,/usr/bin/python3 python3,$(shell \
  $(one) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(one)))),python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

demo: $(VENV)/.installed
	@$(BIN)/umuhuza demo $(if $(ONCE),--once) $(if $(JSON),--json) $(if $(DIR),--dir "$(DIR)") $(if $(LOG),--log "$(LOG)")

test: setup
	@tests/run $(ARGS)

check: lint test

lint: $(VENV)/.installed-dev
	@echo "ruff, formatting, types, imports, generated files" >&2
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m umuhuza.publish --check
	@$(BIN)/python -m gateway.openapi --check

bench: $(VENV)/.installed
	@$(BIN)/umuhuza bench $(if $(JSON),--json)

setup: $(VENV)/.installed-dev
	@tests/setup

# Locks carry versions and hashes and no address of an index.
lock: $(VENV)/.installed-dev
	@$(PIP) install uv
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal pyproject.toml --group build -o requirements.lock
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal pyproject.toml --group build --group dev -o requirements-dev.lock

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >&2 || { \
	  echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.made requirements.lock pyproject.toml
	@echo "Installing Umuhuza into $(VENV) (once)" >&2
	@$(PIP) install --require-hashes -r requirements.lock >&2
	@$(PIP) install --no-deps --no-build-isolation -e . >&2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "Installing what the tests need into $(VENV) (once)" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock >&2
	@touch $@
