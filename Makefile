# What a person types here. `make` alone says what there is.

PYTHON ?= python3
SOURCE ?= 0
LFW ?= lfw-deepfunneled.tar
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT := out

.DEFAULT_GOAL := help
.PHONY: help setup demo train-demo run test lint bench gpu docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

train-demo: setup  ## train on LFW's people for minutes on a CPU, and use the model: make train-demo LFW=lfw-deepfunneled.tar
	@test -e "$(LFW)" || { echo "make train-demo: $(LFW) is not there; give LFW's tar or folder: make train-demo LFW=FILE" >&2; exit 1; }
	@mkdir -p $(OUT)
	$(BIN)/python -m train prepare folder "$(LFW)" $(OUT)/lfw --min-images 10 --val 40
	$(BIN)/python -m train fit lfw_demo --data $(OUT)/lfw --output $(OUT)/lfw-run
	$(BIN)/python -m train evaluate $(OUT)/lfw-run $(OUT)/lfw --identification --output $(OUT)/lfw-report
	$(BIN)/python -m train export $(OUT)/lfw-run --output $(OUT)/lfw.onnx --fmr 1e-3
	$(BIN)/python -m engines verify $(OUT)/lfw.onnx --faces $(OUT)/lfw/crops.npy --limit 500
	$(BIN)/realtime --source demo --no-window --set embed.model=$(OUT)/lfw.onnx --output $(OUT)/lfw-demo.mp4

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

gpu: setup  ## prove and time everything on the GPU, and write docs/gpu.md; ARGS=--dry-run needs none
	$(BIN)/python docs/prove_gpu.py $(ARGS)

docs: setup  ## rewrite what is generated: configs/default.yaml, the README's picture and tree
	$(BIN)/python docs/write_default_config.py
	$(BIN)/python docs/draw_flow.py
	$(BIN)/python docs/write_tree.py

clean:  ## remove what was built and written here; .venv stays
	rm -rf $(OUT) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find engines realtime train tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
