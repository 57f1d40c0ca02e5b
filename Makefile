# What a person types here. `make` alone says what there is.

PYTHON ?= python3
SOURCE ?= 0
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT := out

.DEFAULT_GOAL := help
.PHONY: help setup demo run test lint bench docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## .venv with everything that constraints.txt pins; does nothing when it is up to date

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "make setup: $(PYTHON) is missing, older than 3.10 or newer than 3.13; name another one: make setup PYTHON=python3.11" >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: setup  ## name the person in the embedded sample; leaves out/demo.mp4
	@mkdir -p $(OUT)
	$(BIN)/realtime --source demo --no-window --output $(OUT)/demo.mp4 --events $(OUT)/demo-events.jsonl

run: setup  ## name the people in a camera, file or stream: make run SOURCE=0 ARGS="--output named.mp4"
	$(BIN)/realtime --source "$(SOURCE)" $(ARGS)

test: setup  ## every test that needs no measurement data
	$(BIN)/pytest -m "not shared" $(ARGS)

lint: setup  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## speed and names, beside the two loops that people use today
	$(BIN)/realtime bench $(ARGS)

docs: setup  ## rewrite what is generated: configs/default.yaml, the README's picture and tree
	$(BIN)/python docs/write_default_config.py
	$(BIN)/python docs/draw_flow.py
	$(BIN)/python docs/write_tree.py

clean:  ## remove what was built and written here; .venv stays
	rm -rf $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find engines realtime tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
