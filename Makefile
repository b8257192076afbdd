# The doors of the project. `make demo` and `make test` do everything else by themselves.

PYTHON ?= python3.11
PIP = .venv/bin/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup setup-core setup-system setup-peers demo test test-pythons mutants acceptance bench numbers stale models train check card clean

setup-core: .venv/.core
setup: .venv/.all

.venv/bin/python:
	$(PYTHON) -m venv .venv || python3 -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -q -c constraints.txt -e '.[cpu,plots]'
	@touch $@

.venv/.all: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -q -c constraints.txt -e '.[cpu,plots,nvidia,serve,trace,torch,bench,dev]'
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

# The suite on every other Python at hand, on PATH or pyenv's, without torch: what needs it is skipped there.
PYENV_ROOT ?= $(HOME)/.pyenv
NEWER = 3.12 3.13
interpreter = $(firstword $(shell python$(1) -c 'import sys; print(sys.executable)' 2>/dev/null) \
	$(lastword $(sort $(wildcard $(PYENV_ROOT)/versions/$(1).*/bin/python))))
PYTHONS = $(foreach version,$(NEWER),$(if $(call interpreter,$(version)),$(version)))

test-pythons:
	@test -n '$(PYTHONS)' || { echo 'none of Python $(NEWER) is on PATH or in $(PYENV_ROOT)'; exit 1; }
	$(MAKE) $(PYTHONS:%=test-python-%)

test-python-%: .venv-%/.all
	.venv-$*/bin/python -m pytest $(TESTS)

.venv-%/.all: pyproject.toml constraints.txt
	$(call interpreter,$*) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q -c constraints.txt -e '.[cpu,plots,nvidia,serve,trace,dev]'
	@touch $@

.PRECIOUS: .venv-%/.all

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

# An emulated NVIDIA card to try things on: make card CHIP=a100, then what it prints.
card: .venv/.all
	@.venv/bin/python -m amble.devices.emulated $(or $(CHIP),v100) build/card

clean:
	rm -rf .venv .venv-3.* build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
