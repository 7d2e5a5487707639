# The map of a developer's day; `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
NETWORK ?= resnet50

.DEFAULT_GOAL := help
.PHONY: help tune test lint types unit format bench bench-compare bench-planner bench-growth bench-peers clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# Reinstalled when the requirements change; the install is editable, so sources need none.
.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

tune: .venv/.installed  ## Measure every algorithm on a network's layers and keep the best (NETWORK=resnet50)
	$(BIN)/numbaconv tune $(NETWORK)

test: lint types unit  ## Lint, types and all tests

lint: .venv/.installed  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed  ## Check types
	$(BIN)/mypy

unit: .venv/.installed  ## Run the tests, doctests and README examples
	$(BIN)/pytest -n 2 --benchmark-disable

format: .venv/.installed  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

BENCH := $(BIN)/pytest benchmarks -q --benchmark-only --benchmark-max-time=0.2 --benchmark-min-rounds=7 \
	--benchmark-columns=median,iqr,min,rounds --benchmark-sort=fullname --benchmark-warmup=on \
	--benchmark-warmup-iterations=3

bench: .venv/.installed  ## Benchmark algorithms, calls and compilation; print and store the figures as JSON
	$(BENCH) --benchmark-autosave

bench-compare: .venv/.installed  ## Benchmark again and compare with the figures stored last
	$(BENCH) --benchmark-compare

bench-planner: .venv/.installed  ## What the cost model's choice costs against the best plan, layer by layer
	$(BIN)/python -m benchmarks.regret

bench-growth: .venv/.installed  ## How time grows with batch and pixels, and from float32 to float64
	$(BIN)/python -m benchmarks.growth

PEERS :=

.venv/.peers: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers]'
	@touch $@

bench-peers: .venv/.peers  ## Compare with PyTorch, ONNX Runtime, OpenVINO and ncnn (PEERS="--quick" for a few layers)
	$(BIN)/python -m benchmarks.peers $(PEERS)

clean:  ## Remove the environment, the caches of this folder and stored benchmarks
	rm -rf .venv .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
