# Everything from a machine that has only Python (3.11 or newer) and make.
#   make run     install, then three models on a synthetic slide rail: tables and figures in runs/first
#   make test    install, then the tests
#   make help    the other targets

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Python 3.11 has its own line of exact versions (JAX 0.10); 3.12 and newer share one (JAX 0.11).
LINE := $(shell $(PYTHON) -c 'import sys; print("3.11" if sys.version_info[:2] == (3, 11) else "3.12")' 2>/dev/null)
CONSTRAINTS := constraints/python$(LINE).txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
BENCHMARKS := $(filter-out experiments/benchmarks/_%,$(wildcard experiments/benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help run test lint bench study notebook constraints clean

help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.base  ## Install, then run all three models on a synthetic slide rail (about a minute)
	$(BIN)/adjax run --model all --set n_epochs=30 --out runs/first

test: $(VENV)/.dev  ## Install, then run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/.dev  ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.peers  ## Run every benchmark side by side with its peers (ARGS=--quick for a fast look)
	@mkdir -p runs/benchmarks
	@set -e; for file in $(BENCHMARKS); do \
		name=$$(basename $$file .py); echo "== $$name"; \
		$(BIN)/python -m experiments.benchmarks.$$name --json runs/benchmarks/$$name.json $(ARGS); \
	done

study: $(VENV)/.base  ## The whole slide-rail study on a synthetic data set (DATA=ROOT for a real one)
	$(BIN)/python -m experiments.slide_rail $(if $(DATA),--data $(DATA)) --out runs/slide_rail $(ARGS)

notebook: $(VENV)/.notebooks  ## Open the notebooks
	$(BIN)/jupyter lab notebooks

constraints: $(VENV)/.dev $(VENV)/.peers $(VENV)/.notebooks  ## Write the exact versions of this environment down
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | sed 's/+.*//' > $(CONSTRAINTS)

clean:  ## Remove the environment and all runs
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache

# A stamp a dependency group: a second call finds it and starts at once.
$(VENV)/.pip: $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "adjax needs Python 3.11 or newer, found: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making the environment in $(VENV) (first time only)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@touch $@

$(VENV)/.base: $(VENV)/.pip pyproject.toml
	@echo "Installing adjax and what it needs (first time only, about a minute)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.%: $(VENV)/.base
	@echo "Installing the group $* (first time only)"
	@$(PIP) --group $*
	@touch $@
