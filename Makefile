# make app: set up and open Maya.   make test: set up and test.   make check: lint, types, tests.
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: app test check slow clean

app: .venv/.ready
	$(BIN)/maya-app

test: .venv/.ready-dev
	$(BIN)/python -m pytest

check: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

slow: .venv/.ready-dev
	$(BIN)/python -m pytest -m "slow or gpu"

clean:
	rm -rf .venv

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

.venv/.ready-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev]'
	touch $@ .venv/.ready
