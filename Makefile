# make app: set up and open Maya; make app PORT=7861.   make test: set up and test.   make check: lint, types, tests.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Installs $(1), then makes the target: one line says what is being fetched, where pip alone says hundreds or none.
define INSTALL
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting Maya up in .venv. The first time gigabytes are fetched, which takes minutes."
	@rm -f $@
	@bar=$$($(PIP) install --help | grep -q raw && echo raw || echo off); \
	{ $(PIP) install --progress-bar $$bar -c constraints.txt -e $(1) && touch $@; } | awk ' \
	    function say(text) { printf "\r%-70s", text; fflush() } \
	    /^Collecting/ { name = $$2; say(++count ": " name) } \
	    /Downloading .* MB\)/ { say(count ": " name " " $$(NF - 1) " " $$NF) } \
	    /^Progress/ && $$4 > 5e6 { say(sprintf("%d: %s, %d of %d MB", count, name, $$2 / 1e6, $$4 / 1e6)) } \
	    /^Installing build/ { say("Preparing") } \
	    /^Installing collected/ { say("Installing " count " packages, which takes some minutes") } \
	    /^Successfully installed/ { say("Maya is set up.") } \
	    END { print "" }'
	@test -e $@
endef

.PHONY: app test check slow clean

app: .venv/.ready
	$(BIN)/maya-app $(if $(PORT),--port $(PORT))

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
	$(call INSTALL,.)

.venv/.ready-dev: pyproject.toml constraints.txt
	$(call INSTALL,'.[dev]')
	@touch .venv/.ready
