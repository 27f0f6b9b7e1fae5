# Everything runs in a virtual environment that make itself creates and keeps current.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
COMPILE_FROM := $(shell find src -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
# A module with a stub beside it: what stubtest compares.
STUBBED := $(subst /,.,$(patsubst src/%.pyx,%,$(foreach pyx,$(shell find src -name '*.pyx' | sort),$(if $(wildcard $(pyx:.pyx=.pyi)),$(pyx)))))
BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])
PYTHON_FILES := src tests examples benchmarks docs setup.py

.DEFAULT_GOAL := help
.PHONY: help demo test bench prove lint format docs changelog clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(COMPILED) ## Check three programs and show the findings
	$(RUN) examples/demo.py

test: $(COMPILED) ## Run the test suite (PYTEST_ARGS="-k name" and the like)
	$(RUN) -m pytest $(PYTEST_ARGS)

bench: $(COMPILED) ## Measure against C and against what one would use instead
	$(RUN) -m benchmarks

prove: $(COMPILED) ## Compare a million steps of the model with the running kernel (root)
	$(RUN) -m tests.model.prove

lint: $(COMPILED) ## Style, types, and the stubs of the compiled modules
	$(RUN) -m ruff check $(wildcard $(PYTHON_FILES))
	$(RUN) -m ruff format --check $(wildcard $(PYTHON_FILES))
	$(RUN) -m mypy src tests
	$(RUN) -m mypy.stubtest --concise --mypy-config-file pyproject.toml $(STUBBED)
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint src

format: $(INSTALLED) ## Sort imports and lay the code out
	$(RUN) -m ruff check --select I --fix $(wildcard $(PYTHON_FILES))
	$(RUN) -m ruff format $(wildcard $(PYTHON_FILES))

docs: $(COMPILED) ## Build the pages into docs/_build/html and run their examples
	$(RUN) -m sphinx -q -W -n -T -b html docs docs/_build/html
	$(RUN) -m sphinx -q -W -n -T -b doctest docs docs/_build/doctest

changelog: $(INSTALLED) ## Show what the next release would say
	$(RUN) -m towncrier build --draft --version next

clean: ## Remove everything that make has made
	rm -rf .venv .venv-* build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests examples benchmarks docs \( -name '*.so' -o -name '__pycache__' -o -name '*.egg-info' \) -prune -exec rm -rf {} + 2>/dev/null || true

# Made anew, not updated: what an older pyproject.toml wanted must not linger. Without build
# isolation, so that one Cython compiles everything, now and later, and nothing is compiled twice.
$(INSTALLED): pyproject.toml setup.py
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet $$($(RUN) -c '$(BUILD_REQUIRES)')
	$(RUN) -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

# The install has compiled once; this compiles again what a changed source asks for.
$(COMPILED): $(INSTALLED) $(COMPILE_FROM)
	$(RUN) setup.py --quiet build_ext --inplace
	touch $@
