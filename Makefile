# Two commands need nothing but Python 3.11 to 3.14 and make: `make demo` and `make test`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first interpreter that really starts (a pyenv shim may be there and not run).
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.14 python3; do \
	if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
WORKERS ?= 4
MINUTES ?= 10
# Tests start thousands of processes: without bytecode, each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up test lint types fmt bench soak notebooks saved-board docs-check clean install install-demo

help: ## list what can be done
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14

$(VENV)/made:
	@if [ -z "$(PYTHON)" ]; then echo "dtqkit needs Python 3.11 to 3.14 on PATH (or: make PYTHON=/path/to/python)" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -U 'pip>=25.1' -c constraints.txt
	touch $@

$(VENV)/demo: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -e '.[cli,local,server]' -c constraints.txt
	touch $@

$(VENV)/dev: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -e '.[all]' --group dev -c constraints.txt
	touch $@ $(VENV)/demo

install-demo: $(VENV)/demo
install: $(VENV)/dev

demo: install-demo ## thousands of real jobs through the real stack, in about a minute
	$(BIN)/dtqkit demo

up: install-demo ## local stores, workers and dashboard, until Ctrl-C
	$(BIN)/dtqkit up

test: install ## everything that CI runs
	@# What needs one core each, at once. Each prints what it has to say when it ends.
	$(MAKE) --no-print-directory -j 3 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) lint types notebooks
	@# Most tests wait for something: more at once than there are cores. One that fails among others is asked once more,
	@# alone, and must pass then.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests || \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures none tests

notebooks: install ## run every notebook and compare its outputs
	PYTHONPATH=$(CURDIR) $(BIN)/python -m pytest -p nbval.plugin -n 2 --dist loadfile --timeout 300 \
		--nbval --nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with=tests/notebooks/sanitize.cfg notebooks/

saved-board: install ## put the present board into the saved notebooks
	$(BIN)/python -m tests.notebooks.save_board

lint: install ## ruff, the floors and the types of the board
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.board.typecheck

types: install ## pyright, strict
	$(BIN)/pyright

fmt: install ## format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: install ## random runs of jobs and faults, for MINUTES=10 (or SOAK="--seed 1 --real")
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(SOAK)
	$(BIN)/python -m tests.model --deep --no-traces
	$(BIN)/python -m tests.capacity.coverage
	DTQ_THEORY_SEEDS=10 $(BIN)/python -m pytest tests/capacity/test_against_theory.py

docs-check: install ## links and words of the documentation, the examples of the README, the rules of the notebooks
	$(BIN)/python -m pytest tests/unit/test_docs.py tests/unit/test_internals.py tests/unit/test_plain_words.py \
		tests/integration/test_readme.py tests/notebooks/test_rules.py

bench: install ## measure, and write bench-out/
	$(BIN)/python -m tests.benchmarks

clean: ## remove what the other targets made
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .dtqkit bench-out
