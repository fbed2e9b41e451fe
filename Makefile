# The project's commands. Everything is installed into .venv, nothing elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/editable
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# meson and ninja are found there while the extension is built, also when it is rebuilt on import.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help demo test lint types test-oracles test-browser test-cross test-sanitizers test-release bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(VENV)/.installed: pyproject.toml meson.build
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "meson-python>=0.17" "meson>=1.3" "Cython>=3.1" ninja
	$(BIN)/python -m pip install -q --no-build-isolation -Cbuild-dir=$(BUILD) -e ".[dev]"
	touch $@

$(VENV)/.oracles: $(VENV)/.installed
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q --no-build-isolation -Cbuild-dir=$(BUILD) -e ".[dev,oracles]"
	touch $@

demo: $(VENV)/.installed  ## the main job on a small model
	@$(BIN)/python docs/tutorial/demo.py

test: lint types $(VENV)/.installed  ## lint, types and the test suite
	$(BIN)/python -m pytest -m "not oracle and not browser and not cross and not sanitizers"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

test-oracles: $(VENV)/.oracles  ## the tests that need torch, transformers, model-signing, ...
	$(BIN)/python -m pytest -m oracle

test-browser: $(VENV)/.installed  ## the pages that vbuild writes, in a real browser
	tests/browser/install
	$(BIN)/python -m pytest -m browser tests/browser

test-cross: $(VENV)/.installed  ## the same bits on other processors, emulated
	tests/cross/install
	$(BIN)/python -m pytest -m cross tests/cross

test-sanitizers: $(VENV)/.installed  ## the C core under address, undefined-behaviour and thread sanitizers
	$(BIN)/python -m pytest -m sanitizers tests/cross

test-release: $(VENV)/.installed  ## wheels are reproducible, and an installed one works
	PYTHON=$(BIN)/python .ci/release

bench: $(VENV)/.oracles  ## against peers, in one run; see benchmarks/README.md
	rm -rf build/bench/wheel build/bench/venv
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w build/bench/wheel .
	$(BIN)/python -m venv build/bench/venv
	build/bench/venv/bin/python -m pip install -q "$$(echo build/bench/wheel/*.whl)[gguf]"
	$(BIN)/python -m benchmarks.run --vbuild build/bench/venv/bin/vbuild

clean:  ## remove what make has made
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
