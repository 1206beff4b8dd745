# Penstock's own commands. `make` alone lists them.
# Nothing is needed beforehand but Python 3.11 or newer with its venv module; another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
# Two workers: the tests are mostly processor time, and more workers than processors make the tests with real timers unsteady.
WORKERS ?= 2
# Words for pytest, e.g. make test ARGS="tests/wire -x"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Real timers, and processes that are killed in their midst: these have the machine to themselves.
ALONE := $(wildcard $(patsubst %,tests/edge/test_%.py,\
	client_gone drain endings endings_awake held_up ledger_in_trouble limits_rim replays two_gateways under_fire upstream_rim))

# Streams of bytes, good and spoilt, at both rims and through every observer.
FUZZ := $(wildcard tests/*/test_fuzz*.py) tests/laws/test_spoilt_recordings.py
# Those of which `make test` takes fewer examples, or some places of each kind.
FUZZ += tests/pipeline/test_guarded.py $(wildcard tests/laws/test_law_07*.py tests/laws/test_law_09*.py)
# How hard `make fuzz` tries: 1 takes some minutes.
EFFORT ?= 1

# Clients as their users have them, and what most assistants in editors are made of.
AGENTS := @anthropic-ai/claude-code @openai/codex @google/gemini-cli openai @anthropic-ai/sdk @google/genai ai @ai-sdk/openai @ai-sdk/anthropic @ai-sdk/google

# Whatever the shell says: each process that a test starts would compile all of src again, and each run all tests.
test soak fuzz agents: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup serve test soak fuzz agents check bench clean

help:
	@echo 'make serve   run the gateway on 127.0.0.1:4270'
	@echo 'make test    run the tests (PostgreSQL and nginx are started for them where they can be had)'
	@echo 'make soak    the long tests: thousands of streams, gateways that are killed over and over (some minutes)'
	@echo 'make fuzz    the tests with random and spoilt bytes, for some minutes (longer: make fuzz EFFORT=10)'
	@echo 'make agents  Claude Code, Codex, the Gemini CLI and the JavaScript SDKs as clients of a provider that fails (npm installs them)'
	@echo 'make check   ruff, pyright, the import contracts'
	@echo 'make bench   what a relayed chunk costs, beside nginx (two processors and some minutes)'
	@echo 'make clean   remove what these commands made'

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Penstock needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo 'No virtual environment could be made. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check --editable '.[postgresql,dev]'
	@touch $@

serve: $(READY)
	$(BIN)/penstock serve

test: $(READY)
ifneq ($(ARGS),)
	scripts/services.sh $(BIN)/python -m pytest $(ARGS)
else
	scripts/services.sh $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ALONE:%=--ignore=%)
ifneq ($(ALONE),)
	scripts/services.sh $(BIN)/python -m pytest $(ALONE)
endif
endif

soak: $(READY)
	PENSTOCK_SOAK=$(or $(ROUNDS),1) $(BIN)/python -m pytest tests/soak $(ARGS)

fuzz: $(READY)
	HYPOTHESIS_PROFILE=thorough PENSTOCK_FUZZ=$(EFFORT) $(BIN)/python -m pytest -o timeout=0 $(FUZZ) $(ARGS)

agents: $(READY)
	npm install --silent --no-audit --no-fund --prefix $(VENV)/agents $(AGENTS)
	PENSTOCK_AGENTS=$(abspath $(VENV))/agents/node_modules/.bin $(BIN)/python -m pytest tests/agents $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(READY)
	bench/run

clean:
	rm -rf $(VENV) dist bench/.build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
