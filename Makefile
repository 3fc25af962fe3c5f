# natlab: `make demo` shows it, `make test` proves it. Both set up .venv first when that is needed.
SHELL := /bin/bash
BIN := .venv/bin
# What is passed on to the command: make demo ARGS=--exit, make test ARGS="-k savings".
ARGS ?=
FAST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-tests demo up test test-fast test-slow test-vllm check types contracts-and-fast-tests format guard docs docs-pages demo-model screenshots clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## make .venv with everything that natlab needs to run
	@scripts/setup.sh

setup-dev: ## the same, and what working on it needs: linters, types, test tools
	@scripts/setup.sh --dev

setup-tests: ## the same, and Chromium for the browser tests
	@scripts/setup.sh --for-tests

demo: setup ## train the built-in demo under four token budgets, compare, and serve (ARGS=--exit ends after the table)
	@exec $(BIN)/natlab demo $(ARGS)

up: setup ## start Valkey, server and worker, and serve until Ctrl-C
	@exec $(BIN)/natlab up $(ARGS)

test: setup-tests ## run every test: unit, whole stack, browser (ARGS="-k name")
	@$(BIN)/python -m pytest $(ARGS)

test-fast: setup-dev ## run the tests that start no stack, browser or training
	@$(FAST) $(ARGS)

test-slow: setup-tests ## run the others: whole stack, faults, browser, training
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-vllm: ## run the tests of vLLM rollouts, with a real engine on the CPU, in .venv-vllm
	@scripts/setup.sh --vllm
	@.venv-vllm/bin/python -m pytest tests/vllm $(ARGS)

check: setup-dev ## format, lint, types, import contracts and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j 2 types contracts-and-fast-tests

types:
	$(BIN)/mypy

contracts-and-fast-tests:
	$(BIN)/lint-imports --no-cache >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	$(FAST) $(ARGS)

format: setup-dev ## rewrite the code in the one format, and fix what can be fixed by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

guard: setup-dev ## time selection, log-probabilities and update step against each other, as ratios in one run
	$(BIN)/python -m pytest -q tests/bench/test_speed.py --benchmark-enable --benchmark-only --benchmark-columns=median,iqr,rounds $(ARGS)

docs: ## build the documentation as a static site in build/site; a warning is an error
	@scripts/docs.sh

docs-pages: setup-dev ## write the documentation's pages that are made from the code: metrics, spec, REST, error codes
	@$(BIN)/python -m scripts.docs_pages

demo-model: setup-dev ## make the built-in demo model again from its seeded recipe (minutes)
	@$(BIN)/python -m nat_core.demo.pretrain $(ARGS)

screenshots: setup-tests ## take the documentation's pictures from a finished experiment (trains the demo where there is none)
	@$(BIN)/python scripts/screenshots.py $(ARGS)

clean: ## remove .venv, caches and build outputs; keeps .natlab, where the runs are
	rm -rf .venv .venv-docs .venv-vllm .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist *.egg-info
