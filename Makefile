# The doors of the project. `make demo` and `make test` do everything else by themselves.

PYTHON ?= python3.11
PIP = .venv/bin/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup setup-core setup-system setup-peers demo test mutants acceptance bench numbers stale models train check clean

setup-core: .venv/.core
setup: .venv/.all

.venv/bin/python:
	$(PYTHON) -m venv .venv || python3 -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -q -c constraints.txt -e '.[plots]'
	@touch $@

.venv/.all: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -q -c constraints.txt -e '.[plots,nvidia,serve,trace,torch,dev]'
	@touch $@ .venv/.core

setup-system:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev make chromium wrk

setup-peers: .venv/.all
	tests/acceptance/setup.sh

demo: .venv/.core
	.venv/bin/python examples/demo.py

test: .venv/.all
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest

.venv/.mutants: pyproject.toml constraints.txt | .venv/.all
	$(PIP) install -q -c constraints.txt -e '.[mutants]'
	@touch $@

mutants: .venv/.mutants
	.venv/bin/python tests/mutants/run.py

acceptance: .venv/.all
	.venv/bin/python tests/acceptance/run.py

bench: .venv/.all
	.venv/bin/python -m bench $(NAME)

numbers: .venv/.all
	.venv/bin/python -m bench.kit.write_numbers

stale: .venv/.all
	.venv/bin/python -m bench.kit.ages

models: .venv/.all
	.venv/bin/python -m bench.models

train: .venv/.all
	.venv/bin/python -m tools.bundled.train

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
