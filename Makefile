# Everything happens in .venv and .cache beside this file. Paths here are relative, so that folders
# whose names hold spaces work.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(CURDIR)/.cache/bin:$(PATH)
export NO_MKDOCS_2_WARNING := 1
# Container images often set this; then every one of the many processes would compile all of its imports anew.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Tests often wait for what they started; with three at once two cores are too busy for what has a time.
AT_ONCE := -n 2

.PHONY: help venv demo lab labextension test lint types contracts unit cluster integration bench docs wheel \
	constraints libraries system-deps clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

venv: ## Make .venv with everything, pinned by constraints.txt (nothing happens if it is current)
	@.ci/venv

demo: venv ## See the whole loop on real data: data, runs, promotion, endpoint, drift, rollback
	@$(BIN)/modelyard demo $(ARGS)

lab: labextension ## Open JupyterLab on the demo's project, with the panel beside the notebook
	@[ -f modelyard-demo/modelyard.toml ] || $(BIN)/modelyard demo
	@cd modelyard-demo && ../$(BIN)/jupyter lab --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(ARGS)

labextension: venv ## Build the panel for JupyterLab (nothing happens if it is current)
	@.ci/labextension

test: venv labextension lint types contracts ## Lint, types, import contracts and every test; skips and counts come last
	@.ci/oldest-lab
	@$(PYTEST) $(AT_ONCE) $(ARGS)

lint: venv ## Check style and formatting (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: venv ## Check types of all packages (mypy --strict)
	@$(BIN)/mypy

contracts: venv ## Check that core imports no plugin and plugins not each other (import-linter)
	@$(BIN)/lint-imports

unit: venv ## Run the fast tests
	@$(PYTEST) tests/unit $(ARGS)

cluster: venv ## Run the tests on a real cluster (as root: tests/cluster/prepare makes what they need)
	@tests/cluster/prepare
	@$(PYTEST) tests/cluster $(ARGS)

integration: venv ## Run the tests with the real tools
	@$(PYTEST) tests/conformance tests/integration tests/docs $(ARGS)

bench: venv ## Measure against named peers; writes build/bench.json
	@$(BIN)/python tests/benchmarks/run.py $(ARGS)

docs: venv ## Write the reference pages and build the site into build/site
	@$(BIN)/python tutorials/_generate.py
	@$(BIN)/mkdocs build --strict --quiet

wheel: labextension ## Build sdist and wheel into dist/; fails without the panel
	@rm -rf dist
	@MODELYARD_LABEXT=require $(BIN)/python -m build --no-isolation --outdir dist .

constraints: venv ## Resolve constraints.txt again, to the newest versions that fit
	@.ci/constraints

libraries: venv ## Get PyTorch, TensorFlow and transformers (6 GB), so that their tests are not skipped
	@.ci/libraries

system-deps: ## As root on Debian: fetch promtool and chromium, so that no test is skipped
	@.ci/system-deps

clean: ## Remove what was made here; downloads in .cache stay
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@rm -rf jupyter_ext/{build,lib,labextension,node_modules}
