.DEFAULT_GOAL := help
.PHONY: help install run test bench screenshots lint audit format constraints clean

PYTHON ?= python3
PORT ?= 8000
# The number of parallel tests: more than a small machine's processors, since many tests wait for processes and timeouts.
WORKERS ?= 5
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of processes, each of which would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

install: .venv/run ## install what the service needs, and start nothing

run: .venv/run ## install what is missing and serve on http://127.0.0.1:8000 (PORT=8001 for another port)
	@exec $(BIN)/plum-outcomes serve --welcome --bind 127.0.0.1:$(PORT)

test: .venv/test lint ## check style and types, then run all tests
	$(BIN)/pytest --numprocesses $(WORKERS)

bench: .venv/test ## run the benchmarks; docs/performance.md has the figures
	$(BIN)/python -m bench

screenshots: .venv/test ## take the README's screenshots again, in Chromium
	$(BIN)/python -m tests.screenshots docs/screenshots

lint: .venv/test ## check style, format and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: .venv/test ## check every pinned dependency against PyPI's advisories (needs the network)
	$(BIN)/uvx pip-audit --require-hashes --disable-pip --requirement constraints.txt

format: .venv/test ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

constraints: .venv/test ## pin the newest dependencies, with hashes
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --extra test pyproject.toml -o constraints-test.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade pyproject.toml -c constraints-test.txt -o constraints.txt

clean: ## remove the environment and caches; the store under var/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

.venv/run: .venv/bin/python constraints.txt pyproject.toml
	@echo "installing what is needed, once …"
	@$(BIN)/pip install --quiet --require-hashes -r constraints.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test: .venv/run constraints-test.txt
	@$(BIN)/pip install --quiet --require-hashes -r constraints-test.txt
	@touch $@
